"""The guard against a dumb reference: the reachable net import is an interval, so the least breach is known without any ordering."""

import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.guard import BatteryPort, Bounds, House, LoadPort, PvPort, enforce
from tests.edge.guard_reference import TOLERANCE_W, check_guard, judge, random_case


def test_no_avoidable_breach_in_random_cases_with_garbage_wishes() -> None:
    found = check_guard(20_000, seed=7)
    assert found.impossible > 1000
    assert found.worst_avoidable_w <= TOLERANCE_W


@pytest.mark.slow
def test_no_avoidable_breach_in_200000_random_cases() -> None:
    found = check_guard(200_000, seed=11)
    assert found.impossible > 10_000
    assert found.worst_avoidable_w <= TOLERANCE_W


def test_the_reference_bites() -> None:
    """A guard that does nothing is found out by the same judge."""
    rng = random.Random(5)
    worst_w = 0.0
    for _ in range(200):
        house, bounds = random_case(rng)
        idle = enforce(house, Bounds())
        worst_w = max(worst_w, judge(house, bounds, idle)[0])
    assert worst_w > 100.0


def test_one_call_costs_at_most_20_us() -> None:
    rng = random.Random(3)
    cases = [random_case(rng) for _ in range(2000)]
    best_s = math.inf
    for _ in range(5):
        started_s = time.process_time()
        for house, bounds in cases:
            enforce(house, bounds)
        best_s = min(best_s, time.process_time() - started_s)
    assert best_s / len(cases) <= 20e-6


def _house(**parts: object) -> House:
    values: dict[str, object] = {"base_low_w": 500.0, "base_high_w": 500.0}
    return House(**{**values, **parts})  # type: ignore[arg-type]


BATTERY = BatteryPort(low_w=-5000.0, high_w=5000.0)
PV = PvPort(rated_w=6000.0, available_w=5000.0, sure_w=5000.0)


def test_too_much_export_goes_into_the_battery_before_pv_is_curtailed() -> None:
    decision = enforce(_house(batteries=(BATTERY,), pvs=(PV,)), Bounds(export_w=1500.0))
    assert decision.battery_w[0] == pytest.approx(3000.0)
    assert decision.pv_limit_w[0] == pytest.approx(5000.0)
    full = BatteryPort(low_w=-5000.0, high_w=1000.0)
    decision = enforce(_house(batteries=(full,), pvs=(PV,)), Bounds(export_w=1500.0))
    assert decision.battery_w[0] == pytest.approx(1000.0)
    assert decision.pv_limit_w[0] == pytest.approx(3000.0)


def test_too_much_import_takes_from_battery_then_vehicle_then_flexible_load_and_never_more() -> None:
    charger = LoadPort(rated_w=7000.0, draw_w=7000.0, sure_w=7000.0)
    heater = LoadPort(rated_w=2000.0, draw_w=2000.0, sure_w=2000.0)
    small = BatteryPort(low_w=-1000.0, high_w=0.0)
    house = _house(base_low_w=1000.0, base_high_w=1000.0, batteries=(small,), chargers=(charger,), loads=(heater,))
    decision = enforce(house, Bounds(import_w=5000.0))
    assert decision.battery_w[0] == pytest.approx(-1000.0)
    assert decision.charger_limit_w[0] == pytest.approx(3000.0)
    assert decision.load_limit_w[0] == pytest.approx(2000.0)
    decision = enforce(house, Bounds(import_w=1500.0))
    assert decision.charger_limit_w[0] == pytest.approx(0.0)
    assert decision.load_limit_w[0] == pytest.approx(1500.0)


def test_a_zero_export_limit_forbids_and_is_not_no_limit() -> None:
    decision = enforce(_house(pvs=(PV,)), Bounds(export_w=0.0))
    assert decision.pv_limit_w[0] == pytest.approx(500.0)


def test_the_margin_curtails_but_never_forces_the_battery_to_charge_from_the_grid() -> None:
    night = PvPort(rated_w=6000.0, available_w=0.0, sure_w=0.0)
    house = _house(base_low_w=0.0, base_high_w=0.0, batteries=(BATTERY,), pvs=(night,))
    assert enforce(house, Bounds(export_w=0.0, margin_w=25.0)).battery_w[0] == 0.0


def test_with_an_unreadable_meter_the_stance_is_legal_for_any_load() -> None:
    bounds = Bounds(export_w=1500.0, import_w=4000.0)
    for wish_w in (-3000.0, 0.0, 3000.0):
        battery = BatteryPort(low_w=-5000.0, high_w=5000.0, wish_w=wish_w)
        decision = enforce(House(base_low_w=0.0, base_high_w=4000.0, batteries=(battery,), pvs=(PV,)), bounds)
        limit_w = decision.pv_limit_w[0]
        assert limit_w is not None
        for load_w in (0.0, 1000.0, 4000.0):
            net_w = load_w + decision.battery_w[0] - min(5000.0, limit_w)
            assert -1500.0 - TOLERANCE_W <= net_w <= 4000.0 + TOLERANCE_W


def test_a_battery_charges_from_pv_that_cannot_be_read_to_be_curtailed() -> None:
    deaf = PvPort(rated_w=6000.0, available_w=5000.0, sure_w=5000.0, floor_w=5000.0)
    decision = enforce(_house(batteries=(BATTERY,), pvs=(deaf,)), Bounds(export_w=0.0))
    assert decision.battery_w[0] == pytest.approx(4500.0)


def test_an_impossible_pair_of_limits_gives_the_smaller_breach_and_a_reason() -> None:
    house = House(base_low_w=0.0, base_high_w=3000.0)
    decision = enforce(house, Bounds(export_w=0.0, import_w=1000.0))
    assert decision.import_breach_w == pytest.approx(2000.0)
    assert decision.reasons


@given(
    base_w=st.floats(allow_nan=True, allow_infinity=True),
    wish_w=st.floats(allow_nan=True, allow_infinity=True),
    limit_w=st.floats(min_value=0.0, max_value=1e5),
)
def test_whatever_the_measurement_says_setpoints_are_finite_and_inside_the_hardware(
    base_w: float, wish_w: float, limit_w: float
) -> None:
    battery = BatteryPort(low_w=-5000.0, high_w=5000.0, wish_w=wish_w)
    house = House(base_low_w=base_w, base_high_w=base_w, batteries=(battery,), pvs=(PV,))
    decision = enforce(house, Bounds(export_w=limit_w, import_w=limit_w))
    assert -5000.0 <= decision.battery_w[0] <= 5000.0
    pv_limit_w = decision.pv_limit_w[0]
    assert pv_limit_w is None or 0.0 <= pv_limit_w <= 6000.0
