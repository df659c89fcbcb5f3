"""Allocation rules do what their names say, against general solvers (HiGHS by scipy, Clarabel by cvxpy) and by their definitions."""

from __future__ import annotations

import warnings

import cvxpy as cp
import msgspec
import numpy as np
import pytest
from envelope_feeders import feeder_named, limits_of, problem_for, solved
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coordinator.envelopes import AllocationRule, EnvelopeInputError, Limits, compute_envelopes
from coordinator.envelopes.rules import Demand, allocate


def random_packing(seed: int) -> tuple[Demand, np.ndarray, np.ndarray]:
    """Rows of one sign, caps and floors; about a third of the rows matter."""
    rng = np.random.default_rng(seed)
    count, rows = 2 * int(rng.integers(2, 20)), int(rng.integers(1, 60))
    cap = rng.uniform(0.0, 12e3, count) * (rng.random(count) > 0.1)
    floor = cap * rng.uniform(0.0, 0.1, count) * (rng.random(count) > 0.5)
    matrix = rng.random((rows, count)) * (rng.random((rows, count)) > 0.4) * 1e-6
    demand = Demand(floor_w=floor, cap_w=cap, weight=rng.uniform(0.5, 2.0, count))
    return demand, matrix, matrix @ floor + rng.uniform(0.05, 0.9, rows) * (matrix @ (cap - floor)) + 1e-9


def value(rule: AllocationRule, demand: Demand, x: np.ndarray) -> float:
    free = demand.cap_w - demand.floor_w > 1.0
    x, cap, weight = x[free], demand.cap_w[free], demand.weight[free]
    if rule is AllocationRule.MAX_VOLUME:
        return float(weight @ x)
    if rule is AllocationRule.LEAST_CURTAILMENT:
        return float(-(weight / cap) @ (cap - x) ** 2)
    return float(weight @ np.log(np.maximum(x, 1e-9)))


