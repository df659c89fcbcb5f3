"""The check finds what is wrong with a plan, whoever made it, and the closed-form walk always passes it."""

import time

import msgspec
import numpy as np
import pytest
from schedule_worlds import START_S, quiet_inputs, random_household, random_inputs

from edge.schedule.check import check_schedule
from edge.schedule.follow import Wishes, follow, self_consumption
from edge.schedule.model import (
    Appliance,
    ApplianceState,
    Battery,
    Departure,
    Generator,
    Household,
    Schedule,
    Tank,
    Vehicle,
    VehicleState,
)
from edge.schedule.planner import Plan, Planner
from edge.schedule.profiles import appliance_load, latest_start_wh, vehicle_load
from edge.schedule.sanitise import Sanitised, sanitise

HOUSE = Household(
    pv_rated_w=5000.0,
    batteries=(Battery(name="battery", capacity_wh=10_000.0, max_charge_w=5000.0, max_discharge_w=5000.0),),
    vehicles=(Vehicle(name="car", capacity_wh=40_000.0, max_charge_w=7000.0),),
    tanks=(Tank(name="tank", capacity_wh=10_000.0, max_heat_w=3000.0),),
    generators=(Generator(name="genset", max_w=2000.0, fuel_per_kwh=0.5),),
)
INPUTS = quiet_inputs(HOUSE, p2_load_w=np.full(24, 300.0), pv_w=np.full(24, -1000.0))


def legal_schedule() -> Schedule:
    plan = Planner(HOUSE, monotonic_s=time.monotonic).plan(INPUTS, START_S)
    assert isinstance(plan, Plan)
    return plan.schedule


def moved(schedule: Schedule, field: str, at: tuple[int, ...], to: float) -> Schedule:
    values = getattr(schedule, field).copy()
    values[at] = to
    return msgspec.structs.replace(schedule, **{field: values})


@pytest.mark.parametrize(
    ("field", "at", "to", "rule"),
    [
        ("net_import_w", (5,), 4321.0, "node: balance"),
        ("p2_shed_w", (5,), 301.5, "priority 2: shed"),
        ("p2_shed_w", (5,), -2.0, "priority 2: shed"),
        ("pv_curtailed_w", (5,), 1002.0, "pv: curtailed"),
        ("battery_w", (0, 5), 5002.0, "battery: power"),
        ("battery_wh", (0, 5), 9999.0, "battery: energy path"),
        ("flexible_w", (0, 5), 7002.0, "car: power"),
        ("flexible_w", (1, 5), -2.0, "tank: power"),
        ("flexible_wh", (1, 5), 9999.0, "tank: energy path"),
        ("flexible_shortfall_wh", (0, 5), -2.0, "car: shortfall"),
        ("generator_w", (0, 5), 2.0, "genset: power"),
        ("generator_w", (0, 5), -2002.0, "genset: power"),
        ("import_breach_w", (5,), 50.0, "node: breach told"),
        ("net_import_w", (5,), float("nan"), "net_import_w: finite"),
        ("flexible_wh", (1, 3), float("inf"), "flexible_wh: finite"),
    ],
)
def test_one_wrong_number_is_found_at_its_interval(field: str, at: tuple[int, ...], to: float, rule: str) -> None:
    schedule = legal_schedule()
    assert check_schedule(HOUSE, INPUTS, schedule) == []
    findings = {finding.rule: finding for finding in check_schedule(HOUSE, INPUTS, moved(schedule, field, at, to))}
    assert rule in findings
    assert findings[rule].step in (at[-1], at[-1] + 1)


def test_a_schedule_of_another_length_is_found() -> None:
    schedule = msgspec.structs.replace(legal_schedule(), battery_w=np.zeros((1, 23)))
    assert [finding.rule for finding in check_schedule(HOUSE, INPUTS, schedule)] == ["battery_w: shape"]


def test_a_battery_that_is_run_beyond_its_range_is_found() -> None:
    inputs = quiet_inputs(HOUSE)
    idle = follow(HOUSE, inputs, self_consumption(HOUSE, inputs))
    battery_w = np.full((1, 24), -1000.0)
    wrong = msgspec.structs.replace(
        idle,
        battery_w=battery_w,
        battery_wh=5000.0 + np.cumsum(battery_w / 0.95, axis=1),
        net_import_w=idle.net_import_w - idle.battery_w[0] + battery_w[0],
    )
    assert "battery: energy range" in {finding.rule for finding in check_schedule(HOUSE, inputs, wrong)}


def test_a_breach_is_found_while_anything_may_still_yield() -> None:
    """The car draws while the import limit is breached; the honest numbers do not make it legal."""
    wide = quiet_inputs(HOUSE, p1_load_w=np.full(24, 3000.0))
    schedule = follow(HOUSE, wide, charging(1000.0))
    narrow = msgspec.structs.replace(wide, import_limit_w=np.full(24, 3500.0))
    told = msgspec.structs.replace(schedule, import_breach_w=np.maximum(schedule.net_import_w - 3500.0, 0.0))
    assert "envelope: import" in {finding.rule for finding in check_schedule(HOUSE, narrow, told)}


def test_a_generator_counts_as_yielding_only_when_it_gives_all_it_has() -> None:
    house = Household(generators=HOUSE.generators)
    inputs = quiet_inputs(house, p1_load_w=np.full(24, 5000.0), import_limit_w=np.full(24, 4000.0))
    legal = follow(house, inputs, self_consumption(house, inputs))
    assert legal.import_breach_w.max() == 0.0
    assert legal.generator_w == pytest.approx(np.full((1, 24), -1000.0))
    lazy = msgspec.structs.replace(
        legal, generator_w=legal.generator_w * 0.5, net_import_w=legal.net_import_w + 500.0, import_breach_w=np.full(24, 500.0)
    )
    assert [finding.rule for finding in check_schedule(house, inputs, lazy)] == ["envelope: import"]


