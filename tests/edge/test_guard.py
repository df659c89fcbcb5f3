"""The guard against a dumb reference: the reachable net import is an interval, so the least breach is known without any ordering."""

import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.guard import BatteryPort, Bounds, Decision, House, LoadPort, PvPort, enforce

TOLERANCE_W = 1e-6


def _number(rng: random.Random, low: float, high: float) -> float:
    """Mostly uniform, often exactly zero or an end: that is where mistakes live."""
    kind = rng.random()
    if kind < 0.15:
        return 0.0 if low <= 0.0 <= high else low
    if kind < 0.25:
        return high
    return rng.uniform(low, high)


def _garbage(rng: random.Random) -> float:
    return rng.choice([math.nan, math.inf, -math.inf, -1.0, 1e300, -1e300])


def random_case(rng: random.Random) -> tuple[House, Bounds]:
    """A house with perfectly known devices, wishes that are sometimes garbage, limits that often cannot be met."""

    def battery() -> BatteryPort:
        wish_w = _garbage(rng) if rng.random() < 0.1 else _number(rng, -8000.0, 8000.0)
        return BatteryPort(low_w=-_number(rng, 0.0, 6000.0), high_w=_number(rng, 0.0, 6000.0), wish_w=wish_w)

    def pv() -> PvPort:
        rated_w = _number(rng, 0.0, 10_000.0)
        available_w = _number(rng, 0.0, rated_w)
        wish_w = None if rng.random() < 0.5 else _garbage(rng) if rng.random() < 0.1 else _number(rng, 0.0, 10_000.0)
        return PvPort(rated_w=rated_w, available_w=available_w, sure_w=available_w, wish_limit_w=wish_w)

    def load() -> LoadPort:
        rated_w = _number(rng, 0.0, 7400.0)
        draw_w = _number(rng, 0.0, rated_w)
        wish_w = None if rng.random() < 0.3 else _garbage(rng) if rng.random() < 0.1 else _number(rng, 0.0, 7400.0)
        return LoadPort(rated_w=rated_w, draw_w=draw_w, sure_w=draw_w, wish_limit_w=wish_w)

    base_w = _number(rng, -3000.0, 12_000.0)
    house = House(
        base_low_w=base_w,
        base_high_w=base_w,
        batteries=tuple(battery() for _ in range(rng.choice([0, 1, 1, 2]))),
        pvs=tuple(pv() for _ in range(rng.choice([0, 1, 1, 2]))),
        chargers=tuple(load() for _ in range(rng.choice([0, 1]))),
        loads=tuple(load() for _ in range(rng.choice([0, 1, 2]))),
    )

    def limit(probability: float) -> float:
        return _number(rng, 0.0, 10_000.0) if rng.random() < probability else math.inf

    margin_w = rng.choice([0.0, 25.0])
    bounds = Bounds(export_w=limit(0.9), import_w=limit(0.8), generation_w=limit(0.15), load_w=limit(0.15), margin_w=margin_w)
    return house, bounds


def physics(house: House, decision: Decision) -> tuple[float, float, float]:
    """Net import, generation and controllable load that follow from the setpoints; asserts that the hardware is respected."""
    net_w, generation_w, load_w = house.base_low_w, 0.0, 0.0
    for battery, power_w in zip(house.batteries, decision.battery_w, strict=True):
        assert battery.low_w - TOLERANCE_W <= power_w <= battery.high_w + TOLERANCE_W
        net_w += power_w
        generation_w += max(-power_w, 0.0)
        load_w += max(power_w, 0.0)
    for pv, limit_w in zip(house.pvs, decision.pv_limit_w, strict=True):
        assert limit_w is None or limit_w >= 0.0
        produced_w = pv.available_w if limit_w is None else min(pv.available_w, limit_w)
        net_w -= produced_w
        generation_w += produced_w
    for ports, limits in ((house.chargers, decision.charger_limit_w), (house.loads, decision.load_limit_w)):
        for port, limit_w in zip(ports, limits, strict=True):
            assert 0.0 <= limit_w <= port.rated_w + TOLERANCE_W
            net_w += min(port.draw_w, limit_w)
            load_w += min(port.draw_w, limit_w)
    return net_w, generation_w, load_w


def breach_w(net_w: float, bounds: Bounds) -> float:
    return max(net_w - bounds.import_w, -bounds.export_w - net_w, 0.0)


def least_breach_w(house: House, bounds: Bounds, *, device_limits: bool) -> float:
    """The dumb reference: every net import between the two extremes can be reached."""
    generation_w = sum(pv.available_w for pv in house.pvs) - sum(battery.low_w for battery in house.batteries)
    load_w = sum(port.draw_w for port in (*house.chargers, *house.loads)) + sum(b.high_w for b in house.batteries)
    if device_limits:
        generation_w, load_w = min(generation_w, bounds.generation_w), min(load_w, bounds.load_w)
    lowest_w, highest_w = house.base_low_w - generation_w, house.base_low_w + load_w
    return max(lowest_w - bounds.import_w, -bounds.export_w - highest_w, 0.0)


def check_cases(count: int, seed: int) -> tuple[int, float]:
    """Number of cases that the hardware could not obey, and the worst avoidable breach [W]."""
    rng = random.Random(seed)
    impossible, worst_w = 0, 0.0
    for _ in range(count):
        house, bounds = random_case(rng)
        decision = enforce(house, bounds)
        net_w, generation_w, load_w = physics(house, decision)
        least_w = least_breach_w(house, bounds, device_limits=False)
        impossible += least_w > 0.0
        avoidable_w = breach_w(net_w, bounds) - least_w
        if least_breach_w(house, bounds, device_limits=True) <= 0.0:
            avoidable_w = max(avoidable_w, generation_w - bounds.generation_w, load_w - bounds.load_w)
        assert avoidable_w <= TOLERANCE_W, f"seed {seed}: {avoidable_w} W avoidable in {house}, {bounds}: {decision}"
        assert abs(max(decision.export_breach_w, decision.import_breach_w) - breach_w(net_w, bounds)) <= TOLERANCE_W
        worst_w = max(worst_w, avoidable_w)
    return impossible, worst_w


def test_no_avoidable_breach_in_random_cases_with_garbage_wishes() -> None:
    impossible, worst_w = check_cases(20_000, seed=7)
    assert impossible > 1000
    assert worst_w <= TOLERANCE_W


@pytest.mark.slow
def test_no_avoidable_breach_in_200000_random_cases() -> None:
    impossible, worst_w = check_cases(200_000, seed=11)
    assert impossible > 10_000
    assert worst_w <= TOLERANCE_W


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
