"""No schedule of a small election gives a term two leaders, and the search finds the schedules that do when a rule is broken."""

from __future__ import annotations

import pytest

from hil.simulation.mutants import MUTANTS
from hil.simulation.search import search


@pytest.mark.parametrize(("members", "terms", "states"), [(2, 2, 39), (3, 1, 18), (3, 2, 697), (4, 1, 28)])
def test_every_schedule_of_a_small_election_is_safe(members: int, terms: int, states: int) -> None:
    found = search(members, terms)
    assert found.violations == ()
    assert found.states == states


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("members", "terms"), [(3, 3), (4, 2), (4, 3)])
def test_every_schedule_of_a_larger_election_is_safe(members: int, terms: int) -> None:
    found = search(members, terms)
    assert found.violations == ()
    assert found.states > 2_000


@pytest.mark.parametrize("name", ["quorum of half", "votes for whoever asks"])
def test_the_search_finds_the_schedule_that_breaks_a_mutant(name: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    with mutant.plant():
        assert search(3, 1).violations == ("term 1 has two leaders",)
