"""Which part of the load may be curtailed (priority 2), told by what it was at the same time of earlier days. Pure.

The load forecast is of the whole load, because that is what weeks of history know. The plan must know besides how much of it could be
shed to stay inside the envelope: the measured share of the curtailable devices, by quarter of an hour of the day, as a mean that
halves in weight every `HALF_LIFE_DAYS`. A time of day that was not seen yet has the share of all times that were.
"""

from __future__ import annotations

DAY_S = 86400.0
SLOT_S = 900.0
SLOTS = round(DAY_S / SLOT_S)
HALF_LIFE_DAYS = 7.0


class CurtailableShare:
    """Sums of load and of its curtailable part for each time of day."""

    def __init__(self) -> None:
        self._load = [0.0] * SLOTS
        self._part = [0.0] * SLOTS
        self._day = [-1] * SLOTS

    def observe(self, time_s: float, load_w: float, curtailable_w: float) -> None:
        """Means over the same stretch of time; `curtailable_w` is a part of `load_w`. Leave out what was held back by a limit."""
        day, slot = int(time_s // DAY_S), int(time_s % DAY_S // SLOT_S)
        if day != self._day[slot]:
            kept = 0.0 if self._day[slot] < 0 else 0.5 ** ((day - self._day[slot]) / HALF_LIFE_DAYS)
            self._load[slot] *= kept
            self._part[slot] *= kept
            self._day[slot] = day
        self._load[slot] += max(load_w, 0.0)
        self._part[slot] += min(max(curtailable_w, 0.0), max(load_w, 0.0))

    def at(self, time_s: float) -> float:
        """The share, 0 to 1, at a time of day; 0 where nothing was measured."""
        slot = int(time_s % DAY_S // SLOT_S)
        if self._load[slot] > 0.0:
            return self._part[slot] / self._load[slot]
        total = sum(self._load)
        return sum(self._part) / total if total > 0.0 else 0.0
