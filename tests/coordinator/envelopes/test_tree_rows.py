"""Sums over a tree against matrices that are written out, and what is built from them: rows, and the certificate of a larger feeder."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from envelope_feeders import limits_of, opendss_extremes, solved
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.envelopes import EnvelopeProblem, Infeasible, PassiveLoad, compute_envelopes
from coordinator.envelopes.boxes import collect_boxes, collect_movers
from coordinator.envelopes.checking import judge
from coordinator.envelopes.lindistflow import build_sensitivity
from coordinator.envelopes.monotone import monotonicity_margin
from coordinator.envelopes.tree_rows import build_rows
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.tree_sums import build_sums
from hil.bench_envelopes import problem_of
from hil.networks.grown import grown_feeder


def random_parents(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([-1] + [int(rng.integers(0, node)) for node in range(1, int(rng.integers(1, 40)))], dtype=np.int64)


def subtree_matrix(parent: np.ndarray) -> np.ndarray:
    """(k, a): 1 where node a hangs below node k or is it."""
    below = np.eye(parent.size)
    for node in range(parent.size - 1, 0, -1):
        below[parent[node]] += below[node]
    return below


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_sums_over_a_tree_are_those_of_its_matrices(seed: int) -> None:
    parent = random_parents(seed)
    sums, below = build_sums(parent), subtree_matrix(parent)
    value = np.random.default_rng(seed).random(parent.size)
    nodes = np.arange(parent.size)
    assert sums.below(value) == pytest.approx(below @ value)
    assert sums.above(value) == pytest.approx(below.T @ value)
    path = below.T @ value
    longest = [max(path[low] for low in nodes if below[node, low]) - path[node] + value[node] for node in nodes]
    assert sums.longest(value) == pytest.approx(longest)
    assert sums.shared(nodes, value) == pytest.approx((below.T * value) @ below)
    assert np.array_equal(sums.is_below(nodes, nodes), below > 0.0)


def mixed(buses: int, seed: int) -> EnvelopeProblem:
    """A grown feeder whose homes differ in reactive power, some of them passive."""
    network = grown_feeder(buses, seed=seed)
    problem = problem_of(network)
    rng = np.random.default_rng(seed)
    people = tuple(
        msgspec.structs.replace(item, q_per_w=float(rng.uniform(-0.1, 0.4))) for item in problem.participants[: buses - buses // 5]
    )
    names = {item.connection for item in people}
    passive = tuple(
        PassiveLoad(connection=item.id, low_w=0.1 * item.p_w, high_w=0.9 * item.p_w, q_per_w=0.2, q_var=20.0)
        for item in network.connections
        if item.id not in names
    )
    return msgspec.structs.replace(problem, participants=people, passive=passive)


def test_rows_that_are_written_out_are_the_rows() -> None:
    problem = mixed(40, 3)
    feeder = balanced_feeder(problem.network)
    sensitivity = build_sensitivity(feeder, collect_movers(problem, feeder))
    rng = np.random.default_rng(0)
    branch = np.array([2, 5, 17])
    full = (np.array([1.0, 3.0, 0.5]), np.array([0.2, 1.0, -4.0]), np.full(3, 1e-3))
    rows = build_rows(sensitivity, len(problem.participants), (sensitivity.ratio * feeder.nominal_v) ** 2, branch, full)
    everything = rows.take(np.arange(rows.count))
    x = rng.random(rows.limits)
    assert rows.dot(x) == pytest.approx(everything @ x)
    assert np.all(everything >= 0.0)
    assert np.all(everything.max(axis=1) <= rows.largest * (1 + 1e-12))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_margin_bounds_measured_slopes_where_reactive_power_differs(seed: int) -> None:
    problem = mixed(60, seed)
    result = solved(compute_envelopes(problem))
    assert result.certificate.check.method.startswith("monotonicity proved")
    feeder = balanced_feeder(problem.network)
    movers = collect_movers(problem, feeder)
    sensitivity = build_sensitivity(feeder, movers)
    (box,) = collect_boxes(problem)
    low, high = box.sides(np.concatenate(limits_of(result)))
    margin = monotonicity_margin(feeder, movers, sensitivity, low, high)
    linear = sensitivity.fall_rows(np.arange(feeder.tree.node_count))
    seen = linear > 1e-12
    rng = np.random.default_rng(seed)
    for corner in (low, high, np.where(rng.random(low.size) < 0.5, low, high), rng.uniform(low, high)):
        points = np.concatenate([corner[:, None] + np.eye(low.size), corner[:, None] - np.eye(low.size)], axis=1)
        square = np.abs(feeder.solve(movers.power_va(points), tolerance_pu=1e-13).node_voltage_v[:, 0]) ** 2
        fall = (square[:, low.size :] - square[:, : low.size]) / 2.0
        assert np.min(fall[seen] / linear[seen]) >= margin - 2e-3


def test_no_corner_of_a_feeder_of_300_buses_is_worse_than_its_certificate() -> None:
    problem = mixed(300, 5)
    result = solved(compute_envelopes(problem))
    check = result.certificate.check
    feeder = balanced_feeder(problem.network)
    movers = collect_movers(problem, feeder)
    (box,) = collect_boxes(problem)
    low, high = box.sides(np.concatenate(limits_of(result)))
    below = build_sensitivity(feeder, movers).is_below(np.arange(feeder.tree.node_count))
    rng = np.random.default_rng(0)
    chosen = np.concatenate([below, ~below, rng.random((200, low.size)) < rng.random((200, 1))])
    worst = judge(feeder.solve(movers.power_va(np.where(chosen, low, high).T)), problem.limits, "every branch's corners and chance")
    for ours, theirs in zip(check.extremes, worst.extremes, strict=True):
        assert theirs.margin >= -1e-12
        assert ours.margin <= theirs.margin + 1e-9
    low_pu, high_pu, line, _ = opendss_extremes(problem.network, result.corner_va)
    assert low_pu >= 0.95 - 1e-6
    assert high_pu <= 1.05 + 1e-6
    assert line <= 1.0 + 1e-6


def test_floors_that_no_feeder_carries_are_refused_with_the_limit_they_break() -> None:
    problem = problem_of(grown_feeder(80))
    greedy = tuple(msgspec.structs.replace(item, import_floor_w=item.max_import_w) for item in problem.participants)
    result = compute_envelopes(msgspec.structs.replace(problem, participants=greedy))
    assert isinstance(result, Infeasible)
    assert any("voltage" in item.where or "current" in item.where for item in result.broken)
