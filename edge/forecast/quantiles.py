"""The distribution of each slot of the day over the last 28 days, kept as a table of quantiles at equidistant normal scores.

Row s of the table holds the values at P(Y <= y) = Phi(z) for the scores z in `SCORES`. A value has a score and a score a value,
both by linear interpolation in the row, so the level of the last hour can be carried over to the next ones as a score (a Gaussian
copula). Neighbouring slots are pooled. On the first day the table is the declared prior; it is mixed out, quantile by quantile,
as observed days come in: weight 1 - n / 14 after n days (quantile averages cannot cross).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edge.forecast.history import SlotHistory

Floats = npt.NDArray[np.float64]

SCORE_STEP = 0.25
SCORES: Floats = np.arange(-3.0, 3.0 + SCORE_STEP / 2.0, SCORE_STEP)
PROBABILITIES: Floats = np.array([0.5 * (1.0 + math.erf(score / math.sqrt(2.0))) for score in SCORES])
MEDIAN = len(SCORES) // 2
WINDOW_DAYS = 28
PRIOR_DAYS = 14.0


class SeasonalQuantiles:
    """`prior` has shape (slots per day, len(SCORES)), rows ascending."""

    def __init__(self, prior: Floats, pool: int, window_days: int = WINDOW_DAYS) -> None:
        self.table = prior.copy()
        self._prior = prior
        self._pool = pool
        self._window_days = window_days
        self._stale: set[int] = set()

    def touch(self, column: int) -> None:
        """A slot of this time of day has closed: its row and its neighbours' are out of date."""
        count = len(self.table)
        self._stale.update((column + shift) % count for shift in range(-self._pool, self._pool + 1))

    def touch_all(self) -> None:
        self._stale.update(range(len(self.table)))

    def refresh(self, history: SlotHistory) -> None:
        """Bring stale rows up to date from the closed slots of `history`."""
        if not self._stale or history.open_slot is None:
            return
        columns = np.fromiter(self._stale, dtype=np.int64)
        self._stale.clear()
        shifts = np.arange(-self._pool, self._pool + 1)
        pooled = (columns[:, None] + shifts) % len(self.table)
        samples = history.last_closed(pooled, self._window_days).reshape(len(columns), -1)
        samples = np.sort(samples, axis=1).astype(np.float64)
        count = np.isfinite(samples).sum(axis=1)
        # Hazen's plotting position: the k-th of n samples stands at (k - 0.5) / n.
        position = np.clip(count[:, None] * PROBABILITIES - 0.5, 0.0, np.maximum(count[:, None] - 1.0, 0.0))
        below = position.astype(np.int64)
        above = np.minimum(below + 1, np.maximum(count[:, None] - 1, 0))
        low, high = np.take_along_axis(samples, below, axis=1), np.take_along_axis(samples, above, axis=1)
        measured = low + (position - below) * (high - low)
        weight = np.clip(1.0 - count / (len(shifts) * PRIOR_DAYS), 0.0, 1.0)[:, None]
        prior = self._prior[columns]
        self.table[columns] = np.where(count[:, None] > 0, weight * prior + (1.0 - weight) * measured, prior)

    def score(self, column: int, value: float) -> float:
        """Normal score of a value in its slot's distribution; the middle of the range where many scores share the value."""
        row = self.table[column]
        first, last = int(row.searchsorted(value, "left")), int(row.searchsorted(value, "right"))
        if first < last:
            return float(SCORES[first] + SCORES[last - 1]) / 2.0
        if first == 0 or first == len(row):
            return float(SCORES[min(first, len(row) - 1)])
        return float(SCORES[first - 1] + SCORE_STEP * (value - row[first - 1]) / (row[first] - row[first - 1]))

    def scores(self, columns: npt.NDArray[np.int64], values: Floats) -> Floats:
        """`score` of many values at once, shape (n,); NaN where the value is."""
        rows = self.table[columns]
        first = (rows < values[:, None]).sum(axis=1)
        last = (rows <= values[:, None]).sum(axis=1)
        tied = (SCORES[np.minimum(first, len(SCORES) - 1)] + SCORES[np.maximum(last - 1, 0)]) / 2.0
        above = np.clip(first, 1, len(SCORES) - 1)
        every = np.arange(len(rows))
        low, high = rows[every, above - 1], rows[every, above]
        with np.errstate(divide="ignore", invalid="ignore"):
            between = SCORES[above - 1] + SCORE_STEP * (values - low) / (high - low)
        outside = (first == 0) | (first == len(SCORES))
        ends = SCORES[np.minimum(first, len(SCORES) - 1)]
        scores = np.where(first < last, tied, np.where(outside, ends, between))
        return np.where(np.isnan(values), np.nan, scores)

    def values(self, columns: npt.NDArray[np.int64], scores: Floats) -> Floats:
        """Values at `scores`, shape (levels, len(columns)); scores beyond the table's take its outermost value."""
        place = np.clip((scores - SCORES[0]) / SCORE_STEP, 0.0, len(SCORES) - 1.0001)
        below = place.astype(np.int64)
        low = self.table[columns, below]
        return np.asarray(low + (place - below) * (self.table[columns, below + 1] - low))
