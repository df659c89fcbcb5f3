"""The safety machine: rules of fail-safe release from evcc and EEBUS LPC, each with the defect that taught it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.limits import NO_LIMITS, Limit, LimitSet
from edge.safety import Condition, SafetyMachine
from protocols.messages import SafetyState
from tests.edge.world import START_S, World, control

CONTRACT = LimitSet(export=Limit(limit_w=1500.0, source="contract"))
LOOSE = LimitSet(export=Limit(limit_w=8000.0, source="control", mrid="a"))
RATINGS = LimitSet(export=Limit(limit_w=10_000.0, source="rating"))


def machine() -> SafetyMachine:
    return SafetyMachine(contract=CONTRACT, stale_after_s=15.0, coordinator_silent_s=120.0, clock_jump_s=5.0)


def condition(time_s: float, *, wall_s: float | None = None, meter: bool = True, active: bool = True) -> Condition:
    return Condition(
        now_s=START_S + (time_s if wall_s is None else wall_s),
        monotonic_s=time_s,
        meter_believable=meter,
        meter_lost=not meter,
        control_active=active,
        default_known=True,
    )


def export_w(safety: SafetyMachine, envelope: LimitSet, fallback: LimitSet = NO_LIMITS) -> float:
    limit = safety.narrow(RATINGS, envelope, fallback).export
    assert limit is not None
    return limit.limit_w


def test_the_edge_starts_in_failsafe_and_assumes_any_load() -> None:
    safety = machine()
    assert safety.state is SafetyState.FAILSAFE
    assert safety.update(condition(0.0))
    assert safety.state is SafetyState.FAILSAFE
    assert export_w(safety, LOOSE) == 1500.0


def test_it_leaves_failsafe_with_a_believable_meter_and_a_control_or_default() -> None:
    safety = machine()
    safety.update(condition(0.0))
    assert not safety.update(condition(10.0))
    assert safety.state is SafetyState.CONTROLLED
    assert export_w(safety, LOOSE) == 8000.0
    safety.update(condition(20.0, active=False))
    assert safety.state is SafetyState.DEFAULT


def test_time_alone_never_leaves_failsafe() -> None:
    """evcc issue 29705: after two hours without contact the house became unlimited."""
    safety = machine()
    for hour in range(48):
        assert safety.update(condition(hour * 3600.0, meter=False))
        assert safety.state is SafetyState.FAILSAFE
        assert export_w(safety, LOOSE) == 1500.0


def test_a_lost_meter_is_blind_at_once_and_failsafe_after_its_time() -> None:
    safety = machine()
    safety.update(condition(0.0))
    safety.update(condition(10.0))
    assert safety.update(condition(20.0, meter=False))
    assert safety.state is SafetyState.CONTROLLED
    assert safety.update(condition(36.0, meter=False))
    assert safety.state is SafetyState.FAILSAFE
    assert not safety.update(condition(46.0))
    assert safety.state is SafetyState.CONTROLLED


def test_losing_the_coordinator_is_told_and_changes_no_limit() -> None:
    safety = machine()
    safety.update(condition(0.0))
    safety.update(condition(10.0))
    safety.heard_coordinator(10.0)
    before_w = export_w(safety, LOOSE)
    safety.update(condition(200.0))
    assert safety.islanded
    assert export_w(safety, LOOSE) == before_w


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_after_a_clock_jump_the_stricter_of_before_and_after_holds_until_the_coordinator_is_heard(jump_s: float) -> None:
    safety = machine()
    safety.update(condition(0.0))
    safety.update(condition(10.0))
    tight = LimitSet(export=Limit(limit_w=500.0, source="control", mrid="b"))
    assert export_w(safety, tight) == 500.0
    safety.update(condition(20.0, wall_s=20.0 + jump_s))
    assert safety.clock_suspect
    assert export_w(safety, LOOSE) == 500.0
    safety.update(condition(4000.0, wall_s=4000.0 + jump_s))
    assert export_w(safety, LOOSE) == 500.0
    safety.heard_coordinator(4001.0)
    safety.update(condition(4010.0, wall_s=4010.0 + jump_s))
    assert not safety.clock_suspect
    assert export_w(safety, LOOSE) == 8000.0


def test_a_clock_that_jumps_back_is_trusted_again() -> None:
    safety = machine()
    safety.update(condition(0.0))
    safety.update(condition(10.0))
    export_w(safety, CONTRACT)
    safety.update(condition(20.0, wall_s=500.0))
    assert safety.clock_suspect
    safety.update(condition(30.0))
    assert not safety.clock_suspect


def test_a_slowly_drifting_clock_is_no_jump() -> None:
    safety = machine()
    for step in range(1000):
        safety.update(condition(10.0 * step, wall_s=10.05 * step))
    assert not safety.clock_suspect


async def test_all_30_after_a_power_cycle_with_the_link_cut_the_disk_speaks(tmp_path: Path) -> None:
    """ALL-30: power cycle with the link cut; default and pending controls are still known."""
    world = World(tmp_path, battery_w=0.0)
    world.pv.available_w = 8000.0
    await world.agent.start()
    world.send_default(800.0, 6000.0)
    world.send(control("now", 0.0, 120.0, export_w=3000.0), control("next", 120.0, 120.0, export_w=2000.0))
    await world.run(60.0)
    world.bus.cut()
    world.agent = world.make_agent()
    records = await world.run(20.0)
    assert records[0].state is SafetyState.FAILSAFE
    assert records[1].state is SafetyState.CONTROLLED
    await world.run(20.0)
    assert -3000.0 <= world.meter.power_w < -2800.0
    await world.run(60.0)
    assert -2000.0 <= world.meter.power_w < -1900.0
    await world.run(120.0)
    assert world.agent.state is SafetyState.DEFAULT
    assert -800.0 <= world.meter.power_w < -700.0


async def test_all_23_in_the_closed_loop_with_the_link_cut(tmp_path: Path) -> None:
    """ALL-23 at the meter: within 15 s of each begin the house is inside, and the default 0/0 holds after the last control."""
    world = World(tmp_path, battery_w=0.0)
    world.pv.available_w = 8000.0
    world.load_w = 300.0
    await world.agent.start()
    world.send_default(0.0, 0.0)
    shares = (2.0, 0.2, 1.8, 0.7, 1.3)
    rated_w = 5000.0
    world.send(*(control(f"c{i}", 60.0 * i, 60.0, export_w=share * rated_w, import_w=10_000.0) for i, share in enumerate(shares)))
    await world.run(10.0)
    world.bus.cut()
    for index, share in enumerate(shares):
        await world.run(50.0 if index == 0 else 60.0)
        end_s = 60.0 * (index + 1)
        assert world.clock.now_s() == START_S + end_s
        following_w = shares[index + 1] * rated_w if index < 4 else 0.0
        assert world.meter.power_w >= -min(share * rated_w, following_w) - 1.0
    await world.run(120.0)
    assert -1.0 <= world.meter.power_w <= 300.0
