"""Rows of the bench: the broker is killed under 210 edges of seven streets, stays away, and comes back.

Every edge is the shipped agent on the wall clock at its default cycle, with the shipped MQTT shell and its default patience; its devices
are the bench's, in memory, on the feeder's physics. Each street has its own coordinator as a process of its own, which listens before the
edges start. The broker gets SIGKILL and is started again on its port with what its last autosave kept. Counted: how long until the last
edge is connected, how many connections are attempted in the busiest second, which telemetry the broker acknowledged to an edge and no
coordinator stored, and whether every envelope was held at the meter from the kill to the end. Plans are not made: seven streets plan on
hardware of their own.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import os
import signal
import sqlite3
import subprocess
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from edge.agent import EdgeAgent
from edge.config import EdgeConfig
from edge.devices.registry import open_device
from edge.planning import PlanMaker
from edge.runner import run_agent
from edge.store import Store
from hil.broker import Broker
from hil.checkers import CheckResult, EnvelopeHeld
from hil.commissioning import COORDINATOR, KeyRing, coordinator_config, edge_config
from hil.counting_bus import CountingBus
from hil.day import build_day
from hil.envelope_watch import EnvelopeWatch, PublishedRegister, envelope_limits
from hil.errors import RunError
from hil.feeder import read_feeder
from hil.processes import start_command, stop_process
from hil.scenario import LoadedScenario, load_scenario
from hil.scratch import discard, scratch_folder
from hil.stage import MemoryStage
from hil.taps import BusTap
from hil.toml_text import toml_text
from hil.world import Home, World
from protocols.bus import BusMessage
from protocols.clock import SystemClock
from protocols.errors import Refusal
from protocols.messages import SafetyState
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Signer, Verifier
from protocols.topics import control_topic, coordinator_status_topic

STREETS: Final = 7
OUTAGE_S: Final = 15.0
AFTER_S: Final = 45.0
CYCLE_S: Final = 1.0
TELEMETRY_S: Final = 10.0
READY_WITHIN_S: Final = 300.0
BACK_WITHIN_S: Final = 90.0
SETTLED_WITHIN_S: Final = 30.0
LONGEST_S: Final = 900.0
AUTOSAVE_S: Final = 5
NEAR: Final = 0.9
"""A home is at its limit from this share of it on."""
BACK_TARGET_S: Final = 30.0
STORM_TARGET: Final = 1.0
"""Attempts to connect in one second, as a share of the edges: all at once would be many times this."""


def restart_rows(
    mosquitto: Path | None = None, *, streets: int = STREETS, outage_s: float = OUTAGE_S, after_s: float = AFTER_S
) -> list[dict[str, Any]]:
    """Kill and restart the broker under these streets."""
    return asyncio.run(_measure(mosquitto, streets, outage_s, after_s))


async def _measure(mosquitto: Path | None, count: int, outage_s: float, after_s: float) -> list[dict[str, Any]]:
    folder = scratch_folder("restart")
    broker = Broker(mosquitto, autosave_s=AUTOSAVE_S)
    stop = asyncio.Event()
    streets: list[_Street] = []
    try:
        await asyncio.to_thread(broker.start)
        streets = [_Street(number, folder / f"street{number}", broker.port) for number in range(count)]
        await _coordinators_listen(streets, broker.port)
        running = [asyncio.ensure_future(street.live(stop)) for street in streets]
        if not await _until(lambda: all(street.ready for street in streets), READY_WITHIN_S, running):
            unready = sum(street.unready for street in streets)
            raise RunError(f"{unready} edges were still without limits after {READY_WITHIN_S:.0f} s (load {os.getloadavg()[0]:.1f})")
        await asyncio.sleep(2.0 * AUTOSAVE_S)
        killed_s = time.monotonic()
        for street in streets:
            street.begin_to_watch()
        broker.kill()
        await asyncio.sleep(outage_s)
        await asyncio.to_thread(broker.start)
        restarted_s = time.monotonic()
        edges = [edge for street in streets for edge in street.edges]
        await _until(lambda: all(edge.bus.back_s(killed_s) is not None for edge in edges), BACK_WITHIN_S, running)
        await asyncio.sleep(after_s)
        stop.set()
        await asyncio.gather(*running)
        await _until(lambda: all(street.is_settled() for street in streets), SETTLED_WITHIN_S)
        for street in streets:
            await asyncio.to_thread(street.stop_coordinator)
        return _rows(streets, killed_s, restarted_s, outage_s)
    finally:
        stop.set()
        for street in streets:
            street.kill_coordinator()
        broker.close()
        discard(folder)


async def _coordinators_listen(streets: list[_Street], port: int) -> None:
    """Wait for the status of each: it subscribes before it says anything, and the broker has no use for what nobody subscribed to."""
    bus = MqttBus(MqttSettings(port=port), client_id="bench")
    awaited = {coordinator_status_topic(street.name) for street in streets}
    for topic in awaited:
        bus.subscribe(topic)
    await bus.start()

    def all_spoke() -> bool:
        awaited.difference_update(message.topic for message in bus.receive())
        return not awaited

    spoke = await _until(all_spoke, READY_WITHIN_S)
    await bus.stop()
    if not spoke:
        raise RunError(f"{len(awaited)} of {len(streets)} coordinators said nothing within {READY_WITHIN_S:.0f} s")


def _rows(streets: list[_Street], killed_s: float, restarted_s: float, outage_s: float) -> list[dict[str, Any]]:
    edges = [edge for street in streets for edge in street.edges]
    back_s = [max(back_s - restarted_s, 0.0) for edge in edges if (back_s := edge.bus.back_s(killed_s)) is not None]
    attempts_s = sorted(at_s for at_s in chain.from_iterable(edge.bus.attempts_s for edge in edges) if at_s >= killed_s)
    busiest = max((bisect_left(attempts_s, at_s + 1.0) - index for index, at_s in enumerate(attempts_s)), default=0)
    acknowledged = {(street.name, *key) for street in streets for edge in street.edges for key in edge.bus.acknowledged}
    published = sum(len(edge.bus.published) for edge in edges)
    stored = {(street.name, *key) for street in streets for key in street.stored()}
    lost = len(acknowledged - stored)
    held = [street.held() for street in streets]
    violations, checks = sum(one.violations for one in held), sum(one.checks for one in held)
    bound = sum(street.bound for street in streets)
    excused = sum(sum(one.excused.values()) for one in held)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    details = "; ".join(chain.from_iterable(one.details for one in held))
    return [
        {
            "name": "restart_back",
            "value": max(back_s) if len(back_s) == len(edges) else BACK_WITHIN_S,
            "unit": "s",
            "target": f"<= {BACK_TARGET_S:g}",
            "met": len(back_s) == len(edges) and max(back_s) <= BACK_TARGET_S,
            "note": f"{len(back_s)} of {len(edges)} edges back after {outage_s:g} s without broker, at a cycle of {CYCLE_S:g} s;"
            f" median {np.median(back_s) if len(back_s) > 0 else BACK_WITHIN_S:.1f} s; {load}",
        },
        {
            "name": "restart_storm",
            "value": busiest / len(edges),
            "unit": "of edges",
            "target": f"<= {STORM_TARGET:g}",
            "met": busiest <= STORM_TARGET * len(edges),
            "note": f"attempts to connect in the busiest second; {len(attempts_s)} in all",
        },
        {
            "name": "restart_lost",
            "value": float(lost),
            "unit": "messages",
            "target": "0",
            "met": lost == 0,
            "note": f"{published} reports published, {len(acknowledged)} acknowledged to their edge, {len(stored)} stored",
        },
        {
            "name": "restart_envelope_breaches",
            "value": float(violations),
            "unit": "homes",
            "target": "0",
            "met": violations == 0,
            "note": f"of {checks} homes from kill to end by the plant's meters, {bound} of them at a limit,"
            f" {excused} excused (essential load alone) {details}".rstrip(),
        },
    ]


class _Edge:
    """One household: its agent, its connection, and the envelope that it is held to."""

    def __init__(self, home: Home, config: EdgeConfig, keys: KeyRing, stage: MemoryStage) -> None:
        self.watch = EnvelopeWatch()
        self._published = PublishedRegister()
        identity, clock = config.identity, SystemClock()
        coordinator = {COORDINATOR: [keys.private[COORDINATOR].public_key()]}
        self._verifier = Verifier(identity.community, coordinator)
        controls = control_topic(identity.community, identity.node, "+")
        self.bus = CountingBus(config.broker, client_id=f"{identity.community}-{identity.node}", kept_until_handled=controls)
        self.cycle_s = config.control.cycle_s
        self.agent = EdgeAgent(
            config,
            bus=BusTap(self.bus, on_receive=self._received),
            devices=[open_device(device, stage.clients(home, clock.monotonic_s)) for device in config.devices],
            clock=clock,
            store=Store(Path(config.store.path), node=identity.node, fsync=False),
            signer=Signer(keys.private[home.name]),
            verifier=Verifier(identity.community, coordinator),
            plan_maker=PlanMaker(config, clock=clock),
        )

    async def live(self, delay_s: float, stop: asyncio.Event) -> None:
        """Control until `stop`; edges do not begin their cycles at the same time."""
        await asyncio.sleep(delay_s)
        await run_agent(self.agent, clock=SystemClock(), cycle_s=self.cycle_s, stop=stop)

    def _received(self, message: BusMessage) -> None:
        """The bench believes what the coordinator signed, by a verifier of its own."""
        try:
            self._verifier.open(message, time.time())
        except Refusal:
            return
        self._published.add(message)
        self.watch.deliver(message, self._published)


class _Street:
    """One community: its world, its edges, its coordinator."""

    def __init__(self, number: int, folder: Path, port: int) -> None:
        self.name = f"street{number}"
        loaded = _on_the_present(load_scenario("street"), self.name, number)
        scenario = self._scenario = loaded.scenario
        self._day = build_day(loaded)
        self._world = World(read_feeder(loaded.network_folder), self._day)
        keys = KeyRing(folder / "keys", self._world.names, number)
        stage = MemoryStage()
        broker = MqttSettings(port=port)
        self.edges = []
        for home in self._world.homes:
            config = edge_config(
                scenario, self._day, home, keys, lambda device, home=home: stage.place(home, device), folder / "state",  # type: ignore[misc]
                coordinated=True, device_timeout_s=1.0, concurrent_io=False, broker=broker,
            )  # fmt: skip
            config = msgspec.structs.replace(config, schedule=msgspec.structs.replace(config.schedule, enabled=False))
            self.edges.append(_Edge(home, config, keys, stage))
        self._store = folder / "coordinator" / "coordinator.db"
        path = folder / "feeder.toml"
        path.write_text(toml_text(coordinator_config(loaded, self._world, keys, self._store.parent, broker)), encoding="utf-8")
        self._coordinator: subprocess.Popen[bytes] | None = start_command("commonwatt-coordinator", "run", "--config", str(path))
        self._held: EnvelopeHeld | None = None
        self._bound = np.zeros(len(self.edges), dtype=bool)

    @property
    def ready(self) -> bool:
        """Whether every edge is out of failsafe, by a default or a control of its coordinator."""
        return self.unready == 0

    @property
    def unready(self) -> int:
        """How many are not."""
        return sum(not edge.watch.ever_held or edge.agent.state is SafetyState.FAILSAFE for edge in self.edges)

    def begin_to_watch(self) -> None:
        """Hold every home against its envelope from now on."""
        homes = self._world.homes
        rating_w = np.array([max(home.site.import_rating_w, home.site.export_rating_w) for home in homes])
        self._held = EnvelopeHeld(self._world.names, rating_w, self._scenario.limits, math.inf)

    def held(self) -> CheckResult:
        """What the checker found."""
        assert self._held is not None
        return self._held.result()

    @property
    def bound(self) -> int:
        """How many homes the envelope kept from more, to judge by their meters."""
        return int(self._bound.sum())

    def is_settled(self) -> bool:
        """Whether the store has every report that was acknowledged."""
        stored = self.stored()
        return all(edge.bus.acknowledged <= stored for edge in self.edges)

    def stored(self) -> set[tuple[str, int]]:
        """Node and sequence number of every report in the store."""
        connection = sqlite3.connect(self._store)
        try:
            return {(node, sequence) for node, sequence in connection.execute("SELECT node, sequence FROM telemetry")}
        finally:
            connection.close()

    async def live(self, stop: asyncio.Event) -> None:
        """Move the world in real time with its edges until `stop`."""
        control = self._scenario.control
        spread_s = control.cycle_s / len(self.edges)
        edges = [asyncio.ensure_future(edge.live(number * spread_s, stop)) for number, edge in enumerate(self.edges)]
        alive = np.ones(len(self.edges), dtype=bool)
        step, step_s = 0, control.plant_step_s
        while not stop.is_set():
            if step >= self._day.run_steps:
                raise RunError(f"{self.name}: the measurement took longer than the {LONGEST_S:.0f} s that were prepared")
            if self._coordinator is not None and self._coordinator.poll() is not None:
                raise RunError(f"{self.name}: the coordinator ended with status {self._coordinator.returncode}")
            at_s = self._day.start_s + step * step_s
            limits_w = envelope_limits([edge.watch for edge in self.edges], at_s)
            await asyncio.sleep(max(0.0, at_s + step_s - time.time()))
            frame = self._world.step(step, at_s, step_s, limits_w, alive)
            if self._held is not None:
                self._held.watch(frame)
                self._bound |= frame.net_import_w >= NEAR * frame.import_limit_w
                self._bound |= -frame.net_import_w >= NEAR * frame.export_limit_w
            step += 1
        await asyncio.gather(*edges)

    def stop_coordinator(self) -> None:
        """Let it store what waits, and end."""
        if self._coordinator is not None:
            self._coordinator.send_signal(signal.SIGTERM)
            stop_process(self._coordinator)
            self._coordinator = None

    def kill_coordinator(self) -> None:
        """End it in any case."""
        if self._coordinator is not None:
            self._coordinator.kill()
            self._coordinator.wait()
            self._coordinator = None


def _on_the_present(loaded: LoadedScenario, name: str, seed: int) -> LoadedScenario:
    """The street at its midday, beginning soon, long enough for any measurement, reporting often."""
    scenario = loaded.scenario
    start_s = math.ceil(time.time() / CYCLE_S + 1.0) * CYCLE_S
    offset_s = 3600.0 * ((13 - time.gmtime(start_s).tm_hour + 11) % 24 - 11)
    start = dt.datetime.fromtimestamp(start_s, dt.timezone(dt.timedelta(seconds=offset_s)))
    return msgspec.structs.replace(
        loaded,
        scenario=msgspec.structs.replace(
            scenario,
            name=name,
            homes=msgspec.structs.replace(scenario.homes, seed=scenario.homes.seed + seed),
            day=msgspec.structs.replace(scenario.day, start=start, duration_h=LONGEST_S / 3600.0),
            control=msgspec.structs.replace(
                scenario.control, cycle_s=CYCLE_S, plant_step_s=CYCLE_S, telemetry_period_s=TELEMETRY_S
            ),
        ),
    )


async def _until(holds: Callable[[], bool], within_s: float, running: Sequence[asyncio.Future[None]] = ()) -> bool:
    """Wait until it holds; False where it does not in time. What `running` fails with is raised at once."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        for task in running:
            if task.done():
                task.result()
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(0.1)
    return True
