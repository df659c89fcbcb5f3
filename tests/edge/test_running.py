"""The agent over time: a day with plans, the vehicle ready in the morning, telemetry that adds up, and the loop on the wall clock."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from edge.config import ApplianceConfig, VehicleConfig
from edge.limits import NO_LIMITS, Limit, LimitSet
from edge.reporting import TelemetryMeans
from edge.runner import run_agent
from edge.values import DeviceKind, Reading
from protocols.clock import SystemClock
from protocols.messages import Plan, SafetyState, Telemetry
from protocols.signing import Verifier
from protocols.tariff import PriceWindow
from tests.edge.world import COMMUNITY, NODE, NODE_KEY, START_S, FakeDevice, World, make_config


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


async def test_a_tank_is_heated_when_it_is_cheapest_inside_its_window(tmp_path: Path) -> None:
    """Cheap from 02:00 to 04:00, the window is open until 06:00: the tank waits, is full in time, and draws nothing outside."""
    config = make_config(tmp_path, schedule=True, cycle_s=30.0)
    site = msgspec.structs.replace(
        config.site,
        buy=tuple(PriceWindow(from_h=h, price_per_kwh=p) for h, p in ((0.0, 0.3), (2.0, 0.1), (4.0, 0.3))),
    )
    tank = ApplianceConfig(device="tank", energy_wh=4000.0, from_h=23.0, until_h=6.0, max_w=3000.0)
    world = World(tmp_path, config=msgspec.structs.replace(config, site=site, appliances=(tank,)))
    heater = FakeDevice("tank", DeviceKind.LOAD, rated_w=3000.0)
    world.controlled = [world.pv, heater]
    world.agent = world.make_agent()
    world.send_default(1500.0, 8000.0)
    await world.agent.start()
    begin_s = START_S - START_S % 86400.0 + 86400.0
    drawn_wh = {"cheap": 0.0, "dear": 0.0, "outside": 0.0}
    while world.clock.now_s() < begin_s + 12.0 * 3600.0:
        hour = (world.clock.now_s() - begin_s) / 3600.0
        heater.available_w = 3000.0 if sum(drawn_wh.values()) < 4000.0 else 0.0
        await world.agent.step()
        before_wh = heater.import_wh
        world.live(30.0, 30.0)
        when = "cheap" if 2.0 <= hour < 4.0 else "dear" if -1.0 <= hour < 6.0 else "outside"
        drawn_wh[when] += heater.import_wh - before_wh
    assert drawn_wh["cheap"] == pytest.approx(4000.0, abs=150.0)
    assert drawn_wh["dear"] + drawn_wh["outside"] < 150.0


async def test_curtailable_load_gives_way_in_the_plan_and_in_the_cycle_before_the_import_limit_breaks(tmp_path: Path) -> None:
    """1 kW essential, 2 kW curtailable, no battery: under 2.2 kW the plan sheds what is too much and the guard does it."""
    config = make_config(tmp_path, schedule=True)
    world = World(tmp_path, config=msgspec.structs.replace(config, site=msgspec.structs.replace(config.site, contract_import_w=8000.0)))
    circuits = FakeDevice("p2", DeviceKind.LOAD, rated_w=3000.0)
    circuits.available_w = 2000.0
    world.controlled = [circuits]
    world.load_w = 1000.0
    world.agent = world.make_agent()
    await world.agent.start()
    await world.run(1800.0)
    assert circuits.power_w == 2000.0
    world.send_default(1500.0, 2200.0)
    await world.run(900.0)
    made = world.agent._plans._maker.prepare(world.clock.now_s(), world.agent._all_watches, world.agent._planned_limits).run()
    assert made is not None
    assert made.inputs.p2_load_w[0] / (made.inputs.p1_load_w[0] + made.inputs.p2_load_w[0]) == pytest.approx(2.0 / 3.0, abs=0.02)
    assert made.solved.schedule.import_breach_w.max() < 1.0
    assert circuits.power_w == pytest.approx(1200.0 - config.control.margin_w, abs=5.0)
    assert world.meter.power_w <= 2200.0


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


def test_only_what_is_measured_under_a_limit_is_outside_it() -> None:
    """A limit that begins at the third cycle finds the house where it was allowed to be; it is broken from the fourth on."""
    means = TelemetryMeans([DeviceKind.METER], 10_000.0)
    tight = LimitSet(import_=Limit(limit_w=3000.0, source="control"))
    for cycle, limits in enumerate((NO_LIMITS, NO_LIMITS, tight, tight, tight)):
        reading = Reading(name="meter", kind=DeviceKind.METER, time_s=START_S + 10.0 * cycle, power_w=5000.0)
        means.add(START_S + 10.0 * cycle, [reading], limits)
    message = means.take(START_S + 50.0, sender=NODE, sequence=1, limits=tight, state=SafetyState.CONTROLLED)
    assert message.exceeded_s == 20.0


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
