"""The largest weighted volume as a linear program that is kept between rounds.

    maximise gain y   over   rows y <= slack,   0 <= y <= 1,

with HiGHS. What changes between rounds is the slack of rows that are in the program already, or that a row joins: both leave the last
basis dual feasible, so the dual simplex goes on from it and usually needs a handful of steps.
"""

from __future__ import annotations

import math

import highspy
import numpy as np
from numpy.typing import NDArray

from coordinator.envelopes.interior_point import AllocationError
from coordinator.envelopes.packing import Rows

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

UNEVEN, GOLDEN = 1e-5, (math.sqrt(5.0) - 1.0) / 2.0


class VolumeProgram:
    """One program over the limits of one set of rows; `gain` and `span` (limits,) are what y = 1 is worth and how far it reaches."""

    def __init__(self, rows: Rows, key: object, gain: FloatArray, span: FloatArray) -> None:
        """Set up the program without any row. `key` is whatever else must not change."""
        self._rows, self._key, self._span = rows, key, span
        self._position: dict[int, int] = {}
        self._size: dict[int, float] = {}
        self._free = np.ones(gain.size, dtype=np.bool_)
        self._slack: FloatArray | None = None
        self._columns = np.arange(gain.size, dtype=np.int32)
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.silent()
        self._highs.setOptionValue("threads", 1)
        # Rows join a few at a time, so there is nothing to presolve, and without it every basis is kept.
        self._highs.setOptionValue("presolve", "off")
        self._highs.setOptionValue("solver", "simplex")
        self._highs.addVars(gain.size, np.zeros(gain.size), np.ones(gain.size))
        # Limits that are worth exactly alike would be exchanged for one another from round to round; so none are quite.
        uneven = 1.0 + UNEVEN * np.modf(GOLDEN * np.arange(gain.size))[0]
        cost = -gain * uneven / max(float(np.max(gain, initial=0.0)), 1e-300)
        self._highs.changeColsCost(gain.size, self._columns, cost)

    def is_of(self, rows: Rows, key: object) -> bool:
        """Whether this is the program of these very rows."""
        return self._rows is rows and self._key is key

    def solve(self, slack: FloatArray, chosen: BoolArray, free: BoolArray) -> FloatArray:
        """The optimal y where only `free` limits may move, the rows of the mask `chosen` hold, and every row has `slack` above the floors.

        A row that was chosen once stays in the program, which only makes it the truer.
        """
        changed = np.flatnonzero(free != self._free).astype(np.int32)
        for column in changed:
            self._highs.changeColBounds(int(column), 0.0, 1.0 if free[column] else 0.0)
        self._free = free
        if slack is not self._slack:
            for row, position in self._position.items():
                self._highs.changeRowBounds(position, -highspy.kHighsInf, float(slack[row]) / self._size[row])
            self._slack = slack
        self._add(np.array([row for row in np.flatnonzero(chosen) if int(row) not in self._position], dtype=np.int64), slack)
        self._highs.run()
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise AllocationError(f"max-volume: HiGHS ended with {self._highs.modelStatusToString(status)}")
        return np.asarray(np.clip(self._highs.getSolution().col_value, 0.0, 1.0))

    def _add(self, new: IntArray, slack: FloatArray) -> None:
        """Write rows into the program, each scaled to a largest entry of one."""
        if new.size == 0:
            return
        written = self._rows.take(new) * self._span
        for row, slopes in zip(new.tolist(), written, strict=True):
            size = max(float(np.max(slopes, initial=0.0)), 1e-300)
            entries = np.flatnonzero(slopes).astype(np.int32)
            self._position[row], self._size[row] = len(self._position), size
            self._highs.addRow(-highspy.kHighsInf, float(slack[row]) / size, entries.size, entries, slopes[entries] / size)
