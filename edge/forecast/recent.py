"""How far the last hours say something about the next ones: one level, carried over with measured regression coefficients.

Each closed slot has a normal score z in the distribution of its time of day. The level m is their exponential mean. For lead
times h on a grid, the coefficient beta_h of z(t + h) on m(t) is estimated from running sums that forget over four weeks; then z(t
+ h) given m(t) is taken as normal with mean beta_h m and variance 1 - beta_h^2 Var(m): a Gaussian copula, an AR correction for
load and a clear-sky-index persistence for PV at the same time.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEADS_S: Floats = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 48.0]) * 3600.0
PRIOR_COUNT = 60.0
LEVEL_TIME_S = 1500.0
MEMORY_S = 28.0 * 86_400.0


class RecentLevel:
    def __init__(self, step_s: int) -> None:
        self.level = 0.0
        self._gain = 1.0 - math.exp(-step_s / LEVEL_TIME_S)
        self._keep = 1.0 - step_s / MEMORY_S
        self._lags = np.unique(np.maximum(np.round(LEADS_S / step_s), 1.0).astype(np.int64))
        self._lag_s = self._lags * float(step_s)
        self.past: Floats = np.full(int(self._lags[-1]) + 1, np.nan)
        """Levels of the last slots, a ring; the newest at `position`."""
        self.position = 0
        beta = 0.6 * np.exp(-self._lag_s / 7200.0)
        self.variance: Floats = np.full(len(self._lags), PRIOR_COUNT)
        self.product: Floats = PRIOR_COUNT * beta
        self.count: Floats = np.full(len(self._lags), PRIOR_COUNT)

    def observe(self, score: float | None) -> None:
        """The next slot's score; None where nothing was measured."""
        if score is not None:
            before = self.past[(self.position + 1 - self._lags) % len(self.past)]
            known = ~np.isnan(before)
            before = np.where(known, before, 0.0)
            self.variance = self._keep * self.variance + before**2
            self.product = self._keep * self.product + before * score
            self.count = self._keep * self.count + known
            self.level += self._gain * (score - self.level)
        else:
            self.level *= 1.0 - self._gain / 4.0
        self.position = (self.position + 1) % len(self.past)
        self.past[self.position] = self.level if score is not None else math.nan

    def load(self, scores: Floats) -> None:
        """`observe` of a whole series of scores, shape (n,); NaN where nothing was measured. The sums are taken at once."""
        levels = np.concatenate((self.past[self._order()], np.empty(len(scores))))
        level, gain, fade = self.level, self._gain, 1.0 - self._gain / 4.0
        held = len(self.past)
        for index, score in enumerate(scores.tolist(), held):
            known = score == score
            level = level + gain * (score - level) if known else level * fade
            levels[index] = level if known else math.nan
        measured = np.flatnonzero(~np.isnan(scores))
        before = levels[held + measured[:, None] - self._lags]
        known_before = ~np.isnan(before)
        before = np.where(known_before, before, 0.0)
        weight = self._keep ** np.arange(len(measured) - 1, -1, -1, dtype=np.float64)
        faded = self._keep ** len(measured)
        self.variance = faded * self.variance + weight @ before**2
        self.product = faded * self.product + (weight * scores[measured]) @ before
        self.count = faded * self.count + weight @ known_before
        self.level = level
        self.past = levels[-held:].copy()
        self.position = held - 1

    def _order(self) -> npt.NDArray[np.int64]:
        """Places of the ring, oldest first."""
        return (self.position + 1 + np.arange(len(self.past))) % len(self.past)

    def conditional(self, leads_s: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the score at each lead time."""
        beta = self.product / self.variance
        spread = np.sqrt(np.clip(1.0 - beta * self.product / self.count, 0.05, 1.0))
        return np.interp(leads_s, self._lag_s, beta) * self.level, np.interp(leads_s, self._lag_s, spread)
