"""What a household may expect of its forecasts, on synthetic series whose truth is known."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.forecast import Forecaster, QuantileForecast
from edge.forecast.clearsky import clear_sky_frac
from edge.forecast.scoreboard import Scoreboard

DAY_S = 86_400.0
START_S = 1_700_006_400.0 // DAY_S * DAY_S
MELBOURNE = {"latitude_deg": -37.8, "longitude_deg": 145.0}


def _load(days: int, seed: int = 1, step_s: float = 900.0) -> np.ndarray:
    """Lognormal noise around a daily shape: every quantile of every hour is known."""
    rng = np.random.default_rng(seed)
    hours = np.arange(round(days * DAY_S / step_s)) * step_s / 3600.0
    return (400.0 + 300.0 * np.sin(2.0 * np.pi * hours / 24.0)) * rng.lognormal(0.0, 0.5, len(hours))


def _warm(days: int = 28, **options: float) -> Forecaster:
    forecaster = Forecaster("load", 14_500.0, **options)
    forecaster.warm_start(START_S, 900.0, _load(days))
    return forecaster


def _assert_sound(forecast: QuantileForecast, rated_w: float) -> None:
    assert np.isfinite(forecast.values_w).all()
    assert (forecast.values_w >= 0.0).all() and (forecast.values_w <= rated_w).all()
    assert (np.diff(forecast.values_w, axis=0) >= -1e-9).all()


def test_a_new_forecaster_answers_with_its_declared_prior() -> None:
    forecast = Forecaster("load", 14_500.0, typical_day_wh=12_000.0).forecast(START_S, 900.0, 96)
    _assert_sound(forecast, 14_500.0)
    assert forecast.method == "prior"
    assert 6_000.0 < forecast.median_w.sum() * 0.25 < 14_000.0
    assert all(coverage.measured_frac is None and coverage.targets == 0 for coverage in forecast.measured_coverage)


def test_a_new_pv_forecaster_knows_noon_and_night_of_its_place() -> None:
    forecaster = Forecaster("pv", 5000.0, **MELBOURNE)
    forecast = forecaster.forecast(START_S, 900.0, 96)
    _assert_sound(forecast, 5000.0)
    sun = clear_sky_frac(forecast.times_s + 450.0, -37.8, 145.0)
    assert (forecast.values_w[:, sun == 0.0] == 0.0).all()
    assert forecast.median_w[sun.argmax()] > 2000.0


@pytest.mark.parametrize(
    ("time_s", "global_w_m2"),
    [(1734834000, 1000.8), (1734813000, 249.3), (1718937000, 466.8), (1736823600, 982.4), (1736839800, 389.5), (1742511600, 472.7)],
)
def test_the_clear_sky_agrees_with_pvlib(time_s: int, global_w_m2: float) -> None:
    """pvlib 0.16.1, `clearsky.haurwitz` of `get_solarposition(...).zenith` at 37.8 S 145.0 E, to 2 W/m2."""
    assert 1000.0 * clear_sky_frac(np.array([float(time_s)]), -37.8, 145.0)[0] == pytest.approx(global_w_m2, abs=2.0)


def test_quantiles_of_a_stationary_load_are_the_true_ones() -> None:
    forecast = _warm().forecast(START_S + 28 * DAY_S, 900.0, 96)
    hours = np.arange(96) * 0.25
    shape = 400.0 + 300.0 * np.sin(2.0 * np.pi * hours / 24.0)
    for level, score in ((0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)):
        ratio = forecast.at_level(level) / (shape * math.exp(0.5 * score))
        assert float(ratio.mean()) == pytest.approx(1.0, abs=0.08)


def test_measured_coverage_is_close_to_nominal_and_is_published() -> None:
    forecaster = Forecaster("load", 14_500.0)
    for index, power_w in enumerate(_load(56)):
        forecaster.observe(START_S + 900.0 * index, float(power_w))
    coverage = forecaster.forecast(START_S + 56 * DAY_S, 900.0, 96).measured_coverage
    assert [round(row.nominal_frac, 3) for row in coverage] == [0.9, 0.8, 0.5]
    for row in coverage:
        assert row.targets > 1000
        # Neighbouring lead times share targets: about 1300 independent ones, three standard errors of the 50 % interval.
        assert row.measured_frac == pytest.approx(row.nominal_frac, abs=0.042)


def test_the_level_of_the_last_hour_moves_the_next_hour_more_than_tomorrow() -> None:
    """An AR(1) load: the forecast after a high hour must lie above the one after a low hour, and must forget it by tomorrow."""
    rng = np.random.default_rng(8)
    noise = np.zeros(60 * 96)
    for index in range(1, len(noise)):
        noise[index] = 0.97 * noise[index - 1] + rng.normal(0.0, 0.2)
    medians = []
    for ending in (1.5, -1.5):
        series = 500.0 * np.exp(0.5 * np.concatenate((noise, np.full(8, ending))))
        forecaster = Forecaster("load", 14_500.0)
        for index, power_w in enumerate(series):
            forecaster.observe(START_S + 900.0 * index, float(power_w))
        medians.append(forecaster.forecast(START_S + 900.0 * len(series), 900.0, 96).median_w)
    ratio = medians[0] / medians[1]
    assert ratio[0] > 2.0
    assert ratio[-1] == pytest.approx(1.0, abs=0.3)


def test_a_clouded_hour_lowers_the_rest_of_the_pv_day_but_not_below_zero() -> None:
    times_s = START_S + 900.0 * np.arange(30 * 96)
    sun = clear_sky_frac(times_s + 450.0, -37.8, 145.0)
    rng = np.random.default_rng(5)
    day_index = rng.choice([0.25, 0.9], 31)[((times_s - START_S) // DAY_S).astype(int)]
    medians = []
    for index_now in (0.2, 0.95):
        forecaster = Forecaster("pv", 5000.0, **MELBOURNE)
        for time_s, frac, index in zip(times_s, sun, day_index, strict=True):
            forecaster.observe(float(time_s), float(5000.0 * 0.9 * frac * index))
        today_s = START_S + 30 * DAY_S
        for slot in range(8):
            now_s = today_s + 900.0 * slot
            forecaster.observe(now_s, float(5000.0 * 0.9 * clear_sky_frac(np.array([now_s + 450.0]), -37.8, 145.0)[0] * index_now))
        forecast = forecaster.forecast(today_s + 900.0 * 8, 900.0, 16)
        _assert_sound(forecast, 5000.0)
        medians.append(forecast.median_w.sum())
    assert medians[0] < 0.6 * medians[1]


def test_samples_at_the_control_cycle_and_slot_means_teach_the_same() -> None:
    powers = _load(3)
    fine, coarse = Forecaster("load", 14_500.0), Forecaster("load", 14_500.0)
    for index, power_w in enumerate(powers):
        coarse.observe(START_S + 900.0 * index, float(power_w))
        for part in range(3):
            fine.observe(START_S + 900.0 * index + 300.0 * part, float(power_w) * (0.5 + 0.5 * part))
    now_s = START_S + 3 * DAY_S
    np.testing.assert_allclose(fine.forecast(now_s, 900.0, 96).values_w, coarse.forecast(now_s, 900.0, 96).values_w, rtol=1e-4)


@pytest.mark.parametrize(("step_s", "steps"), [(300.0, 288), (900.0, 96), (1800.0, 48), (3600.0, 48)])
def test_any_grid_of_the_same_day_holds_about_the_same_energy(step_s: float, steps: int) -> None:
    forecaster = _warm()
    forecast = forecaster.forecast(START_S + 28 * DAY_S, step_s, steps)
    assert forecast.values_w.shape == (7, steps)
    day = round(DAY_S / step_s)
    reference = forecaster.forecast(START_S + 28 * DAY_S, 900.0, 96).median_w.mean()
    assert forecast.median_w[:day].mean() == pytest.approx(reference, rel=1e-6)


def test_a_warm_start_knows_what_live_observation_would_have_learned() -> None:
    powers = _load(28)
    live, warm = Forecaster("load", 14_500.0), Forecaster("load", 14_500.0)
    for index, power_w in enumerate(powers):
        live.observe(START_S + 900.0 * index, float(power_w))
    warm.warm_start(START_S, 300.0, np.repeat(powers, 3))
    now_s = START_S + 28 * DAY_S
    np.testing.assert_allclose(warm.seasonal.table.mean(), live.seasonal.table.mean(), rtol=0.01)
    assert warm.forecast(now_s, 900.0, 96).median_w == pytest.approx(live.forecast(now_s, 900.0, 96).median_w, rel=0.25)
    assert warm.forecast(now_s, 900.0, 96).measured_coverage[0].targets > 300


def test_the_regression_is_trained_in_small_portions_and_published_only_where_it_is_better() -> None:
    """A load that repeats last week exactly, with weekends unlike weekdays, is what the regression sees and the quantiles cannot."""
    rng = np.random.default_rng(3)
    week = rng.uniform(100.0, 3000.0, 7 * 24)
    forecaster = Forecaster("load", 14_500.0, step_s=3600)
    slowest_s = 0.0
    for index in range(100 * 24):
        forecaster.observe(START_S + 3600.0 * index, float(week[index % len(week)] * rng.uniform(0.97, 1.03)))
        begun_s = time.perf_counter()
        forecaster.train()
        slowest_s = max(slowest_s, time.perf_counter() - begun_s)
    now_s = START_S + 100 * DAY_S
    forecast = forecaster.forecast(now_s, 3600.0, 24)
    assert forecast.method == "regression"
    _assert_sound(forecast, 14_500.0)
    actual = week[(100 * 24 + np.arange(24)) % len(week)]
    assert np.abs(forecast.median_w - actual).mean() < 0.15 * actual.mean()
    assert slowest_s < 0.1


def test_the_regression_must_earn_its_place() -> None:
    board = Scoreboard(np.array([0.1, 0.5, 0.9]), 900, 28, 11, 0.01)
    board.loss, board.loss_count = np.array([100.0, 90.0]), 10.0
    assert board.preferred == 0, "too few targets"
    board.loss_count = float(len(board.hits))
    assert board.preferred == 1
    board.loss = np.array([100.0, 99.5])
    assert board.preferred == 0, "not clearly better"


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["pv", "load"]),
    st.floats(0.0, 0.6),
    st.sampled_from([0.0, 3.0, 40.0, 90.0, -20.0]),
    st.sampled_from([300.0, 900.0, 1800.0]),
)
def test_gaps_nan_spikes_and_jumps_never_break_a_forecast(seed: int, kind: str, missing: float, jump_days: float, step_s: float) -> None:
    rng = np.random.default_rng(seed)
    forecaster = Forecaster("pv" if kind == "pv" else "load", 6000.0, **MELBOURNE)
    powers = rng.exponential(800.0, 5 * 96) * rng.choice([1.0, 1.0, 50.0, -1.0], 5 * 96)
    powers[rng.random(len(powers)) < missing] = rng.choice([np.nan, np.inf])
    for index, power_w in enumerate(powers):
        forecaster.observe(START_S + 900.0 * index, float(power_w))
    now_s = START_S + (5.0 + jump_days) * DAY_S + float(rng.uniform(0.0, 900.0))
    _assert_sound(forecaster.forecast(now_s, step_s, 96), 6000.0)
    forecaster.observe(now_s, 100.0)
    forecaster.observe(now_s + 900.0, 100.0)
    _assert_sound(forecaster.forecast(now_s + 900.0, step_s, 96), 6000.0)


def test_a_pv_forecaster_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="latitude_deg and longitude_deg"):
        Forecaster("pv", 5000.0)


def test_one_forecast_and_one_observation_are_cheap() -> None:
    """Targets 150 us and 10 us on an idle core; the bounds here only catch a change of order on a busy one."""
    forecaster = _warm()
    now_s = START_S + 28 * DAY_S
    forecaster.forecast(now_s, 900.0, 96)
    forecast_s = []
    for _ in range(50):
        begun_s = time.perf_counter()
        forecaster.forecast(now_s, 900.0, 96)
        forecast_s.append(time.perf_counter() - begun_s)
    begun_s = time.perf_counter()
    for cycle in range(4000):
        forecaster.observe(now_s + 10.0 * cycle, 300.0)
    assert float(np.median(forecast_s)) < 1e-3
    assert (time.perf_counter() - begun_s) / 4000.0 < 1e-4
