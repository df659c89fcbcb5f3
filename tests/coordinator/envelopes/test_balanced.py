"""On balanced feeders two power flows and an interval matrix stand for every corner; the exhaustive answer says whether that is true."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from envelope_feeders import feeder_named, limits_of, opendss_extremes, problem_for, solved

from coordinator.envelopes import AllocationRule, EnvelopeProblem, Limits, PassiveLoad, compute_envelopes, prepare
from coordinator.envelopes.boxes import collect_boxes, collect_movers
from coordinator.envelopes.checking import judge
from coordinator.envelopes.lindistflow import build_sensitivity
from coordinator.envelopes.monotone import monotonicity_margin
from coordinator.envelopes.robust import compute_robust
from coordinator.network.model import Network
from coordinator.powerflow.balanced import balanced_feeder

LIMITS = Limits(vmin_pu=0.9, vmax_pu=1.05)


def rated(network: Network, ampacity_a: float) -> Network:
    """The published feeders have no ratings; give every line one."""
    return msgspec.structs.replace(
        network, lines=tuple(msgspec.structs.replace(line, ampacity_a=ampacity_a) for line in network.lines)
    )


def ten_active(network: Network, size_w: float) -> EnvelopeProblem:
    """Ten participants spread over the feeder; everybody else draws its base load."""
    everybody = problem_for(network, import_w=size_w / 3.0, export_w=size_w / 3.0, limits=LIMITS)
    chosen = everybody.participants[2::3][:10]
    names = {item.connection for item in chosen}
    passive = tuple(
        PassiveLoad(connection=item.id, low_w=item.p_w, high_w=item.p_w, q_var=item.q_var)
        for item in network.connections
        if item.id not in names
    )
    return msgspec.structs.replace(everybody, participants=chosen, passive=passive)


@pytest.mark.parametrize("case", ["ieee33", "ieee69"])
@pytest.mark.parametrize("ampacity_a", [400.0, 140.0])
def test_all_1024_corners_are_inside_and_no_worse_than_the_certificate(case: str, ampacity_a: float) -> None:
    network = rated(feeder_named(case), ampacity_a if case == "ieee33" else 1.3 * ampacity_a)
    problem = ten_active(network, 1.5e6)
    problem = msgspec.structs.replace(problem, passive=tuple(
        msgspec.structs.replace(item, low_w=0.4 * item.low_w, high_w=0.4 * item.high_w, q_var=0.4 * item.q_var) for item in problem.passive
    ))  # fmt: skip
    result = solved(compute_envelopes(problem))
    assert result.certificate.check.method.startswith("monotonicity proved")
    feeder = balanced_feeder(network)
    movers = collect_movers(problem, feeder)
    (box,) = collect_boxes(problem)
    low, high = box.sides(np.concatenate(limits_of(result)))
    moving = np.array(list(itertools.product((False, True), repeat=10)))
    corners = np.where(np.pad(moving, ((0, 0), (0, low.size - 10))), high, low)
    everything = judge(feeder.solve(movers.power_va(corners.T)), LIMITS, "all corners")
    for ours, exhaustive in zip(result.certificate.check.extremes, everything.extremes, strict=True):
        assert exhaustive.margin >= -1e-12
        assert ours.margin <= exhaustive.margin + 1e-9


@pytest.mark.parametrize("case", ["ieee33", "ieee69"])
def test_the_margin_of_monotonicity_bounds_the_measured_slopes(case: str) -> None:
    """The certified share of the linear slope that remains is never more than what differences of power flows show."""
    network = feeder_named(case)
    problem = problem_for(network, import_w=100e3, export_w=100e3, limits=LIMITS)
    result = solved(compute_envelopes(problem))
    feeder = balanced_feeder(network)
    movers = collect_movers(problem, feeder)
    sensitivity = build_sensitivity(feeder, movers)
    (box,) = collect_boxes(problem)
    low, high = box.sides(np.concatenate(limits_of(result)))
    margin = monotonicity_margin(feeder, movers, sensitivity, low, high)
    assert 0.5 < margin < 1.0
    step_w = 1.0
    for corner in (low, high):
        points = np.concatenate([corner[:, None] + step_w * np.eye(low.size), corner[:, None] - step_w * np.eye(low.size)], axis=1)
        square = np.abs(feeder.solve(movers.power_va(points), tolerance_pu=1e-13).node_voltage_v[:, 0]) ** 2
        fall = (square[:, low.size :] - square[:, : low.size]) / (2.0 * step_w)
        linear = sensitivity.fall_rows(np.arange(feeder.tree.node_count))
        seen = linear > 1e-9
        # The export slope of the squared voltage over the linear one, from below.
        assert np.min(fall[seen] / linear[seen]) >= margin - 1e-3


def test_a_box_far_outside_the_limits_loses_its_certificate() -> None:
    network = feeder_named("ieee33")
    feeder = balanced_feeder(network)
    problem = problem_for(network, import_w=1.0, export_w=1.0)
    movers = collect_movers(problem, feeder)
    sensitivity = build_sensitivity(feeder, movers)
    ones = np.ones(len(problem.participants))
    margins = [monotonicity_margin(feeder, movers, sensitivity, -size_w * ones, 0.0 * ones) for size_w in (50e3, 200e3, 600e3, 2e6)]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 0.8
    assert not margins[-1] > 0.0


@pytest.mark.parametrize("rule", list(AllocationRule))
def test_lindistflow_and_the_corner_search_agree_on_what_the_feeder_carries(rule: AllocationRule) -> None:
    network = feeder_named("ieee69")
    problem = problem_for(network, import_w=50e3, export_w=50e3, rule=rule, limits=LIMITS)
    ours = limits_of(solved(compute_envelopes(problem)))
    search = limits_of(solved(compute_robust(problem, prepare(network, LIMITS).monitors)[0]))
    for one, other in zip(ours, search, strict=True):
        assert one.sum() == pytest.approx(other.sum(), rel=6e-3)


def test_rated_lines_bind_and_hold_by_opendss() -> None:
    network = rated(feeder_named("ieee33"), 180.0)
    problem = problem_for(network, import_w=150e3, export_w=150e3, limits=LIMITS)
    result = solved(compute_envelopes(problem))
    low, high, line, _ = opendss_extremes(network, result.corner_va)
    assert low >= 0.9 - 1e-6
    assert high <= 1.05 + 1e-6
    assert 0.99 < line <= 1.0 + 1e-6
