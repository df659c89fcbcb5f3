"""Nothing unverified can be expressed as an envelope, and what cannot be verified is said by name."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from envelope_feeders import feeder_named, limits_of, problem_for, small_feeder, solved

from coordinator.envelopes import (
    Certificate,
    Check,
    EnvelopeInputError,
    Extreme,
    Infeasible,
    Limits,
    check_envelopes,
    compute_envelopes,
    compute_schedule,
    prepare,
)
from coordinator.envelopes.certificate import VerifiedLimits
from coordinator.errors import NetworkError, UnverifiedEnvelopeError
from protocols.messages import Guarantee

GOOD = Extreme(value=1.05, limit=1.1, margin=0.05, where="voltage at bus a")
BOX = (VerifiedLimits(connection="h", import_limit_w=1.0, export_limit_w=0.0, import_bound_by="demand", export_bound_by="demand"),)


def check(**changed: object) -> Check:
    fields = {
        "engine": "test", "method": "test", "corners": 2, "converged": True,
        "highest_voltage": GOOD, "lowest_voltage": GOOD, "line": None, "transformer": None,
    }  # fmt: skip
    return Check(**{**fields, **changed})


def test_a_certificate_needs_every_margin() -> None:
    broken = Extreme(value=1.101, limit=1.1, margin=-0.001, where="voltage at bus b")
    with pytest.raises(UnverifiedEnvelopeError, match=r"voltage at bus b reaches 1\.101"):
        Certificate(guarantee=Guarantee.ROBUST, check=check(highest_voltage=broken), box=BOX)
    with pytest.raises(UnverifiedEnvelopeError, match="line"):
        Certificate(guarantee=Guarantee.ROBUST, check=check(line=msgspec.structs.replace(broken, where="current in line l")), box=BOX)


def test_a_margin_that_is_not_a_number_is_not_a_margin() -> None:
    unknown = Extreme(value=float("nan"), limit=1.1, margin=float("nan"), where="voltage at bus b")
    assert not check(lowest_voltage=unknown).holds
    with pytest.raises(UnverifiedEnvelopeError):
        Certificate(guarantee=Guarantee.ROBUST, check=check(lowest_voltage=unknown), box=BOX)


def test_a_power_flow_without_solution_certifies_nothing() -> None:
    with pytest.raises(UnverifiedEnvelopeError, match="did not converge"):
        Certificate(guarantee=Guarantee.ROBUST, check=check(converged=False), box=BOX)


def test_no_certificate_is_called_unverified_or_relabelled_onto_other_limits() -> None:
    with pytest.raises(UnverifiedEnvelopeError):
        Certificate(guarantee=Guarantee.UNVERIFIED, check=check(), box=BOX)
    negative = (msgspec.structs.replace(BOX[0], import_limit_w=-1.0),)
    with pytest.raises(UnverifiedEnvelopeError, match="no magnitudes"):
        Certificate(guarantee=Guarantee.ROBUST, check=check(), box=negative)


def test_asking_for_unverified_envelopes_is_refused() -> None:
    problem = problem_for(feeder_named("ieee33"), guarantee=Guarantee.UNVERIFIED)
    with pytest.raises(EnvelopeInputError, match="unverified"):
        compute_envelopes(problem)


def test_floors_that_break_a_limit_are_named_and_nothing_is_published() -> None:
    problem = problem_for(feeder_named("street"), import_w=20e3, floor_w=9e3, limits=Limits(vmin_pu=0.94))
    result = compute_envelopes(problem)
    assert isinstance(result, Infeasible)
    assert result.broken
    assert any("transformer" in item.where or "voltage" in item.where for item in result.broken)
    assert result.broken[0].where in result.reason


def test_a_passive_load_that_alone_breaks_a_limit_is_named() -> None:
    problem = problem_for(feeder_named("street"), passive=10)
    heavy = tuple(msgspec.structs.replace(load, high_w=30e3) for load in problem.passive)
    result = compute_envelopes(msgspec.structs.replace(problem, passive=heavy))
    assert isinstance(result, Infeasible)
    assert "limit" in result.reason


def test_floors_beyond_what_any_power_flow_carries_are_infeasible_not_a_crash() -> None:
    problem = problem_for(feeder_named("street"), import_w=900e3, floor_w=800e3)
    result = compute_envelopes(problem)
    assert isinstance(result, Infeasible)
    assert "no solution" in result.reason


def test_auditing_limits_that_collapse_the_feeder_says_so() -> None:
    found = check_envelopes(problem_for(feeder_named("street"), import_w=900e3))
    assert not found.converged
    assert not found.holds


def test_published_limits_pass_their_own_audit_and_a_little_more_does_not() -> None:
    network = feeder_named("street")
    problem = problem_for(network, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    export_w, import_w = limits_of(solved(compute_envelopes(problem)))

    def scaled(factor: float) -> Check:
        people = tuple(
            msgspec.structs.replace(item, max_export_w=factor * float(export), max_import_w=factor * float(bought))
            for item, export, bought in zip(problem.participants, export_w, import_w, strict=True)
        )
        return check_envelopes(msgspec.structs.replace(problem, participants=people))

    assert scaled(1.0).holds
    assert not scaled(1.01).holds


def test_a_looped_network_gets_no_envelopes() -> None:
    network = feeder_named("ieee33")
    lines = tuple(msgspec.structs.replace(line, in_service=True) for line in network.lines)
    with pytest.raises(NetworkError, match="not radial"):
        compute_envelopes(problem_for(msgspec.structs.replace(network, lines=lines)))


def test_a_disconnected_network_gets_no_envelopes() -> None:
    network = feeder_named("ieee33")
    lines = tuple(line for line in network.lines if line.id != "5")
    with pytest.raises(NetworkError, match="no path from source bus"):
        compute_envelopes(problem_for(msgspec.structs.replace(network, lines=lines)))


def test_a_connection_that_nobody_speaks_for_is_refused() -> None:
    problem = problem_for(feeder_named("ieee33"))
    with pytest.raises(EnvelopeInputError, match="neither participant nor passive load"):
        compute_envelopes(msgspec.structs.replace(problem, participants=problem.participants[1:]))
    with pytest.raises(EnvelopeInputError, match="more than once"):
        compute_envelopes(msgspec.structs.replace(problem, participants=(*problem.participants, problem.participants[0])))
    stranger = msgspec.structs.replace(problem.participants[0], connection="nobody")
    with pytest.raises(EnvelopeInputError, match="no connection nobody"):
        compute_envelopes(msgspec.structs.replace(problem, participants=(*problem.participants, stranger)))


def test_a_schedule_computes_equal_intervals_once_and_each_as_well_as_alone() -> None:
    network = small_feeder(np.random.default_rng(8), 8)
    night = problem_for(network, import_w=9e3, export_w=0.0, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    noon = problem_for(network, import_w=2e3, export_w=9e3, limits=Limits(vmin_pu=0.94, vmax_pu=1.10))
    results = compute_schedule([night, night, noon, night], prepare(network, night.limits))
    assert results[0] is results[1] is results[3]
    for problem, result in ((night, results[0]), (noon, results[2])):
        alone = solved(compute_envelopes(problem))
        for ours, theirs in zip(limits_of(solved(result)), limits_of(alone), strict=True):
            assert ours.sum() == pytest.approx(theirs.sum(), rel=5e-3, abs=5.0)


def test_an_infeasible_interval_does_not_stop_the_schedule() -> None:
    network = feeder_named("street")
    fine = problem_for(network, limits=Limits(vmax_pu=1.10))
    doomed = problem_for(network, import_w=20e3, floor_w=15e3, limits=Limits(vmax_pu=1.10))
    first, second, third = compute_schedule([fine, doomed, fine])
    assert isinstance(second, Infeasible)
    assert solved(first) is solved(third)
