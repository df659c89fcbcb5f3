"""Named invariants, watched at every plant step of every run.

A checker counts what it looked at (`checks`) and what was wrong (`violations`), and keeps the first few details in words. What it
must excuse it counts apart and names. The rules:

1. `envelope_held`: the meter leaves the envelope by more than the lower of 4 % of rating and 100 W for at most 15 s (CSIP-AUS
   client test procedures 2.3.1, AS/NZS 4777.2). One check is one home and one interval; an interval in which the exceedance came
   while the P1 load alone was above the import limit is excused.
2. `p1_never_shed`: every home's essential load is served in full at every step.
3. `energy_conserved`: meter = sum of the parts at every step; what a battery gained is what went in less what came out and was
   lost; the source feeds exactly the homes and losses that are not negative.
4. `network_limits`: voltage band, transformer and lines, at every step.
5. `soc_within_limits`: a battery is never emptier than empty nor fuller than full.
6. `money_conserved` and `no_unverified_envelope`, `signed_only`, `published_envelopes_hold`: fed by the run, see their classes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from hil.frames import Frame
from hil.scenario import LimitsSection

Floats = npt.NDArray[np.float64]
MOST_DETAILS = 10
BALANCE_TOLERANCE_W = 0.5
"""Meters and devices compute in double precision; half a watt is a wire that was forgotten, not rounding."""


class CheckResult(Struct, frozen=True, kw_only=True):
    """What one checker found in a run. `excused` counts what was outside but could not have been inside, by reason."""

    name: str
    checks: int
    violations: int
    excused: dict[str, int] = {}
    details: tuple[str, ...] = ()


class Checker(Protocol):
    """Sees every frame of a run, in order; says what it found at the end."""

    def watch(self, frame: Frame) -> None:
        """Look at one plant step."""
        ...

    def result(self) -> CheckResult:
        """What was found so far."""
        ...


class Tally:
    """Counts for one named invariant; the deciders below and the run add to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks = 0
        self.violations = 0
        self.excused: dict[str, int] = {}
        self._details: list[str] = []

    def passed(self, count: int = 1) -> None:
        """`count` checks without a finding."""
        self.checks += count

    def violated(self, detail: str) -> None:
        """One check with a finding."""
        self.checks += 1
        self.add_violation(detail)

    def add_violation(self, detail: str) -> None:
        """A finding of a check that is counted already."""
        self.violations += 1
        if len(self._details) < MOST_DETAILS:
            self._details.append(detail)

    def excuse(self, reason: str) -> None:
        """A check whose finding could not have been avoided."""
        self.checks += 1
        self.excused[reason] = self.excused.get(reason, 0) + 1

    def result(self) -> CheckResult:
        """Everything counted so far."""
        return CheckResult(
            name=self.name,
            checks=self.checks,
            violations=self.violations,
            excused=dict(sorted(self.excused.items())),
            details=tuple(self._details),
        )


class EnvelopeHeld:
    """Rule 1. `rating_w` is that of the connection, shape (homes,); intervals are counted from the first frame."""

    def __init__(self, homes: tuple[str, ...], rating_w: Floats, limits: LimitsSection, interval_s: float) -> None:
        self._homes = homes
        self._tolerance_w = np.minimum(limits.envelope_tolerance_frac * rating_w, limits.envelope_tolerance_w)
        self._grace_s = limits.envelope_grace_s
        self._interval_s = interval_s
        self._tally = Tally("envelope_held")
        self._outside_s = np.zeros(len(homes))
        self._avoidable_s = np.zeros(len(homes))
        self._late = np.zeros(len(homes), dtype=bool)
        self._excused = np.zeros(len(homes), dtype=bool)
        self._limited = np.zeros(len(homes), dtype=bool)
        self._words: dict[int, str] = {}
        self._elapsed_s = 0.0
        self.exceeded_s = np.zeros(len(homes))
        self.worst_w = np.zeros(len(homes))

    def watch(self, frame: Frame) -> None:
        """Carry the time outside of each home forward, and close the interval when it is full."""
        excess_w = np.maximum(frame.net_import_w - frame.import_limit_w, -frame.net_import_w - frame.export_limit_w)
        outside = excess_w > self._tolerance_w
        self._limited |= np.isfinite(frame.import_limit_w) | np.isfinite(frame.export_limit_w)
        self._elapsed_s += frame.step_s
        if outside.any() or self._outside_s.any():
            avoidable = outside & (frame.p1_w <= frame.import_limit_w)
            self._outside_s = np.where(outside, self._outside_s + frame.step_s, 0.0)
            self._avoidable_s = np.where(avoidable, self._avoidable_s + frame.step_s, 0.0)
            late = self._avoidable_s > self._grace_s
            for home in np.flatnonzero(late & ~self._late):
                self._words[int(home)] = self._sentence(frame, int(home), float(excess_w[home]))
            self._late |= late
            self._excused |= (self._outside_s > self._grace_s) & ~avoidable
            self.exceeded_s += np.where(late, frame.step_s, 0.0)
            self.worst_w = np.where(late, np.maximum(self.worst_w, excess_w), self.worst_w)
        if self._elapsed_s >= self._interval_s - 1e-9:
            self._close()

    def result(self) -> CheckResult:
        """The tally, with an interval that the run left open counted as well."""
        if self._elapsed_s > 0.0:
            self._close()
        return self._tally.result()

    def _sentence(self, frame: Frame, home: int, excess_w: float) -> str:
        return (
            f"{self._homes[home]} at {frame.time_s:.0f} s: net import {frame.net_import_w[home]:.0f} W, envelope "
            f"-{frame.export_limit_w[home]:.0f} to {frame.import_limit_w[home]:.0f} W, {excess_w:.0f} W outside for "
            f"{self._avoidable_s[home]:.0f} s (P1 {frame.p1_w[home]:.0f} W, edge {'up' if frame.edge_alive[home] else 'down'})"
        )

    def _close(self) -> None:
        for home in np.flatnonzero(self._limited):
            if self._late[home]:
                self._tally.violated(self._words[int(home)])
            elif self._excused[home]:
                self._tally.excuse("P1 load alone above the import limit")
            else:
                self._tally.passed()
        for flags in (self._late, self._excused, self._limited):
            flags[:] = False
        self._elapsed_s = 0.0


