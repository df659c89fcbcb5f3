"""The table of each time of day against numpy, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.forecast.history import SlotHistory
from edge.forecast.prior import LOAD_HOURLY, load_prior, pv_prior
from edge.forecast.quantiles import MEDIAN, PROBABILITIES, SCORES, SeasonalQuantiles


def _filled(days: int, rng: np.random.Generator, per_day: int = 24) -> tuple[SlotHistory, np.ndarray]:
    history = SlotHistory(86_400 // per_day, 40)
    values = rng.gamma(1.5, 300.0, (days, per_day))
    history.load(0, values.ravel())
    return history, values


def test_the_table_is_the_hazen_quantile_of_the_last_28_days() -> None:
    history, values = _filled(35, np.random.default_rng(1))
    seasonal = SeasonalQuantiles(np.zeros((24, len(SCORES))), pool=0)
    seasonal.touch_all()
    seasonal.refresh(history)
    expected = np.quantile(values[-28:], PROBABILITIES, axis=0, method="hazen").T
    np.testing.assert_allclose(seasonal.table, expected, rtol=1e-6)


def test_before_anything_is_measured_the_prior_stands_and_it_fades_within_two_weeks() -> None:
    prior = load_prior(24, 0.0, 24_000.0, 10_000.0)
    distances = []
    for days in (0, 1, 7, 14):
        history = SlotHistory(3600, 40)
        history.load(0, np.full(days * 24, 5000.0))
        seasonal = SeasonalQuantiles(prior, pool=0)
        seasonal.touch_all()
        seasonal.refresh(history)
        distances.append(float(np.abs(seasonal.table - 5000.0).max()))
    assert distances[0] == float(np.abs(prior - 5000.0).max())
    assert distances[0] > distances[1] > distances[2] > distances[3] == 0.0


def test_the_load_prior_has_the_declared_daily_energy_and_follows_local_hours() -> None:
    prior = load_prior(96, 36_000.0, 12_000.0, 14_500.0)
    assert prior[:, MEDIAN].argmax() == pytest.approx((18.9 - 10.0) * 4.0, abs=3)
    mean_w = prior[:, np.searchsorted(SCORES, 0.25)].mean()
    assert mean_w == pytest.approx(500.0, rel=0.08)
    assert LOAD_HOURLY.mean() == pytest.approx(1.0, abs=0.01)


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.floats(0.0, 0.9))
def test_rows_are_monotone_whatever_is_missing(seed: int, days: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    history = SlotHistory(3600, 40)
    values = rng.exponential(500.0, days * 24)
    values[rng.random(len(values)) < missing] = np.nan
    history.load(0, values)
    seasonal = SeasonalQuantiles(pv_prior(24), pool=1)
    seasonal.touch_all()
    seasonal.refresh(history)
    assert np.isfinite(seasonal.table).all()
    assert (np.diff(seasonal.table, axis=1) >= -1e-9).all()


@given(st.integers(0, 2**32 - 1), st.floats(-2.9, 2.9))
def test_score_and_value_are_inverse_where_the_row_rises(seed: int, score: float) -> None:
    history, _ = _filled(28, np.random.default_rng(seed))
    seasonal = SeasonalQuantiles(np.zeros((24, len(SCORES))), pool=1)
    seasonal.touch_all()
    seasonal.refresh(history)
    value = seasonal.values(np.array([5]), np.array([[score]]))[0, 0]
    if (np.diff(seasonal.table[5]) > 0).all():
        assert seasonal.score(5, float(value)) == pytest.approx(score, abs=1e-4)


def test_a_value_shared_by_many_scores_is_in_the_middle_of_them() -> None:
    history = SlotHistory(3600, 40)
    history.load(0, np.full(28 * 24, 70.0))
    seasonal = SeasonalQuantiles(np.zeros((24, len(SCORES))), pool=0)
    seasonal.touch_all()
    seasonal.refresh(history)
    assert seasonal.score(0, 70.0) == 0.0
    assert seasonal.score(0, 71.0) == SCORES[-1]
    assert seasonal.score(0, 69.0) == SCORES[0]
