"""Time as an argument: whoever needs to know the time is given a `Clock`. `SystemClock` is the shell."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is said to others, monotonic time for how long something took."""

    def now_s(self) -> float:
        """Unix time, UTC [s]. May jump."""
        ...

    def monotonic_s(self) -> float:
        """Never goes back; its origin means nothing [s]."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that its owner moves: virtual time of the bench and of tests."""

    def __init__(self, start_s: float) -> None:
        self._now_s = start_s
        self._monotonic_s = 0.0

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` >= 0 seconds pass."""
        if dt_s < 0.0:
            raise ValueError(f"time cannot pass backwards: dt_s = {dt_s}")
        self._now_s += dt_s
        self._monotonic_s += dt_s

    def jump(self, dt_s: float) -> None:
        """Set the wall clock forward or back, as a wrong time server does; monotonic time does not move."""
        self._now_s += dt_s
