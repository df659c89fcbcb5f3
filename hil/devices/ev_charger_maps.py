"""The register maps of two EV chargers, written from what their vendors publish.

KEBA KeContact P30: "Modbus TCP Programmers Guide" V1.02 and later. Every index is a value of its own: a read that crosses from one to
the next is refused. Readable values are 32 bit; writes go to single 16 bit registers. Currents are in mA, power in mW, energy in 0.1 Wh
(as the devices have it; the guide says Wh). The failsafe takes over `1602` seconds after the last request.

Alfen Eve: "Implementation of Modbus Slave TCP/IP for Alfen NG9xx platform" 2.3 (2020), socket registers. 32 and 64 bit floats; the
maximum current written to 1210 holds for a validity that the installer has set, then the socket falls back to its safe current (1212),
and so it does after a restart. Phases that a socket does not have read as not a number.
"""

import math
from collections.abc import Mapping

from hil.devices.ev_charger import EvCharger
from hil.devices.registers import ILLEGAL_VALUE, ModbusRefusal, RegisterMap
from hil.devices.vendor import Numbers, VendorPoint, vendor_segments

SMALLEST_MA = 6000
LARGEST_MA = 63000


class KebaP30(EvCharger):
    """KEBA KeContact P30, c-series with standard meter."""

    @property
    def map_name(self) -> str:
        """KEBA's."""
        return "KEBA KeContact P30"

    def _build_registers(self) -> RegisterMap:
        return RegisterMap(vendor_segments(KEBA_POINTS, self._values, self._take, whole_points=True))

    def _values(self) -> Mapping[str, float]:
        rated_digit = {13.0: 1, 16.0: 2, 20.0: 3, 32.0: 4}.get(self.max_a, 4) - 1
        values: dict[str, float] = {
            "charging_state": self._charging_state(),
            "cable_state": 7 if self.plugged else 1,
            "error_code": 0,
            "serial": 10_000_000,
            "product": 300_000 + rated_digit * 1000 + 100,
            "firmware": 0x030A1000,
            "power_w": self.power_w,
            "energy_wh": self.energy_in_wh,
            "power_factor_percent": 100.0 if self.charging else 0.0,
            "largest_current_a": self.offered_a,
            "supported_current_a": self.max_a,
            "rfid": 0,
            "session_wh": self.session_wh,
            "phase_source": 0,
            "phase_state": self.phases // 3,
            "failsafe_a": self.failsafe_a,
            "failsafe_s": self.watchdog_s,
            "set_current_a": self.limit_a,
            "set_energy_wh": 0.0,
            "unlock": 0,
            "enable": int(self.enabled),
            "set_failsafe_a": self.failsafe_a,
            "set_failsafe_s": self.watchdog_s,
            "save_failsafe": 0,
        }
        for index in range(3):
            live = index < self.phases
            values[f"current_l{index + 1}_a"] = self.current_a if live else 0.0
            values[f"voltage_l{index + 1}_v"] = self.voltage_v[index] if live and self.charging else 0.0
        return values

    def _charging_state(self) -> int:
        if not self.enabled or (self.in_failsafe and self.offered_a == 0.0):
            return 5 if self.plugged else 1
        if not self.plugged:
            return 1
        return 3 if self.charging else 2

    def _take(self, written: Numbers) -> None:
        for name, value in written.items():
            if name in ("set_current_a", "set_failsafe_a"):
                _check_current(value, zero=name == "set_failsafe_a")
            elif name == "set_failsafe_s":
                if value != 0 and not 10 <= value <= 600:
                    raise ModbusRefusal(ILLEGAL_VALUE)
            elif name in ("enable", "save_failsafe", "unlock") and value not in (0, 1):
                raise ModbusRefusal(ILLEGAL_VALUE)
        if "set_current_a" in written:
            self.command_a(written["set_current_a"])
        if "enable" in written:
            self.enabled = written["enable"] == 1
        self.failsafe_a = written.get("set_failsafe_a", self.failsafe_a)
        self.watchdog_s = written.get("set_failsafe_s", self.watchdog_s)
        if written.get("save_failsafe") == 1:
            self.initial_watchdog = (self.watchdog_s, self.failsafe_a)
        self.count_writes("keba", tuple(written))


