"""Rows of the bench: what a lockstep run costs beside the bare Modbus requests in it, and how much faster virtual time is.

A run of the street on real sockets notes every Modbus request. The same requests, in the same cycles and with the same concurrency (all
devices at once, one after the other at each device), are asked again by pymodbus' AsyncModbusTcpClient of the same kind of simulated
devices: no driver, no controller, no broker, no plant. The ratio of the two wall times is the overhead of everything else together. A
third party is the same run in virtual time. The three take turns every few seconds, so that what else the machine does meets all alike.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from pymodbus.client import AsyncModbusTcpClient

from hil.day import build_day
from hil.devices.server import DeviceServer, Endpoint
from hil.errors import RunError
from hil.feeder import read_feeder
from hil.run import FeederRun, RunOutcome
from hil.scenario import LoadedScenario, load_scenario
from hil.stage import MemoryStage, RequestLog, SocketStage
from hil.world import World

BENCH_H = 1.0
FROM_H = 11.0
"""Late morning: the sun is up, batteries and PV are controlled in every cycle."""


def lockstep_rows(mosquitto: Path | None = None, hours: float = BENCH_H) -> list[dict[str, Any]]:
    """Overhead of lockstep, its cost per household and cycle, and the speed of `sim` relative to it."""
    spent = uvloop.run(_in_turns(_late_morning(hours), mosquitto))
    overhead, speed = spent.lockstep_s / spent.bare_s, spent.lockstep_s / spent.sim_s
    words = f"{hours:g} h of the street with envelopes, no faults, in turns: lockstep {spent.lockstep_s:.1f} s wall"
    return [
        _row(
            "lockstep_overhead", overhead, "x", "<= 2.0", overhead <= 2.0,
            f"{words}; its {spent.requests:,} Modbus requests alone {spent.bare_s:.1f} s wall",
        ),
        _row("lockstep_household_cycle", spent.lockstep_s / spent.home_cycles * 1e6, "us wall", "", None, words),
        _row("sim_speed", speed, "x lockstep", ">= 5", speed >= 5.0, f"{words}; sim {spent.sim_s:.1f} s wall"),
    ]  # fmt: skip


def _row(name: str, value: float, unit: str, target: str, met: bool | None, note: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "target": target, "met": met, "note": note}


def _late_morning(hours: float) -> LoadedScenario:
    loaded = load_scenario("street")
    scenario = loaded.scenario
    day = msgspec.structs.replace(scenario.day, start=scenario.day.start + dt.timedelta(hours=FROM_H), duration_h=hours)
    faults = msgspec.structs.replace(scenario.faults, enabled=False)
    return msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(scenario, day=day, faults=faults))


class _Spent(msgspec.Struct, kw_only=True):
    """Wall times of the three parties, their starts and ends apart."""

    lockstep_s: float = 0.0
    sim_s: float = 0.0
    bare_s: float = 0.0
    requests: int = 0
    home_cycles: float = 0.0


async def _in_turns(loaded: LoadedScenario, mosquitto: Path | None) -> _Spent:
    """Lockstep plays some cycles; then its requests are asked again; then virtual time plays as many cycles."""
    spent, log = _Spent(), RequestLog()
    real, virtual, replayed = (World(read_feeder(loaded.network_folder), build_day(loaded)) for _ in range(3))
    mine, theirs = asyncio.Event(), asyncio.Event()

    async def sim_rests() -> None:
        mine.set()
        await theirs.wait()
        theirs.clear()

    with tempfile.TemporaryDirectory(prefix="commonwatt-bench-") as folder:
        sim_run = FeederRun(loaded, virtual.day, virtual, MemoryStage(), seed=1, coordinated=True, folder=Path(folder) / "sim")
        run = FeederRun(
            loaded, real.day, real, SocketStage(real.homes, mosquitto, log), seed=1, coordinated=True, folder=Path(folder) / "lockstep"
        )
        simulating = asyncio.create_task(sim_run.play(_quiet, sim_rests))
        await _whichever_first(mine, simulating)
        async with _Replay(replayed) as replay:

            async def others() -> None:
                if not log.cycles:
                    return
                spent.bare_s += await replay.ask(log.take())
                mine.clear()
                theirs.set()
                await _whichever_first(mine, simulating)

            outcome = await run.play(_quiet, others)
            await others()
            spent.requests = replay.requests
        spent.sim_s = (await simulating).timings["wall_s"]
    spent.lockstep_s = outcome.timings["wall_s"]
    spent.home_cycles = outcome.timings["cycles"] * len(real.homes)
    return spent


async def _whichever_first(ready: asyncio.Event, task: asyncio.Task[RunOutcome]) -> None:
    """Until the other party has had its turn, or has ended; its failure is ours."""
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()


def _quiet(done: int, total: int) -> None:
    """No progress: the bench reports rows."""


class _Replay:
    """Bare clients of simulated devices, one connection each."""

    def __init__(self, world: World) -> None:
        self.requests = 0
        devices = {(home.name, device.name): device for home in world.homes for device in home.devices.values()}
        self._endpoints = {key: Endpoint(devices=(device,)) for key, device in devices.items()}
        self._server = DeviceServer(tuple(self._endpoints.values()))
        self._clients: dict[tuple[str, str], AsyncModbusTcpClient] = {}

    async def __aenter__(self) -> _Replay:
        await self._server.start()
        for key, endpoint in self._endpoints.items():
            client = self._clients[key] = AsyncModbusTcpClient(endpoint.host, port=endpoint.port, timeout=5.0)
            await client.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()
        await self._server.stop()

    async def ask(self, cycles: list[dict[tuple[str, str], list[bytes]]]) -> float:
        """Ask everything in these cycles again; returns the wall time [s]."""
        begun_s = time.monotonic()
        for cycle in cycles:
            await asyncio.gather(*(_ask(self._clients[key], pdus) for key, pdus in cycle.items()))
        spent_s = time.monotonic() - begun_s
        self.requests += sum(len(pdus) for cycle in cycles for pdus in cycle.values())
        return spent_s


async def _ask(client: AsyncModbusTcpClient, pdus: list[bytes]) -> None:
    for pdu in pdus:
        function, address, count = struct.unpack_from(">BHH", pdu)
        if function == 3:
            answer = await client.read_holding_registers(address, count=count, device_id=1)
        elif function == 4:
            answer = await client.read_input_registers(address, count=count, device_id=1)
        elif function == 16:
            answer = await client.write_registers(address, list(struct.unpack_from(f">{count}H", pdu, 6)), device_id=1)
        elif function == 6:
            answer = await client.write_register(address, count, device_id=1)
        else:
            raise RunError(f"the run asked Modbus function {function}, which this bench cannot ask again")
        if answer.function_code & 0x7F != function:
            raise RunError(f"function {function} was answered with {answer.function_code}")
