"""What one edge tells others: means of what it measured, its state, its plan. Pure: it counts and builds, the agent sends.

A part that was not measured in an interval is null, never zero; a part is the sum over its devices, and one silent device makes the
sum unknown for that cycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from edge.limits import NO_LIMITS, LimitSet
from edge.values import DeviceKind, Reading
from protocols.messages import SafetyState, Telemetry

TOLERANCE_W = 100.0
"""CSIP-AUS client test procedures, section 2.3.1: the lower of 4 % of rating and 100 W."""

TOLERANCE_FRAC = 0.04


class TelemetryMeans:
    """Collects the cycles of one telemetry interval. `rating_w` is that of the connection point."""

    def __init__(self, kinds: Sequence[DeviceKind], rating_w: float) -> None:
        self._wanted = {kind: sum(k is kind for k in kinds) for kind in set(kinds)}
        self._tolerance_w = tolerance_w(rating_w)
        self._start_s = math.nan
        self._last_s = math.nan
        self._last_limits = NO_LIMITS
        self._sums = dict.fromkeys(self._wanted, 0.0)
        self._counts = dict.fromkeys(self._wanted, 0)
        self._load_sum_w = 0.0
        self._load_count = 0
        self._soc_frac: float | None = None
        self._meter: Reading | None = None
        self._exceeded_s = 0.0

    def add(self, now_s: float, readings: Iterable[Reading], limits: LimitSet) -> None:
        """Count one cycle."""
        if math.isnan(self._start_s):
            self._start_s = now_s
        power_w = dict.fromkeys(self._wanted, 0.0)
        seen = dict.fromkeys(self._wanted, 0)
        soc_wh = capacity_wh = 0.0
        for reading in readings:
            kind = reading.kind
            power_w[kind] += reading.power_w
            seen[kind] += 1
            if kind is DeviceKind.METER:
                self._meter = reading
            elif kind is DeviceKind.BATTERY and reading.soc_frac is not None:
                weight_wh = 1.0 if reading.capacity_wh is None else reading.capacity_wh
                soc_wh += reading.soc_frac * weight_wh
                capacity_wh += weight_wh
        if capacity_wh > 0.0:
            self._soc_frac = min(max(soc_wh / capacity_wh, 0.0), 1.0)
        complete = True
        for kind, count in self._wanted.items():
            if seen[kind] == count:
                self._sums[kind] += power_w[kind]
                self._counts[kind] += 1
            elif kind is not DeviceKind.LOAD:
                complete = False
        if complete:
            self._load_sum_w += _load_w(power_w)
            self._load_count += 1
        if seen.get(DeviceKind.METER, 0) > 0:
            self._count_exceeded(now_s, power_w[DeviceKind.METER])
        self._last_s, self._last_limits = now_s, limits

    def due(self, now_s: float, period_s: float) -> bool:
        """Whether the interval is full. The first one ends at a multiple of the period, so all houses report alike."""
        return not math.isnan(self._start_s) and now_s >= math.floor(self._start_s / period_s) * period_s + period_s

    def take(
        self, now_s: float, *, sender: str, sequence: int, limits: LimitSet, state: SafetyState
    ) -> Telemetry:
        """The message of the interval that ends now, and a fresh start."""
        meter = self._meter
        start_s = now_s if math.isnan(self._start_s) else self._start_s
        message = Telemetry(
            sender=sender,
            time_s=now_s,
            sequence=sequence,
            start_s=start_s,
            duration_s=now_s - start_s,
            net_import_w=self._mean_w(DeviceKind.METER),
            load_w=None if self._load_count == 0 else _rounded(self._load_sum_w / self._load_count),
            pv_w=self._mean_w(DeviceKind.PV),
            battery_w=self._mean_w(DeviceKind.BATTERY),
            ev_w=self._mean_w(DeviceKind.EV_CHARGER),
            soc_frac=None if self._soc_frac is None else round(self._soc_frac, 4),
            voltage_v=() if meter is None or meter.voltage_v is None else tuple(meter.voltage_v[:3]),
            energy_import_wh=None if meter is None else meter.energy_import_wh,
            energy_export_wh=None if meter is None else meter.energy_export_wh,
            import_limit_w=None if limits.import_ is None else limits.import_.limit_w,
            export_limit_w=None if limits.export is None else limits.export.limit_w,
            exceeded_s=self._exceeded_s,
            state=state,
        )
        self._clear(now_s)
        return message

    def _mean_w(self, kind: DeviceKind) -> float | None:
        count = self._counts.get(kind, 0)
        return None if count == 0 else _rounded(self._sums[kind] / count)

    def _count_exceeded(self, now_s: float, net_import_w: float) -> None:
        """What is measured now was done under the limits of the cycle before: one that begins now was not broken yet."""
        limits = self._last_limits
        too_high = limits.import_ is not None and net_import_w > limits.import_.limit_w + self._tolerance_w
        too_low = limits.export is not None and -net_import_w > limits.export.limit_w + self._tolerance_w
        if (too_high or too_low) and not math.isnan(self._last_s):
            self._exceeded_s += max(now_s - self._last_s, 0.0)

    def _clear(self, now_s: float) -> None:
        self._start_s = now_s
        for kind in self._wanted:
            self._sums[kind] = 0.0
            self._counts[kind] = 0
        self._load_sum_w = 0.0
        self._load_count = 0
        self._soc_frac = None
        self._meter = None
        self._exceeded_s = 0.0


def tolerance_w(rating_w: float) -> float:
    """By how much a connection point of this rating may be outside its limits without exceeding them."""
    return min(TOLERANCE_W, TOLERANCE_FRAC * rating_w)


def _load_w(power_w: dict[DeviceKind, float]) -> float:
    """Everything that is neither PV, battery nor vehicle; flexible loads are part of it."""
    return (
        power_w.get(DeviceKind.METER, 0.0)
        - power_w.get(DeviceKind.PV, 0.0)
        - power_w.get(DeviceKind.BATTERY, 0.0)
        - power_w.get(DeviceKind.EV_CHARGER, 0.0)
    )


def _rounded(power_w: float) -> float:
    return round(power_w, 1)