def test_shedding_priority_2_while_the_car_draws_is_found() -> None:
    """Li et al. 2026, section 3.2: priority 3 yields first."""
    inputs = quiet_inputs(HOUSE, p2_load_w=np.full(24, 800.0))
    fair = follow(HOUSE, inputs, charging(1000.0))
    unfair = msgspec.structs.replace(fair, p2_shed_w=np.full(24, 500.0), net_import_w=fair.net_import_w - 500.0)
    assert [finding.rule for finding in check_schedule(HOUSE, inputs, unfair)] == ["priority 2 before 3"]


def test_an_export_breach_is_found_while_pv_produces() -> None:
    house = Household(pv_rated_w=5000.0)
    wide = quiet_inputs(house, pv_w=np.full(24, -4000.0))
    schedule = follow(house, wide, self_consumption(house, wide))
    narrow = msgspec.structs.replace(wide, export_limit_w=np.full(24, 1500.0))
    told = msgspec.structs.replace(schedule, export_breach_w=np.full(24, 2000.0))
    assert [finding.rule for finding in check_schedule(house, narrow, told)] == ["envelope: export"]
    assert check_schedule(house, narrow, follow(house, narrow, self_consumption(house, narrow))) == []


def charging(car_w: float) -> Wishes:
    return Wishes(
        battery_w=np.zeros((1, 24)),
        flexible_w=np.vstack((np.full(24, car_w), np.zeros(24))),
        generator_w=np.zeros((1, 24)),
        pv_curtailed_w=np.zeros(24),
    )


@pytest.mark.parametrize("seed", range(60))
def test_following_any_wish_is_legal_nan_and_nonsense_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    household = random_household(rng)
    clean = sanitise(household, random_inputs(rng, household))
    assert isinstance(clean, Sanitised)

    def nonsense(*shape: int) -> np.ndarray:
        values = rng.normal(0.0, 10_000.0, shape)
        values[rng.random(shape) < 0.1] = np.nan
        return values

    wishes = Wishes(
        battery_w=nonsense(len(household.batteries), 96),
        flexible_w=nonsense(len(household.flexible_names), 96),
        generator_w=nonsense(len(household.generators), 96),
        pv_curtailed_w=nonsense(96),
    )
    assert check_schedule(household, clean.inputs, follow(household, clean.inputs, wishes)) == []


def test_a_deadline_is_the_end_of_the_last_interval_that_is_over_by_then() -> None:
    car = HOUSE.vehicles[0]
    leaves = Departure(depart_s=START_S + 2.5 * 3600.0, return_s=START_S + 5.5 * 3600.0, needed_soc_frac=0.9, trip_wh=6000.0)
    load = vehicle_load(car, VehicleState(soc_frac=0.5, departures=(leaves,)), INPUTS)
    assert load.floor_wh.tolist()[:4] == [0.0, 36_000.0, 0.0, 0.0]
    assert load.max_w.tolist()[:8] == [7000.0, 7000.0, 0.0, 0.0, 0.0, 0.0, 7000.0, 7000.0]
    assert load.demand_wh.tolist()[:8] == [0.0, 0.0, 0.0, 0.0, 0.0, 6000.0, 0.0, 0.0]


def test_an_unplugged_car_is_away_until_it_returns_or_for_good() -> None:
    car = HOUSE.vehicles[0]
    on_the_road = Departure(depart_s=START_S - 3600.0, return_s=START_S + 2 * 3600.0, needed_soc_frac=0.9)
    returning = vehicle_load(car, VehicleState(soc_frac=0.5, connected=False, departures=(on_the_road,)), INPUTS)
    gone = vehicle_load(car, VehicleState(soc_frac=0.5, connected=False), INPUTS)
    assert returning.max_w.tolist()[:3] == [0.0, 0.0, 7000.0]
    assert gone.max_w.max() == 0.0


def test_an_appliance_runs_inside_its_window_and_a_late_one_still_runs() -> None:
    washer = Appliance(name="washer", max_w=1000.0)
    window = ApplianceState(remaining_wh=1500.0, earliest_s=START_S + 1800.0, deadline_s=START_S + 4 * 3600.0)
    load = appliance_load(washer, window, INPUTS)
    assert load.max_w.tolist()[:6] == [0.0, 1000.0, 1000.0, 1000.0, 0.0, 0.0]
    assert load.floor_wh.tolist()[:5] == [0.0, 0.0, 0.0, 1500.0, 1500.0]
    late = appliance_load(washer, ApplianceState(remaining_wh=500.0, earliest_s=START_S - 9000.0, deadline_s=START_S - 1.0), INPUTS)
    assert late.max_w.min() == 1000.0
    assert late.floor_wh.min() == 500.0


def test_the_latest_start_meets_every_floor_at_full_power_and_one_interval_later_does_not() -> None:
    washer = Appliance(name="washer", max_w=1000.0)
    window = ApplianceState(remaining_wh=2500.0, earliest_s=START_S, deadline_s=START_S + 6 * 3600.0)
    assert latest_start_wh(appliance_load(washer, window, INPUTS), 1.0).tolist()[:7] == [0.0, 0.0, 0.0, 500.0, 1500.0, 2500.0, 2500.0]