class AlfenNg9xx(EvCharger):
    """Alfen Eve, one socket; the station's own registers (unit 200) are not served."""

    command_only_watchdog = True
    starts_in_failsafe = True
    default_watchdog_s = 60.0

    @property
    def map_name(self) -> str:
        """Alfen's."""
        return "Alfen Eve NG9xx"

    def _build_registers(self) -> RegisterMap:
        return RegisterMap(vendor_segments(ALFEN_POINTS, self._values, self._take))

    def _values(self) -> Mapping[str, float | str]:
        current_a, power_w, voltages = self.current_a, self.power_w, self.voltage_v
        total_v = sum(voltages)
        values: dict[str, float | str] = {
            "meter_state": 3,
            "meter_age_ms": 0,
            "meter_type": 0,
            "current_n": 0.0 if self.phases == 3 else current_a,
            "current_sum": current_a * self.phases,
            "power_factor_sum": 1.0 if self.charging else 0.0,
            "frequency": self.frequency_hz,
            "power_sum": power_w,
            "apparent_sum": power_w,
            "reactive_sum": 0.0,
            "energy_sum": self.energy_in_wh,
            "consumed_sum": 0.0,
            "availability": int(self.online),
            "mode3": self.mode3,
            "applied_a": self.offered_a,
            "valid_s": self.validity_left_s,
            "set_current_a": self.limit_a,
            "safe_a": self.failsafe_a,
            "accounted_for": int(not self.in_failsafe),
            "phases": self.phases,
        }
        for index in range(3):
            phase = f"l{index + 1}"
            live = index < self.phases
            share = voltages[index] / total_v if live and total_v > 0.0 else 0.0
            values[f"voltage_{phase}"] = voltages[index] if live else math.nan
            values[f"voltage_{phase}_next"] = voltages[index] * math.sqrt(3.0) if self.phases == 3 else math.nan
            values[f"current_{phase}"] = current_a if live else 0.0
            values[f"power_factor_{phase}"] = 1.0 if live and self.charging else 0.0
            values[f"power_{phase}"] = values[f"apparent_{phase}"] = power_w * share
            values[f"reactive_{phase}"] = 0.0
            values[f"energy_{phase}"] = self.energy_in_wh / self.phases if live else 0.0
            values[f"consumed_{phase}"] = 0.0
        return values

    def _take(self, written: Numbers) -> None:
        if written.get("phases", self.phases) != self.phases:
            raise ModbusRefusal(ILLEGAL_VALUE)
        if "set_current_a" in written:
            current_a = written["set_current_a"]
            if not 0.0 <= current_a <= LARGEST_MA / 1000.0:
                raise ModbusRefusal(ILLEGAL_VALUE)
            self.command_a(current_a)
        self.count_writes("alfen", tuple(written))


EV_CHARGERS: dict[str, type[EvCharger]] = {"keba-p30": KebaP30, "alfen-ng9xx": AlfenNg9xx}


def _check_current(current_a: float, *, zero: bool) -> None:
    if current_a == 0.0 and zero:
        return
    if not SMALLEST_MA <= round(current_a * 1000.0) <= LARGEST_MA:
        raise ModbusRefusal(ILLEGAL_VALUE)


def _readable(address: int, name: str, factor: float = 1.0) -> VendorPoint:
    return VendorPoint(address=address, name=name, type="uint32", factor=factor)


def _command(address: int, name: str, factor: float = 1.0) -> VendorPoint:
    return VendorPoint(address=address, name=name, type="uint16", factor=factor, writable=True)


KEBA_POINTS = (
    _readable(1000, "charging_state"),
    _readable(1004, "cable_state"),
    _readable(1006, "error_code"),
    _readable(1008, "current_l1_a", 1000.0),
    _readable(1010, "current_l2_a", 1000.0),
    _readable(1012, "current_l3_a", 1000.0),
    _readable(1014, "serial"),
    _readable(1016, "product"),
    _readable(1018, "firmware"),
    _readable(1020, "power_w", 1000.0),
    _readable(1036, "energy_wh", 10.0),
    _readable(1040, "voltage_l1_v"),
    _readable(1042, "voltage_l2_v"),
    _readable(1044, "voltage_l3_v"),
    _readable(1046, "power_factor_percent", 10.0),
    _readable(1100, "largest_current_a", 1000.0),
    _readable(1110, "supported_current_a", 1000.0),
    _readable(1500, "rfid"),
    _readable(1502, "session_wh", 10.0),
    _readable(1550, "phase_source"),
    _readable(1552, "phase_state"),
    _readable(1600, "failsafe_a", 1000.0),
    _readable(1602, "failsafe_s"),
    _command(5004, "set_current_a", 1000.0),
    _command(5010, "set_energy_wh", 0.1),
    _command(5012, "unlock"),
    _command(5014, "enable"),
    _command(5016, "set_failsafe_a", 1000.0),
    _command(5018, "set_failsafe_s"),
    _command(5020, "save_failsafe"),
)


def _alfen_points() -> tuple[VendorPoint, ...]:
    """Tables 3.4 and 3.4.1: measurements of the socket from 300 on, status and maximum current from 1200 on."""
    points = [
        VendorPoint(address=300, name="meter_state", type="uint16"),
        VendorPoint(address=301, name="meter_age_ms", type="uint64"),
        VendorPoint(address=305, name="meter_type", type="uint16"),
    ]
    floats = ["voltage_l1", "voltage_l2", "voltage_l3", "voltage_l1_next", "voltage_l2_next", "voltage_l3_next", "current_n"]
    for quantity in ("current", "power_factor"):
        floats += [f"{quantity}_{place}" for place in ("l1", "l2", "l3", "sum")]
    floats.append("frequency")
    for quantity in ("power", "apparent", "reactive"):
        floats += [f"{quantity}_{place}" for place in ("l1", "l2", "l3", "sum")]
    for index, name in enumerate(floats):
        points.append(VendorPoint(address=306 + 2 * index, name=name, type="float32"))
    energies = [f"{quantity}_{place}" for quantity in ("energy", "consumed") for place in ("l1", "l2", "l3", "sum")]
    for index, name in enumerate(energies):
        points.append(VendorPoint(address=362 + 4 * index, name=name, type="float64"))
    return (
        *points,
        VendorPoint(address=1200, name="availability", type="uint16"),
        VendorPoint(address=1201, name="mode3", type="string", registers=5),
        VendorPoint(address=1206, name="applied_a", type="float32"),
        VendorPoint(address=1208, name="valid_s", type="uint32"),
        VendorPoint(address=1210, name="set_current_a", type="float32", writable=True),
        VendorPoint(address=1212, name="safe_a", type="float32"),
        VendorPoint(address=1214, name="accounted_for", type="uint16"),
        VendorPoint(address=1215, name="phases", type="uint16", writable=True),
    )


ALFEN_POINTS = _alfen_points()
