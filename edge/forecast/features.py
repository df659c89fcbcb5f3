"""What the regression sees of a target slot, from closed slots only; the same quantities when training and when forecasting.

For a target slot j on day D, seen with lead of L slots: of the same time of day, the mean over the last 7 days, mean and standard
deviation over the last 28 days (neighbours pooled), the value a day ago and a week ago; the mean deviation of the last hour and
of the last day from their 28-day means, fading with the lead; two harmonics of the local hour; whether the day is a weekend.
The newest day used for a target is D - ceil((L + 1) / slots per day): there its own slot and the neighbour after it are closed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.forecast.history import DAY_S, SlotHistory

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]
COUNT = 15
SHORT_DAYS, LONG_DAYS = 7, 28


class DayMatrix:
    """The history as (days, slots per day) in order of time, oldest first, with the rolling statistics of each time of day.

    `mean_short`, `mean_long`, `deviation_long` at [d, c] are over the 7 or 28 days that end with day d. Built in one pass (a few
    milliseconds) once a day; `extend` then adds the slots of the day as they close.
    """

    def __init__(self, history: SlotHistory) -> None:
        assert history.open_slot is not None
        self.per_day, self.step_s = history.per_day, history.step_s
        self.last_day = history.open_slot // history.per_day
        self.first_day = self.last_day - history.days + 1
        days = np.arange(self.first_day, self.last_day + 1)
        slots = days[:, None] * history.per_day + np.arange(history.per_day)
        self.values = history.at(slots.ravel()).astype(np.float64).reshape(slots.shape)
        flat = np.concatenate(([np.nan], self.values.ravel(), [np.nan]))
        pooled = np.stack([flat[shift : shift + self.values.size].reshape(self.values.shape) for shift in range(3)])
        known = np.isfinite(pooled)
        total = np.where(known, pooled, 0.0).sum(axis=0)
        square = np.where(known, pooled**2, 0.0).sum(axis=0)
        count = known.sum(axis=0).astype(np.float64)
        self.mean_short, _ = _rolling(total, square, count, SHORT_DAYS)
        self.mean_long, self.deviation_long = _rolling(total, square, count, LONG_DAYS)
        usual = np.vstack((np.full(history.per_day, np.nan), self.mean_long[:-1]))
        deviation = (self.values - usual).ravel()
        self._known_sum = np.concatenate(([0.0], np.cumsum(np.isfinite(deviation))))
        self._deviation_sum = np.concatenate(([0.0], np.cumsum(np.where(np.isfinite(deviation), deviation, 0.0))))

    def extend(self, slot: int, value: float) -> None:
        """A slot of the last day has closed: it belongs to the statistics of its own time of day and of both neighbours'."""
        place, size = slot - self.first_day * self.per_day, self.values.size
        self.values.ravel()[place] = value
        for middle in range(max(place - 1, 0), min(place + 2, size)):
            around = middle - self.per_day * np.arange(LONG_DAYS)[:, None] + np.arange(-1, 2)
            window = np.where((around >= 0) & (around < size), self.values.ravel()[np.clip(around, 0, size - 1)], np.nan)
            at = divmod(middle, self.per_day)
            self.mean_short[at], _ = _mean_and_deviation(window[:SHORT_DAYS])
            self.mean_long[at], self.deviation_long[at] = _mean_and_deviation(window)
        deviation = value - self.mean_long.ravel()[place - self.per_day]
        finite = bool(np.isfinite(deviation))
        self._known_sum[place + 1] = self._known_sum[place] + finite
        self._deviation_sum[place + 1] = self._deviation_sum[place] + (deviation if finite else 0.0)

    def recent(self, issues: Slots, span_s: float) -> Floats:
        """Mean deviation from the 28-day mean over `span_s` before each issue slot, 0 where nothing is known."""
        last = np.clip(issues - self.first_day * self.per_day, 0, len(self._known_sum) - 1)
        first = np.maximum(last - max(round(span_s / self.step_s), 1), 0)
        known = self._known_sum[last] - self._known_sum[first]
        return np.asarray((self._deviation_sum[last] - self._deviation_sum[first]) / np.maximum(known, 1.0))

    def features(self, issues: Slots, targets: Slots, utc_offset_s: float) -> Floats:
        """(len(targets), COUNT); `issues` are the first open slots, one per target or one for all. NaN where history is too
        short.
        """
        day, column = np.divmod(targets, self.per_day)
        lead = np.maximum(targets - issues + 1, 1)
        back = -(-(lead + 1) // self.per_day)
        row = np.clip(day - back - self.first_day, 0, len(self.values) - 1)
        week = np.clip(day - 7 * -(-back // 7) - self.first_day, 0, len(self.values) - 1)
        usual = self.mean_long[row, column]
        lead_h = lead * self.step_s / 3600.0
        local_s = (targets + 0.5) * self.step_s + utc_offset_s
        angle = 2.0 * np.pi * local_s / DAY_S
        hour_level, day_level = self.recent(issues, 3600.0), self.recent(issues, DAY_S)
        yesterday, last_week = self.values[row, column], self.values[week, column]
        x = np.empty((len(targets), COUNT))
        x[:, 0] = 1.0
        x[:, 1] = self.mean_short[row, column]
        x[:, 2] = usual
        x[:, 3] = self.deviation_long[row, column]
        x[:, 4] = np.where(np.isfinite(yesterday), yesterday, usual)
        x[:, 5] = np.where(np.isfinite(last_week), last_week, usual)
        x[:, 6] = hour_level * np.exp(-lead_h)
        x[:, 7] = hour_level * np.exp(-lead_h / 5.0)
        x[:, 8] = day_level
        x[:, 9], x[:, 10] = np.sin(angle), np.cos(angle)
        x[:, 11], x[:, 12] = np.sin(2.0 * angle), np.cos(2.0 * angle)
        # 1 January 1970 was a Thursday.
        x[:, 13] = (np.floor_divide(local_s, DAY_S) + 3.0) % 7.0 >= 5.0
        x[:, 14] = x[:, 13] * usual
        return x


def _mean_and_deviation(window: Floats) -> tuple[float, float]:
    known = window[np.isfinite(window)]
    return (float(known.mean()), float(known.std())) if known.size else (np.nan, np.nan)


def _rolling(total: Floats, square: Floats, count: Floats, days: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the `days` rows that end with each row; NaN where nothing is known."""
    sums = []
    for series in (total, square, count):
        running = np.vstack((np.zeros((1, series.shape[1])), np.cumsum(series, axis=0)))
        first = np.maximum(np.arange(1, len(running)) - days, 0)
        sums.append(running[1:] - running[first])
    known = sums[2] > 0
    size = np.where(known, sums[2], 1.0)
    mean = np.where(known, sums[0] / size, np.nan)
    return mean, np.sqrt(np.maximum(np.where(known, sums[1] / size, np.nan) - mean**2, 0.0))
