"""What gives way first (Li et al. 2026, section 3.2): priority 3, then priority 2, then the envelope, and priority 1 never.

The oracle minimises breach, shed load and weighted shortfall one after the other (lexicographically) with cvxpy 1.9 and Clarabel.
"""

import time

import cvxpy as cp
import msgspec
import numpy as np
import pytest
from schedule_worlds import START_S, quiet_inputs, random_household, random_inputs

from edge.schedule.errors import HouseholdError
from edge.schedule.ladder import PriorityLadder, ladder_findings
from edge.schedule.model import Battery, Departure, Household, ScheduleInputs, Vehicle, VehicleState
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Sanitised, sanitise
from edge.schedule.specification import Specification

HOUSE = Household(vehicles=(Vehicle(name="car", capacity_wh=40_000.0, max_charge_w=7000.0, charge_efficiency_frac=1.0),))


def day_with_limit(import_limit_w: float) -> ScheduleInputs:
    """1 kW of priority 1, 1 kW of priority 2, and a car that needs 12 kWh in the first 4 hours."""
    leaves = Departure(depart_s=START_S + 4 * 3600.0, return_s=START_S + 10 * 3600.0, needed_soc_frac=0.8)
    return quiet_inputs(
        HOUSE,
        steps=8,
        p1_load_w=np.full(8, 1000.0),
        p2_load_w=np.full(8, 1000.0),
        import_limit_w=np.full(8, import_limit_w),
        vehicles=(VehicleState(soc_frac=0.5, departures=(leaves,)),),
    )


def planned(household: Household, inputs: ScheduleInputs, ladder: PriorityLadder | None = None) -> Plan:
    plan = Planner(household, monotonic_s=time.monotonic, ladder=ladder, deadline_s=60.0).plan(inputs, inputs.start_s)
    assert isinstance(plan, Plan)
    assert plan.made_by == "solver", plan.reasons
    return plan


@pytest.mark.parametrize(
    ("import_limit_w", "car_wh", "shed_w", "breach_w"),
    [
        (6000.0, 12_000.0, 0.0, 0.0),
        (5000.0, 12_000.0, 0.0, 0.0),
        (4000.0, 8_000.0, 0.0, 0.0),
        (2000.0, 0.0, 0.0, 0.0),
        (1400.0, 0.0, 600.0, 0.0),
        (1000.0, 0.0, 1000.0, 0.0),
        (300.0, 0.0, 1000.0, 700.0),
        (0.0, 0.0, 1000.0, 1000.0),
    ],
)
def test_the_car_yields_then_curtailable_load_then_the_envelope(
    import_limit_w: float, car_wh: float, shed_w: float, breach_w: float
) -> None:
    schedule = planned(HOUSE, day_with_limit(import_limit_w)).schedule
    assert schedule.flexible_w[0].sum() == pytest.approx(car_wh, abs=1.0)
    assert schedule.p2_shed_w == pytest.approx(np.full(8, shed_w), abs=0.1)
    assert schedule.import_breach_w == pytest.approx(np.full(8, breach_w), abs=0.1)
    p1_w = schedule.net_import_w - schedule.flexible_w[0] - (1000.0 - schedule.p2_shed_w)
    assert p1_w == pytest.approx(np.full(8, 1000.0), abs=1e-6)


@pytest.mark.parametrize("price_per_kwh", [5.0, 20.3, 300.0])
def test_no_price_makes_the_car_stay_behind_or_the_curtailable_load_shed(price_per_kwh: float) -> None:
    """The whole ladder rises above a price beyond its bound, such as the Australian market cap of 20.3 per kWh."""
    schedule = planned(HOUSE, msgspec.structs.replace(day_with_limit(9000.0), buy_price_per_kwh=np.full(8, price_per_kwh))).schedule
    assert schedule.flexible_w[0].sum() == pytest.approx(12_000.0, abs=1.0)
    assert schedule.p2_shed_w.max() < 0.1


