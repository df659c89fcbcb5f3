"""The regression's view: no look ahead, and the same whether built at once or extended slot by slot."""

from __future__ import annotations

import numpy as np
import pytest

from edge.forecast.features import COUNT, DayMatrix
from edge.forecast.history import SlotHistory

PER_DAY = 24


def _history(slots: int, seed: int = 4) -> SlotHistory:
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 200.0, slots)
    values[rng.random(slots) < 0.03] = np.nan
    history = SlotHistory(3600, 70)
    history.load(1000, values)
    return history


def test_extending_by_closed_slots_equals_building_again() -> None:
    whole = _history(66 * PER_DAY + 20 - 1000 % PER_DAY)
    assert whole.open_slot is not None
    day_start = whole.open_slot // PER_DAY * PER_DAY
    partial = SlotHistory(3600, 70)
    partial.load(1000, whole.at(np.arange(1000, day_start)))
    matrix = DayMatrix(partial)
    for slot in range(day_start, whole.open_slot):
        matrix.extend(slot, float(whole.at(np.array([slot]))[0]))
    targets = whole.open_slot + np.arange(48)
    again = DayMatrix(whole)
    np.testing.assert_allclose(
        matrix.features(np.array([whole.open_slot]), targets, 0.0), again.features(np.array([whole.open_slot]), targets, 0.0), rtol=1e-9
    )


@pytest.mark.parametrize("hour", range(24))
def test_features_of_a_past_issue_do_not_know_what_came_after_it(hour: int) -> None:
    history = _history(66 * PER_DAY)
    changed = _history(66 * PER_DAY)
    assert history.open_slot is not None
    issue = history.open_slot // PER_DAY * PER_DAY - 5 * PER_DAY + hour
    for slot in range(issue, history.open_slot):
        changed.put(slot, 1e6)
    targets = issue - 1 + np.array([1, 5, 23, 24, 25, 47, 48])
    before = DayMatrix(history).features(np.full(7, issue), targets, 0.0)
    after = DayMatrix(changed).features(np.full(7, issue), targets, 0.0)
    assert before.shape == (7, COUNT)
    np.testing.assert_array_equal(before, after)


def test_yesterday_and_last_week_are_what_their_names_say() -> None:
    history = SlotHistory(3600, 70)
    history.load(0, np.arange(40.0 * PER_DAY))
    issue = 40 * PER_DAY
    x = DayMatrix(history).features(np.array([issue]), np.array([issue + 3, issue + 27]), 0.0)
    assert x[:, 4].tolist() == [issue + 3 - 24, issue + 27 - 48]
    assert x[:, 5].tolist() == [issue + 3 - 7 * 24, issue + 27 - 7 * 24]
