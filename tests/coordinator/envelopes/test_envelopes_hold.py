"""A published envelope holds at its worst corners by an engine that shares no code with ours, and nothing worse can be found.

OpenDSS 9 (dss_python_backend 0.14) solves every corner of the certificate; voltages agree to 1e-8 pu, so 1e-6 is allowed beyond a limit.
"""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from envelope_feeders import feeder_named, limits_of, opendss_extremes, problem_for, small_feeder, solved
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.envelopes import (
    AllocationRule,
    EnvelopeProblem,
    EnvelopeResult,
    Limits,
    check_envelopes,
    compute_envelopes,
    prepare,
)
from coordinator.envelopes.boxes import collect_boxes, collect_movers
from coordinator.envelopes.checking import judge
from coordinator.network.model import Network
from coordinator.powerflow.unbalanced import unbalanced_feeder
from protocols.messages import Guarantee

BEYOND = 1e-6
FEEDERS = ("street", "ieee_eu_lv", "au_vic_lv31", "au_vic_lv28", "csiro_lvft_L")


def wide(network: Network) -> Limits:
    """230 V +10 % / -10 % on every feeder, so that neither side is spent before anybody connects."""
    low_v = min(bus.nominal_ln_v for bus in network.buses)
    return Limits(vmin_pu=207.0 / low_v, vmax_pu=253.0 / low_v + (0.02 if low_v > 235.0 else 0.0))


def assert_opendss_agrees(network: Network, problem: EnvelopeProblem, result: EnvelopeResult) -> None:
    low, high, line, source_va = opendss_extremes(network, result.corner_va)
    check = result.certificate.check
    assert low == pytest.approx(check.lowest_voltage.value, abs=1e-7)
    assert high == pytest.approx(check.highest_voltage.value, abs=1e-7)
    assert low >= check.lowest_voltage.limit - BEYOND
    assert high <= check.highest_voltage.limit + BEYOND
    assert line <= 1.0 + BEYOND
    for transformer in network.transformers:
        assert source_va <= transformer.rated_va * (1.0 + BEYOND)
    assert check.holds
    assert result.guarantee is problem.guarantee


@pytest.mark.parametrize("guarantee", [Guarantee.ROBUST, Guarantee.COINCIDENT])
@pytest.mark.parametrize("name", FEEDERS)
def test_no_corner_of_a_published_envelope_breaks_a_limit_by_opendss(name: str, guarantee: Guarantee) -> None:
    network = feeder_named(name)
    problem = problem_for(network, guarantee=guarantee, limits=wide(network), floor_w=100.0, passive=3)
    assert_opendss_agrees(network, problem, solved(compute_envelopes(problem)))


@pytest.mark.parametrize("rule", list(AllocationRule))
def test_every_rule_holds_on_the_street_by_opendss(rule: AllocationRule) -> None:
    network = feeder_named("street")
    problem = problem_for(network, rule=rule, limits=Limits(vmin_pu=0.94, vmax_pu=1.10, check_windings=True))
    assert_opendss_agrees(network, problem, solved(compute_envelopes(problem)))


@pytest.mark.parametrize("rule", list(AllocationRule))
def test_every_rule_holds_on_the_33_bus_feeder_by_opendss(rule: AllocationRule) -> None:
    network = feeder_named("ieee33")
    problem = problem_for(network, import_w=150e3, export_w=150e3, rule=rule, limits=Limits(vmin_pu=0.9, vmax_pu=1.05))
    assert_opendss_agrees(network, problem, solved(compute_envelopes(problem)))


def random_corner_extremes(problem: EnvelopeProblem, result: EnvelopeResult, count: int, seed: int) -> tuple[float, float, float]:
    """Lowest and highest voltage and worst transformer share over random corners of the robust box."""
    feeder = unbalanced_feeder(problem.network)
    movers = collect_movers(problem, feeder)
    (box,) = collect_boxes(problem)
    export_w, import_w = limits_of(result)
    low, high = box.sides(np.concatenate([export_w, import_w]))
    rng = np.random.default_rng(seed)
    corners = np.where(rng.random((count, low.size)) < 0.5, low, high)
    check = judge(feeder.solve(movers.power_va(corners.T)), problem.limits, "random corners")
    assert check.transformer is not None
    return check.lowest_voltage.value, check.highest_voltage.value, check.transformer.value


