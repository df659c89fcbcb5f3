"""What the edge believes of each device: is the reading usable, does the device follow, what may it do when it is silent. Pure.

A device is judged against its last accepted setpoint and its own last reading, never against another device:

- a reading that is not finite, implausibly large, too old, or whose counters run backwards is no reading;
- a meter whose reading is the same to the last bit, counters and voltages included, is doubtful and not believed in that cycle; it is
  stuck when its counters should have moved meanwhile;
- a device that follows its setpoint with an error (`bias_w`) is taken to make the same error again;
- a battery that does less than it was told is *derated*: only what it does is counted on, and it is asked for little more;
- a device that does more than it was told, or something else, is *deaf*: what it does is left to the meter, and others compensate;
- a device that did not answer may do anything between its last setpoint and what it reverts to by its own timer.
"""

from __future__ import annotations

import math

from edge.values import DeviceKind, Reading, Setpoint

BAND_W = 100.0
"""How far a power may be from its setpoint before it counts as not following, at least."""

BAND_FRAC = 0.04
GROWTH_FRAC = 0.02
"""By how much of its rating a derated battery is asked to do more, each time it does what it is asked."""

GROWN_FRAC = 0.1
"""By how much of its rating a PV system may have risen since it was last read, as far as its limit permits."""

MOST_PLAUSIBLE_W = 1e6
OVER_RATING = 2.0
LEAST_VOLTAGE_V = 20.0
STUCK_COUNTER_WH = 3.0
"""A power that should have moved an unmoved energy counter by this much is stuck."""

STUCK_POWER_S = 30.0
"""A meter without counters that stands still for so long is stuck: no house does."""


