"""The negotiation terms: the plan is the proximal operator of the household's cost, and OSQP agrees where it may be used."""

import time
from itertools import pairwise

import cvxpy as cp
import msgspec
import numpy as np
import pytest
from schedule_worlds import random_household, random_inputs

from edge.schedule.arrays import Structure
from edge.schedule.errors import BackendUnsuitable
from edge.schedule.ladder import PriorityLadder, ladder_for
from edge.schedule.model import Household, Negotiation, ScheduleInputs
from edge.schedule.osqp_backend import OsqpBackend
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Sanitised, sanitise
from edge.schedule.solve import PiqpBackend, SolveStatus
from edge.schedule.specification import Specification

RHO_PER_KWH_W = 5e-5


def with_target(inputs: ScheduleInputs, target_w: np.ndarray, extra: float = 0.0) -> ScheduleInputs:
    terms = Negotiation(
        extra_price_per_kwh=np.full(inputs.steps, extra),
        target_w=target_w,
        dual_w=np.zeros(inputs.steps),
        rho_per_kwh_w=RHO_PER_KWH_W,
    )
    return msgspec.structs.replace(inputs, negotiation=terms)


def response_w(planner: Planner, inputs: ScheduleInputs) -> np.ndarray:
    plan = planner.plan(inputs, inputs.start_s)
    assert isinstance(plan, Plan)
    assert plan.made_by == "solver", plan.reasons
    return plan.schedule.net_import_w


@pytest.mark.parametrize("seed", range(6))
def test_the_response_to_a_target_is_the_specification_s_to_a_few_watts(seed: int) -> None:
    """Net import is unique under the proximal term, so the two solvers must agree on it and not only on the objective."""
    rng = np.random.default_rng(seed)
    household = random_household(rng, full=True)
    inputs = random_inputs(rng, household, negotiated=True)
    clean = sanitise(household, inputs)
    assert isinstance(clean, Sanitised)
    specification = Specification(household, clean.inputs, ladder_for(PriorityLadder(), clean.inputs, clean.reach_w))
    specification.problem.solve(solver=cp.CLARABEL, tol_gap_rel=1e-10, tol_gap_abs=1e-10)
    got_w = response_w(Planner(household, monotonic_s=time.monotonic, deadline_s=60.0), inputs)
    assert got_w == pytest.approx(1000.0 * specification.variables["net_import"].value, abs=5.0)


@pytest.mark.parametrize("seed", range(6))
def test_the_response_is_firmly_nonexpansive_in_the_target(seed: int) -> None:
    """|x1 - x2|² <= (x1 - x2)·(v1 - v2) for any proximal operator (Parikh and Boyd 2014, section 2.3)."""
    rng = np.random.default_rng(100 + seed)
    household = random_household(rng, full=True)
    inputs = msgspec.structs.replace(random_inputs(rng, household), sell_price_per_kwh=np.full(96, 0.05))
    planner = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0)
    targets = [rng.normal(0.0, 2000.0, 96) for _ in range(3)]
    answers = [response_w(planner, with_target(inputs, target)) for target in targets]
    for one in range(3):
        for other in range(one):
            moved, asked = answers[one] - answers[other], targets[one] - targets[other]
            assert moved @ moved <= moved @ asked + 1e-3 * (asked @ asked)


def test_a_higher_price_on_net_import_never_raises_the_energy_imported() -> None:
    rng = np.random.default_rng(4)
    household = random_household(rng, full=True)
    inputs = random_inputs(rng, household, negotiated=False)
    planner = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0)
    energies = [response_w(planner, with_target(inputs, np.zeros(96), extra)).sum() for extra in (-0.1, 0.0, 0.1, 0.2)]
    assert all(later <= earlier + 1.0 for earlier, later in pairwise(energies))


def battery_only(seed: int) -> tuple[Household, ScheduleInputs]:
    rng = np.random.default_rng(seed)
    household = msgspec.structs.replace(random_household(rng, full=True), vehicles=(), tanks=(), appliances=())
    return household, random_inputs(rng, household)


def test_osqp_agrees_with_piqp_on_batteries_pv_and_generators() -> None:
    """The limits that the module states: nearly always converged, 1e-6 relative at the median, 1e-3 at worst."""
    gaps, stalled = [], 0
    for seed in range(24):
        household, inputs = battery_only(seed)
        clean = sanitise(household, inputs)
        assert isinstance(clean, Sanitised)
        ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
        values = []
        for backend in (PiqpBackend, OsqpBackend):
            made = backend(Structure(household, inputs.steps, inputs.step_s), time.monotonic)
            made.vectors.fill(clean.inputs, ladder)
            solution = made.solve(time.monotonic() + 60.0)
            values.append(made.vectors.objective(solution.x) if solution.status is SolveStatus.SOLVED else np.nan)
        gap = abs(values[1] - values[0]) / abs(values[0])
        stalled += bool(np.isnan(values[1]))
        gaps += [] if np.isnan(gap) else [gap]
    assert stalled <= 2
    assert len(gaps) + stalled == 24
    assert np.median(gaps) <= 1e-6
    assert max(gaps) <= 1e-3


def test_osqp_follows_the_rounds_of_a_negotiation() -> None:
    household, inputs = battery_only(3)
    planners = [Planner(household, monotonic_s=time.monotonic, deadline_s=60.0, backend=b) for b in (PiqpBackend, OsqpBackend)]
    target_w = np.zeros(96)
    for _ in range(5):
        exact_w, first_order_w = (response_w(planner, with_target(inputs, target_w)) for planner in planners)
        assert first_order_w == pytest.approx(exact_w, abs=20.0)
        target_w = 0.5 * (target_w + exact_w)


def test_osqp_refuses_a_house_with_flexible_loads_by_name() -> None:
    household = random_household(np.random.default_rng(1), full=True)
    with pytest.raises(BackendUnsuitable, match="vehicle 0"):
        OsqpBackend(Structure(household, 96, 900.0), time.monotonic)
