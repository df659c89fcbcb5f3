"""What the controller carries: no modelling language, one solver object, and a formulation that two independent formulas price alike."""

import subprocess
import sys
import time

import numpy as np
import pytest
from schedule_worlds import START_S, objective_of, random_household, random_inputs

from edge.schedule.ladder import PriorityLadder, ladder_for
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import MAX_STEPS, Sanitised, sanitise
from edge.schedule.specification import Specification


def test_planning_imports_neither_cvxpy_nor_osqp() -> None:
    modules = "edge.schedule.planner, edge.schedule.flexibility, sys"
    code = f"import {modules}; print(*(m for m in ('cvxpy', 'osqp', 'clarabel', 'phe') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("seed", range(8))
def test_a_schedule_costs_the_same_by_the_specification_and_by_the_formula_in_si(seed: int) -> None:
    rng = np.random.default_rng(seed)
    household = random_household(rng, full=True)
    inputs = random_inputs(rng, household)
    clean = sanitise(household, inputs)
    assert isinstance(clean, Sanitised)
    ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
    plan = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0).plan(inputs, START_S)
    assert isinstance(plan, Plan)
    value = Specification(household, clean.inputs, ladder).value_of(plan.schedule)
    assert value == pytest.approx(objective_of(household, clean.inputs, ladder, plan.schedule), rel=1e-9)


def test_the_first_plan_of_the_longest_horizon_is_in_time_too() -> None:
    """Building the arrays for 48 hours of 5-minute intervals belongs to the first plan."""
    rng = np.random.default_rng(5)
    household = random_household(rng, full=True)
    inputs = random_inputs(rng, household, steps=MAX_STEPS, step_s=300.0)
    plan = Planner(household, monotonic_s=time.monotonic).plan(inputs, START_S)
    assert isinstance(plan, Plan)
    assert plan.made_by == "solver"
    assert plan.elapsed_s <= 1.0
