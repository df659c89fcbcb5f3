"""The public face: one interval, or a rolling horizon of them.

A feeder is prepared once per network and limits; identical intervals are computed once; each interval starts from the limits and worst
corners of the one before, which usually saves half of the work. Solver processes should run with one BLAS thread
(OPENBLAS_NUM_THREADS=1): the matrices are small and more threads make them slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

from coordinator.envelopes.balanced import compute_balanced
from coordinator.envelopes.boxes import collect_demand
from coordinator.envelopes.certificate import Check, EnvelopeResult, Infeasible
from coordinator.envelopes.monitors import Monitors, build_monitors
from coordinator.envelopes.robust import WarmStart, check_limits, compute_robust
from coordinator.envelopes.values import EnvelopeProblem, Limits, check_problem
from coordinator.network.model import Network
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.radial import RadialFeeder
from coordinator.powerflow.radial_reduced import reduce_feeder
from coordinator.powerflow.unbalanced import unbalanced_feeder


class PreparedFeeder(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A network and its limits, ready for many intervals."""

    network: Network
    limits: Limits
    feeder: RadialFeeder

    @cached_property
    def monitors(self) -> Monitors:
        """The dense rows of the corner search, built when they are first needed."""
        return build_monitors(reduce_feeder(self.feeder), self.limits)


def prepare(network: Network, limits: Limits) -> PreparedFeeder:
    """Build what depends on network and limits alone; NetworkError where the network is looped, disconnected or not representable."""
    feeder = balanced_feeder(network) if network.is_balanced else unbalanced_feeder(network)
    return PreparedFeeder(network=network, limits=limits, feeder=feeder)


def compute_envelopes(problem: EnvelopeProblem, prepared: PreparedFeeder | None = None) -> EnvelopeResult | Infeasible:
    """Compute verified envelopes for one interval, or say what passive loads and floors alone break."""
    check_problem(problem)
    ready = _matching(problem, prepared)
    return _compute(problem, ready, None)[0]


def check_envelopes(problem: EnvelopeProblem, prepared: PreparedFeeder | None = None) -> Check:
    """Check the participants' `max_import_w` and `max_export_w` as if they were their envelopes, by the problem's guarantee class.

    This is how limits that were set by hand, or by another tool, are audited.
    """
    check_problem(problem)
    ready = _matching(problem, prepared)
    demand = collect_demand(problem)
    return check_limits(problem, ready.monitors, demand.cap_w).check


def compute_schedule(
    problems: Sequence[EnvelopeProblem], prepared: PreparedFeeder | None = None
) -> tuple[EnvelopeResult | Infeasible, ...]:
    """Compute many intervals in order. Intervals that ask the same of the same network get the same result."""
    results: list[EnvelopeResult | Infeasible] = []
    seen: dict[object, EnvelopeResult | Infeasible] = {}
    warm: WarmStart | None = None
    warm_of: tuple[object, ...] | None = None
    for problem in problems:
        check_problem(problem)
        prepared = _matching(problem, prepared)
        key = _question(problem)
        if key not in seen:
            lineup = _lineup(problem)
            seen[key], left = _compute(problem, prepared, warm if warm_of == lineup else None)
            if left is not None:
                warm, warm_of = left, lineup
        results.append(seen[key])
    return tuple(results)


def _compute(
    problem: EnvelopeProblem, ready: PreparedFeeder, warm: WarmStart | None
) -> tuple[EnvelopeResult | Infeasible, WarmStart | None]:
    """Balanced feeders by LinDistFlow where their voltages are provably monotone, everything else by searching the corners."""
    if ready.network.is_balanced:
        found = compute_balanced(problem, ready.feeder)
        if found is not None:
            return found, None
    return compute_robust(problem, ready.monitors, warm)


def _matching(problem: EnvelopeProblem, prepared: PreparedFeeder | None) -> PreparedFeeder:
    if prepared is not None and prepared.network is problem.network and prepared.limits == problem.limits:
        return prepared
    return prepare(problem.network, problem.limits)


def _question(problem: EnvelopeProblem) -> tuple[object, ...]:
    """Everything that decides the answer."""
    return (
        id(problem.network), problem.limits, problem.participants, problem.passive, problem.rule, problem.guarantee,
        problem.import_weight, problem.export_weight,
    )


def _lineup(problem: EnvelopeProblem) -> tuple[object, ...]:
    """Everything that must be the same for one interval's corners to mean something in the next."""
    people = tuple(participant.connection for participant in problem.participants)
    return id(problem.network), problem.limits, problem.guarantee, people, tuple(load.connection for load in problem.passive)
