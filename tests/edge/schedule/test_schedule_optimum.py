"""The planner's answer against the specification solved by another solver (cvxpy 1.9 with Clarabel 0.11)."""

import time

import cvxpy as cp
import numpy as np
import pytest
from schedule_worlds import objective_of, random_household, random_inputs

from edge.schedule.check import check_schedule
from edge.schedule.ladder import PriorityLadder, ladder_for
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Sanitised, sanitise
from edge.schedule.specification import Specification

RELATIVE = 1e-6
LIMIT_W = 1.0


def assert_optimal_and_legal(seed: int, **shape: float) -> None:
    rng = np.random.default_rng(seed)
    household = random_household(rng, full=bool(seed % 2))
    inputs = random_inputs(rng, household, **shape)
    clean = sanitise(household, inputs)
    assert isinstance(clean, Sanitised)
    ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
    specification = Specification(household, clean.inputs, ladder)
    specification.problem.solve(solver=cp.CLARABEL)
    assert specification.problem.status == cp.OPTIMAL

    plan = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0).plan(inputs, inputs.start_s)
    assert isinstance(plan, Plan), (seed, plan)
    assert plan.made_by == "solver", (seed, plan.reasons)
    best = specification.problem.value
    assert abs(objective_of(household, clean.inputs, ladder, plan.schedule) - best) <= RELATIVE * abs(best), seed
    assert check_schedule(household, inputs, plan.schedule) == [], seed
    over_w = np.maximum(plan.schedule.net_import_w - inputs.import_limit_w, -inputs.export_limit_w - plan.schedule.net_import_w)
    told_w = plan.schedule.import_breach_w + plan.schedule.export_breach_w
    assert float(np.maximum(over_w - told_w, 0.0).max()) <= LIMIT_W, seed


@pytest.mark.parametrize("seed", range(36))
def test_the_plan_costs_what_the_specification_s_optimum_costs(seed: int) -> None:
    assert_optimal_and_legal(seed, steps=96, step_s=900.0)


@pytest.mark.parametrize(("steps", "step_s"), [(1, 900.0), (2, 3600.0), (288, 300.0), (192, 900.0)])
def test_other_horizons_and_intervals_are_solved_as_well(steps: int, step_s: float) -> None:
    assert_optimal_and_legal(1001, steps=steps, step_s=step_s)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_four_hundred_more_days_have_the_same_optimum(seed: int) -> None:
    assert_optimal_and_legal(seed, steps=96, step_s=900.0)


@pytest.mark.slow
def test_two_days_in_five_minute_intervals_have_the_same_optimum() -> None:
    for seed in range(6):
        assert_optimal_and_legal(seed, steps=576, step_s=300.0)


def test_one_planner_for_many_days_answers_like_a_fresh_one() -> None:
    """The solver object is set up once and updated; nothing of the day before may stay in it, whatever the terms were."""
    rng = np.random.default_rng(7)
    household = random_household(rng, full=True)
    kept = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0)
    for day in range(8):
        inputs = random_inputs(rng, household, negotiated=day % 2 == 1)
        fresh = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0).plan(inputs, inputs.start_s)
        again = kept.plan(inputs, inputs.start_s)
        assert isinstance(fresh, Plan) and isinstance(again, Plan)
        assert again.made_by == fresh.made_by == "solver"
        clean = sanitise(household, inputs)
        assert isinstance(clean, Sanitised)
        ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
        costs = [objective_of(household, clean.inputs, ladder, plan.schedule) for plan in (fresh, again)]
        assert costs[0] == pytest.approx(costs[1], rel=1e-7)
