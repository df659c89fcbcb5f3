"""The control scheduler: which limits hold now and in the seconds ahead, by the rules of CSIP-AUS. Pure; the caller owns the time.

The rules (IEEE 2030.5 and CSIP-AUS; `research` names are those of CACTUS test procedures where one exercises the rule):

1. For each of the four control types by itself, the active control with the lowest primacy wins, then the newest creation (GEN-10).
2. A control is immutable. One that is no longer mentioned is not cancelled; cancelling is explicit, or by a superseding control. A
   control that is superseded for all of its types and time is gone; one that is outranked for a part of them goes on with the rest.
3. Past its end a control is ignored. When none is active the default control holds, and it stays until it is changed (ALL-23).
   When no default is known either, the configured contract limit holds: running out of controls never means "unlimited".
4. A gap of at most `BRIDGE_S` between two controls of one type does not fall back to the default: the stricter of the two holds.
5. From and to the default a limit moves by `setGradW` (0: at once). Between controls it steps at once (ALL-28), except that
   `rampTms` spreads the step over its time. A ramp starts where the last one was, also when the schedule changes in its middle.
6. Random shifts are drawn once, when a control is received. Controls that follow each other still do so after the shift: the end
   of the first and the begin of the second move together, so that neither a gap nor a conflict appears.
7. A control with a negative, missing or non-finite limit, or without a duration, is refused by name and changes nothing.

`limits(now_s, ahead_s)` is the tightest of [now, now + ahead], so that the house is inside before the next interval begins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from edge.limit_track import LimitTrack, Piece
from edge.limits import Limit, LimitSet
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule, ResponseStatus
from protocols.units import MAX_POWER_W, MAX_TIME_S

BRIDGE_S = 10.0
"""Longest gap between two controls that is bridged (open-dynamic-export issue 75 shows 4 s in the field)."""

MAX_PENDING = 2 * 576
"""More controls than this are refused, so that a sender's fault cannot fill the memory."""

