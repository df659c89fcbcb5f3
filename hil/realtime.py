"""A run on the wall clock: one process for each household's edge and one for the coordinator, each as deployed.

The day of the scenario is laid on the present, so that everybody's clock is right. The bench keeps what is physical: devices, wires and
their faults; it hears the envelopes as an ordinary subscriber does. A power cycle kills the process of an edge and starts it again; an
unreachable coordinator is one that was killed. Nothing here can be repeated bit by bit; that is what the other two ways are for.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from hil.commissioning import COORDINATOR, KeyRing, coordinator_config, edge_config, hand_over_history
from hil.day import build_day
from hil.envelope_watch import EnvelopeWatch, PublishedRegister, envelope_limits
from hil.faulting import Calendar, install_device_faults
from hil.faults import Fault, draw_faults
from hil.feeder import read_feeder
from hil.forgery import forgeries
from hil.frames import Frame, Glance, glance_of
from hil.processes import EdgeProcesses, start_command, stop_process
from hil.run import RunOutcome
from hil.scenario import LoadedScenario
from hil.serving import ServedPage
from hil.stage import SocketStage
from hil.toml_text import toml_text
from hil.watching import Watching
from hil.world import World
from protocols.errors import Refusal
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Verifier
from protocols.topics import control_topic

DEVICE_TIMEOUT_S = 1.0


class RealtimeRun:
    """See the module docstring."""

    def __init__(
        self,
        loaded: LoadedScenario,
        *,
        seed: int,
        coordinated: bool,
        folder: Path,
        mosquitto: Path | None,
        page_port: int | None = None,
        glance: Callable[[Glance], None] | None = None,
    ) -> None:
        self._loaded = _now(loaded)
        scenario = self._scenario = self._loaded.scenario
        self._coordinated = coordinated
        self._folder = folder
        self._day = build_day(self._loaded)
        self._world = World(read_feeder(loaded.network_folder), self._day)
        self._stage = SocketStage(self._world.homes, mosquitto)
        self._keys = KeyRing(folder / "keys", self._world.names, seed)
        self._watching = Watching(scenario, self._day, self._world, coordinated=coordinated)
        self._watches = {name: EnvelopeWatch() for name in self._world.names}
        self._published = PublishedRegister()
        self._glance = glance
        self._verifier = Verifier(scenario.name, {COORDINATOR: [self._keys.private[COORDINATOR].public_key()]})
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._served = None if page_port is None else ServedPage(page_port, folder / "page", mosquitto)
        self.plan = draw_faults(
            scenario.faults,
            {home.name: tuple(home.devices) for home in self._world.homes},
            seed=seed,
            start_s=self._day.start_s,
            duration_s=scenario.day.duration_h * 3600.0,
            step_s=scenario.control.cycle_s,
        )
        install_device_faults(self.plan, self._world.homes, seed)
        self._calendar = Calendar(self.plan)

    async def play(self, progress: Callable[[int, int], None]) -> RunOutcome:
        """Run from the next full cycle on, for the duration of the scenario."""
        begun_s = time.monotonic()
        control = self._scenario.control
        cycles = round(self._scenario.day.duration_h * 3600.0 / control.cycle_s)
        await self._stage.open()
        self._ears = MqttBus(MqttSettings(port=self._stage.broker_port), client_id="bench-ears")
        self._ears.subscribe(control_topic(self._scenario.name, "+", "+"))
        await self._ears.start()
        self._edges = EdgeProcesses(self._write_configs())
        try:
            if self._coordinated:
                self._start_coordinator()
            if self._served is not None:
                await self._served.start(self._config_of_feeder, self._stage.broker_port)
            for name in self._world.names:
                self._edges.start(name)
            for cycle in range(cycles):
                await self._cycle(cycle)
                progress(cycle + 1, cycles)
        finally:
            await asyncio.to_thread(self._edges.stop)
            self._stop_coordinator()
            if self._served is not None:
                await self._served.stop()
            await self._ears.stop()
            await self._stage.close()
        wall_s = time.monotonic() - begun_s
        summary, checks = self._watching.close((), self._published)
        timings = {"wall_s": wall_s, "modbus_requests": float(self._stage.requests()), "cycles": float(cycles)}
        return RunOutcome(summary=summary, checks=checks, plan=self.plan, record=self._watching.record, timings=timings)

    async def _cycle(self, cycle: int) -> None:
        """The plant steps of one cycle, each when its time has come."""
        control = self._scenario.control
        steps = round(control.cycle_s / control.plant_step_s)
        now_s = self._day.start_s + cycle * control.cycle_s
        self._edges.check()
        for fault, begins in self._calendar.due(now_s):
            self._apply(fault, begins, now_s)
        alive = np.array([name in self._edges.alive for name in self._world.names])
        frames: list[Frame] = []
        for step in range(steps):
            at_s = now_s + step * control.plant_step_s
            self._listen()
            limits_w = envelope_limits(list(self._watches.values()), at_s)
            await asyncio.sleep(max(0.0, at_s + control.plant_step_s - time.time()))
            frames.append(self._world.step(cycle * steps + step, at_s, control.plant_step_s, limits_w, alive))
        self._watching.watch(now_s, frames, sum(watch.on_control for watch in self._watches.values()))
        if self._glance is not None:
            self._glance(glance_of(frames[-1]))

    def _listen(self) -> None:
        """Believe what the coordinator signed, and nothing else."""
        for message in self._ears.receive():
            try:
                self._verifier.open(message, time.time())
            except Refusal:
                continue
            self._published.add(message)
            name = message.topic.split("/")[-2]
            if name in self._watches:
                self._watches[name].deliver(message, self._published)

    def _apply(self, fault: Fault, begins: bool, now_s: float) -> None:
        match fault.kind:
            case "broker_restart":
                self._stage.cut_broker() if begins else self._stage.restore_broker()
            case "coordinator_unreachable" if self._coordinated:
                self._stop_coordinator() if begins else self._start_coordinator()
            case "edge_power_cycle":
                self._edges.kill(fault.target) if begins else self._edges.start(fault.target)
            case "forged_command" if self._coordinated and begins:
                for message in forgeries(self._scenario.name, fault.target, now_s, self._published):
                    self._ears.publish(message)

    def _write_configs(self) -> dict[str, Path]:
        """One TOML file for each edge and one for the coordinator."""
        broker = MqttSettings(port=self._stage.broker_port)
        paths = {}
        for home in self._world.homes:
            config = edge_config(
                self._scenario,
                self._day,
                home,
                self._keys,
                lambda device, home=home: self._stage.place(home, device),  # type: ignore[misc]
                self._folder / "state",
                coordinated=self._coordinated,
                device_timeout_s=DEVICE_TIMEOUT_S,
                concurrent_io=True,
                broker=broker,
            )
            hand_over_history(self._day, home, config)
            paths[home.name] = self._folder / f"{home.name}.toml"
            paths[home.name].write_text(toml_text(config), encoding="utf-8")
        self._config_of_feeder = coordinator_config(self._loaded, self._world, self._keys, self._folder / "coordinator", broker)
        self._feeder_file = self._folder / "feeder.toml"
        self._feeder_file.write_text(toml_text(self._config_of_feeder), encoding="utf-8")
        return paths

    def _start_coordinator(self) -> None:
        self._coordinator = start_command("commonwatt-coordinator", "run", "--config", str(self._feeder_file))

    def _stop_coordinator(self) -> None:
        if self._coordinator is not None:
            self._coordinator.terminate()
            stop_process(self._coordinator)
            self._coordinator = None


def _now(loaded: LoadedScenario) -> LoadedScenario:
    """The scenario's day, beginning at the next full cycle but one."""
    scenario = loaded.scenario
    cycle_s = scenario.control.cycle_s
    start_s = (math.ceil(time.time() / cycle_s) + 1) * cycle_s
    zone = dt.timezone(dt.timedelta(seconds=scenario.day.utc_offset_s))
    day = msgspec.structs.replace(scenario.day, start=dt.datetime.fromtimestamp(start_s, zone))
    return msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(scenario, day=day))