def oracle(rule: AllocationRule, demand: Demand, rows: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    if rule is AllocationRule.MAX_VOLUME:
        found = linprog(-demand.weight, rows * 1e6, rhs * 1e6, bounds=np.stack([demand.floor_w, demand.cap_w], axis=1), method="highs")
        return np.asarray(found.x)
    x = cp.Variable(demand.cap_w.size)
    free = np.flatnonzero(demand.cap_w - demand.floor_w > 1.0)
    cap, weight = demand.cap_w / 1e3, demand.weight
    if rule is AllocationRule.LEAST_CURTAILMENT:
        goal = cp.Minimize(cp.sum(cp.multiply(weight[free] / cap[free], (cap[free] - x[free]) ** 2)))
    else:
        goal = cp.Maximize(weight[free] @ cp.log(x[free]))
    problem = cp.Problem(goal, [rows * 1e6 @ x <= rhs * 1e3, x >= demand.floor_w / 1e3, x <= cap])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(solver=cp.CLARABEL)
    assume(problem.status == cp.OPTIMAL)
    return np.asarray(x.value) * 1e3


@pytest.mark.parametrize("rule", [AllocationRule.MAX_VOLUME, AllocationRule.LEAST_CURTAILMENT, AllocationRule.PROPORTIONAL_FAIR])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_optimum_is_that_of_a_general_solver(rule: AllocationRule, seed: int) -> None:
    demand, rows, rhs = random_packing(seed)
    ours = allocate(rule, demand, rows, rhs)
    assert ours is not None
    assert np.all(rows @ ours <= rhs * (1 + 1e-9) + 1e-15)
    assert np.all(ours >= demand.floor_w - 1e-9)
    assert np.all(ours <= demand.cap_w + 1e-9)
    theirs = oracle(rule, demand, rows, rhs)
    best = value(rule, demand, theirs)
    assert value(rule, demand, ours) >= best - 2e-5 * max(1.0, abs(best))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_nobody_is_below_the_equal_level_unless_it_wants_less(seed: int) -> None:
    demand, rows, rhs = random_packing(seed)
    x = allocate(AllocationRule.EQUAL, demand, rows, rhs)
    assert x is not None
    half = x.size // 2
    for part in (slice(0, half), slice(half, None)):
        capped = np.minimum(demand.cap_w[part], x[part].max())
        assert np.allclose(x[part], np.maximum(capped, demand.floor_w[part])) or np.all(x[part] <= x[part].max())
        unbound = (x[part] < demand.cap_w[part] - 1e-6) & (x[part] > demand.floor_w[part] + 1e-6)
        assert np.ptp(x[part][unbound]) < 1e-6 if unbound.any() else True
    raised = x * (1 + 1e-6) + 1e-6
    tight = np.minimum(raised, demand.cap_w)
    assert np.any(rows @ tight > rhs) or np.allclose(x, demand.cap_w)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_floors_that_break_a_row_have_no_allocation(seed: int) -> None:
    demand, rows, _ = random_packing(seed)
    if np.any(rows @ demand.floor_w > 0.0):
        assert allocate(AllocationRule.MAX_VOLUME, demand, rows, rows @ demand.floor_w - 1e-9) is None


def jain(x: np.ndarray) -> float:
    """Jain, Chiu and Hawe (1984): 1 when all are equal, 1/n when one has everything."""
    return float(x.sum() ** 2 / (x.size * (x**2).sum()))


def test_the_rules_order_themselves_on_the_33_bus_feeder() -> None:
    """More volume for less fairness, as measured before: equal < proportional-fair < max-volume in kW, the reverse in Jain's index."""
    network = feeder_named("ieee33")
    limits = Limits(vmin_pu=0.9, vmax_pu=1.05)
    export: dict[AllocationRule, np.ndarray] = {}
    for rule in AllocationRule:
        problem = problem_for(network, import_w=200e3, export_w=200e3, rule=rule, limits=limits)
        export[rule] = limits_of(solved(compute_envelopes(problem)))[0]
    wanted = export[AllocationRule.EQUAL]
    assert np.ptp(wanted) < 1e-6
    volume = {rule: float(x.sum()) for rule, x in export.items()}
    assert volume[AllocationRule.EQUAL] < volume[AllocationRule.PROPORTIONAL_FAIR] <= volume[AllocationRule.MAX_VOLUME] * (1 + 1e-4)
    assert volume[AllocationRule.LEAST_CURTAILMENT] <= volume[AllocationRule.MAX_VOLUME] * (1 + 1e-4)
    assert jain(export[AllocationRule.EQUAL]) >= jain(export[AllocationRule.PROPORTIONAL_FAIR]) > jain(export[AllocationRule.MAX_VOLUME])
    assert export[AllocationRule.PROPORTIONAL_FAIR].min() > 1e3
    assert export[AllocationRule.MAX_VOLUME].min() < 1.0


def test_nobody_gets_nothing_under_proportional_fairness_on_the_street() -> None:
    export_w, import_w = limits_of(solved(compute_envelopes(problem_for(feeder_named("street"), limits=Limits(vmax_pu=1.10)))))
    assert export_w.min() > 100.0
    assert import_w.min() > 100.0


def test_the_box_follows_the_hour() -> None:
    """At noon nobody wants to import much, and that room goes to export."""
    network = feeder_named("street")
    limits = Limits(vmin_pu=0.94, vmax_pu=1.10)
    always = limits_of(solved(compute_envelopes(problem_for(network, limits=limits))))
    noon = limits_of(solved(compute_envelopes(problem_for(network, import_w=1e3, limits=limits))))
    assert noon[0].sum() > 1.02 * always[0].sum()
    assert noon[1].max() <= 3e3 + 1e-6


def test_a_direction_that_weighs_more_gets_more() -> None:
    problem = problem_for(feeder_named("street"), limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    even = limits_of(solved(compute_envelopes(problem)))
    tilted = limits_of(solved(compute_envelopes(msgspec.structs.replace(problem, export_weight=5.0))))
    assert tilted[0].sum() > even[0].sum()


def test_nobody_gets_more_than_it_could_use() -> None:
    problem = problem_for(feeder_named("street"), import_w=700.0, export_w=300.0)
    result = solved(compute_envelopes(problem))
    for participant, envelope in zip(problem.participants, result.envelopes, strict=True):
        assert envelope.import_limit_w == pytest.approx(participant.max_import_w, abs=1e-3)
        assert envelope.export_limit_w == pytest.approx(participant.max_export_w, abs=1e-3)
        assert (envelope.import_bound_by, envelope.export_bound_by) == ("demand", "demand")


@pytest.mark.parametrize(("field", "number"), [
    ("max_import_w", -1.0), ("max_export_w", float("nan")), ("import_floor_w", 1e9), ("weight", 0.0), ("q_per_w", float("inf")),
])  # fmt: skip
def test_a_participant_that_makes_no_sense_is_named(field: str, number: float) -> None:
    problem = problem_for(feeder_named("ieee33"))
    wrong = msgspec.structs.replace(problem.participants[3], **{field: number})
    with pytest.raises(EnvelopeInputError, match=wrong.connection):
        compute_envelopes(msgspec.structs.replace(problem, participants=(*problem.participants[:3], wrong, *problem.participants[4:])))
