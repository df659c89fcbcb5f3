"""A simulated controllable load: circuits or a heating element that draw what they want, up to a limit.

It is the bench's own device, described to the edge by the profiles `hil/profiles/bench-*.toml`: registers 0-7 are measurements, 8 the
limit, 10 the limit to which it falls back, 12 the seconds without a write after which it does. The profile of the heating element uses
the fall-back; that of the circuits, which are many and small, does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.quirks import Quirks
from hil.devices.registers import ILLEGAL_VALUE, ModbusRefusal, RegisterMap
from hil.devices.vendor import VendorPoint, vendor_segments

PROFILES = Path(__file__).parent / "profiles"
CIRCUITS_PROFILE, HEATER_PROFILE = PROFILES / "bench-circuits.toml", PROFILES / "bench-heater.toml"

POINTS = (
    VendorPoint(address=0, name="power_w", type="float32", missing=float("nan")),
    VendorPoint(address=2, name="limit_in_force_w", type="float32", missing=float("nan")),
    VendorPoint(address=4, name="rated_w", type="float32"),
    VendorPoint(address=6, name="energy_wh", type="uint32", missing=0xFFFFFFFF),
    VendorPoint(address=8, name="limit_w", type="float32", writable=True),
    VendorPoint(address=10, name="fallback_w", type="float32", writable=True),
    VendorPoint(address=12, name="timeout_s", type="uint16", writable=True),
)


class FlexibleLoad(SimulatedDevice):
    """See the module; follows its limit at once, as a contactor or a phase-angle controller does, and like them passes nothing while it
    has no power of its own. What it comes back with after a restart is unlimited."""

    kind = "load"

    def __init__(self, name: str, *, rated_w: float, unit: int = 1, phases: int = 1, quirks: Quirks | None = None) -> None:
        self.rated_w = rated_w
        self.demand_w = 0.0
        self.forget_setpoints()
        super().__init__(name, unit=unit, phases=phases, quirks=quirks)

    @property
    def limit_in_force_w(self) -> float:
        """The limit that holds now: as written, or after a silence the one to fall back to."""
        silent = self.timeout_s > 0.0 and self.now_s - self._written_s >= self.timeout_s
        return min(self.limit_w, self.fallback_w) if silent else self.limit_w

    def forget_setpoints(self) -> None:
        """Unlimited and without a timer."""
        self.limit_w = self.rated_w
        self.fallback_w = self.rated_w
        self.timeout_s = 0.0
        self._written_s = 0.0

    def foreign_setpoint(self, share: float) -> None:
        """Somebody else sets the limit."""
        self.limit_w = min(max(share, 0.0), 1.0) * self.rated_w
        self._written_s = self.now_s

    def _build_registers(self) -> RegisterMap:
        return RegisterMap(vendor_segments(POINTS, self._values, self._take))

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        del end_s, dt_s
        self.demand_w = inputs.demand_w
        self.power_w = min(inputs.demand_w, self.limit_in_force_w) if self.online else 0.0

    def _values(self) -> Mapping[str, float]:
        return {
            "power_w": self.rounded_w(self.power_w),
            "limit_in_force_w": self.limit_in_force_w,
            "rated_w": self.rated_w,
            "energy_wh": self.energy_in_wh,
            "limit_w": self.limit_w,
            "fallback_w": self.fallback_w,
            "timeout_s": self.timeout_s,
        }

    def _take(self, written: Mapping[str, float]) -> None:
        for name in ("limit_w", "fallback_w"):
            value = written.get(name)
            if value is not None and not 0.0 <= value <= 1e6:
                raise ModbusRefusal(ILLEGAL_VALUE)
        self.limit_w = min(written.get("limit_w", self.limit_w), self.rated_w)
        self.fallback_w = min(written.get("fallback_w", self.fallback_w), self.rated_w)
        self.timeout_s = written.get("timeout_s", self.timeout_s)
        self._written_s = self.now_s
        self.count_writes("load", tuple(written))