TYPES = ("export", "import_", "generation", "load")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one control, to be published as a `ControlResponse`."""

    mrid: str
    status: ResponseStatus
    reason: str = ""


class PendingControl(msgspec.Struct, kw_only=True):
    """A control with its random shifts, as it is kept, also on disk."""

    control: EnvelopeControl
    start_shift_s: float = 0.0
    duration_shift_s: float = 0.0
    started: bool = False
    ended: bool = False
    cancelled: bool = False


class ControlState(msgspec.Struct, kw_only=True):
    """All that must survive a power cycle."""

    default: DefaultControl | None = None
    pending: list[PendingControl] = []
    term: int = 0


class Ratings(msgspec.Struct, frozen=True, kw_only=True):
    """What `setGradW` refers to, and what "unlimited" means to a ramp [W]."""

    export_w: float
    import_w: float
    generation_w: float
    load_w: float


class ControlScheduler:
    """Holds the controls and the default of one connection point; see the rules above."""

    def __init__(
        self,
        *,
        ratings: Ratings,
        contract: LimitSet,
        draw_shift_s: Callable[[float, float], float],
        state: ControlState | None = None,
        tighten_at_once: bool = False,
    ) -> None:
        """`draw_shift_s(low, high)` draws a random shift; `contract` holds when nothing else is known.

        With `tighten_at_once` the way down to a stricter default is a step, stricter than `setGradW` asks for.
        """
        self.state = ControlState() if state is None else state
        self.changed = False
        self._contract = contract
        self._draw_shift_s = draw_shift_s
        self._rated_w = (ratings.export_w, ratings.import_w, ratings.generation_w, ratings.load_w)
        self._tighten_at_once = tighten_at_once
        self._tracks = tuple(LimitTrack(rated_w, tighten_at_once=tighten_at_once) for rated_w in self._rated_w)
        self._stale = True
        self._next_event_s = -math.inf
        self._cached: dict[float, tuple[float, float, LimitSet]] = {}

    def receive_default(self, default: DefaultControl) -> Outcome | None:
        """Replace the default control. Returns the refusal of one that cannot be used, None when it was taken."""
        reason = _bad_limits(_limits_of(default))
        if reason is None and not 0 <= default.set_grad_w <= 10000:
            reason = f"setGradW {default.set_grad_w} is outside 0 to 10000"
        if reason is not None:
            return Outcome(mrid=default.mrid, status=ResponseStatus.INVALID, reason=reason)
        if default != self.state.default:
            self.state.default = default
            self._touch()
        return None

    def receive_schedule(self, schedule: EnvelopeSchedule, now_s: float) -> list[Outcome]:
        """Take in a schedule's controls and cancellations; every control that is new has one outcome or more."""
        if schedule.term is not None:
            if schedule.term < self.state.term:
                reason = f"term {schedule.term} is older than {self.state.term}"
                return [Outcome(mrid=c.mrid, status=ResponseStatus.INVALID, reason=reason) for c in schedule.controls]
            if schedule.term > self.state.term:
                self.state.term = schedule.term
                self.changed = True
        outcomes: list[Outcome] = []
        known = {pending.control.mrid: pending for pending in self.state.pending}
        for control in schedule.controls:
            outcomes.extend(self._receive_control(control, known, now_s))
        for mrid in schedule.cancelled:
            held = known.get(mrid)
            if held is not None and not held.cancelled:
                held.cancelled = True
                outcomes.append(Outcome(mrid=mrid, status=ResponseStatus.CANCELLED))
                self._touch()
        return outcomes

    def advance(self, now_s: float) -> list[Outcome]:
        """Outcomes of the time that has passed: started, completed, superseded. Cheap when nothing is due."""
        if self._stale:
            self._rebuild(now_s)
        if now_s < self._next_event_s:
            return []
        outcomes: list[Outcome] = []
        kept: list[PendingControl] = []
        for pending, (start_s, end_s) in zip(self.state.pending, _effective_spans(self.state.pending), strict=True):
            mrid = pending.control.mrid
            if pending.cancelled:
                continue
            if now_s >= end_s:
                if now_s >= end_s + BRIDGE_S:
                    continue
                if not pending.ended:
                    pending.ended = True
                    outcomes.append(_ending(pending))
            elif now_s >= start_s and not pending.started and self._wins_now(mrid, now_s):
                pending.started = True
                outcomes.append(Outcome(mrid=mrid, status=ResponseStatus.STARTED))
            kept.append(pending)
        if len(kept) != len(self.state.pending) or outcomes:
            self.state.pending = kept
            self.changed = True
        self._next_event_s = _next_boundary_s(kept, now_s)
        return outcomes

    def limits(self, now_s: float, ahead_s: float) -> LimitSet:
        """The tightest limits in [now_s, now_s + ahead_s]. Constant stretches are answered from memory."""
        if self._stale:
            self._rebuild(now_s)
        cached = self._cached.get(ahead_s)
        if cached is not None and cached[0] <= now_s < cached[1]:
            return cached[2]
        found: list[Limit | None] = []
        constant_until_s = math.inf
        for track in self._tracks:
            limit, until_s = track.tightest(now_s, ahead_s)
            found.append(limit)
            constant_until_s = min(constant_until_s, until_s)
        result = LimitSet(export=found[0], import_=found[1], generation=found[2], load=found[3])
        self._cached[ahead_s] = (now_s, constant_until_s, result)
        return result

    def strictest(self, now_s: float) -> LimitSet:
        """The tightest of everything that is known from now on: what a device may keep to by itself when the edge is gone."""
        if self._stale:
            self._rebuild(now_s)
        export, import_, generation, load = (track.strictest(now_s) for track in self._tracks)
        return LimitSet(export=export, import_=import_, generation=generation, load=load)

    def fallback(self) -> LimitSet:
        """What holds when no control is active: the default's limits, and the contract's where the default says nothing."""
        default = self.state.default
        pieces = [self._idle_limit(index, default) for index in range(4)]
        return LimitSet(export=pieces[0], import_=pieces[1], generation=pieces[2], load=pieces[3])

    def has_active_control(self, now_s: float) -> bool:
        """Whether a control, not the default, sets at least one limit now."""
        if self._stale:
            self._rebuild(now_s)
        return any(track.source_at(now_s) == "control" for track in self._tracks)

    def targets(self, times_s: Sequence[float]) -> list[LimitSet]:
        """What is known to hold at each of the given ascending times, for the planner: targets without ramps; one value while all stay."""
        if self._stale and len(times_s) > 0:
            self._rebuild(times_s[0])
        found: list[LimitSet] = []
        before: tuple[Limit | None, ...] = ()
        for row in zip(*(track.targets(times_s) for track in self._tracks), strict=True):
            if not found or any(now is not then for now, then in zip(row, before, strict=True)):
                export, import_, generation, load = before = row
                found.append(LimitSet(export=export, import_=import_, generation=generation, load=load))
            else:
                found.append(found[-1])
        return found

    def _receive_control(self, control: EnvelopeControl, known: dict[str, PendingControl], now_s: float) -> list[Outcome]:
        mrid = control.mrid
        held = known.get(mrid)
        if held is not None:
            if held.control == control:
                return []
            reason = "a control is immutable; supersede it by a new one"
            return [Outcome(mrid=mrid, status=ResponseStatus.INVALID, reason=reason)]
        problem = bad_control(control)
        if problem is None and len(self.state.pending) >= MAX_PENDING:
            problem = f"{MAX_PENDING} controls are pending already"
        if problem is not None:
            return [Outcome(mrid=mrid, status=ResponseStatus.INVALID, reason=problem)]
        if control.start_s + control.duration_s <= now_s:
            return [Outcome(mrid=mrid, status=ResponseStatus.EXPIRED, reason="it had ended when it arrived")]
        pending = PendingControl(control=control)
        if control.randomize_start_s != 0:
            pending.start_shift_s = self._draw_between(control.randomize_start_s)
        if control.randomize_duration_s != 0:
            shift_s = self._draw_between(control.randomize_duration_s)
            pending.duration_shift_s = max(shift_s, 1.0 - control.duration_s)
        outcomes = [Outcome(mrid=mrid, status=ResponseStatus.RECEIVED)]
        kept: list[PendingControl] = []
        for other in self.state.pending:
            if not other.cancelled and _supersedes(other.control, control):
                return [*outcomes, Outcome(mrid=mrid, status=ResponseStatus.SUPERSEDED, reason=f"by {other.control.mrid}")]
            if not other.cancelled and _supersedes(control, other.control):
                known.pop(other.control.mrid, None)
                outcomes.append(Outcome(mrid=other.control.mrid, status=ResponseStatus.SUPERSEDED, reason=f"by {mrid}"))
            else:
                kept.append(other)
        self.state.pending = [*kept, pending]
        known[mrid] = pending
        self._touch()
        return outcomes

    def _draw_between(self, window_s: int) -> float:
        low_s, high_s = (0.0, float(window_s)) if window_s > 0 else (float(window_s), 0.0)
        return min(max(self._draw_shift_s(low_s, high_s), low_s), high_s)

    def _touch(self) -> None:
        self._stale = True
        self.changed = True

    def _wins_now(self, mrid: str, now_s: float) -> bool:
        return any(track.mrid_at(now_s) == mrid for track in self._tracks)

    def _idle_limit(self, index: int, default: DefaultControl | None) -> Limit | None:
        if default is not None:
            value = _limits_of(default)[index]
            if not isinstance(value, UnsetType):
                return Limit(limit_w=value, source="default", mrid=default.mrid)
        contract: Limit | None = getattr(self._contract, TYPES[index])
        return contract

    def _rebuild(self, now_s: float) -> None:
        """Lay out the winners of every type from now on, and let each track move on from where it is."""
        live: list[tuple[float, float, EnvelopeControl]] = []
        for pending, (start_s, end_s) in zip(self.state.pending, _effective_spans(self.state.pending), strict=True):
            if not pending.cancelled and end_s > now_s - BRIDGE_S:
                live.append((start_s, end_s, pending.control))
        live.sort(key=lambda item: (item[2].primacy, -item[2].creation_time_s, item[2].mrid))
        default = self.state.default
        grad = 27 if default is None else default.set_grad_w
        for index, track in enumerate(self._tracks):
            pieces = _winners(live, index, now_s - BRIDGE_S)
            _bridge(pieces)
            track.replace(pieces, idle=self._idle_limit(index, default), grad=grad, now_s=now_s)
        self._stale = False
        self._cached.clear()
        self._next_event_s = -math.inf