def lexicographic(household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> list[float]:
    """Least breach; least shed load given that; least weighted shortfall and reserve given both (kWh, kWh, currency)."""
    specification = Specification(household, inputs, ladder)
    named, step_h = specification.variables, inputs.step_h
    shortfall = sum(
        (price * cp.sum(named[f"shortfall_{k}"]) for k, price in enumerate(flexible_prices(household, ladder))), cp.Constant(0.0)
    )
    goals = [step_h * cp.sum(named["import_breach"] + named["export_breach"]), step_h * cp.sum(named["p2_shed"]), shortfall]
    rules, best = list(specification.rules), []
    for goal in goals:
        problem = cp.Problem(cp.Minimize(goal), rules)
        problem.solve(solver=cp.CLARABEL)
        assert problem.status == cp.OPTIMAL
        best.append(float(problem.value))
        rules.append(goal <= problem.value + 1e-6)
    return best


def flexible_prices(household: Household, ladder: PriorityLadder) -> list[float]:
    return (
        [ladder.vehicle_per_kwh / v.charge_efficiency_frac for v in household.vehicles]
        + [ladder.tank_per_kwh / t.efficiency_frac for t in household.tanks]
        + [ladder.appliance_per_kwh for _ in household.appliances]
    )


@pytest.mark.parametrize("seed", range(10))
def test_one_weighted_problem_finds_the_lexicographic_optimum_on_days_that_cannot_be_obeyed(seed: int) -> None:
    rng = np.random.default_rng(9000 + seed)
    household = msgspec.structs.replace(random_household(rng, full=True), tanks=(), generators=())
    inputs = random_inputs(rng, household, steps=48, step_s=1800.0, negotiated=False)
    inputs = msgspec.structs.replace(
        inputs,
        pv_w=np.zeros(48),
        import_limit_w=rng.uniform(0.0, 600.0, 48),
        batteries=tuple(msgspec.structs.replace(state, end_min_soc_frac=None) for state in inputs.batteries),
    )
    clean = sanitise(household, inputs)
    assert isinstance(clean, Sanitised)
    ladder = PriorityLadder()
    schedule = planned(household, inputs, ladder).schedule
    breach_kwh = (schedule.import_breach_w + schedule.export_breach_w).sum() * inputs.step_h / 1000.0
    shed_kwh = schedule.p2_shed_w.sum() * inputs.step_h / 1000.0
    missing = sum(p * schedule.flexible_shortfall_wh[k].sum() for k, p in enumerate(flexible_prices(household, ladder))) / 1000.0
    assert [breach_kwh, shed_kwh, missing] == pytest.approx(lexicographic(household, clean.inputs, ladder), abs=2e-4), seed
    assert shed_kwh > 0.1


BATTERY = Battery(name="battery", capacity_wh=10_000.0, max_charge_w=5000.0, max_discharge_w=5000.0)


@pytest.mark.parametrize(
    ("ladder", "rung"),
    [
        (PriorityLadder(breach_per_kwh=5.5), "breach_per_kwh"),
        (PriorityLadder(p2_per_kwh=1.7), "p2_per_kwh"),
        (PriorityLadder(vehicle_per_kwh=0.6), "vehicle_per_kwh"),
        (PriorityLadder(appliance_per_kwh=0.65), "appliance_per_kwh"),
        (PriorityLadder(tank_per_kwh=float("nan")), "tank_per_kwh"),
        (PriorityLadder(reserve_per_kwh=0.5), "reserve_per_kwh"),
        (PriorityLadder(price_bound_per_kwh=1.5), "vehicle_per_kwh"),
    ],
)
def test_a_ladder_that_is_not_strict_through_the_battery_is_refused_when_the_planner_is_made(ladder: PriorityLadder, rung: str) -> None:
    household = Household(batteries=(BATTERY,))
    assert any(rung in finding for finding in ladder_findings(ladder, household))
    with pytest.raises(HouseholdError, match=rung):
        Planner(household, monotonic_s=time.monotonic, ladder=ladder)


def test_every_reason_against_a_household_is_given_at_once() -> None:
    household = Household(
        pv_rated_w=float("nan"),
        batteries=(BATTERY, msgspec.structs.replace(BATTERY, capacity_wh=-1.0, min_soc_frac=0.9, max_soc_frac=0.2)),
    )
    with pytest.raises(HouseholdError) as raised:
        Planner(household, monotonic_s=time.monotonic)
    for reason in ("pv_rated_w", "used 2 times", "capacity_wh", "min_soc_frac"):
        assert reason in str(raised.value)
