"""The shipped code of whole rounds in a simulated world of faults and lies, and proof that the simulation bites."""

from __future__ import annotations

import pytest

from hil.simulation import aggregation_lies
from hil.simulation.aggregation import Simulation, simulate
from hil.simulation.aggregation_checks import CHECKERS
from hil.simulation.aggregation_mutants import AGGREGATION_MUTANTS
from hil.simulation.mutants import Mutant


def test_no_fault_and_no_lie_makes_a_wrong_sum_or_opens_a_report() -> None:
    accepted = 0
    for seed in range(25):
        outcome = simulate(seed)
        assert outcome.safe, f"seed {seed}: {outcome.violations}"
        accepted += outcome.accepted
    assert accepted > 80


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_runs_are_safe() -> None:
    for seed in range(1000, 2000):
        outcome = simulate(seed)
        assert outcome.safe, f"seed {seed}: {outcome.violations}"


def test_the_same_seed_gives_the_same_run() -> None:
    assert simulate(11) == simulate(11)


def test_every_checker_looks_and_every_lie_is_told() -> None:
    checks = dict.fromkeys(CHECKERS, 0)
    told = set()
    for seed in range(200):
        faults = Simulation(seed).faults
        told |= {faults.member_lie, faults.leader_lie}
    for seed in (0, 1, 8, 10, 17):
        for name, number in simulate(seed).checks.items():
            checks[name] += number
    assert all(checks.values()), checks
    assert told >= {*aggregation_lies.MEMBER_LIES, *aggregation_lies.LEADER_LIES}


@pytest.mark.parametrize("mutant", AGGREGATION_MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_is_caught(mutant: Mutant) -> None:
    """Each breaks one rule of `protocols.aggregation`: `mutant.rule`."""
    with mutant.plant():
        assert not simulate(mutant.seed).safe, f"seed {mutant.seed} no longer catches {mutant.name!r} (rule {mutant.rule})"
    assert simulate(mutant.seed).safe


def test_a_false_drop_can_be_proved() -> None:
    """A leader unmasks a member whose report it has; the operator opens it unawares, and the member's receipt is proof."""
    provable = 0
    for seed in range(400):
        simulation = Simulation(seed)
        if simulation.faults.leader_lie == "false drop":
            outcome = simulation.run()
            assert outcome.safe, f"seed {seed}: {outcome.violations}"
            provable += outcome.checks["lies_are_provable"]
    assert provable > 0
