"""A simulated Eastron SDM630-Modbus V2: a three-phase meter with a register map of its own.

Source: Eastron, SDM630-Modbus V2 user manual, "Modbus protocol", sections 1.2.1 (input registers) and 1.3.1 (holding registers). Every
parameter is a 32 bit float in two input registers, high register first; one request may ask for 40 of them. Power is positive for
import; energy is in kWh.
"""

from collections.abc import Mapping

from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.quirks import Quirks
from hil.devices.registers import ILLEGAL_VALUE, ModbusRefusal, RegisterMap
from hil.devices.vendor import Numbers, VendorPoint, reserved, vendor_segments
from hil.errors import HilError

MOST_PARAMETERS = 40
THREE_PHASE_FOUR_WIRE = 3.0
SINGLE_PHASE = 1.0


class EastronSdm630(SimulatedDevice):
    """See the module; with one phase it is wired as 1p2w, and the other phases read zero."""

    kind = "meter"

    def __init__(self, name: str, *, unit: int = 1, phases: int = 3, quirks: Quirks | None = None) -> None:
        self.phase_power_w: tuple[float, ...] = (0.0,) * phases
        self._demand_period_min = 60.0
        super().__init__(name, unit=unit, phases=phases, quirks=quirks)

    @property
    def map_name(self) -> str:
        """Eastron's."""
        return "Eastron SDM630"

    def forget_setpoints(self) -> None:
        """A meter has none."""

    def foreign_setpoint(self, share: float) -> None:
        """A meter cannot be commanded."""

    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        if len(inputs.phase_power_w) != self.phases:
            raise HilError(f"{self.name}: expected {self.phases} phase powers, got {len(inputs.phase_power_w)}")
        self.phase_power_w = inputs.phase_power_w
        self.power_w = sum(inputs.phase_power_w)

    def _build_registers(self) -> RegisterMap:
        segments = vendor_segments(HOLDING_POINTS, self._settings, self._take, measures=False, whole_points=True)
        return RegisterMap(segments)

    def _build_input_registers(self) -> RegisterMap:
        return RegisterMap(vendor_segments(INPUT_POINTS, self._values, _refuse), most_registers=2 * MOST_PARAMETERS)

    def _settings(self) -> Mapping[str, float | str]:
        system = SINGLE_PHASE if self.phases == 1 else THREE_PHASE_FOUR_WIRE
        return {"demand_period_min": self._demand_period_min, "system_type": system, "node": float(self.unit)}

    def _take(self, written: Numbers) -> None:
        period_min = written.get("demand_period_min", self._demand_period_min)
        if period_min not in (0.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0):
            raise ModbusRefusal(ILLEGAL_VALUE)
        self._demand_period_min = period_min
        self.count_writes("eastron", tuple(written))

    def _values(self) -> Mapping[str, float | str]:
        sign = -1.0 if self.quirks.export_positive else 1.0
        powers = [sign * self.rounded_w(power_w) for power_w in self.phase_power_w]
        voltages = self.voltage_v
        currents = [abs(power) / volts if volts > 0.0 else 0.0 for power, volts in zip(powers, voltages, strict=True)]
        total_w = sum(powers)
        total_va = sum(abs(power) for power in powers)
        values: dict[str, float | str] = {
            "average_v": sum(voltages) / len(voltages),
            "average_a": sum(currents) / len(currents),
            "sum_a": sum(currents),
            "power": total_w,
            "apparent": total_va,
            "reactive": 0.0,
            "power_factor": 1.0 if total_va == 0.0 else total_w / total_va,
            "angle": 0.0,
            "frequency": self.frequency_hz,
            "imported_kwh": self.energy_in_wh / 1000.0,
            "exported_kwh": self.energy_out_wh / 1000.0,
            "total_kwh": (self.energy_in_wh + self.energy_out_wh) / 1000.0,
        }
        for index in range(3):
            live = index < self.phases
            phase = f"l{index + 1}"
            power_w = powers[index] if live else 0.0
            values[f"voltage_{phase}"] = voltages[index] if live else 0.0
            values[f"current_{phase}"] = currents[index] if live else 0.0
            values[f"power_{phase}"] = power_w
            values[f"apparent_{phase}"] = abs(power_w)
            values[f"reactive_{phase}"] = values[f"angle_{phase}"] = 0.0
            values[f"power_factor_{phase}"] = -1.0 if power_w < 0.0 else 1.0
        return values


def _refuse(written: Numbers) -> None:
    raise ModbusRefusal(ILLEGAL_VALUE)


def _input_points() -> tuple[VendorPoint, ...]:
    names = [
        f"{quantity}_{phase}"
        for quantity in ("voltage", "current", "power", "apparent", "reactive", "power_factor", "angle")
        for phase in ("l1", "l2", "l3")
    ]
    addresses = {name: 2 * index for index, name in enumerate(names)}
    addresses |= {"average_v": 42, "average_a": 46, "sum_a": 48, "power": 52, "apparent": 56, "reactive": 60}
    addresses |= {"power_factor": 62, "angle": 66, "frequency": 70, "imported_kwh": 72, "exported_kwh": 74, "total_kwh": 342}
    points = [VendorPoint(address=address, name=name, type="float32") for name, address in addresses.items()]
    return (*points, *(reserved(address, 2) for address in (44, 50, 54, 58, 64, 68)))


INPUT_POINTS = _input_points()

HOLDING_POINTS = (
    VendorPoint(address=2, name="demand_period_min", type="float32", writable=True),
    VendorPoint(address=10, name="system_type", type="float32"),
    VendorPoint(address=20, name="node", type="float32"),
)