def bad_control(control: EnvelopeControl) -> str | None:
    """Why a control cannot be used, or None. Types are checked when a message is decoded; this holds for every other way in."""
    duration_s = control.duration_s
    if not (isinstance(duration_s, (int, float)) and math.isfinite(duration_s) and duration_s > 0.0):
        return f"duration {duration_s!r} s: expected a positive number; a control without an end is not taken"
    if not 0.0 <= control.start_s <= MAX_TIME_S:
        return f"start {control.start_s!r}: expected Unix seconds"
    limits = _limits_of(control)
    if all(isinstance(limit, UnsetType) for limit in limits):
        return "it names no limit at all"
    return _bad_limits(limits)


def _bad_limits(limits: tuple[float | UnsetType, ...]) -> str | None:
    for name, limit in zip(("opModExpLimW", "opModImpLimW", "opModGenLimW", "opModLoadLimW"), limits, strict=True):
        if isinstance(limit, UnsetType):
            continue
        if not (isinstance(limit, (int, float)) and 0.0 <= limit <= MAX_POWER_W):
            return f"{name} {limit!r} W: expected a magnitude from 0 to {MAX_POWER_W:g} W"
    return None


def _limits_of(control: EnvelopeControl | DefaultControl) -> tuple[float | UnsetType, ...]:
    return (control.export_limit_w, control.import_limit_w, control.generation_limit_w, control.load_limit_w)


