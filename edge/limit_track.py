"""One control type over time: which target holds when, and the ramp that leads from one to the next. Pure.

A track is a row of contiguous segments from now to the end of time. In each, the value moves from where the last segment left it
towards the target at a rate, and stays there. Unlimited is a target of infinity; a ramp from or to it begins or ends at the rating.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edge.limits import Limit


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which one control sets the limit; `ramp_s` spreads the step at its begin, None leaves that to the rules."""

    begin_s: float
    end_s: float
    limit_w: float
    mrid: str
    ramp_s: float | None = None


class _Segment(msgspec.Struct):
    begin_s: float
    end_s: float
    from_w: float
    target_w: float
    rate_w_s: float
    source: str
    mrid: str | None

    def value_w(self, time_s: float) -> float:
        travelled_w = self.rate_w_s * max(time_s - self.begin_s, 0.0) if self.rate_w_s < math.inf else math.inf
        if self.from_w < self.target_w:
            return self.target_w if travelled_w == math.inf else min(self.from_w + travelled_w, self.target_w)
        return self.target_w if travelled_w == math.inf else max(self.from_w - travelled_w, self.target_w)

    def settled(self, time_s: float) -> bool:
        return self.value_w(time_s) == self.target_w


class LimitTrack:
    """Targets and ramps of one control type; `rated_w` is what `setGradW` and "unlimited" refer to."""

    def __init__(self, rated_w: float, *, tighten_at_once: bool) -> None:
        self._rated_w = rated_w
        self._tighten_at_once = tighten_at_once
        self._segments: list[_Segment] = []

    def replace(self, pieces: Sequence[Piece], *, idle: Limit | None, grad: int, now_s: float) -> None:
        """Lay out the future anew; the value goes on from where it is now. `idle` holds wherever no piece does."""
        stretches = _fill(pieces, idle, now_s)
        last = None if not self._segments else self._at(now_s)
        value_w = stretches[0].target_w if last is None else last.value_w(now_s)
        if last is None and idle is not None:
            value_w = min(value_w, idle.limit_w)
        segments: list[_Segment] = []
        for stretch in stretches:
            if last is not None and last.mrid == stretch.mrid and last.target_w == stretch.target_w:
                stretch.rate_w_s = last.rate_w_s
            else:
                stretch.rate_w_s = self._rate(last, stretch, value_w, grad)
            stretch.from_w = min(value_w, self._rated_w) if stretch.rate_w_s < math.inf else value_w
            if stretch.target_w == math.inf and stretch.from_w >= self._rated_w:
                stretch.from_w = math.inf
            segments.append(stretch)
            value_w = stretch.value_w(stretch.end_s)
            last = stretch
        self._segments = segments

    def tightest(self, now_s: float, ahead_s: float) -> tuple[Limit | None, float]:
        """The tightest limit in [now_s, now_s + ahead_s], and until when the answer stays the same (`now_s`: not known to)."""
        self._drop_past(now_s)
        until_s = now_s + ahead_s
        first = self._segments[0]
        if until_s < first.end_s and first.settled(now_s):
            return _as_limit(first, first.target_w), first.end_s - ahead_s
        best: _Segment | None = None
        best_w = math.inf
        for segment in self._segments:
            if segment.begin_s > until_s:
                break
            value_w = min(segment.value_w(max(now_s, segment.begin_s)), segment.value_w(min(until_s, segment.end_s)))
            if best is None or value_w < best_w:
                best, best_w = segment, value_w
        assert best is not None
        return _as_limit(best, best_w if best_w < self._rated_w or best.target_w < math.inf else math.inf), now_s

    def strictest(self, now_s: float) -> Limit | None:
        """The tightest target that is known from now on, what holds after the last control included."""
        self._drop_past(now_s)
        segment = min(self._segments, key=lambda item: item.target_w)
        return _as_limit(segment, segment.target_w)

    def source_at(self, now_s: float) -> str | None:
        """Who sets the target now: control, default, contract; None when nothing limits."""
        segment = self._at(now_s) if self._segments else None
        return None if segment is None or segment.target_w == math.inf else segment.source

    def mrid_at(self, now_s: float) -> str | None:
        """The control or default that sets the target now."""
        return self._at(now_s).mrid if self._segments else None

    def targets(self, times_s: Sequence[float]) -> list[Limit | None]:
        """The targets, without ramps, at ascending times."""
        found: list[Limit | None] = []
        segments = iter(self._segments)
        segment = next(segments)
        limit = _as_limit(segment, segment.target_w)
        for time_s in times_s:
            while segment.end_s <= time_s < math.inf:
                segment = next(segments)
                limit = _as_limit(segment, segment.target_w)
            found.append(limit)
        return found

    def _rate(self, last: _Segment | None, stretch: _Segment, value_w: float, grad: int) -> float:
        """How fast the value may move into this stretch [W/s]; infinite for a step."""
        tightens = stretch.target_w < value_w
        ramp_s = stretch.rate_w_s
        if not math.isnan(ramp_s):
            distance_w = abs(min(stretch.target_w, self._rated_w) - min(value_w, self._rated_w))
            return math.inf if ramp_s == 0.0 else distance_w / ramp_s
        both_controls = last is not None and last.source == "control" and stretch.source == "control"
        if both_controls or grad == 0 or (tightens and self._tighten_at_once):
            return math.inf
        return grad * 1e-4 * self._rated_w

    def _at(self, now_s: float) -> _Segment:
        for segment in self._segments:
            if now_s < segment.end_s:
                return segment
        return self._segments[-1]

    def _drop_past(self, now_s: float) -> None:
        while len(self._segments) > 1 and self._segments[0].end_s <= now_s:
            self._segments.pop(0)


def _fill(pieces: Sequence[Piece], idle: Limit | None, now_s: float) -> list[_Segment]:
    """The pieces with the idle limit in their gaps and after them; the ramp time, if given, waits in `rate_w_s`, else NaN."""
    stretches: list[_Segment] = []
    time_s = now_s

    def add_idle(end_s: float) -> None:
        target_w = math.inf if idle is None else idle.limit_w
        source = "none" if idle is None else idle.source
        mrid = None if idle is None else idle.mrid
        stretches.append(_Segment(time_s, end_s, target_w, target_w, math.nan, source, mrid))

    for piece in pieces:
        if piece.end_s <= now_s:
            continue
        if piece.begin_s > time_s:
            add_idle(piece.begin_s)
        ramp_s = math.nan if piece.ramp_s is None else piece.ramp_s
        begin_s = max(piece.begin_s, now_s)
        stretches.append(
            _Segment(begin_s, piece.end_s, piece.limit_w, piece.limit_w, ramp_s, "control", piece.mrid)
        )
        time_s = piece.end_s
    add_idle(math.inf)
    return stretches


def _as_limit(segment: _Segment, value_w: float) -> Limit | None:
    if value_w == math.inf:
        return None
    expires_s = segment.end_s if segment.end_s < math.inf else None
    return Limit(limit_w=value_w, source=segment.source, mrid=segment.mrid, expires_s=expires_s)