def test_random_corners_find_nothing_worse_and_would_have_missed_the_worst() -> None:
    """Sampling is no verification: thousands of random corners stay well inside what the structured corners reach."""
    network = feeder_named("street")
    problem = problem_for(network, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    result = solved(compute_envelopes(problem))
    check = result.certificate.check
    low, high, transformer = random_corner_extremes(problem, result, 2000, seed=1)
    assert high <= check.highest_voltage.value + BEYOND
    assert low >= check.lowest_voltage.value - BEYOND
    assert check.transformer is not None
    assert transformer <= check.transformer.value + BEYOND
    assert high < check.highest_voltage.value - 0.002


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), homes=st.integers(3, 8))
def test_all_corners_of_small_feeders_are_no_worse_than_the_structured_ones(seed: int, homes: int) -> None:
    """Exhaustive: 2^homes corners. The certificate's extremes must be those of all corners, for voltage, lines and transformer."""
    rng = np.random.default_rng(seed)
    network = small_feeder(rng, homes, spread=float(rng.uniform(0.5, 3.0)))
    problem = problem_for(network, import_w=25e3, export_w=25e3, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    result = solved(compute_envelopes(problem))
    feeder = unbalanced_feeder(network)
    movers = collect_movers(problem, feeder)
    (box,) = collect_boxes(problem)
    export_w, import_w = limits_of(result)
    low, high = box.sides(np.concatenate([export_w, import_w]))
    corners = np.where(np.array(list(itertools.product((False, True), repeat=homes))), high, low)
    everything = judge(feeder.solve(movers.power_va(corners.T)), problem.limits, "all corners")
    for ours, all_of_them in zip(result.certificate.check.extremes, everything.extremes, strict=True):
        assert all_of_them.margin >= -1e-8, all_of_them
        if ours.margin < 0.01:
            assert ours.margin <= all_of_them.margin + 1e-6, "the structured corners must contain the worst near a limit"


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_point_inside_the_box_is_worse_than_its_corners(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = small_feeder(rng, 7)
    problem = problem_for(network, import_w=25e3, export_w=25e3, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    result = solved(compute_envelopes(problem))
    feeder = unbalanced_feeder(network)
    export_w, import_w = limits_of(result)
    (box,) = collect_boxes(problem)
    low, high = box.sides(np.concatenate([export_w, import_w]))
    inside = low + (high - low) * rng.random((3000, low.size))
    found = judge(feeder.solve(collect_movers(problem, feeder).power_va(inside.T)), problem.limits, "interior points")
    assert all(extreme.margin >= 0.0 for extreme in found.extremes)


def test_turning_any_one_connection_at_a_worst_corner_finds_nothing_worse() -> None:
    network = feeder_named("street")
    problem = problem_for(network, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    result = solved(compute_envelopes(problem))
    feeder = unbalanced_feeder(network)
    movers = collect_movers(problem, feeder)
    (box,) = collect_boxes(problem)
    low, high = box.sides(np.concatenate(limits_of(result)))
    corners = result.corner_va.real[movers.connection].T
    at_high = np.abs(corners - high) <= np.abs(corners - low)
    flipped = np.concatenate([np.where(at_high ^ turn, high, low) for turn in np.eye(low.size, dtype=bool)])
    found = judge(feeder.solve(movers.power_va(flipped.T)), problem.limits, "single turns")
    for extreme, certified in zip(found.extremes, result.certificate.check.extremes, strict=True):
        assert extreme.margin >= min(certified.margin, 0.0) - 1e-9
        assert extreme.margin >= 0.0


def test_all_up_and_all_low_would_have_passed_what_the_mixed_corners_refuse() -> None:
    """IEEE European LV: the usual two-corner check passes an equal envelope whose phase-mixed corners are far beyond the limits."""
    network = feeder_named("ieee_eu_lv")
    limits = Limits(vmin_pu=0.94, vmax_pu=1.10, check_transformers=False)
    usual = lambda size_w: problem_for(network, import_w=size_w, export_w=2.0 * size_w, limits=limits)  # noqa: E731
    feeder = unbalanced_feeder(network)

    def two_corners_pass(problem: EnvelopeProblem) -> bool:
        movers = collect_movers(problem, feeder)
        (box,) = collect_boxes(problem)
        caps = np.array([item.max_export_w for item in problem.participants] + [item.max_import_w for item in problem.participants])
        return judge(feeder.solve(movers.power_va(np.stack(box.sides(caps)).T)), limits, "all-up and all-low").holds

    size_w = max(size for size in np.arange(200.0, 8000.0, 200.0) if two_corners_pass(usual(size)))
    refused = check_envelopes(usual(size_w))
    assert not refused.holds
    assert refused.highest_voltage.margin < -0.02
    low, high, _, _ = opendss_extremes(network, worst_mixed_corners(usual(size_w)))
    assert high == pytest.approx(refused.highest_voltage.value, abs=1e-6)
    assert low == pytest.approx(refused.lowest_voltage.value, abs=1e-6)


def worst_mixed_corners(problem: EnvelopeProblem) -> np.ndarray:
    """The eight phase corners and those that differ per row, as the check solves them."""
    from coordinator.envelopes.boxes import collect_demand
    from coordinator.envelopes.robust import check_limits

    return check_limits(problem, prepare(problem.network, problem.limits).monitors, collect_demand(problem).cap_w).corner_va


def test_covering_less_buys_more_on_the_street() -> None:
    network = feeder_named("street")
    limits = Limits(vmin_pu=0.94, vmax_pu=1.10)
    problem = problem_for(network, limits=limits, rule=AllocationRule.EQUAL)
    robust_export_w = limits_of(solved(compute_envelopes(problem)))[0][0]
    together = msgspec.structs.replace(problem, guarantee=Guarantee.COINCIDENT)
    coincident_export_w = limits_of(solved(compute_envelopes(together)))[0][0]
    assert coincident_export_w > 1.05 * robust_export_w


def test_the_coincident_class_covers_its_two_boxes_and_not_their_mixture() -> None:
    network = feeder_named("street")
    limits = Limits(vmin_pu=0.94, vmax_pu=1.10)
    problem = problem_for(network, limits=limits, guarantee=Guarantee.COINCIDENT, floor_w=300.0)
    result = solved(compute_envelopes(problem))
    assert result.guarantee is Guarantee.COINCIDENT
    export_w, import_w = limits_of(result)
    as_robust = msgspec.structs.replace(
        problem,
        guarantee=Guarantee.ROBUST,
        participants=tuple(
            msgspec.structs.replace(item, max_export_w=float(export), max_import_w=float(bought))
            for item, export, bought in zip(problem.participants, export_w, import_w, strict=True)
        ),
    )
    assert not check_envelopes(as_robust).holds, "the same limits would not be robust, and are not called so"
