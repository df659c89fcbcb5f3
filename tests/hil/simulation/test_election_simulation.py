"""The shipped election code in a simulated world of faults, and proof that the simulation bites."""

from __future__ import annotations

import pytest

from hil.simulation.election import CHECKERS, simulate
from hil.simulation.mutants import MUTANTS, Mutant


def test_safety_holds_while_faults_never_stop() -> None:
    for seed in range(120):
        outcome = simulate(seed)
        assert outcome.safe, f"seed {seed}: {outcome.violations}"


def test_the_community_heals_when_faults_stop() -> None:
    healed = 0
    for seed in range(60):
        outcome = simulate(seed, liveness=True, duration_s=15.0)
        assert outcome.safe, f"seed {seed}: {outcome.violations}"
        healed += outcome.checks["heals"]
    assert healed >= 50


@pytest.mark.slow
def test_ten_thousand_runs_elect_at_most_one_leader_per_term() -> None:
    for seed in range(10_000):
        outcome = simulate(seed, liveness=seed % 4 == 0)
        assert outcome.safe, f"seed {seed}: {outcome.violations}"


def test_the_same_seed_gives_the_same_run() -> None:
    assert simulate(11, liveness=True) == simulate(11, liveness=True)


def test_every_checker_looks() -> None:
    checks = dict.fromkeys(CHECKERS, 0)
    for seed in range(20):
        for name, number in simulate(seed, liveness=True, duration_s=10.0).checks.items():
            checks[name] += number
    assert all(checks.values()), checks


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_is_caught(mutant: Mutant) -> None:
    """Each breaks one rule of `protocols.election.node`: `mutant.rule`."""
    with mutant.plant():
        assert not simulate(mutant.seed).safe, f"seed {mutant.seed} no longer catches {mutant.name!r} (rule {mutant.rule})"
    assert simulate(mutant.seed).safe