def _supersedes(newer: EnvelopeControl, older: EnvelopeControl) -> bool:
    """Whether `newer` takes the place of `older` for all of its types and all of its time, so that nothing of it is left."""
    if (newer.primacy, -newer.creation_time_s) >= (older.primacy, -older.creation_time_s):
        return False
    if newer.start_s > older.start_s or newer.start_s + newer.duration_s < older.start_s + older.duration_s:
        return False
    return all(old is UNSET or new is not UNSET for new, old in zip(_limits_of(newer), _limits_of(older), strict=True))


def _effective_spans(pending: list[PendingControl]) -> list[tuple[float, float]]:
    """Begin and end of each control after its random shifts; controls that follow each other keep doing so."""
    spans = [
        (
            item.control.start_s + item.start_shift_s,
            item.control.start_s + item.start_shift_s + item.control.duration_s + item.duration_shift_s,
        )
        for item in pending
    ]
    if not any(item.start_shift_s != 0.0 or item.duration_shift_s != 0.0 for item in pending):
        return spans
    by_start: dict[tuple[int, float], list[int]] = {}
    for index, item in enumerate(pending):
        by_start.setdefault((item.control.primacy, item.control.start_s), []).append(index)
    for index in sorted(range(len(pending)), key=lambda i: pending[i].control.start_s):
        control = pending[index].control
        followers = by_start.get((control.primacy, control.start_s + control.duration_s), [])
        if not followers:
            continue
        shifts = [pending[i].start_shift_s for i in followers if pending[i].start_shift_s != 0.0]
        seam_s = control.start_s + control.duration_s + shifts[0] if shifts else spans[index][1]
        seam_s = max(seam_s, spans[index][0])
        spans[index] = (spans[index][0], seam_s)
        for follower in followers:
            spans[follower] = (seam_s, max(spans[follower][1], seam_s))
    return spans


def _ending(pending: PendingControl) -> Outcome:
    if pending.started:
        return Outcome(mrid=pending.control.mrid, status=ResponseStatus.COMPLETED)
    return Outcome(mrid=pending.control.mrid, status=ResponseStatus.EXPIRED, reason="its time passed without it")


def _winners(live: list[tuple[float, float, EnvelopeControl]], index: int, from_s: float) -> list[Piece]:
    """Stretches of time with their winning control of one type; `live` is in order of precedence."""
    candidates = [item for item in live if _limits_of(item[2])[index] is not UNSET]
    if not candidates:
        return []
    edges = sorted({from_s, *(t for item in candidates for t in (item[0], item[1]) if t > from_s)})
    pieces: list[Piece] = []
    for begin_s, end_s in itertools.pairwise(edges):
        for start_s, stop_s, control in candidates:
            if start_s <= begin_s < stop_s:
                limit_w = _limits_of(control)[index]
                assert not isinstance(limit_w, UnsetType)
                if pieces and pieces[-1].mrid == control.mrid and pieces[-1].end_s == begin_s:
                    pieces[-1] = msgspec.structs.replace(pieces[-1], end_s=end_s)
                else:
                    ramp_s = None if isinstance(control.ramp_tms, UnsetType) else control.ramp_tms / 100.0
                    pieces.append(Piece(begin_s=begin_s, end_s=end_s, limit_w=limit_w, mrid=control.mrid, ramp_s=ramp_s))
                break
    return pieces


def _bridge(pieces: list[Piece]) -> None:
    """Close short gaps in place, by the stricter of the two controls around them."""
    for index in range(len(pieces) - 1):
        before, after = pieces[index], pieces[index + 1]
        if not 0.0 < after.begin_s - before.end_s <= BRIDGE_S:
            continue
        if before.limit_w <= after.limit_w:
            pieces[index] = msgspec.structs.replace(before, end_s=after.begin_s)
        else:
            pieces[index + 1] = msgspec.structs.replace(after, begin_s=before.end_s)


def _next_boundary_s(pending: list[PendingControl], now_s: float) -> float:
    """The next time at which a control begins or ends."""
    boundaries = (t for start_s, end_s in _effective_spans(pending) for t in (start_s, end_s, end_s + BRIDGE_S) if t > now_s)
    return min(boundaries, default=math.inf)
