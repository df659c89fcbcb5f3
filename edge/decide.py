"""From one frozen snapshot to the setpoints of one cycle. Pure: it reads what the watches believe and calls the guard.

Two stances. *Sighted*: what the meter says less what the usable devices say is the uncontrolled part; silent and deaf devices are in
it, so the others compensate for whatever those do, and for what they are known to do next when their timers run out. A PV system or
load that can be told but not read keeps its limit, or gets a lower one: it is taken to do what it did. *Blind*, in the very cycle in
which the meter cannot be believed: the uncontrolled load may be anything from zero to the import limit, silent devices anything
between their last setpoint and what they revert to.

Every setpoint carries what the device shall fall back to by itself. Together those fallbacks keep the export limit at zero load and
the import limit at any load that alone does not break it, for the strictest limits that are known to come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from edge.guard import BatteryPort, Bounds, Decision, House, LoadPort, PvPort, enforce
from edge.limits import Limit, LimitSet
from edge.policy import FlexibleNeed, PlanView, Wishes, wishes
from edge.swing import Swing
from edge.values import DeviceKind, Setpoint
from edge.watch import MOST_PLAUSIBLE_W, DeviceWatch

PROBE_FRAC = 0.1
"""A curtailed PV system is taken to be able to produce this part of its rating more than it does."""

MISLED_W = 50.0
"""How far outside its limits the meter may be before assumptions about unread devices are dropped."""


class DecideSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change from cycle to cycle. `flexible` names vehicles and shiftable loads (priority 3), `most_draw_w`
    what each of them can take."""

    cycle_s: float
    margin_w: float
    revert_after_s: float
    unattended_load_w: float
    min_soc_frac: float
    max_soc_frac: float
    flexible: tuple[FlexibleNeed, ...] = ()
    most_draw_w: Mapping[str, float] = {}


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The setpoints of one cycle, the guard's decision behind them, what the uncontrolled load was taken to be (None: unknown), and
    whether any load was assumed."""

    setpoints: tuple[Setpoint, ...]
    decision: Decision
    base_w: float | None
    blind: bool


class Decider:
    """Holds the settings; `choose` is a function of its arguments and of what the watches believe."""

    def __init__(self, settings: DecideSettings, meter: DeviceWatch, controlled: Sequence[DeviceWatch]) -> None:
        self._settings = settings
        self._meter = meter
        self._batteries = tuple(w for w in controlled if w.kind is DeviceKind.BATTERY)
        self._pvs = tuple(w for w in controlled if w.kind is DeviceKind.PV)
        shiftable = {need.name for need in settings.flexible}
        self._chargers = tuple(w for w in controlled if w.kind is DeviceKind.EV_CHARGER or w.name in shiftable)
        self._loads = tuple(w for w in controlled if w.kind is DeviceKind.LOAD and w.name not in shiftable)
        self._controlled = (*self._batteries, *self._pvs, *self._chargers, *self._loads)
        self._last_base_w = 0.0
        self._swing = Swing()
        self._bounded: tuple[LimitSet, Bounds] | None = None

    def choose(
        self,
        now_s: float,
        *,
        limits: LimitSet,
        strictest: LimitSet,
        blind: bool,
        plan: PlanView | None,
        fixed: frozenset[str] = frozenset(),
    ) -> Chosen:
        """Setpoints for all devices that can be reached. `fixed` names those that refused theirs in this cycle: they stay as they are."""
        bounds = self._bounds(limits)
        blind = blind or self._misled(bounds)
        counted = [w for w in self._controlled if (w.usable or (w.held and not blind)) and w.name not in fixed]
        others = [w for w in self._controlled if w not in counted] if len(counted) < len(self._controlled) else []
        told = [self._safe(w, strictest) for w in others if w.name not in fixed and w.reachable]
        base_w = None if blind else self._base_w(counted)
        likely_w: float | None = base_w
        if base_w is None:
            low_w, high_w = self._any_load(now_s, bounds.import_w, others, told)
        else:
            self._last_base_w = base_w
            self._swing.observe(now_s, base_w)
            low_w, high_w, likely_w = self._with_jumps(base_w, now_s, others, told)
        for watch in counted:
            if watch.bias_w != 0.0 and watch.usable:
                low_w += max(min(watch.bias_w, 0.0), -watch.band_w)
                high_w += min(max(watch.bias_w, 0.0), watch.band_w)
        batteries, pvs, chargers, loads = self._batteries, self._pvs, self._chargers, self._loads
        if others:
            batteries, pvs, chargers, loads = (tuple(w for w in group if w in counted) for group in (batteries, pvs, chargers, loads))
        rest_w = self._last_base_w + sum([w.power_w for w in (*pvs, *chargers, *loads)])
        wished = wishes(plan, now_s, rest_w, self._settings.flexible)
        house = House(
            base_low_w=low_w,
            base_high_w=high_w,
            base_w=likely_w,
            batteries=self._battery_ports(batteries, wished.battery_w),
            pvs=self._pv_ports(pvs, wished.pv_limit_w),
            chargers=tuple([self._load_port(w, wished) for w in chargers]),
            loads=tuple([self._load_port(w, wished) for w in loads]),
        )
        export_swing_w, import_swing_w = self._swing.margins_w(now_s)
        if export_swing_w > 0.0 or import_swing_w > 0.0:
            bounds = msgspec.structs.replace(bounds, export_swing_w=export_swing_w, import_swing_w=import_swing_w)
        decision = enforce(house, bounds)
        setpoints = self._setpoints(decision, batteries, pvs, chargers, loads, strictest)
        return Chosen(setpoints=(*setpoints, *told), decision=decision, base_w=base_w, blind=blind)

    def safe(self, strictest: LimitSet) -> tuple[Setpoint, ...]:
        """Setpoints for all devices that are legal for any load, whatever the other devices do."""
        return tuple(self._safe(watch, strictest) for watch in self._controlled)

    def _bounds(self, limits: LimitSet) -> Bounds:
        """The limits as the guard takes them; made anew when they are others than the last time."""
        if self._bounded is None or self._bounded[0] is not limits:
            bounds = Bounds(
                export_w=_value(limits.export),
                import_w=_value(limits.import_),
                generation_w=_value(limits.generation),
                load_w=_value(limits.load),
                margin_w=self._settings.margin_w,
            )
            self._bounded = limits, bounds
        return self._bounded[1]

    def _base_w(self, counted: Sequence[DeviceWatch]) -> float | None:
        reading = self._meter.reading
        if reading is None:
            return None
        base_w = reading.power_w
        for watch in counted:
            base_w -= watch.power_w
        return base_w

    def _with_jumps(
        self, base_w: float, now_s: float, others: Sequence[DeviceWatch], told: Sequence[Setpoint]
    ) -> tuple[float, float, float]:
        """The uncontrolled part as an interval and as it most likely will be: devices that cannot be read are in it, and jump when they
        take the setpoint that they are told now, or when their own timers run out before the next cycle."""
        low_w = high_w = base_w
        for watch in others:
            setpoint = next((item for item in told if item.name == watch.name), None)
            fall_w, likely_w, rise_w = watch.next_jump_w(now_s, self._settings.cycle_s, setpoint)
            low_w += fall_w
            base_w += likely_w
            high_w += rise_w
        return low_w, high_w, base_w

    def _misled(self, bounds: Bounds) -> bool:
        """Whether the meter is outside the limits while a device can be told but not read: what was assumed of it may be the reason."""
        reading = self._meter.reading
        if reading is None or not any(watch.held for watch in self._controlled):
            return False
        return not -bounds.export_w - MISLED_W <= reading.power_w <= bounds.import_w + MISLED_W

    def _any_load(
        self, now_s: float, import_w: float, others: Sequence[DeviceWatch], told: Sequence[Setpoint]
    ) -> tuple[float, float]:
        """Any load that alone does not break the import limit (a vehicle that cannot be told is such a load), and whatever else devices
        that cannot be read may do: what they are told now, or what they were told and revert to."""
        low_w = 0.0
        high_w = import_w if import_w < math.inf else 0.0
        for watch in others:
            setpoint = next((item for item in told if item.name == watch.name), None)
            if setpoint is not None and not (watch.deaf and not watch.doubtful):
                if watch.kind is DeviceKind.PV:
                    low_w += watch.silent_range_w(now_s)[0] if setpoint.limit_w is None else -setpoint.limit_w
                continue
            range_low_w, range_high_w = watch.silent_range_w(now_s)
            if watch.reading is not None:
                range_low_w = min(range_low_w, watch.reading.power_w)
                range_high_w = max(range_high_w, watch.reading.power_w)
            low_w += range_low_w
            if watch.kind is DeviceKind.BATTERY:
                high_w += range_high_w
        return low_w, high_w

    def _battery_ports(self, watches: Sequence[DeviceWatch], wish_w: float) -> tuple[BatteryPort, ...]:
        limits = [self._battery_range_w(watch) for watch in watches]
        room_w = sum(high_w if wish_w > 0.0 else -low_w for low_w, high_w in limits)
        ports = []
        for low_w, high_w in limits:
            share = (high_w if wish_w > 0.0 else -low_w) / room_w if room_w > 0.0 else 0.0
            ports.append(BatteryPort(low_w=low_w, high_w=high_w, wish_w=wish_w * share))
        return tuple(ports)

    def _battery_range_w(self, watch: DeviceWatch) -> tuple[float, float]:
        reading = watch.reading
        assert reading is not None
        rated_w = 0.0 if watch.rated_w is None else watch.rated_w
        high_w = rated_w if reading.max_charge_w is None else reading.max_charge_w
        low_w = -(rated_w if reading.max_discharge_w is None else reading.max_discharge_w)
        high_w = min(high_w, watch.charge_cap_w)
        low_w = max(low_w, -watch.discharge_cap_w)
        soc_frac = reading.soc_frac
        if soc_frac is not None:
            settings = self._settings
            per_frac_w = math.inf if reading.capacity_wh is None else reading.capacity_wh * 3600.0 / settings.cycle_s
            room_frac, usable_frac = settings.max_soc_frac - soc_frac, soc_frac - settings.min_soc_frac
            high_w = min(high_w, room_frac * per_frac_w) if room_frac > 0.0 else 0.0
            low_w = max(low_w, -usable_frac * per_frac_w) if usable_frac > 0.0 else 0.0
        return min(low_w, 0.0), max(high_w, 0.0)

    def _pv_ports(self, watches: Sequence[DeviceWatch], wish_limit_w: float | None) -> tuple[PvPort, ...]:
        rated = [MOST_PLAUSIBLE_W if watch.rated_w is None else watch.rated_w for watch in watches]
        total_w = sum(rated)
        ports = []
        for watch, rated_w in zip(watches, rated, strict=True):
            produced_w = max(-watch.power_w, 0.0)
            available_w = produced_w
            told_w = None if watch.commanded is None else watch.commanded.limit_w
            reading = watch.reading
            if not watch.usable:
                rated_w = rated_w if told_w is None else min(told_w, rated_w)
            elif reading is not None and reading.available_w is not None:
                available_w = max(produced_w, min(reading.available_w, rated_w))
            elif told_w is not None and produced_w >= told_w - max(0.05 * told_w, 20.0):
                available_w = max(produced_w, min(produced_w + PROBE_FRAC * rated_w, rated_w))
            wish_w = None if wish_limit_w is None else wish_limit_w * rated_w / total_w
            ports.append(PvPort(rated_w=rated_w, available_w=available_w, sure_w=produced_w, wish_limit_w=wish_w))
        return tuple(ports)

    def _load_port(self, watch: DeviceWatch, wished: Wishes) -> LoadPort:
        drawn_w = max(watch.power_w, 0.0)
        rated_w = drawn_w if watch.rated_w is None else watch.rated_w
        rated_w = max(min(rated_w, self._settings.most_draw_w.get(watch.name, math.inf)), 0.0)
        reading, told_w = watch.reading, None if watch.commanded is None else watch.commanded.limit_w
        if not watch.usable:
            rated_w = rated_w if told_w is None else min(told_w, rated_w)
            draw_w = min(drawn_w, rated_w)
        elif reading is not None and reading.connected is False:
            draw_w = 0.0
        else:
            draw_w = min(max(watch.own_draw_w, drawn_w), max(rated_w, drawn_w))
        wish_w = wished.flexible_limit_w.get(watch.name)
        return LoadPort(rated_w=rated_w, draw_w=draw_w, sure_w=min(drawn_w, draw_w), wish_limit_w=wish_w)

    def _setpoints(
        self,
        decision: Decision,
        batteries: Sequence[DeviceWatch],
        pvs: Sequence[DeviceWatch],
        chargers: Sequence[DeviceWatch],
        loads: Sequence[DeviceWatch],
        strictest: LimitSet,
    ) -> list[Setpoint]:
        setpoints = [self._battery(w, power_w) for w, power_w in zip(batteries, decision.battery_w, strict=True)]
        for watch, limit_w in zip(pvs, decision.pv_limit_w, strict=True):
            if limit_w is None and not watch.usable and watch.commanded is not None:
                limit_w = watch.commanded.limit_w
            setpoints.append(self._pv(watch, limit_w, strictest))
        setpoints += [self._draw(w, limit_w, strictest) for w, limit_w in zip(chargers, decision.charger_limit_w, strict=True)]
        setpoints += [self._draw(w, limit_w, strictest) for w, limit_w in zip(loads, decision.load_limit_w, strict=True)]
        return setpoints

    def _safe(self, watch: DeviceWatch, strictest: LimitSet) -> Setpoint:
        if watch.kind is DeviceKind.BATTERY:
            return self._battery(watch, 0.0)
        if watch.kind is DeviceKind.PV:
            return self._pv(watch, self._pv_share_w(watch, strictest), strictest)
        share_w = self._draw_share_w(watch, strictest)
        return self._draw(watch, share_w, strictest)

    def _battery(self, watch: DeviceWatch, power_w: float) -> Setpoint:
        return Setpoint(
            name=watch.name,
            kind=DeviceKind.BATTERY,
            power_w=power_w,
            revert_power_w=0.0,
            revert_after_s=self._settings.revert_after_s,
        )

    def _pv(self, watch: DeviceWatch, limit_w: float | None, strictest: LimitSet) -> Setpoint:
        revert_w = self._pv_share_w(watch, strictest)
        return Setpoint(
            name=watch.name,
            kind=DeviceKind.PV,
            limit_w=limit_w,
            revert_limit_w=revert_w,
            revert_after_s=None if revert_w is None else self._settings.revert_after_s,
        )

    def _draw(self, watch: DeviceWatch, limit_w: float | None, strictest: LimitSet) -> Setpoint:
        revert_w = self._draw_share_w(watch, strictest)
        return Setpoint(
            name=watch.name,
            kind=watch.kind,
            limit_w=limit_w,
            revert_limit_w=revert_w,
            revert_after_s=None if revert_w is None else self._settings.revert_after_s,
        )

    def _pv_share_w(self, watch: DeviceWatch, strictest: LimitSet) -> float | None:
        """This system's part of the strictest export and generation limit, so that all of them keep it without the edge."""
        most_w = min(_value(strictest.export), _value(strictest.generation))
        if most_w == math.inf:
            return None
        if any(w.rated_w is None for w in self._pvs):
            return most_w / len(self._pvs)
        total_w = sum(w.rated_w for w in self._pvs if w.rated_w is not None)
        rated_w = watch.rated_w
        if rated_w is None or total_w <= 0.0 or most_w >= total_w:
            return None
        return most_w * rated_w / total_w

    def _draw_share_w(self, watch: DeviceWatch, strictest: LimitSet) -> float | None:
        """This load's part of what may be drawn when the edge is gone; without an import or load limit nothing is held back."""
        most_w = min(_value(strictest.import_), _value(strictest.load))
        if most_w == math.inf:
            return None
        return min(self._settings.unattended_load_w, most_w) / (len(self._chargers) + len(self._loads))


def _value(limit: Limit | None) -> float:
    return math.inf if limit is None else limit.limit_w
