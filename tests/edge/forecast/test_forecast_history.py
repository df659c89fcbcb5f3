"""Slot means, gaps and clock jumps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.forecast.history import SlotHistory


def test_samples_of_one_slot_are_averaged_when_it_closes() -> None:
    history = SlotHistory(900, 3)
    assert list(history.add(0.0, 100.0)) == []
    assert list(history.add(899.0, 300.0)) == []
    assert list(history.add(900.0, 50.0)) == [0]
    assert history.at(np.array([0])).tolist() == [200.0]


def test_an_open_slot_and_a_gap_are_unknown() -> None:
    history = SlotHistory(900, 3)
    history.add(0.0, 100.0)
    assert list(history.add(4 * 900.0, 100.0)) == [0, 1, 2, 3]
    assert np.isnan(history.at(np.array([1, 2, 3, 4]))).all()


def test_nan_samples_do_not_count_and_a_slot_of_them_is_unknown() -> None:
    history = SlotHistory(900, 3)
    history.add(0.0, math.nan)
    history.add(10.0, 80.0)
    history.add(900.0, math.nan)
    history.add(1800.0, 1.0)
    assert history.at(np.array([0]))[0] == 80.0
    assert math.isnan(history.at(np.array([1]))[0])


def test_late_samples_are_dropped_and_change_nothing() -> None:
    history = SlotHistory(900, 3)
    history.add(0.0, 100.0)
    history.add(900.0, 100.0)
    assert list(history.add(10.0, 9999.0)) == []
    history.add(1800.0, 0.0)
    assert history.at(np.array([0, 1])).tolist() == [100.0, 100.0]


@pytest.mark.parametrize("jump_s", [-10 * 86_400.0, 400 * 86_400.0])
def test_a_corrected_clock_starts_the_history_again_instead_of_replaying_years(jump_s: float) -> None:
    history = SlotHistory(900, 70)
    for slot in range(200):
        history.add(1e9 + 900.0 * slot, 100.0)
    assert len(history.add(1e9 + jump_s, 5.0)) == 0
    assert np.isnan(history.values).all()
    history.add(1e9 + jump_s + 900.0, 5.0)
    assert np.isfinite(history.values).sum() == 1


def test_a_step_that_does_not_divide_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="divide a day, got 700"):
        SlotHistory(700, 3)


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1e4)), min_size=1, max_size=120))
def test_the_ring_agrees_with_a_dictionary(moves: list[tuple[int, float]]) -> None:
    history, truth, slot = SlotHistory(21_600, 5), {}, 1000
    for advance, power_w in moves:
        slot += min(advance, 10)
        history.add(slot * 21_600.0 + 1.0, power_w)
        truth.setdefault(slot, []).append(power_w)
    known = {number: np.float32(np.mean(powers)) for number, powers in truth.items() if number < slot}
    window = np.arange(max(slot - 16, 0), slot)
    expected = [known.get(int(number), np.float32(np.nan)) for number in window]
    np.testing.assert_allclose(history.at(window), expected, rtol=1e-6)


def test_loading_a_series_equals_observing_it() -> None:
    rng = np.random.default_rng(3)
    means = rng.uniform(0, 1000, 96 * 80 + 17)
    observed, loaded = SlotHistory(900, 70), SlotHistory(900, 70)
    for slot, mean in enumerate(means):
        observed.add((500 + slot) * 900.0, mean)
    observed.add((500 + len(means)) * 900.0, 0.0)
    loaded.load(500, means)
    assert loaded.open_slot == observed.open_slot
    window = np.arange(500 + len(means) - 60 * 96, 500 + len(means))
    np.testing.assert_array_equal(loaded.at(window), observed.at(window))
    columns = np.arange(96)
    np.testing.assert_array_equal(loaded.last_closed(columns, 28), observed.last_closed(columns, 28))
