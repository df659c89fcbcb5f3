"""Charging excludes discharging and buying excludes selling, measured against the mixed-integer optimum (cvxpy 1.9 with HiGHS 1.15)."""

import time

import cvxpy as cp
import msgspec
import numpy as np
import pytest
from schedule_worlds import objective_of, quiet_inputs, random_household, random_inputs

from edge.schedule.arrays import Structure
from edge.schedule.check import check_schedule
from edge.schedule.extract import SIMULTANEOUS_KW
from edge.schedule.ladder import PriorityLadder, ladder_for
from edge.schedule.model import Battery, BatteryState, Household, ScheduleInputs
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Sanitised, sanitise
from edge.schedule.solve import PiqpBackend
from edge.schedule.specification import Specification

HOUSE = Household(
    pv_rated_w=6000.0,
    batteries=(
        Battery(
            name="battery",
            capacity_wh=10_000.0,
            max_charge_w=5000.0,
            max_discharge_w=5000.0,
            charge_efficiency_frac=0.9,
            discharge_efficiency_frac=1.0,
            wear_per_kwh=0.03,
        ),
    ),
    comfort_slope_per_kwh_w=0.0,
)
LIGHT_WEAR_HOUSE = msgspec.structs.replace(HOUSE, batteries=(msgspec.structs.replace(HOUSE.batteries[0], wear_per_kwh=0.02),))
ONSET_PER_KWH = -0.03 * (1.0 + 0.9) / (1.0 - 0.9)


def cheap_night(seed: int) -> ScheduleInputs:
    """Buying at 0.08 at night and 0.16 by day, selling at a flat 0.12: the relaxation would buy and sell at once.

    It would also value energy at night with 0.12, and so not charge for the day, which pays.
    """
    rng = np.random.default_rng(seed)
    hour = np.arange(48) / 2.0
    return quiet_inputs(
        LIGHT_WEAR_HOUSE,
        steps=48,
        step_s=1800.0,
        p1_load_w=rng.uniform(200.0, 2500.0, 48),
        pv_w=-6000.0 * np.clip(np.sin((hour - 6.0) / 12.0 * np.pi), 0.0, None) * rng.uniform(0.3, 1.0, 48),
        import_limit_w=rng.uniform(3000.0, 8000.0, 48),
        export_limit_w=rng.uniform(500.0, 5000.0, 48),
        buy_price_per_kwh=np.where(hour < 6.0, 0.08, 0.16),
        sell_price_per_kwh=np.full(48, 0.12),
        batteries=(BatteryState(soc_frac=0.2, end_value_per_kwh=0.0),),
    )


def planned(household: Household, inputs: ScheduleInputs) -> Plan:
    plan = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0).plan(inputs, inputs.start_s)
    assert isinstance(plan, Plan)
    assert plan.made_by == "solver", plan.reasons
    assert check_schedule(household, inputs, plan.schedule) == []
    return plan


def exclusive_optimum(household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> float:
    specification = Specification(household, inputs, ladder, exclusive=True)
    specification.problem.solve(solver=cp.HIGHS, highs_options={"mip_rel_gap": 1e-7})
    assert specification.problem.status == cp.OPTIMAL
    return float(specification.problem.value)


@pytest.mark.parametrize("seed", [0, 1, 4, 7, 9, 14])
def test_a_cheap_night_with_a_flat_feed_in_price_costs_what_the_exclusive_optimum_costs(seed: int) -> None:
    inputs = cheap_night(seed)
    clean = sanitise(LIGHT_WEAR_HOUSE, inputs)
    assert isinstance(clean, Sanitised)
    ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
    plan = planned(LIGHT_WEAR_HOUSE, inputs)
    got = objective_of(LIGHT_WEAR_HOUSE, clean.inputs, ladder, plan.schedule) * inputs.step_h
    best = exclusive_optimum(LIGHT_WEAR_HOUSE, clean.inputs, ladder) * inputs.step_h
    assert got == pytest.approx(best, abs=1e-4)


def test_the_relaxation_would_have_bought_and_sold_at_once() -> None:
    """Without the rule the same day looks better than any house can do: the test above is not empty."""
    clean = sanitise(LIGHT_WEAR_HOUSE, cheap_night(0))
    assert isinstance(clean, Sanitised)
    relaxed = Specification(LIGHT_WEAR_HOUSE, clean.inputs, PriorityLadder())
    relaxed.problem.solve(solver=cp.CLARABEL)
    assert relaxed.problem.value < exclusive_optimum(LIGHT_WEAR_HOUSE, clean.inputs, PriorityLadder()) - 0.1
    both_kw = np.minimum(relaxed.variables["bought"].value, relaxed.variables["sold"].value)
    assert (both_kw > 0.1).sum() > 3


def relaxed_overlap_kw(price_per_kwh: float) -> float:
    """The most that the relaxed problem charges and discharges at once when energy has this one price for buying and selling."""
    inputs = quiet_inputs(HOUSE, buy_price_per_kwh=np.full(24, price_per_kwh), sell_price_per_kwh=np.full(24, price_per_kwh))
    clean = sanitise(HOUSE, inputs)
    assert isinstance(clean, Sanitised)
    backend = PiqpBackend(Structure(HOUSE, 24, 3600.0), time.monotonic)
    vectors = backend.vectors
    vectors.fill(clean.inputs, ladder_for(PriorityLadder(), clean.inputs, clean.reach_w))
    x = backend.solve(time.monotonic() + 60.0).x
    block = vectors.structure.block
    return float(np.minimum(x[block["charge_0"]], x[block["discharge_0"]]).max())


def test_wear_keeps_a_battery_exclusive_down_to_the_price_that_the_optimality_conditions_give() -> None:
    """lambda = -wear (1 + eta) / (1 - eta): -0.57 per kWh here."""
    assert relaxed_overlap_kw(ONSET_PER_KWH + 0.02) <= SIMULTANEOUS_KW
    assert relaxed_overlap_kw(ONSET_PER_KWH - 0.02) > 0.5


@pytest.mark.parametrize("price_per_kwh", [-0.6, -1.0, -3.0])
def test_beyond_that_price_the_plan_is_exclusive_and_near_the_exclusive_optimum(price_per_kwh: float) -> None:
    """Within 2.5 % when every hour of the day pays for burning energy; following the net powers alone loses up to 6 %."""
    rng = np.random.default_rng(3)
    inputs = quiet_inputs(
        HOUSE,
        p1_load_w=rng.uniform(200.0, 1500.0, 24),
        pv_w=-rng.uniform(0.0, 6000.0, 24),
        buy_price_per_kwh=price_per_kwh * rng.uniform(0.8, 1.2, 24),
        sell_price_per_kwh=np.full(24, price_per_kwh * 1.3),
    )
    clean = sanitise(HOUSE, inputs)
    assert isinstance(clean, Sanitised)
    ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
    got = objective_of(HOUSE, clean.inputs, ladder, planned(HOUSE, inputs).schedule)
    best = exclusive_optimum(HOUSE, clean.inputs, ladder)
    assert best - 1e-5 * abs(best) <= got <= best + 0.025 * abs(best)


@pytest.mark.parametrize("seed", range(12))
def test_any_house_stays_legal_when_selling_pays_more_than_buying(seed: int) -> None:
    rng = np.random.default_rng(500 + seed)
    household = random_household(rng, full=True)
    inputs = random_inputs(rng, household)
    inputs = msgspec.structs.replace(inputs, sell_price_per_kwh=inputs.buy_price_per_kwh + rng.normal(0.0, 0.3, 96))
    planned(household, inputs)
