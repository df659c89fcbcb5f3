"""What all simulated devices share: time, faults, and the answer to a Modbus request.

A device is moved by `advance` (the plant's clock) and asked through `answer` (a Modbus request as it travels, without addressing) or
through `read_registers` and `write_registers` (the same without the protocol). The two never meet in time: a request sees the state
at the end of the last step. Power is positive into the device.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from hil.devices.faults import Fault, FaultKind, FaultPlan, FaultState
from hil.devices.quirks import Quirks
from hil.devices.registers import (
    DEVICE_BUSY,
    GATEWAY_NO_RESPONSE,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    ModbusRefusal,
    RegisterMap,
)
from hil.errors import HilError

MOST_REGISTERS_READ = 125
MOST_REGISTERS_WRITTEN = 123

_ADDRESS_COUNT = struct.Struct(">HH")


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the world does to a device during one step; each kind of device reads only what concerns it.

    voltage_v: phase to neutral, one value per phase of the device. available_w: what the sun offers (>= 0). phase_power_w: power
    through the meter, positive into the house. net_import_w: what a battery that runs by itself sees at the connection point.
    plugged and requested_wh: the vehicle at the charger and the energy it still wants when it arrives. demand_w: what a load wants.
    """

    voltage_v: tuple[float, ...] = (230.0,)
    frequency_hz: float = 50.0
    available_w: float = 0.0
    phase_power_w: tuple[float, ...] = (0.0,)
    net_import_w: float = 0.0
    plugged: bool = False
    requested_wh: float = 0.0
    demand_w: float = 0.0


class NoAnswer(HilError):
    """The device does not answer this request; `closes` when it drops the connection as well."""

    def __init__(self, *, closes: bool) -> None:
        super().__init__("the simulated device does not answer")
        self.closes = closes


