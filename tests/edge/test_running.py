"""The agent over time: a day with plans, the vehicle ready in the morning, telemetry that adds up, and the loop on the wall clock."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from edge.config import VehicleConfig
from edge.limits import NO_LIMITS
from edge.reporting import TelemetryMeans
from edge.runner import run_agent
from edge.values import DeviceKind, Reading
from protocols.clock import SystemClock
from protocols.messages import Plan, SafetyState, Telemetry
from protocols.signing import Verifier
from tests.edge.world import COMMUNITY, NODE, NODE_KEY, START_S, World, make_config


def with_vehicle(folder: Path, *, cycle_s: float = 10.0) -> World:
    config = make_config(folder, schedule=True, cycle_s=cycle_s)
    vehicle = VehicleConfig(device="car", session_wh=12_000.0, ready_by_h=7.0, max_w=7360.0, min_w=1380.0)
    site = msgspec.structs.replace(config.site, latitude_deg=52.0, longitude_deg=13.0)
    return World(folder, config=msgspec.structs.replace(config, vehicles=(vehicle,), site=site))


async def test_a_planned_night_leaves_the_vehicle_ready_and_the_envelope_whole(tmp_path: Path) -> None:
    world = with_vehicle(tmp_path, cycle_s=30.0)
    world.send_default(1500.0, 4000.0)
    world.car.connected = True
    world.car.available_w = 7000.0
    rng = random.Random(4)
    await world.agent.start()
    start_hour = START_S % 86400.0 / 3600.0
    hours_until_ready = (7.0 - start_hour) % 24.0
    plans = 0
    for _ in range(round(hours_until_ready * 120)):
        world.load_w = max(world.load_w + rng.gauss(0.0, 10.0), 200.0)
        record = await world.agent.step()
        world.live(30.0, 15.0, inside=lambda: (1500.0, 4000.0))
        if world.car.import_wh * 0.9 >= 12_100.0:
            world.car.available_w = 0.0
        plans += len(world.heard("plan"))
        assert record.export_breach_w == 0.0
    assert world.car.import_wh * 0.9 >= 11_900.0
    assert world.worst_outside_s <= 30.0
    assert plans >= hours_until_ready * 11


async def test_telemetry_and_plan_decode_and_add_up(tmp_path: Path) -> None:
    world = with_vehicle(tmp_path)
    world.pv.available_w = 3000.0
    world.send_default(1500.0, 4000.0)
    await world.agent.start()
    await world.run(600.0)
    verifier = Verifier(COMMUNITY, {NODE: [NODE_KEY.public_key()]})
    messages = [verifier.open(message, world.clock.now_s()) for message in world.watcher.receive()]
    telemetry = [message for message in messages if isinstance(message, Telemetry)]
    assert len(telemetry) == 9
    for message in telemetry[1:]:
        parts = (message.load_w, message.pv_w, message.battery_w, message.ev_w)
        assert all(part is not None for part in parts)
        assert message.net_import_w == pytest.approx(sum(part for part in parts if part is not None), abs=0.2)
        assert message.exceeded_s == 0.0
        assert message.state is SafetyState.DEFAULT
    assert sum(isinstance(message, Plan) for message in messages) == 2


def test_a_part_that_was_not_measured_is_null_never_zero() -> None:
    means = TelemetryMeans([DeviceKind.METER, DeviceKind.PV], 10_000.0)
    reading = Reading(name="meter", kind=DeviceKind.METER, time_s=START_S, power_w=500.0)
    means.add(START_S, [reading], NO_LIMITS)
    message = means.take(START_S + 10.0, sender=NODE, sequence=1, limits=NO_LIMITS, state=SafetyState.DEFAULT)
    assert message.net_import_w == 500.0
    assert message.pv_w is None
    assert message.load_w is None
    assert message.battery_w is None


async def test_the_loop_keeps_its_beat_and_stops_when_told(tmp_path: Path) -> None:
    world = World(tmp_path, config=make_config(tmp_path, cycle_s=10.0))
    stop = asyncio.Event()
    missed = await run_agent(world.agent, clock=SystemClock(), cycle_s=0.05, stop=stop, cycles=4)
    assert missed <= 4
    assert world.battery.setpoint is not None
    assert world.battery.setpoint.power_w == 0.0
    stop.set()
    again = World(tmp_path, config=make_config(tmp_path, cycle_s=10.0))
    assert await run_agent(again.agent, clock=SystemClock(), cycle_s=1000.0, stop=stop) == 0
