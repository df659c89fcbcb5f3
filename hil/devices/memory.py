"""Register access to simulated devices without sockets, for runs in virtual time.

`MemoryRegisterClient` has the face that the edge's drivers ask for (`edge.devices.transport.FieldbusClient`) and fails with the same
errors as the client over TCP, with the same retries and the same growing silence towards a unit that does not answer, but no request
ever waits: where TCP would wait for a timeout, the timeout is raised at once.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from edge.devices.transport import TransportOptions
from edge.errors import DeviceRefused, DeviceTimeout, DeviceUnreachable
from hil.devices.device import NoAnswer, SimulatedDevice
from hil.devices.faults import FaultKind
from hil.devices.registers import DEVICE_BUSY, GATEWAY_NO_RESPONSE, ModbusRefusal

LOST = frozenset(
    {
        FaultKind.DROP,
        FaultKind.TRUNCATE,
        FaultKind.GARBAGE_FRAME,
        FaultKind.WRONG_TRANSACTION,
        FaultKind.WRONG_UNIT,
        FaultKind.WRONG_LENGTH,
    }
)
"""Distortions that leave the client over TCP without a complete answer to its request, so that it times out."""

Answer = TypeVar("Answer")


class MemoryRegisterClient:
    """The devices behind one endpoint; `options` and `monotonic_s` are those that the client over TCP would be given.

    Without `monotonic_s` a silent unit is asked again at every request.
    """

    def __init__(
        self,
        devices: Sequence[SimulatedDevice],
        *,
        options: TransportOptions | None = None,
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        self._devices = {device.unit: device for device in devices}
        self._options = TransportOptions() if options is None else options
        self._monotonic_s = monotonic_s
        self._silent: dict[int, tuple[float, float]] = {}
        self.requests = 0

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Exactly `count` holding registers."""
        return self._transact(unit, address, lambda device: device.read_registers(unit, address, count))

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Exactly `count` input registers."""
        return self._transact(unit, address, lambda device: device.read_input_registers(unit, address, count))

    async def write_holding(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write consecutive registers."""
        self._transact(unit, address, lambda device: device.write_registers(unit, address, values))

    async def write_single(self, unit: int, address: int, value: int) -> None:
        """Write one register."""
        self._transact(unit, address, lambda device: device.write_registers(unit, address, (value,)))

    async def close(self) -> None:
        """Nothing is held."""

    def _transact(self, unit: int, address: int, request: Callable[[SimulatedDevice], Answer]) -> Answer:
        where = f"memory unit {unit} register {address}"
        self._refuse_while_silent(unit, where)
        attempts = self._options.retries + 1
        while True:
            attempts -= 1
            try:
                answer = self._attempt(unit, where, request)
            except DeviceTimeout:
                if attempts == 0:
                    self._leave_alone(unit)
                    raise
            except DeviceRefused as refusal:
                self._silent.pop(unit, None)
                if attempts == 0 or refusal.exception_code != DEVICE_BUSY:
                    raise
            else:
                self._silent.pop(unit, None)
                return answer

    def _attempt(self, unit: int, where: str, request: Callable[[SimulatedDevice], Answer]) -> Answer:
        self.requests += 1
        device = self._devices.get(unit)
        if device is None:
            raise DeviceRefused(f"{where}: no such unit", exception_code=GATEWAY_NO_RESPONSE)
        try:
            answer = request(device)
        except NoAnswer as silence:
            if silence.closes:
                raise DeviceUnreachable(f"{where}: connection lost (closed by the device)") from silence
            raise DeviceTimeout(f"{where}: no answer within {self._options.timeout_s:g} s") from silence
        except ModbusRefusal as refusal:
            self._deliver(device, where)
            code = refusal.exception_code
            raise DeviceRefused(f"{where}: exception {code}", exception_code=code) from refusal
        self._deliver(device, where)
        return answer

    def _deliver(self, device: SimulatedDevice, where: str) -> None:
        """Let the answer be lost on its way, or come too late; the request has been executed all the same."""
        delay_s = device.answer_delay_s
        for fault in device.frame_faults():
            if fault.kind is FaultKind.CLOSE:
                raise DeviceUnreachable(f"{where}: connection lost (closed by the device)")
            if fault.kind in LOST:
                raise DeviceTimeout(f"{where}: no answer within {self._options.timeout_s:g} s")
            if fault.kind is FaultKind.DELAY:
                delay_s += fault.value
        if delay_s >= self._options.timeout_s:
            raise DeviceTimeout(f"{where}: no answer within {self._options.timeout_s:g} s")

    def _refuse_while_silent(self, unit: int, where: str) -> None:
        silence = self._silent.get(unit)
        if silence is None or self._monotonic_s is None:
            return
        left_s = silence[0] - self._monotonic_s()
        if left_s > 0.0:
            raise DeviceTimeout(f"{where}: silent, left alone for {left_s:.1f} s")

    def _leave_alone(self, unit: int) -> None:
        """After a timeout: the next request at once, then after 0.5, 1, 2 ... seconds of silence."""
        if self._monotonic_s is None:
            return
        wait_s = self._silent.get(unit, (0.0, 0.0))[1]
        longer_s = min(max(2.0 * wait_s, self._options.backoff_s), self._options.backoff_max_s)
        self._silent[unit] = (self._monotonic_s() + wait_s, longer_s)
