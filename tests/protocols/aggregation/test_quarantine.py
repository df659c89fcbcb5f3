"""One that spoils every sum it is in does not keep the others from theirs for long, and no two groups ever differ by a few."""

from __future__ import annotations

import random

import pytest

from protocols.aggregation.differencing import BATCH
from protocols.aggregation.quarantine import TRIED_AGAIN_AFTER, Quarantine


def play(size: int, culprits: int, seed: int, rounds: int = 40, members_min: int = 10) -> tuple[list[frozenset[str]], list[bool], set[str]]:
    rng = random.Random(seed)
    names = [f"h{index:03d}" for index in range(size)]
    guilty = set(rng.sample(names, culprits))
    quarantine, groups, ends = Quarantine(rng), [], []
    for _ in range(rounds):
        group = quarantine.roster(names, members_min=members_min)
        groups.append(group)
        ends.append(guilty.isdisjoint(group))
        (quarantine.opened if ends[-1] else quarantine.refused)(group)
    return groups, ends, guilty


@pytest.mark.parametrize("size", [20, 30, 50, 100, 192])
def test_after_a_few_rounds_everybody_but_a_few_has_sums_again(size: int) -> None:
    for seed in range(30):
        groups, ends, guilty = play(size, 1, seed)
        assert all(ends[25:]) and sum(ends) >= 20, f"seed {seed}: {ends}"
        assert guilty.isdisjoint(groups[-1]) and size - len(groups[-1]) < 2 * BATCH
        for group in groups:
            assert len(group) == size or size - len(group) >= BATCH, "who is left out is hidden among a batch"


def test_two_culprits_are_found_as_well() -> None:
    for seed in range(30):
        _, ends, _ = play(60, 2, seed, rounds=60)
        assert all(ends[-20:]), f"seed {seed}: {ends}"


def test_without_a_fault_nobody_is_left_out() -> None:
    groups, ends, _ = play(30, 0, 1)
    assert all(ends) and {len(group) for group in groups} == {30}


def test_a_group_that_would_be_too_small_is_not_made() -> None:
    groups, _, _ = play(12, 1, 1, members_min=10)
    assert {len(group) for group in groups} == {12}


def test_who_stayed_out_is_tried_again_after_a_day() -> None:
    groups, ends, _ = play(50, 1, 3, rounds=12 + TRIED_AGAIN_AFTER + 12)
    assert not all(ends[12:]) and groups[-1] != frozenset()
    assert any(len(group) == 50 for group in groups[12:])
