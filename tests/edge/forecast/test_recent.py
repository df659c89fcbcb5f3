"""The level of the last hours, taken one by one and at once."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.forecast.prior import load_prior
from edge.forecast.quantiles import SeasonalQuantiles
from edge.forecast.recent import RecentLevel

SCORES = st.lists(st.one_of(st.floats(-3.0, 3.0), st.just(math.nan)), max_size=400)


@settings(deadline=None, max_examples=40)
@given(before=SCORES, series=SCORES)
def test_a_series_loaded_at_once_is_the_series_observed_one_by_one(before: list[float], series: list[float]) -> None:
    slow, quick = RecentLevel(900), RecentLevel(900)
    for score in before:
        for level in (slow, quick):
            level.observe(None if math.isnan(score) else score)
    for score in series:
        slow.observe(None if math.isnan(score) else score)
    quick.load(np.array(series))
    leads_s = np.array([900.0, 7200.0, 86_400.0])
    for ours, theirs in zip(quick.conditional(leads_s), slow.conditional(leads_s), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    for score in (0.5, None, -1.0, *before[:20]):
        slow.observe(score)
        quick.observe(score)
    np.testing.assert_allclose(quick.product, slow.product, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.one_of(st.floats(-100.0, 6000.0), st.just(math.nan)), min_size=1, max_size=60), ties=st.booleans())
def test_scores_of_many_values_are_the_scores_of_each(values: list[float], ties: bool) -> None:
    seasonal = SeasonalQuantiles(load_prior(96, 0.0, 12_000.0, 10_000.0), pool=1)
    if ties:
        seasonal.table = np.round(seasonal.table, -2)
    columns = np.arange(len(values)) % 96
    asked = np.array([round(value, -2) if ties and math.isfinite(value) else value for value in values])
    found = seasonal.scores(columns, asked)
    for column, value, score in zip(columns.tolist(), asked.tolist(), found.tolist(), strict=True):
        if math.isnan(value):
            assert math.isnan(score)
        else:
            assert math.isclose(score, seasonal.score(column, value), rel_tol=1e-12, abs_tol=1e-12)
