"""How well a house keeps to what it reported to its community: what reputation weighs most (Li et al. 2026, section 4.4). Pure.

In a community that sums in secret nobody sees a plan or a meter but the house itself, so the house counts for the others. An interval of
a quarter of an hour counts when the last round before it was answered: the value that was reported for it is held against the mean that
the meter saw, and it was kept where they differ by at most a tenth of the connection. Every six hours the house declares how many
intervals counted and how many it kept, and nothing more: two numbers, which show no power and no hour. A house that declares what its
openings and the operator's meter disprove is convicted (`commonwatt-coordinator settle`); that is what a declaration rests on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from protocols.messages import RoundCall, RoundContent

WINDOW_S: Final = 6 * 3600.0
TOLERANCE_FRAC: Final = 0.1
LONGEST_GAP_S: Final = 60.0
COVERED_FRAC: Final = 0.8
"""An interval of which the meter saw less than this says nothing."""


class Declared(Struct, frozen=True, kw_only=True):
    """What a house says of one window."""

    from_s: float
    duration_s: float
    intervals: int
    kept: int


class Adherence:
    """Counts for one house. `size_w` is the rating of its connection."""

    def __init__(self, size_w: float) -> None:
        self._tolerance_w = TOLERANCE_FRAC * size_w
        self._promised: dict[float, tuple[float, int]] = {}
        self._metered: dict[float, tuple[float, float]] = {}
        self._last: tuple[float, float] | None = None
        self._window_s: float | None = None
        self._step_s = 900.0
        self._intervals = self._kept = 0

    def reported(self, call: RoundCall, values: Sequence[int]) -> None:
        """A round of plans was answered: what was said of the interval after the one that is under way is a promise."""
        if call.content is RoundContent.PLAN and len(values) > 1:
            self._step_s = call.step_s
            self._promised[call.start_s + call.step_s] = (call.step_s, values[1])
            while len(self._promised) > 8:
                del self._promised[min(self._promised)]

    def metered(self, now_s: float, net_import_w: float) -> Declared | None:
        """Take one reading of the meter; returns what is to be declared where a window has ended."""
        last, self._last = self._last, (now_s, net_import_w)
        if last is not None and 0.0 < now_s - last[0] <= LONGEST_GAP_S:
            start_s = math.floor(last[0] / self._step_s) * self._step_s
            covered_s, energy_ws = self._metered.get(start_s, (0.0, 0.0))
            passed_s = min(now_s, start_s + self._step_s) - last[0]
            self._metered[start_s] = (covered_s + passed_s, energy_ws + passed_s * last[1])
        self._judge(now_s)
        window_s = math.floor(now_s / WINDOW_S) * WINDOW_S
        before_s, self._window_s = self._window_s, window_s
        if before_s is None or before_s == window_s:
            return None
        declared = Declared(from_s=before_s, duration_s=WINDOW_S, intervals=self._intervals, kept=self._kept)
        self._intervals = self._kept = 0
        return declared if declared.intervals > 0 else None

    def _judge(self, now_s: float) -> None:
        """Count the intervals that are over."""
        for start_s in [start_s for start_s in self._metered if start_s + self._step_s <= now_s]:
            covered_s, energy_ws = self._metered.pop(start_s)
            step_s, promised_w = self._promised.pop(start_s, (0.0, 0))
            if step_s > 0.0 and covered_s >= COVERED_FRAC * step_s:
                self._intervals += 1
                self._kept += abs(energy_ws / covered_s - promised_w) <= self._tolerance_w
