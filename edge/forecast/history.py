"""What was measured, as one mean per slot of the day, over the last weeks; gaps are NaN.

A slot is [n step_s, (n + 1) step_s) of Unix time; slots of one day form a row. float32: 70 days of quarter hours are 27 kB.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

DAY_S = 86_400
Slots = npt.NDArray[np.float32]


class SlotHistory:
    """A ring of days. `add` gathers samples into the open slot; the caller learns when slots close and reads them by number."""

    def __init__(self, step_s: int, days: int) -> None:
        if DAY_S % step_s != 0:
            raise ValueError(f"step_s must divide a day, got {step_s}")
        self.step_s = step_s
        self.days = days
        self.per_day = DAY_S // step_s
        self.values: Slots = np.full((days, self.per_day), np.nan, dtype=np.float32)
        self.first_slot: int | None = None
        """The oldest slot that was ever opened."""
        self.open_slot: int | None = None
        self._sum_w = 0.0
        self._count = 0

    def add(self, time_s: float, power_w: float) -> range:
        """Take one sample; returns the slots that it closed (none, one, or more after a gap).

        Late samples are dropped. A time more than a day before or more than the whole ring after the open slot means that the clock was
        wrong before or that nothing kept is of use any more: the history starts again.
        """
        slot = math.floor(time_s / self.step_s)
        if self.open_slot is None or not -self.per_day <= slot - self.open_slot <= self.days * self.per_day:
            self.values[:] = np.nan
            self.first_slot = self.open_slot = slot
            self._sum_w, self._count = 0.0, 0
        closed = range(self.open_slot, slot)
        if slot > self.open_slot:
            self._close(slot)
        if slot == self.open_slot and math.isfinite(power_w):
            self._sum_w += power_w
            self._count += 1
        return closed

    def _close(self, slot: int) -> None:
        assert self.open_slot is not None
        mean_w = self._sum_w / self._count if self._count > 0 else math.nan
        self.put(self.open_slot, mean_w)
        for skipped in range(self.open_slot + 1, slot):
            self.put(skipped, math.nan)
        self.open_slot, self._sum_w, self._count = slot, 0.0, 0

    def put(self, slot: int, mean_w: float) -> None:
        day, column = divmod(slot, self.per_day)
        if column == 0:
            # The row still holds the day that is one ring ago; its later columns must not pass for today's.
            self.values[day % self.days] = np.nan
        self.values[day % self.days, column] = mean_w

    def load(self, first_slot: int, means_w: npt.NDArray[np.floating]) -> None:
        """Lay a whole series of slot means at once; the slot after it becomes the open one. Older contents are forgotten."""
        self.values[:] = np.nan
        kept = min(len(means_w), self.days * self.per_day)
        slots = np.arange(first_slot + len(means_w) - kept, first_slot + len(means_w))
        self.values[slots // self.per_day % self.days, slots % self.per_day] = means_w[len(means_w) - kept :]
        day, column = divmod(first_slot + len(means_w), self.per_day)
        self.values[day % self.days, column:] = np.nan
        self.first_slot, self.open_slot = int(slots[0]) if kept else first_slot, first_slot + len(means_w)
        self._sum_w, self._count = 0.0, 0

    def at(self, slots: npt.NDArray[np.int64]) -> Slots:
        """Means of any slots, NaN where unknown, not yet closed or older than the ring."""
        assert self.open_slot is not None
        day, column = np.divmod(slots, self.per_day)
        values = self.values[day % self.days, column]
        known = (slots < self.open_slot) & (slots >= self.open_slot - self.days * self.per_day)
        return np.where(known, values, np.float32(np.nan))

    def last_closed(self, columns: npt.NDArray[np.int64], days: int) -> Slots:
        """The `days` newest closed means of each time of day, newest first along a new axis before the last of `columns`."""
        assert self.open_slot is not None
        newest = (self.open_slot - 1 - columns) // self.per_day
        rows = (newest[..., None, :] - np.arange(days)[:, None]) % self.days
        return np.asarray(self.values[rows, columns[..., None, :]])
