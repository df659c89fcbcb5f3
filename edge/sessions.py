"""What a vehicle still needs, told from outside: chargers do not know the state of charge. Pure."""

from __future__ import annotations

from edge.config import VehicleConfig
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
        allowed_w = 0.0 if watch.commanded is None or watch.commanded.limit_w is None else watch.commanded.limit_w
        if allowed_w < max(self.vehicle.min_w, IDLE_W) or reading.power_w > IDLE_W:
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
