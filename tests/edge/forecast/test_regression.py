"""The solver against scipy's exact linear programme of quantile regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from edge.forecast.regression import QuantileRegressionFit

LEVELS = np.array([0.1, 0.5, 0.9])


def _data(seed: int, samples: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.column_stack((np.ones(samples), rng.normal(0.0, 1.0, samples), rng.uniform(0.0, 300.0, samples)))
    y = 200.0 + 40.0 * x[:, 1] + x[:, 2] + (20.0 + 0.3 * x[:, 2]) * rng.gamma(1.5, 1.0, samples)
    return x, y


def _loss(x: np.ndarray, y: np.ndarray, beta: np.ndarray, tau: float) -> float:
    error = y - x @ beta
    return float(np.maximum(tau * error, (tau - 1.0) * error).sum())


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    fit = QuantileRegressionFit(x, y, LEVELS)
    for _ in range(1000):
        if fit.advance():
            return fit.weights
    raise AssertionError("the fit did not end")


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_the_linear_programme(seed: int) -> None:
    """scipy 1.17 HiGHS; Koenker and Bassett 1978: min tau 1'u + (1 - tau) 1'v, X b + u - v = y, u, v >= 0."""
    x, y = _data(seed)
    weights = _fit(x, y)
    samples, features = x.shape
    identity = np.eye(samples)
    for index, tau in enumerate(LEVELS):
        cost = np.concatenate((np.zeros(features), np.full(samples, tau), np.full(samples, 1.0 - tau)))
        bounds = [(None, None)] * features + [(0.0, None)] * (2 * samples)
        exact = linprog(cost, A_eq=np.hstack((x, identity, -identity)), b_eq=y, bounds=bounds, method="highs")
        assert _loss(x, y, weights[:, index], tau) <= exact.fun * 1.005


def test_the_share_below_each_quantile_is_its_level() -> None:
    x, y = _data(9, samples=3000)
    below = (y[:, None] <= x @ _fit(x, y)).mean(axis=0)
    np.testing.assert_allclose(below, LEVELS, atol=0.01)


def test_a_feature_that_is_always_zero_or_a_copy_of_another_does_no_harm() -> None:
    x, y = _data(1)
    doubled = np.column_stack((x, np.zeros(len(y)), x[:, 2]))
    assert _loss(doubled, y, _fit(doubled, y)[:, 1], 0.5) <= _loss(x, y, _fit(x, y)[:, 1], 0.5) * 1.01
