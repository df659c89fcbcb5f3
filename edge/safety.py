"""The safety state of the edge: when may limits be believed, and which stricter ones hold when not. Pure.

| state | what holds | entered when |
|---|---|---|
| failsafe | the strictest of contract, default and control; any load is assumed | start; failed cycle; meter lost for `stale_after_s` |
| default | the default control (or the contract limits, where no default is known) | healthy, no control active |
| controlled | the active control | healthy, a control active |

`islanded` and `clock_suspect` are conditions beside the state: the coordinator was not heard for `coordinator_silent_s`; the wall clock
jumped against the monotonic one.

The rules (from the fail-safe of evcc and EEBUS LPC, and its reported defects):

1. The edge starts in failsafe, and leaves it only in a cycle with a believable meter and with limits that somebody set: a control, a
   default (which may come from the disk), or the contract limits of the configuration.
2. No timer leads out of failsafe or loosens a limit. Losing the coordinator changes nothing by itself: what it sent ahead runs on, and
   then the default holds.
3. After a clock jump the limits from before the jump stay in force beside the new ones, the stricter winning, until a message that
   was verified against the new time arrives, or the clock jumps back.
"""

from __future__ import annotations

import math

import msgspec

from edge.limits import NO_LIMITS, Limit, LimitSet, narrow_limits
from protocols.messages import SafetyState


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What the safety machine is told in each cycle. `meter_lost`: silent or stuck, beyond a doubt in one cycle. `troubles` names each
    device that is silent or deaf, and why."""

    now_s: float
    monotonic_s: float
    meter_believable: bool
    meter_lost: bool
    control_active: bool
    default_known: bool
    troubles: tuple[str, ...] = ()


class SafetyMachine:
    """See the rules above."""

    def __init__(self, *, contract: LimitSet, stale_after_s: float, coordinator_silent_s: float, clock_jump_s: float) -> None:
        self.state = SafetyState.FAILSAFE
        self.reasons: tuple[str, ...] = ("start",)
        self.islanded = False
        self.clock_suspect = False
        self._contract = contract
        self._stale_after_s = stale_after_s
        self._coordinator_silent_s = coordinator_silent_s
        self._clock_jump_s = clock_jump_s
        self._offset_s: float | None = None
        self._trusted_offset_s = 0.0
        self._held = NO_LIMITS
        self._in_force = NO_LIMITS
        self._heard_s: float | None = None
        self._meter_lost_s: float | None = None
        self._first = True
        self._narrowed: tuple[LimitSet, LimitSet, LimitSet] | None = None

    def heard_coordinator(self, monotonic_s: float) -> None:
        """A message of the coordinator was verified against the present wall time."""
        self._heard_s = monotonic_s
        if self.clock_suspect and self._offset_s is not None:
            self._trusted_offset_s = self._offset_s
            self.clock_suspect = False
            self._held = NO_LIMITS

    def silent_s(self, monotonic_s: float) -> float | None:
        """How long the coordinator was not heard; since the first cycle where it never was."""
        return None if self._heard_s is None else monotonic_s - self._heard_s

    def fail(self, reason: str) -> None:
        """The cycle could not be completed."""
        self.state = SafetyState.FAILSAFE
        self.reasons = (reason,)

    def update(self, condition: Condition) -> bool:
        """Move on by one cycle; returns whether any load must be assumed, because the meter does not say or failsafe holds."""
        self._watch_clock(condition)
        if self._heard_s is None:
            self._heard_s = condition.monotonic_s
        self.islanded = condition.monotonic_s - self._heard_s > self._coordinator_silent_s
        reasons: list[str] = []
        if condition.meter_believable:
            self._meter_lost_s = None
            if self._first:
                reasons.append("start")
            else:
                self.state = SafetyState.CONTROLLED if condition.control_active else SafetyState.DEFAULT
                if not condition.control_active and not condition.default_known:
                    reasons.append("no default is known: the contract limits hold")
        else:
            self._watch_meter_loss(condition)
            reasons.append("the meter cannot be believed")
        self._first = False
        if self.islanded:
            reasons.append(f"the coordinator was not heard for {self._coordinator_silent_s:g} s")
        if self.clock_suspect:
            reasons.append("the clock has jumped: limits from before hold beside the new ones")
        self.reasons = (*reasons, *condition.troubles) if reasons or condition.troubles else ()
        return not condition.meter_believable or self.state is SafetyState.FAILSAFE

    def narrow(self, ratings: LimitSet, envelope: LimitSet, fallback: LimitSet) -> LimitSet:
        """The limits in force: ratings, then those of the safety state, then the envelope, each narrowing the ones before.

        Where the state adds nothing, the answer to the same ratings and envelope is known from the last time.
        """
        plain = self.state is not SafetyState.FAILSAFE and not self.clock_suspect
        if plain and self._narrowed is not None and self._narrowed[0] is ratings and self._narrowed[1] is envelope:
            self._in_force = self._narrowed[2]
            return self._in_force
        stages = [ratings]
        if self.state is SafetyState.FAILSAFE:
            stages.append(_renamed(self._contract, "failsafe"))
            stages.append(fallback)
        if self.clock_suspect:
            stages.append(self._held)
        stages.append(envelope)
        limits = narrow_limits(stages)
        self._in_force = limits
        if plain:
            self._narrowed = ratings, envelope, limits
        return limits

    def _watch_meter_loss(self, condition: Condition) -> None:
        if not condition.meter_lost:
            return
        if self._meter_lost_s is None:
            self._meter_lost_s = condition.monotonic_s
        if condition.monotonic_s - self._meter_lost_s >= self._stale_after_s:
            self.state = SafetyState.FAILSAFE

    def _watch_clock(self, condition: Condition) -> None:
        offset_s = condition.now_s - condition.monotonic_s
        before_s = self._offset_s
        self._offset_s = offset_s
        if before_s is None:
            self._trusted_offset_s = offset_s
            return
        if abs(offset_s - self._trusted_offset_s) <= self._clock_jump_s:
            if self.clock_suspect:
                self.clock_suspect = False
                self._held = NO_LIMITS
            elif not math.isclose(offset_s, self._trusted_offset_s):
                self._trusted_offset_s += 0.1 * (offset_s - self._trusted_offset_s)
            return
        if not self.clock_suspect:
            self.clock_suspect = True
            self._held = _renamed(self._in_force, "held")


def _renamed(limits: LimitSet, source: str) -> LimitSet:
    def rename(limit: Limit | None) -> Limit | None:
        return None if limit is None else msgspec.structs.replace(limit, source=source, expires_s=None)

    return LimitSet(
        export=rename(limits.export),
        import_=rename(limits.import_),
        generation=rename(limits.generation),
        load=rename(limits.load),
    )