class P1NeverShed:
    """Rule 2."""

    def __init__(self, homes: tuple[str, ...]) -> None:
        self._homes = homes
        self._tally = Tally("p1_never_shed")

    def watch(self, frame: Frame) -> None:
        """Compare what was served with what was wanted."""
        self._tally.passed(len(self._homes))
        for home in np.flatnonzero(frame.p1_w < frame.p1_wanted_w - BALANCE_TOLERANCE_W):
            self._tally.add_violation(
                f"{self._homes[home]} at {frame.time_s:.0f} s: {frame.p1_w[home]:.1f} W of {frame.p1_wanted_w[home]:.1f} W served"
            )

    def result(self) -> CheckResult:
        """The tally."""
        return self._tally.result()


class EnergyConserved:
    """Rule 3, per step: meter against parts, source against homes and losses. Batteries are added by the run at its end."""

    def __init__(self, homes: tuple[str, ...]) -> None:
        self._homes = homes
        self.tally = Tally("energy_conserved")

    def watch(self, frame: Frame) -> None:
        """Check both balances of one step."""
        parts_w = frame.p1_w + frame.p2_w + frame.shiftable_w + frame.ev_w + frame.battery_w + frame.pv_w
        gap_w = np.abs(frame.net_import_w - parts_w)
        self.tally.passed(len(self._homes) + 1)
        for home in np.flatnonzero(~(gap_w <= BALANCE_TOLERANCE_W)):
            self.tally.add_violation(
                f"{self._homes[home]} at {frame.time_s:.0f} s: meter {frame.net_import_w[home]:.1f} W, parts {parts_w[home]:.1f} W"
            )
        balance_w = abs(frame.source_w - frame.losses_w - float(frame.net_import_w.sum()))
        if not balance_w <= BALANCE_TOLERANCE_W or frame.losses_w < -BALANCE_TOLERANCE_W:
            self.tally.add_violation(
                f"feeder at {frame.time_s:.0f} s: source {frame.source_w:.1f} W, homes {frame.net_import_w.sum():.1f} W, "
                f"losses {frame.losses_w:.1f} W"
            )

    def result(self) -> CheckResult:
        """The tally."""
        return self.tally.result()


class NetworkLimits:
    """Rule 4. One check is one step and one quantity; voltage counts once however many homes are outside."""

    def __init__(self, homes: tuple[str, ...], limits: LimitsSection) -> None:
        self._homes = homes
        self._limits = limits
        self._tally = Tally("network_limits")
        self.outside_s = {"voltage": 0.0, "transformer": 0.0, "line": 0.0}

    def watch(self, frame: Frame) -> None:
        """Compare one step with the band and the ratings."""
        limits = self._limits
        self._tally.passed(3)
        low, high = int(np.argmin(frame.voltage_min_v)), int(np.argmax(frame.voltage_max_v))
        worst_low_v, worst_high_v = float(frame.voltage_min_v[low]), float(frame.voltage_max_v[high])
        if worst_low_v < limits.voltage_min_v:
            self._out(frame, "voltage", f"{self._homes[low]} {worst_low_v:.2f} V below {limits.voltage_min_v}")
        elif worst_high_v > limits.voltage_max_v:
            self._out(frame, "voltage", f"{self._homes[high]} {worst_high_v:.2f} V above {limits.voltage_max_v}")
        if frame.transformer_frac > limits.transformer_frac:
            self._out(frame, "transformer", f"transformer at {100.0 * frame.transformer_frac:.1f} %")
        if frame.line_frac > limits.line_frac:
            self._out(frame, "line", f"a line at {100.0 * frame.line_frac:.1f} %")

    def result(self) -> CheckResult:
        """The tally."""
        return self._tally.result()

    def _out(self, frame: Frame, quantity: str, words: str) -> None:
        self.outside_s[quantity] += frame.step_s
        self._tally.add_violation(f"at {frame.time_s:.0f} s: {words}")


class SocWithinLimits:
    """Rule 5."""

    def __init__(self, homes: tuple[str, ...]) -> None:
        self._homes = homes
        self._tally = Tally("soc_within_limits")

    def watch(self, frame: Frame) -> None:
        """Look at every battery that is there."""
        there = ~np.isnan(frame.soc_frac)
        self._tally.passed(int(there.sum()))
        for home in np.flatnonzero(there & ((frame.soc_frac < -1e-6) | (frame.soc_frac > 1.0 + 1e-6))):
            self._tally.add_violation(f"{self._homes[home]} at {frame.time_s:.0f} s: {frame.soc_frac[home]:.4f}")

    def result(self) -> CheckResult:
        """The tally."""
        return self._tally.result()


def total_violations(results: list[CheckResult]) -> int:
    """Sum over all checkers."""
    return sum(result.violations for result in results)
