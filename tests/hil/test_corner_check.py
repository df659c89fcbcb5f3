"""What the bench tries on its own plant when envelopes are in force."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from hil.corner_check import PublishedEnvelopesHold
from hil.day import build_day
from hil.feeder import read_feeder
from hil.scenario import Scenario, load_scenario
from hil.world import World


@pytest.fixture(scope="module")
def street() -> tuple[Scenario, World]:
    loaded = load_scenario("street")
    return loaded.scenario, World(read_feeder(loaded.network_folder), build_day(loaded))


def checked(street: tuple[Scenario, World], guarantee: str, import_w: float, export_w: float) -> tuple[int, int]:
    scenario, world = street
    coordinator = msgspec.structs.replace(scenario.coordinator, guarantee=guarantee)
    checker = PublishedEnvelopesHold(msgspec.structs.replace(scenario, coordinator=coordinator), world)
    homes = len(world.homes)
    checker.watch(world.day.start_s, np.full(homes, import_w), np.full(homes, export_w))
    checker.watch(world.day.start_s + 10.0, np.full(homes, import_w), np.full(homes, export_w))
    result = checker.result()
    return result.checks, result.violations


@pytest.mark.parametrize(("guarantee", "patterns"), [("robust", 10), ("coincident", 20)])
def test_small_envelopes_pass_every_pattern_once_in_an_interval(
    street: tuple[Scenario, World], guarantee: str, patterns: int
) -> None:
    assert checked(street, guarantee, 500.0, 500.0) == (patterns, 0)


@pytest.mark.parametrize("guarantee", ["robust", "coincident"])
def test_envelopes_that_the_feeder_cannot_carry_are_found(street: tuple[Scenario, World], guarantee: str) -> None:
    _, violations = checked(street, guarantee, 500.0, 9000.0)
    assert violations > 0


def test_mixed_phases_let_the_robust_class_carry_less(street: tuple[Scenario, World]) -> None:
    """One phase exports while the others import: the neutral shifts, and the voltage of the exporting phase rises further."""

    def most_w(guarantee: str) -> float:
        low_w, high_w = 0.0, 9000.0
        while high_w - low_w > 1.0:
            middle_w = 0.5 * (low_w + high_w)
            if checked(street, guarantee, middle_w, middle_w)[1] == 0:
                low_w = middle_w
            else:
                high_w = middle_w
        return low_w

    assert 0.0 < most_w("robust") < most_w("coincident")