class DeviceWatch:
    """The record of one device. `reading` is the newest one that was believed, None while there is none in this cycle; `usable` says
    whether the device may be commanded and counted on in this cycle, `band_w` is the tolerance between setpoint and measured power."""

    __slots__ = (
        "_assumed_w",
        "_same_since_s",
        "_told",
        "band_w",
        "bias_w",
        "charge_cap_w",
        "commanded",
        "commanded_s",
        "deaf",
        "discharge_cap_w",
        "doubtful",
        "kind",
        "last_reading",
        "name",
        "own_draw_w",
        "rated_w",
        "reachable",
        "reading",
        "reverts",
        "silent_cycles",
        "stuck",
        "trouble",
        "usable",
    )

    def __init__(self, name: str, kind: DeviceKind, rated_w: float | None) -> None:
        self.name = name
        self.kind = kind
        self.rated_w = rated_w
        self.band_w = _band_w(rated_w)
        self.reading: Reading | None = None
        self.last_reading: Reading | None = None
        self.commanded: Setpoint | None = None
        self.commanded_s = -math.inf
        self.bias_w = 0.0
        self.charge_cap_w = math.inf
        self.discharge_cap_w = math.inf
        self.own_draw_w = math.inf
        self.deaf = False
        self.usable = False
        self.doubtful = False
        self.stuck = False
        self.reachable = False
        self.reverts = True
        self.silent_cycles = 0
        self.trouble = "not read yet"
        self._same_since_s = math.inf
        self._told: list[tuple[float, float]] = []
        self._assumed_w: float | None = None

    @property
    def held(self) -> bool:
        """Whether the device can be told but not read, and has a limit that it most likely keeps."""
        if not self.reachable or self.commanded is None or self.kind in (DeviceKind.BATTERY, DeviceKind.METER):
            return False
        return self.reading is None or (self.deaf and self.doubtful)

    @property
    def power_w(self) -> float:
        """What the device does: as measured, else as it most likely is."""
        return self.reading.power_w if self.reading is not None and not self.deaf else self._present_w()

    def miss(self, trouble: str, *, reachable: bool) -> None:
        """The device did not answer, or (`reachable`) answered what cannot be believed."""
        self.reading = None
        self.usable = False
        self.reachable = reachable
        self.trouble = trouble
        self.silent_cycles += 1

    def observe(self, reading: Reading, now_s: float, *, response_s: float, stale_after_s: float) -> None:
        """Take a reading, and judge it."""
        trouble = self._implausible(reading, now_s, stale_after_s)
        if trouble is not None:
            self.miss(trouble, reachable=True)
            return
        before = self.last_reading
        self.last_reading = self.reading = reading
        self.reachable = True
        self.trouble = ""
        self.silent_cycles = 0
        if reading.rated_w is not None and self.rated_w is None and 0.0 < reading.rated_w <= MOST_PLAUSIBLE_W:
            self.rated_w = reading.rated_w
            self.band_w = _band_w(self.rated_w)
        self._watch_for_stuck(before, reading, now_s)
        if self.kind is not DeviceKind.METER:
            self._watch_following(reading, now_s, response_s)
        self.usable = not self.deaf

    def accept(self, setpoint: Setpoint, now_s: float, *, reverts: bool) -> None:
        """The device took the setpoint."""
        self.commanded = setpoint
        self.commanded_s = now_s
        self.reverts = reverts
        if not self.usable:
            self._assumed_w = self._power_under_w(self._present_w(), setpoint.power_w, setpoint.limit_w)
        value_w = setpoint.power_w if self.kind is DeviceKind.BATTERY else setpoint.limit_w
        self._told.append((now_s, math.inf if value_w is None else value_w))

    def silent_range_w(self, now_s: float) -> tuple[float, float]:
        """What the device may do until it is heard again: between its last setpoint and its reverted value."""
        if self.kind is DeviceKind.METER:
            return 0.0, 0.0
        rated_w = MOST_PLAUSIBLE_W if self.rated_w is None else self.rated_w
        setpoint = self.commanded
        if setpoint is None:
            return self._whole_range_w(rated_w)
        reverted = self.reverts and setpoint.revert_after_s is not None and now_s >= self.commanded_s + setpoint.revert_after_s
        if self.kind is DeviceKind.BATTERY:
            power_w = 0.0 if setpoint.power_w is None else setpoint.power_w
            revert_w = 0.0 if setpoint.revert_power_w is None else setpoint.revert_power_w
            return (revert_w, revert_w) if reverted else (min(power_w, revert_w, 0.0), max(power_w, revert_w, 0.0))
        limit_w = rated_w if setpoint.limit_w is None else min(setpoint.limit_w, rated_w)
        revert_w = rated_w if setpoint.revert_limit_w is None else min(setpoint.revert_limit_w, rated_w)
        most_w = revert_w if reverted else max(limit_w, revert_w)
        return (-most_w, 0.0) if self.kind is DeviceKind.PV else (0.0, most_w)

    def next_jump_w(self, now_s: float, cycle_s: float, told: Setpoint | None) -> tuple[float, float, float]:
        """By how much the power of a device that is not counted on may fall, most likely changes, and may rise before the next cycle.

        `told` is the setpoint that it is about to get although it cannot be read; without one its own timer may run out.
        """
        before_w = self._present_w()
        if told is not None:
            if self.deaf and not self.doubtful:
                return 0.0, 0.0, 0.0
            return self._jump(before_w, told.power_w, told.limit_w)
        setpoint = self.commanded
        if setpoint is None or not self.reverts or setpoint.revert_after_s is None:
            return 0.0, 0.0, 0.0
        if not now_s <= self.commanded_s + setpoint.revert_after_s <= now_s + cycle_s:
            return 0.0, 0.0, 0.0
        return self._jump(before_w, setpoint.revert_power_w, setpoint.revert_limit_w)

    def _jump(self, before_w: float, power_w: float | None, limit_w: float | None) -> tuple[float, float, float]:
        jump_w = self._power_under_w(before_w, power_w, limit_w) - before_w
        more_w = 0.0
        if self.kind is DeviceKind.PV and jump_w > 0.0:
            told_w = None if self.commanded is None else self.commanded.limit_w
            rated_w = MOST_PLAUSIBLE_W if self.rated_w is None else self.rated_w
            more_w = max(min(rated_w if told_w is None else told_w, GROWN_FRAC * rated_w - before_w) + before_w, 0.0)
        return min(jump_w, 0.0), jump_w, max(jump_w, 0.0) + more_w

    def _present_w(self) -> float:
        """The power of a device that cannot be read, as it most likely is: what it was told since, or did when it was last read.

        A reading that stands still while setpoints move is older than the last setpoint of a battery.
        """
        if self._assumed_w is not None:
            return self._assumed_w
        last, setpoint = self.last_reading, self.commanded
        if last is None:
            return 0.0
        if setpoint is None or not (self.reading is None or self.doubtful):
            return last.power_w
        return self._power_under_w(last.power_w, setpoint.power_w, setpoint.limit_w)

    def _power_under_w(self, before_w: float, power_w: float | None, limit_w: float | None) -> float:
        if self.kind is DeviceKind.BATTERY:
            return 0.0 if power_w is None else power_w
        if limit_w is None:
            return before_w
        return max(before_w, -limit_w) if self.kind is DeviceKind.PV else min(before_w, limit_w)

    def _whole_range_w(self, rated_w: float) -> tuple[float, float]:
        if self.kind is DeviceKind.PV:
            return -rated_w, 0.0
        if self.kind is DeviceKind.BATTERY:
            return -rated_w, rated_w
        return 0.0, rated_w

    def _implausible(self, reading: Reading, now_s: float, stale_after_s: float) -> str | None:
        power_w = reading.power_w
        most_w = MOST_PLAUSIBLE_W if self.rated_w is None else OVER_RATING * self.rated_w + 1000.0
        if not -most_w <= power_w <= most_w:
            return f"power {power_w:g} W cannot be true (at most {most_w:g} W)"
        age_s = now_s - reading.time_s
        if age_s > stale_after_s:
            return f"reading is {age_s:.0f} s old (at most {stale_after_s:g} s)"
        if reading.voltage_v is not None:
            for voltage_v in reading.voltage_v:
                if not LEAST_VOLTAGE_V <= voltage_v <= 1e6:
                    return f"voltage {voltage_v:g} V cannot be true while the device is powered"
        before = self.last_reading
        if before is not None and self.silent_cycles < 3 and _runs_back(before, reading):
            return "an energy counter ran backwards"
        soc_frac = reading.soc_frac
        if soc_frac is not None and not -0.001 <= soc_frac <= 1.001:
            return f"state of charge {soc_frac:g} is not a fraction"
        return None

    def _watch_for_stuck(self, before: Reading | None, reading: Reading, now_s: float) -> None:
        if before is None or before.power_w != reading.power_w or not _identical(before, reading):
            self._same_since_s = now_s
            self.doubtful = self.stuck = False
            return
        same_s = now_s - self._same_since_s
        if reading.energy_import_wh is not None or reading.energy_export_wh is not None:
            self.doubtful = True
            self.stuck = abs(reading.power_w) * same_s / 3600.0 > STUCK_COUNTER_WH
        elif self.kind is DeviceKind.METER:
            self.doubtful = reading.voltage_v is not None or same_s >= STUCK_POWER_S
            self.stuck = same_s >= STUCK_POWER_S
        if self.stuck:
            self.trouble = f"the same reading for {same_s:.0f} s"

    def _watch_following(self, reading: Reading, now_s: float, response_s: float) -> None:
        told = self._told_within(now_s, response_s)
        deaf = self.stuck
        self.bias_w = 0.0
        if told is not None:
            low_w, high_w = told
            power_w, band_w = reading.power_w, self.band_w
            if self.kind is DeviceKind.BATTERY:
                if high_w < math.inf:
                    self._watch_caps(power_w, low_w, high_w)
                    self.bias_w = min(power_w - low_w, 0.0) + max(power_w - high_w, 0.0)
                    deaf = deaf or power_w > max(high_w, 0.0) + band_w or power_w < min(low_w, 0.0) - band_w
            elif self.kind is DeviceKind.PV:
                self.bias_w = min(power_w + high_w, 0.0)
                deaf = deaf or self.bias_w < -band_w
            else:
                self.bias_w = max(power_w - high_w, 0.0)
                deaf = deaf or self.bias_w > band_w
                self.own_draw_w = power_w + 0.5 * BAND_W if power_w < low_w - BAND_W else math.inf
        if deaf and not self.stuck:
            self.trouble = "does not follow its setpoint"
        if not deaf:
            self._assumed_w = None
        self.deaf = deaf

    def _told_within(self, now_s: float, response_s: float) -> tuple[float, float] | None:
        """The range of the setpoints that a device with this response time may be following now; None when that is not known."""
        told = self._told
        since_s = now_s - response_s
        while len(told) > 1 and told[1][0] <= since_s:
            told.pop(0)
        if not told:
            return None
        first_s, low_w = told[0]
        if first_s > since_s:
            return None
        if len(told) == 1:
            return low_w, low_w
        values = [value_w for _, value_w in told]
        return min(values), max(values)

    def _watch_caps(self, power_w: float, low_w: float, high_w: float) -> None:
        """A battery that does less than it was told: only what it does is counted on."""
        growth_w = GROWTH_FRAC * (5000.0 if self.rated_w is None else self.rated_w)
        if low_w > 0.0:
            self.charge_cap_w = _cap(self.charge_cap_w, low_w, power_w, self.band_w, growth_w, self.rated_w)
        elif high_w < 0.0:
            self.discharge_cap_w = _cap(self.discharge_cap_w, -high_w, -power_w, self.band_w, growth_w, self.rated_w)


