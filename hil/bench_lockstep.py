"""Rows of the bench: what a lockstep run costs beside the bare Modbus requests in it, and how much faster virtual time is.

A run of the street on real sockets notes every Modbus request. The same requests, in the same cycles and with the same concurrency (all
homes at once, one request after the other in each home), are asked again by pymodbus' AsyncModbusTcpClient of the same kind of simulated
devices: no driver, no controller, no broker, no plant. The ratio of the two wall times is the overhead of everything else together. A
third party is the same run in virtual time. The three take turns every few seconds, so that what else the machine does meets all alike.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import struct
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
from hil.run import TURN_CYCLES, FeederRun, RunOutcome
from hil.scenario import LoadedScenario, load_scenario
from hil.scratch import scratch
from hil.stage import PATIENT_TIMEOUT_S, MemoryStage, RequestLog, SocketStage
from hil.world import World

BENCH_H = 1.0
FROM_H = 11.0
"""Late morning: the sun is up, batteries and PV are controlled in every cycle."""


def lockstep_rows(mosquitto: Path | None = None, hours: float = BENCH_H) -> list[dict[str, Any]]:
    """Overhead of lockstep, its cost per household and cycle, and the speed of `sim` relative to it."""
    spent = uvloop.run(_in_turns(_late_morning(hours), mosquitto))
    overhead, speed = spent.lockstep_s / spent.bare_s, spent.lockstep_s / spent.sim_s
    words = f"{spent.hours:.2f} h of the street with envelopes, no faults, in turns: lockstep {spent.lockstep_s:.1f} s wall"
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


class _Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Wall times of the three parties over the same `hours`."""

    lockstep_s: float
    sim_s: float
    bare_s: float
    hours: float
    requests: int
    home_cycles: int


class _Turns:
    """How long each turn of one party took [s]; the first, in which every forecaster learns four weeks, is not counted."""

    def __init__(self) -> None:
        self.durations_s: list[float] = []
        self._begun_s: float | None = None

    def ends(self) -> None:
        """The party rests."""
        if self._begun_s is not None:
            self.durations_s.append(time.monotonic() - self._begun_s)

    def begins(self) -> None:
        """The party goes on."""
        self._begun_s = time.monotonic()

    def total_s(self) -> float:
        """Without the first."""
        return sum(self.durations_s[1:])


async def _in_turns(loaded: LoadedScenario, mosquitto: Path | None) -> _Spent:
    """Lockstep plays some cycles; then its requests are asked again; then virtual time plays as many cycles."""
    log, lockstep, sim, bare = RequestLog(), _Turns(), _Turns(), _Turns()
    real, virtual, replayed = (World(read_feeder(loaded.network_folder), build_day(loaded)) for _ in range(3))
    counts: list[int] = []
    rests, goes_on = asyncio.Event(), asyncio.Event()

    async def sim_rests() -> None:
        sim.ends()
        rests.set()
        await goes_on.wait()
        goes_on.clear()
        sim.begins()

    with scratch("bench", in_memory=True) as folder:
        stage = SocketStage(real.homes, mosquitto, log, device_timeout_s=PATIENT_TIMEOUT_S)
        run = FeederRun(loaded, real.day, real, stage, seed=1, coordinated=True, folder=folder / "lockstep")
        sim_run = FeederRun(loaded, virtual.day, virtual, MemoryStage(), seed=1, coordinated=True, folder=folder / "sim")
        simulating = asyncio.create_task(sim_run.play(_quiet, sim_rests))
        await _whichever_first(rests, simulating)
        async with _Replay(replayed) as replay:

            async def others() -> None:
                lockstep.ends()
                cycles = log.take()
                if cycles:
                    bare.begins()
                    counts.append(await replay.ask(cycles))
                    bare.ends()
                    rests.clear()
                    goes_on.set()
                    await _whichever_first(rests, simulating)
                lockstep.begins()

            await run.play(_quiet, others)
        goes_on.set()
        await simulating
    played = len(counts[1:]) * TURN_CYCLES
    return _Spent(
        lockstep_s=lockstep.total_s(),
        sim_s=sim.total_s(),
        bare_s=bare.total_s(),
        hours=played * loaded.scenario.control.cycle_s / 3600.0,
        requests=sum(counts[1:]),
        home_cycles=played * len(real.homes),
    )


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

    async def ask(self, cycles: list[dict[tuple[str, str], list[bytes]]]) -> int:
        """Ask everything in these cycles again; returns how many requests that were."""
        for cycle in cycles:
            homes: dict[str, list[tuple[AsyncModbusTcpClient, bytes]]] = {}
            for (home, device), pdus in cycle.items():
                client = self._clients[home, device]
                homes.setdefault(home, []).extend((client, pdu) for pdu in pdus)
            await asyncio.gather(*(_ask(requests) for requests in homes.values()))
        return sum(len(pdus) for cycle in cycles for pdus in cycle.values())


async def _ask(requests: list[tuple[AsyncModbusTcpClient, bytes]]) -> None:
    for client, pdu in requests:
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
