"""Rows of the bench: how large a deployed edge is after a day, and how soon after its start it controls.

Start: `commonwatt-edge run --config` as a process of its own, against simulated devices on real sockets and a real broker; the time from
its start to the first setpoint that reaches a device. Memory: `hil.edge_day`, the same agent through 8640 cycles of 10 s by a clock that
is moved by hand, while devices, weather, car and envelopes go on; the resident memory at its end, by the kernel's account.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hil.commissioning import COORDINATOR, KeyRing, edge_config
from hil.day import build_day
from hil.errors import RunError
from hil.feeder import read_feeder
from hil.scenario import load_scenario
from hil.scratch import discard, scratch_folder
from hil.stage import RequestLog, SocketStage
from hil.toml_text import toml_text
from hil.world import World
from protocols.messages import EnvelopeControl, EnvelopeSchedule, Guarantee, Telemetry
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Sequencer, Signer
from protocols.topics import control_topic, node_topic

HOME = "home_25"
"""PV, battery, vehicle, heating element and flexible circuits: every kind of device that the street has."""

DAY_CYCLES = 8640
START_TIMEOUT_S = 60.0
DAY_TIMEOUT_S = 1800.0
WRITES = (6, 16)


def edge_rows(mosquitto: Path | None = None, cycles: int = DAY_CYCLES) -> list[dict[str, Any]]:
    """Memory after a day, and start to first control cycle."""
    return asyncio.run(_measure(mosquitto, cycles))


async def _measure(mosquitto: Path | None, cycles: int) -> list[dict[str, Any]]:
    loaded = load_scenario("street")
    world = World(read_feeder(loaded.network_folder), build_day(loaded))
    home = next(home for home in world.homes if home.name == HOME)
    log = RequestLog()
    stage = SocketStage((home,), mosquitto, log)
    await stage.open()
    folder = scratch_folder("bench-edge")
    try:
        keys = KeyRing(folder / "keys", (HOME,), seed=1)
        broker = MqttSettings(port=stage.broker_port)
        config = edge_config(
            loaded.scenario, world.day, home, keys, lambda device: stage.place(home, device), folder,
            coordinated=True, device_timeout_s=1.0, concurrent_io=True, broker=broker,
        )  # fmt: skip
        path = folder / "house.toml"
        path.write_text(toml_text(config), encoding="utf-8")
        start_s = await _first_setpoint_s(path, log)
        (folder / f"{HOME}.json").unlink(missing_ok=True)
        operator = _Operator(loaded.scenario.name, Signer(keys.private[COORDINATOR]), MqttBus(broker, client_id="bench-operator"))
        day = await _day(path, cycles, world, operator)
    finally:
        await stage.close()
        discard(folder)
    return _rows(start_s, day)


def _rows(start_s: float, day: dict[str, float]) -> list[dict[str, Any]]:
    end_mb = day["end_rss_mb"]
    words = (
        f"{day['cycles']:.0f} cycles of 10 s, 5 devices, planning, forecasts and envelopes; peak {day['peak_rss_mb']:.1f} MB, "
        f"at start {day['start_rss_mb']:.1f} MB, {1e6 * day['cpu_s'] / day['cycles']:.0f} us CPU a cycle"
    )
    return [
        {"name": "edge_memory_after_a_day", "value": end_mb, "unit": "MB", "target": "<= 72", "met": end_mb <= 72.0, "note": words},
        {
            "name": "edge_start_to_first_setpoint",
            "value": start_s,
            "unit": "s",
            "target": "<= 2",
            "met": start_s <= 2.0,
            "note": "commonwatt-edge run as a process, until its first write reaches a device",
        },
    ]


async def _first_setpoint_s(path: Path, log: RequestLog) -> float:
    """Start the deployed command and wait for its first write."""
    log.next_cycle()
    begun_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "commonwatt-edge"), "run", "--config", str(path),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not any(pdu[0] in WRITES for pdus in log.cycles[-1].values() for pdu in pdus):
            if process.returncode is not None:
                raise RunError(f"commonwatt-edge run ended with status {process.returncode} before it wrote a setpoint")
            if time.monotonic() - begun_s > START_TIMEOUT_S:
                raise RunError(f"commonwatt-edge run wrote no setpoint within {START_TIMEOUT_S:.0f} s")
            await asyncio.sleep(0.002)
        return time.monotonic() - begun_s
    finally:
        log.cycles.clear()
        if process.returncode is None:
            process.terminate()
            await process.wait()


class _Operator:
    """Publishes envelopes to the one node as its telemetry comes in, on the node's own time."""

    def __init__(self, community: str, signer: Signer, bus: MqttBus) -> None:
        self._topic = control_topic(community, HOME, "envelope")
        self._signer = signer
        self._sequencer = Sequencer(time.time())
        self._count = 0
        self.bus = bus
        bus.subscribe(node_topic(community, HOME, "telemetry"))

    def answer(self) -> None:
        """One schedule of two hours for every fifth telemetry."""
        for message in self.bus.receive():
            telemetry = msgspec.json.decode(message.payload, type=Telemetry)
            self._count += 1
            if self._count % 5 == 1:
                schedule = EnvelopeSchedule(
                    sender=COORDINATOR,
                    time_s=telemetry.time_s,
                    sequence=self._sequencer.next(),
                    node=HOME,
                    controls=tuple(self._controls(telemetry.time_s)),
                )
                self.bus.publish(self._signer.seal(self._topic, schedule))

    def _controls(self, now_s: float) -> Iterator[EnvelopeControl]:
        first_s = now_s // 300.0 * 300.0 + 300.0
        for interval in range(24):
            yield EnvelopeControl(
                mrid=f"bench-{self._count}-{interval}",
                creation_time_s=now_s,
                start_s=first_s + 300.0 * interval,
                duration_s=300.0,
                export_limit_w=1500.0 + 100.0 * (interval % 7),
                import_limit_w=4000.0 + 100.0 * (interval % 5),
                guarantee=Guarantee.ROBUST,
            )


async def _day(path: Path, cycles: int, world: World, operator: _Operator) -> dict[str, float]:
    """The child lives; this process moves the world about as fast, and answers."""
    await operator.bus.start()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hil.edge_day", str(path), str(cycles),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output = asyncio.ensure_future(process.communicate())
    deadline_s = time.monotonic() + DAY_TIMEOUT_S
    now_s, index, steps = world.day.start_s, 0, world.day.run_steps
    unlimited = np.full(len(world.homes), np.inf)
    alive = np.ones(len(world.homes), dtype=bool)
    try:
        while not output.done():
            if time.monotonic() > deadline_s:
                raise RunError(f"the edge did not live through {cycles} cycles within {DAY_TIMEOUT_S:.0f} s")
            world.step(index % steps, now_s, 10.0, (unlimited, unlimited), alive)
            operator.answer()
            index, now_s = index + 2, now_s + 10.0
            await asyncio.sleep(0.002)
    finally:
        await operator.bus.stop()
        if process.returncode is None:
            process.kill()
            await process.wait()
    out, _ = output.result()
    if process.returncode != 0:
        raise RunError(f"the edge's day ended with status {process.returncode}")
    found: dict[str, float] = json.loads(out)
    return found