class SimulatedDevice(ABC):
    """One device behind one unit identifier.

    power_w and reactive_var are those at the end of the last step, positive into the device. `energy_in_wh` and `energy_out_wh`
    count that power over the step (the same rule in every device, so the counters of a house add up to those of its meter); they
    start at 1 because SunSpec reads an accumulator of 0 as "not accumulated". `online` is false while the device reboots, `obeys` is
    false while it takes commands without following them.
    """

    kind: str

    def __init__(self, name: str, *, unit: int = 1, phases: int = 1, quirks: Quirks | None = None) -> None:
        self.name = name
        self.unit = unit
        self.phases = phases
        self.quirks = Quirks() if quirks is None else quirks
        self.now_s = 0.0
        self.power_w = 0.0
        self.reactive_var = 0.0
        self.voltage_v: tuple[float, ...] = (230.0,) * phases
        self.frequency_hz = 50.0
        self.energy_in_wh = 1.0
        self.energy_out_wh = 1.0
        self.online = True
        self.obeys = True
        self.write_counts: dict[str, int] = {}
        self.flash_writes = 0
        self._fault_state = FaultState(FaultPlan())
        self._last_request_s = 0.0
        self._last_refresh_s = float("-inf")
        self.registers = self._build_registers()
        self.input_registers = self._build_input_registers()

    @property
    def model_ids(self) -> tuple[int, ...]:
        """The SunSpec models in the order of the map; empty for a device with a register map of its own."""
        return ()

    @property
    def map_name(self) -> str:
        """What kind of register map this is."""
        return "SunSpec"

    def apply_faults(self, plan: FaultPlan) -> None:
        """Take a plan of faults; it replaces the one before."""
        for fault in self._fault_state.active:
            self._end_fault(fault)
        self._fault_state = FaultState(plan)
        self._follow_faults(self.now_s)

    def advance(self, now_s: float, dt_s: float, inputs: Inputs) -> None:
        """Live through [now_s, now_s + dt_s) under the given inputs."""
        end_s = now_s + dt_s
        self.now_s = end_s
        state = self._fault_state
        if end_s >= state.next_change_s:
            self._follow_faults(end_s)
        if state.active:
            self._periodic_faults(end_s)
        if len(inputs.voltage_v) != self.phases:
            raise HilError(f"{self.name}: expected {self.phases} phase voltages, got {len(inputs.voltage_v)}")
        self.voltage_v = inputs.voltage_v
        self.frequency_hz = inputs.frequency_hz
        self._step(end_s, dt_s, inputs)
        energy_wh = self.power_w * dt_s / 3600.0
        if energy_wh > 0.0:
            self.energy_in_wh += energy_wh
        else:
            self.energy_out_wh -= energy_wh
        refresh_s = self.quirks.refresh_s
        if refresh_s <= 0.0 or end_s - self._last_refresh_s >= refresh_s:
            self._last_refresh_s = end_s
            self._values_changed()

    def read_registers(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Holding registers as numbers; raises ModbusRefusal or NoAnswer, as the device would."""
        self._check_unit(unit)
        return struct.unpack(f">{count}H", self._read(self.registers, address, count))

    def read_input_registers(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Input registers as numbers; raises ModbusRefusal or NoAnswer, as the device would."""
        self._check_unit(unit)
        return struct.unpack(f">{count}H", self._read(self.input_registers, address, count))

    def write_registers(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write registers; raises ModbusRefusal or NoAnswer, as the device would."""
        self._check_unit(unit)
        self._write(address, struct.pack(f">{len(values)}H", *values))

    def answer(self, pdu: bytes) -> bytes:
        """Function code and data of the response to a request (Modbus Application Protocol V1.1b3); raises NoAnswer.

        Function 3 reads holding and 4 input registers (the same ones unless the device keeps them apart), 6 and 16 write holding
        registers; everything else is refused with exception 1.
        """
        function = pdu[0]
        try:
            if function in (3, 4):
                if len(pdu) != 5:
                    raise ModbusRefusal(ILLEGAL_VALUE)
                address, count = _ADDRESS_COUNT.unpack_from(pdu, 1)
                data = self._read(self.registers if function == 3 else self.input_registers, address, count)
                return bytes((function, 2 * count)) + data
            if function == 16:
                address, count = self._written_range(pdu)
                self._write(address, pdu[6:])
                return pdu[:5]
            if function == 6:
                if len(pdu) != 5:
                    raise ModbusRefusal(ILLEGAL_VALUE)
                self._write(_ADDRESS_COUNT.unpack_from(pdu, 1)[0], pdu[3:])
                return pdu
            raise ModbusRefusal(ILLEGAL_FUNCTION)
        except ModbusRefusal as refusal:
            return bytes((function | 0x80, refusal.exception_code))

    def frame_faults(self) -> list[Fault]:
        """The faults that befall the answer to this request on its way."""
        state = self._fault_state
        if not state.active:
            return []
        return [fault for fault in state.active if fault.kind.of_frames and state.strikes(fault)]

    def random_bytes(self, count: int) -> bytes:
        """Garbage, drawn from the seed of the fault plan."""
        return self._fault_state.rng.randbytes(count)

    @property
    def answer_delay_s(self) -> float:
        """How long this device takes to answer now."""
        delay_s = self.quirks.response_delay_s
        for fault in self._fault_state.active:
            if fault.kind is FaultKind.SLOW and self._fault_state.strikes(fault):
                delay_s += fault.value
        return delay_s

    @abstractmethod
    def _build_registers(self) -> RegisterMap:
        """The register map, called once at the end of the construction of this base."""

    def _build_input_registers(self) -> RegisterMap:
        return self.registers

    def _values_changed(self) -> None:
        self.registers.revision += 1
        if self.input_registers is not self.registers:
            self.input_registers.revision += 1

    def _maps(self) -> tuple[RegisterMap, ...]:
        return (self.registers,) if self.input_registers is self.registers else (self.registers, self.input_registers)

    @abstractmethod
    def _step(self, end_s: float, dt_s: float, inputs: Inputs) -> None:
        """The physics of one step; sets power_w."""

    @abstractmethod
    def forget_setpoints(self) -> None:
        """What remains of the commands after a loss of power or a fall-back: nothing, the device is on its own."""

    @abstractmethod
    def foreign_setpoint(self, share: float) -> None:
        """Somebody else commands the device to the share `share` of its rating."""

    def heard(self) -> None:
        """A request has arrived; devices with a communication watchdog note the time."""
        self._last_request_s = self.now_s

    def count_writes(self, prefix: str, names: Sequence[str]) -> None:
        """Count the writes to points, and those that wear the flash memory."""
        for name in names:
            point = f"{prefix}.{name}"
            self.write_counts[point] = self.write_counts.get(point, 0) + 1
            if point in self.quirks.flash_points:
                self.flash_writes += 1

    def rounded_w(self, power_w: float) -> float:
        """A measured power as this device resolves it."""
        step_w = self.quirks.power_step_w
        return power_w if step_w <= 0.0 else round(power_w / step_w) * step_w

    def _check_unit(self, unit: int) -> None:
        if unit != self.unit:
            raise ModbusRefusal(GATEWAY_NO_RESPONSE)

    def _written_range(self, pdu: bytes) -> tuple[int, int]:
        if len(pdu) < 6:
            raise ModbusRefusal(ILLEGAL_VALUE)
        address, count = _ADDRESS_COUNT.unpack_from(pdu, 1)
        if not 1 <= count <= MOST_REGISTERS_WRITTEN or pdu[5] != 2 * count or len(pdu) != 6 + 2 * count:
            raise ModbusRefusal(ILLEGAL_VALUE)
        return address, count

    def _read(self, registers: RegisterMap, address: int, count: int) -> bytes:
        if not 1 <= count <= MOST_REGISTERS_READ:
            raise ModbusRefusal(ILLEGAL_VALUE)
        for fault in self._fault_state.active:
            if not fault.kind.of_frames and self._fault_state.strikes(fault):
                self._raise_fault(fault.kind)
                if fault.kind is FaultKind.BUSY_AS_ZERO:
                    return bytes(2 * count)
                if fault.kind is FaultKind.GARBAGE_REGISTERS:
                    return self.random_bytes(2 * count)
        self.heard()
        return registers.read(address, count)

    def _write(self, address: int, data: bytes) -> None:
        for fault in self._fault_state.active:
            if not fault.kind.of_frames and self._fault_state.strikes(fault):
                self._raise_fault(fault.kind)
                if fault.kind is FaultKind.BUSY_AS_ZERO:
                    return
        self.heard()
        self.registers.write(address, data)
        self._values_changed()

    def _raise_fault(self, kind: FaultKind) -> None:
        if kind is FaultKind.SILENT:
            raise NoAnswer(closes=False)
        if kind is FaultKind.REBOOT:
            raise NoAnswer(closes=True)
        if kind is FaultKind.BUSY:
            raise ModbusRefusal(DEVICE_BUSY)
        if kind is FaultKind.ILLEGAL_ADDRESS:
            raise ModbusRefusal(ILLEGAL_ADDRESS)

    def _follow_faults(self, now_s: float) -> None:
        begun, ended = self._fault_state.update(now_s)
        for fault in ended:
            self._end_fault(fault)
        for fault in begun:
            self._begin_fault(fault)

    def _begin_fault(self, fault: Fault) -> None:
        for registers in self._maps():
            if fault.kind is FaultKind.STUCK:
                registers.freeze()
            elif fault.kind is FaultKind.NOT_IMPLEMENTED:
                registers.blank = True
        if fault.kind is FaultKind.REBOOT:
            self.online = False
            if not self.quirks.remembers_setpoints:
                self.forget_setpoints()
        elif fault.kind is FaultKind.CONTROL_IGNORED:
            self.obeys = False
        self._values_changed()

    def _end_fault(self, fault: Fault) -> None:
        for registers in self._maps():
            if fault.kind is FaultKind.STUCK:
                registers.frozen = False
            elif fault.kind is FaultKind.NOT_IMPLEMENTED:
                registers.blank = False
        if fault.kind is FaultKind.REBOOT:
            self.online = True
        elif fault.kind is FaultKind.CONTROL_IGNORED:
            self.obeys = True
        self._values_changed()

    def _periodic_faults(self, now_s: float) -> None:
        for fault in self._fault_state.periodic_due(now_s):
            if fault.kind is FaultKind.SECOND_MASTER:
                self.foreign_setpoint(fault.value)
            else:
                self.forget_setpoints()
            self._values_changed()
