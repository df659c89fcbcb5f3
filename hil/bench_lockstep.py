"""Rows of the bench: what a lockstep run costs beside the bare Modbus requests in it, and how much faster virtual time is.

A run of the street on real sockets notes every Modbus request. The same requests, in the same cycles and with the same concurrency (all
devices at once, one after the other at each device), are then asked again by pymodbus' AsyncModbusTcpClient of the same simulated
devices: no driver, no controller, no broker, no plant. The ratio of the two wall times is the overhead of everything else together.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop
from pymodbus.client import AsyncModbusTcpClient

from hil.day import build_day
from hil.devices.server import DeviceServer, Endpoint
from hil.errors import RunError
from hil.feeder import read_feeder
from hil.orchestrate import run_on_loop
from hil.run import FeederRun
from hil.scenario import LoadedScenario, load_scenario
from hil.stage import MemoryStage, RequestLog, SocketStage
from hil.world import World

BENCH_H = 1.0
FROM_H = 11.0
"""Late morning: the sun is up, batteries and PV are controlled in every cycle."""


def lockstep_rows(mosquitto: Path | None = None, hours: float = BENCH_H) -> list[dict[str, Any]]:
    """Overhead of lockstep, its cost per household and cycle, and the speed of `sim` relative to it."""
    loaded = _late_morning(hours)
    log = RequestLog()
    real = _timed_run(loaded, "lockstep", mosquitto, log)
    bare_s, bare_cpu_s, requests = uvloop.run(_ask_again(real["world"], log))
    virtual = _timed_run(loaded, "sim", None, None)
    overhead, speed = real["wall_s"] / bare_s, real["wall_s"] / virtual["wall_s"]
    per_step_us = real["wall_s"] / real["steps"] * 1e6
    words = f"{hours:g} h of the street with envelopes, no faults: lockstep {real['wall_s']:.1f} s wall ({real['cpu_s']:.1f} s CPU)"
    return [
        _row(
            "lockstep_overhead", overhead, "x", "<= 2.0", overhead <= 2.0,
            f"{words}; its {requests:,} Modbus requests alone {bare_s:.1f} s wall ({bare_cpu_s:.1f} s CPU)",
        ),
        _row("lockstep_household_cycle", per_step_us, "us wall", "", None, words),
        _row(
            "sim_speed", speed, "x lockstep", ">= 5", speed >= 5.0,
            f"{words}; sim {virtual['wall_s']:.1f} s wall ({virtual['cpu_s']:.1f} s CPU)",
        ),
    ]  # fmt: skip


def _row(name: str, value: float, unit: str, target: str, met: bool | None, note: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "target": target, "met": met, "note": note}


def _late_morning(hours: float) -> LoadedScenario:
    loaded = load_scenario("street")
    scenario = loaded.scenario
    day = msgspec.structs.replace(scenario.day, start=scenario.day.start + dt.timedelta(hours=FROM_H), duration_h=hours)
    faults = msgspec.structs.replace(scenario.faults, enabled=False)
    return msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(scenario, day=day, faults=faults))


def _timed_run(
    loaded: LoadedScenario, mode: Literal["sim", "lockstep"], mosquitto: Path | None, log: RequestLog | None
) -> dict[str, Any]:
    """One run with envelopes in this process; wall time without its start, CPU time of this process over the whole of it."""
    world = World(read_feeder(loaded.network_folder), build_day(loaded))
    stage = MemoryStage() if mode == "sim" else SocketStage(world.homes, mosquitto, log)
    folder = Path(tempfile.mkdtemp(prefix="commonwatt-bench-"))
    try:
        run = FeederRun(loaded, world.day, world, stage, seed=1, coordinated=True, folder=folder)
        begun_s = time.process_time()
        outcome = run_on_loop(mode, run, lambda done, total: None)
        cpu_s = time.process_time() - begun_s
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    steps = outcome.timings["cycles"] * len(world.homes)
    return {"world": world, "wall_s": outcome.timings["wall_s"], "cpu_s": cpu_s, "steps": steps}


async def _ask_again(world: World, log: RequestLog) -> tuple[float, float, int]:
    """(wall, CPU, requests) of asking everything in the log again."""
    endpoints = {(home.name, device.name): Endpoint(devices=(device,)) for home in world.homes for device in home.devices.values()}
    cycles, log.cycles = log.cycles, []
    server = DeviceServer(tuple(endpoints.values()))
    await server.start()
    clients = {key: AsyncModbusTcpClient(endpoint.host, port=endpoint.port, timeout=5.0) for key, endpoint in endpoints.items()}
    for client in clients.values():
        await client.connect()
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    for cycle in cycles:
        await asyncio.gather(*(_ask(clients[key], pdus) for key, pdus in cycle.items()))
    wall_s, cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
    for client in clients.values():
        client.close()
    await server.stop()
    return wall_s, cpu_s, sum(len(pdus) for cycle in cycles for pdus in cycle.values())


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