def _cap(cap_w: float, told_w: float, done_w: float, band_w: float, growth_w: float, rated_w: float | None) -> float:
    """What may be counted on in one direction: what was done when that was too little, growing slowly while it is enough."""
    done_w = max(done_w, 0.0)
    if done_w < told_w - band_w:
        return done_w + growth_w
    if cap_w == math.inf:
        return cap_w
    if done_w < told_w - 0.5 * growth_w:
        return done_w + growth_w
    cap_w = max(cap_w, done_w + growth_w)
    return math.inf if rated_w is not None and cap_w >= rated_w else cap_w


def _identical(before: Reading, reading: Reading) -> bool:
    return (
        before.power_w == reading.power_w
        and before.energy_import_wh == reading.energy_import_wh
        and before.energy_export_wh == reading.energy_export_wh
        and before.voltage_v == reading.voltage_v
        and before.time_s != reading.time_s
    )


def _runs_back(before: Reading, reading: Reading) -> bool:
    old_wh, new_wh = before.energy_import_wh, reading.energy_import_wh
    if old_wh is not None and new_wh is not None and new_wh < old_wh:
        return True
    old_wh, new_wh = before.energy_export_wh, reading.energy_export_wh
    return old_wh is not None and new_wh is not None and new_wh < old_wh


def _band_w(rated_w: float | None) -> float:
    return BAND_W if rated_w is None else max(BAND_W, BAND_FRAC * rated_w)
