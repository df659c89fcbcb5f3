"""What a vehicle or a shiftable load still needs, told from outside: neither knows it by itself. Pure."""

from __future__ import annotations

import datetime as dt
import math

import msgspec

from edge.config import ApplianceConfig, VehicleConfig
from edge.tariff import next_local_time_s
from edge.values import Reading
from edge.watch import DeviceWatch

IDLE_W = 100.0
FULL_AFTER_S = 120.0
UNFINISHED_FRAC = 0.1


class Session:
    """One vehicle's stay at its charger: what it got, and whether it still takes something when it may."""

    def __init__(self, vehicle: VehicleConfig) -> None:
        self.vehicle = vehicle
        self._connected = False
        self._got_wh = 0.0
        self._last_s: float | None = None
        self._idle_since_s: float | None = None

    def observe(self, now_s: float, reading: Reading, watch: DeviceWatch) -> None:
        connected = reading.connected is not False
        if connected and not self._connected:
            self._got_wh = 0.0
            self._idle_since_s = None
        elif connected and self._last_s is not None:
            self._got_wh += reading.power_w * (now_s - self._last_s) / 3600.0 * self.vehicle.charge_efficiency_frac
        self._connected = connected
        self._last_s = now_s
        if not _declines(reading, watch, self.vehicle.min_w):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s

    def need(self) -> tuple[VehicleConfig, bool, float]:
        """(vehicle, connected, energy it still needs [Wh]); a vehicle that still draws is never taken to be finished."""
        if not self._connected:
            return self.vehicle, False, 0.0
        full = self._idle_since_s is not None and self._last_s is not None and self._last_s - self._idle_since_s >= FULL_AFTER_S
        least_wh = 0.0 if full else UNFINISHED_FRAC * self.vehicle.session_wh
        remaining_wh = 0.0 if full else max(self.vehicle.session_wh - self._got_wh, least_wh)
        return self.vehicle, True, min(remaining_wh, self.vehicle.session_wh)


class ApplianceNeed(msgspec.Struct, frozen=True, kw_only=True):
    """What a shiftable load needs in the window that is open, or else in the next one."""

    appliance: ApplianceConfig
    remaining_wh: float
    earliest_s: float
    deadline_s: float


class ApplianceWindow:
    """The daily window of one shiftable load: what it got, and whether it still takes something when it may."""

    def __init__(self, appliance: ApplianceConfig, zone: dt.tzinfo) -> None:
        self.appliance = appliance
        self._zone = zone
        self._length_s = ((appliance.until_h - appliance.from_h) % 24.0 if appliance.until_h != appliance.from_h else 24.0) * 3600.0
        self._end_s = -math.inf
        self._got_wh = 0.0
        self._last_s: float | None = None
        self._idle_since_s: float | None = None
        self._full = False

    def observe(self, now_s: float, reading: Reading, watch: DeviceWatch) -> None:
        self._turn(now_s)
        last_s, self._last_s = self._last_s, now_s
        if now_s < self._end_s - self._length_s:
            return
        if last_s is not None:
            self._got_wh += max(reading.power_w, 0.0) * (now_s - last_s) / 3600.0
        if not _declines(reading, watch, self.appliance.min_w):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        elif now_s - self._idle_since_s >= FULL_AFTER_S and self._got_wh > 0.0:
            self._full = True

    def need(self, now_s: float) -> ApplianceNeed:
        """A load that took something and then nothing more although it might is done until its next window."""
        self._turn(now_s)
        remaining_wh = 0.0 if self._full else max(self.appliance.energy_wh - self._got_wh, 0.0)
        return ApplianceNeed(
            appliance=self.appliance,
            remaining_wh=remaining_wh,
            earliest_s=self._end_s - self._length_s,
            deadline_s=self._end_s,
        )

    def _turn(self, now_s: float) -> None:
        """Open the next window when the last one is over."""
        if now_s < self._end_s:
            return
        self._end_s = next_local_time_s(now_s, self.appliance.until_h, self._zone)
        self._got_wh = 0.0
        self._last_s = self._idle_since_s = None
        self._full = False


def _declines(reading: Reading, watch: DeviceWatch, min_w: float) -> bool:
    """Whether it draws nothing although its limit lets it."""
    allowed_w = 0.0 if watch.commanded is None or watch.commanded.limit_w is None else watch.commanded.limit_w
    return allowed_w >= max(min_w, IDLE_W) and reading.power_w <= IDLE_W
