"""Loads rarely move once: an oven, a pump or a car next door to its end goes in steps of seconds. Pure.

A guard that corrects on the last measurement is outside again with the next step, and a row of steps that is longer than the grace time
of an envelope (15 s, AS/NZS 4777.2) would add up to a breach although each of them was answered in time. So while the uncontrolled part
of the net import is moving, as much as it has moved is kept as a margin on the side that it moves to: further steps of that size end
inside the envelope. Where the house has stood still for `SETTLE_S`, nothing is kept.
"""

from __future__ import annotations

from typing import Final

SETTLE_S: Final = 20.0
STILL_W: Final = 200.0
"""What loads flicker by anyway; a smaller movement is none."""


class Swing:
    """The uncontrolled part of the net import over the last `SETTLE_S`, and what to keep because of it."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def observe(self, now_s: float, base_w: float) -> None:
        """Take one measurement; a second one of the same instant changes nothing."""
        seen = self._seen
        if seen and now_s <= seen[-1][0]:
            return
        seen.append((now_s, base_w))

    def margins_w(self, now_s: float) -> tuple[float, float]:
        """(towards more export, towards more import), both magnitudes [W]; what is older does not count, also without a newer reading."""
        seen = self._seen
        while seen and seen[0][0] < now_s - SETTLE_S:
            seen.pop(0)
        if len(seen) < 2:
            return 0.0, 0.0
        newest_w = seen[-1][1]
        fallen_w = max(base_w for _, base_w in seen) - newest_w
        risen_w = newest_w - min(base_w for _, base_w in seen)
        return fallen_w if fallen_w > STILL_W else 0.0, risen_w if risen_w > STILL_W else 0.0
