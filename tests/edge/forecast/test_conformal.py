"""Calibration: coverage on exchangeable data, recovery from a wrong model, and what it must not do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.forecast.conformal import MINIMUM_SCORES, OnlineConformal

LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])


def _replay(observed: np.ndarray, quantiles: np.ndarray, scale: float, aci_rate: float) -> np.ndarray:
    """Share of targets at or below each calibrated quantile, over the second half."""
    calibration = OnlineConformal(LEVELS, 1, 500, aci_rate)
    below = []
    for value in observed:
        below.append(value <= quantiles + calibration.offsets[0] * scale)
        calibration.record(0, quantiles, scale, float(value))
    return np.array(below[len(below) // 2 :]).mean(axis=0)


@pytest.mark.parametrize("aci_rate", [0.0, 0.01])
@pytest.mark.parametrize("wrong", [np.zeros(7), np.linspace(-0.2, 0.2, 7), np.full(7, 50.0)])
def test_exchangeable_data_end_at_nominal_however_wrong_the_model_is(aci_rate: float, wrong: np.ndarray) -> None:
    observed = np.random.default_rng(5).gamma(2.0, 1.0, 6000)
    reached = _replay(observed, wrong, 1.0, aci_rate)
    np.testing.assert_allclose(reached, LEVELS, atol=0.025)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1000.0), st.floats(-5.0, 5.0))
def test_calibration_does_not_depend_on_unit_or_origin(seed: int, unit: float, origin: float) -> None:
    observed = np.random.default_rng(seed).normal(0.0, 1.0, 200)
    plain, moved = OnlineConformal(LEVELS, 1, 150, 0.01), OnlineConformal(LEVELS, 1, 150, 0.01)
    for value in observed.tolist():
        plain.record(0, np.zeros(7), 1.0, value)
        moved.record(0, np.full(7, origin * unit), unit, value * unit + origin * unit)
    np.testing.assert_allclose(plain.offsets, moved.offsets, atol=1e-3)


def test_the_adaptive_step_pulls_coverage_back_after_the_errors_have_doubled() -> None:
    rng = np.random.default_rng(11)
    observed = np.concatenate((rng.normal(0.0, 1.0, 2000), rng.normal(0.0, 1.6, 400)))

    def late_coverage(aci_rate: float) -> float:
        calibration, inside = OnlineConformal(LEVELS, 1, 2000, aci_rate), []
        for value in observed.tolist():
            quantiles = calibration.offsets[0]
            inside.append(bool(quantiles[1] <= value <= quantiles[-2]))
            calibration.record(0, np.zeros(7), 1.0, value)
        return float(np.mean(inside[-300:]))

    assert late_coverage(0.01) > late_coverage(0.0) + 0.02
    assert abs(late_coverage(0.01) - 0.8) < abs(late_coverage(0.0) - 0.8)


def test_nothing_moves_before_enough_targets_were_observed() -> None:
    calibration = OnlineConformal(LEVELS, 2, 100, 0.01)
    for _ in range(MINIMUM_SCORES - 1):
        calibration.record(0, np.zeros(7), 1.0, 5.0)
    assert (calibration.offsets == 0.0).all()


def test_lead_time_classes_are_calibrated_apart() -> None:
    calibration = OnlineConformal(LEVELS, 2, 100, 0.0)
    rng = np.random.default_rng(2)
    for value in rng.normal(0.0, 1.0, 300).tolist():
        calibration.record(0, np.zeros(7), 1.0, value)
        calibration.record(1, np.zeros(7), 1.0, 10.0 * value)
    assert calibration.offsets[1, -1] > 5.0 * calibration.offsets[0, -1]
