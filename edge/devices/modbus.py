"""Modbus register access over TCP, RTU over TCP and serial lines; a shell over pymodbus 3.16 that trusts no answer.

What pymodbus accepts and this module does not: an answer of another function, another unit or (TCP) another transaction, a byte count
that disagrees with the frame, fewer or more registers than asked, the echo of a different write. What pymodbus leaves to its user and
this module does: one session per endpoint however many units share it, one request at a time with an optional silent gap (busy
gateways lose requests that come too close), reconnection with backoff, and a unit that stays silent is left alone for a growing while
so that it does not take the line from its neighbours.

An RTU frame has no transaction number: a late answer looks like the answer to the next request. After a timeout the line is therefore
kept silent for as long as an answer can be late, and what arrives meanwhile is thrown away.

Failures are subclasses of `edge.errors.DeviceError`. A write that timed out may have been executed: read it back.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.transport import CommParams, CommType

from edge.devices.modbus_session import Answer, ModbusSession
from edge.devices.question import Question, question
from edge.devices.transport import SerialLine, TransportOptions
from edge.errors import DeviceError, DeviceGarbage, DeviceRefused, DeviceTimeout, DeviceUnreachable

EXCEPTION_NAMES = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
BUSY = 6
TIMEOUTS_UNTIL_RECONNECT = 3
"""A connection on which nobody has answered this often in a row is taken for dead and opened anew."""


class _Silence(msgspec.Struct):
    """How long a unit (or the endpoint) is left alone after it failed; doubles with every failure, ends with the first success."""

    until_s: float = 0.0
    wait_s: float = 0.0

    def failed(self, now_s: float, options: TransportOptions) -> None:
        self.until_s = now_s + self.wait_s
        self.wait_s = min(max(2 * self.wait_s, options.backoff_s), options.backoff_max_s)

    def succeeded(self) -> None:
        self.until_s = self.wait_s = 0.0


class Endpoint:
    """One session with one Modbus endpoint, shared by every unit behind it.

    The first retry after a failure comes at once, later ones after 0.5, 1, 2 ... seconds by `monotonic_s`, which the bench replaces by
    its own clock.
    """

    def __init__(
        self,
        where: str,
        params: CommParams,
        framing: Literal["tcp", "rtu"],
        options: TransportOptions,
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        self.where = where
        self.users = 0
        self.connections = 0
        self._params = params
        self._framing = framing
        self._options = options
        self._monotonic_s = monotonic_s
        self._lock = asyncio.Lock()
        self._session: ModbusSession | None = None
        self._unreachable = _Silence()
        self._silent_units: dict[int, _Silence] = {}
        self._free_at_s: float | None = None
        self._timeouts = 0

    async def transact(self, question: Question, payload: bytes = b"") -> Answer:
        """The answer to a question; raises `DeviceUnreachable`, `DeviceTimeout`, `DeviceRefused` or `DeviceGarbage`."""
        unit = question.unit
        if self._silent_units:
            silence = self._silent_units.get(unit)
            if silence is not None and self._now_s() < silence.until_s:
                raise DeviceTimeout(f"{self.where} unit {unit}: silent, left alone for {silence.until_s - self._now_s():.1f} s")
        await self._lock.acquire()
        try:
            attempts = self._options.retries + 1
            while True:
                attempts -= 1
                try:
                    answer = await self._attempt(question, payload)
                except DeviceTimeout:
                    if attempts > 0:
                        continue
                    self._silent_units.setdefault(unit, _Silence()).failed(self._now_s(), self._options)
                    raise
                code = answer.exception_code if isinstance(answer, ModbusPDU) and answer.isError() else None
                if code == BUSY and attempts > 0:
                    continue
                if self._silent_units:
                    self._silent_units.pop(unit, None)
                if code is not None:
                    raise self._refused(question, code)
                return answer
        finally:
            self._lock.release()

    async def close(self) -> None:
        """Close the session; the next request opens a new one."""
        self._drop()

    async def _attempt(self, question: Question, payload: bytes) -> Answer:
        session = self._session
        if session is None or session.transport is None:
            session = await self._connect()
        if self._free_at_s is not None:
            await self._wait_for_silence(self._free_at_s)
        try:
            answer = await session.ask(question, payload)
        except TimeoutError:
            if self._framing == "rtu":
                self._free_at_s = self._loop_s() + self._options.late_s
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS_UNTIL_RECONNECT:
                self._drop()
            what = f"no answer within {self._options.timeout_s:g} s"
            raise DeviceTimeout(f"{self._describe(question)}: {what}") from None
        except asyncio.CancelledError:
            if self._framing == "rtu":
                self._free_at_s = self._loop_s() + self._options.timeout_s + self._options.late_s
            raise
        except ConnectionError as error:
            self._drop()
            raise DeviceUnreachable(f"{self._describe(question)}: connection lost ({error})") from error
        except ModbusException as error:
            self._drop()
            raise DeviceGarbage(f"{self._describe(question)}: {error}") from error
        self._timeouts = 0
        if self._options.gap_s > 0:
            self._free_at_s = self._loop_s() + self._options.gap_s
        if isinstance(answer, ModbusPDU) and answer.function_code & 0x7F != question.function:
            self._drop()
            raise DeviceGarbage(f"{self._describe(question)}: answered with function {answer.function_code}")
        return answer

    async def _connect(self) -> ModbusSession:
        now_s = self._now_s()
        if now_s < self._unreachable.until_s:
            raise DeviceUnreachable(f"{self.where}: not connected, next attempt in {self._unreachable.until_s - now_s:.1f} s")
        self._drop()
        session = ModbusSession(self._params, self._framing, self._options.timeout_s)
        if not await session.connect():
            session.close()
            self._unreachable.failed(self._now_s(), self._options)
            raise DeviceUnreachable(f"{self.where}: cannot connect")
        self._unreachable.succeeded()
        self._session = session
        self.connections += 1
        return session

    async def _wait_for_silence(self, until_s: float) -> None:
        wait_s = until_s - self._loop_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._free_at_s = None

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session.callback_disconnected(None)
            self._session = None

    def _now_s(self) -> float:
        return self._monotonic_s() if self._monotonic_s is not None else self._loop_s()

    @staticmethod
    def _loop_s() -> float:
        return asyncio.get_running_loop().time()

    def _describe(self, question: Question) -> str:
        return f"{self.where} unit {question.unit} function {question.function} register {question.address}"

    def _refused(self, question: Question, code: int) -> DeviceError:
        name = EXCEPTION_NAMES.get(code, "unknown")
        return DeviceRefused(f"{self._describe(question)}: exception {code} ({name})", exception_code=code)


class ModbusClient:
    """Register access through one endpoint; the only thing that knows how many registers an answer must have."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._questions: dict[tuple[int, int, int, int], Question] = {}
        endpoint.users += 1

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Exactly `count` holding registers."""
        return await self._read(3, unit, address, count)

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Exactly `count` input registers."""
        return await self._read(4, unit, address, count)

    async def write_holding(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write consecutive registers in one request; the acknowledgement must name the same registers."""
        asked = self._question(16, unit, address, len(values))
        answer = await self.endpoint.transact(asked, asked.payload_of(*values))
        if isinstance(answer, ModbusPDU) and (answer.address != address or answer.count != len(values)):
            raise DeviceGarbage(
                f"{self.endpoint.where} unit {unit}: wrote {len(values)} registers at {address}, "
                f"acknowledged were {answer.count} at {answer.address}"
            )

    async def write_single(self, unit: int, address: int, value: int) -> None:
        """Write one register by function 6; the device must echo it."""
        asked = self._question(6, unit, address, 1)
        answer = await self.endpoint.transact(asked, asked.payload_of(value))
        echoed = (answer.address, *answer.registers) if isinstance(answer, ModbusPDU) else (address, *answer)
        if echoed != (address, value):
            raise DeviceGarbage(
                f"{self.endpoint.where} unit {unit}: wrote {value} to register {address}, echoed was {list(echoed[1:])} at {echoed[0]}"
            )

    async def close(self) -> None:
        """Give the session back; the last user closes it."""
        self.endpoint.users -= 1
        if self.endpoint.users <= 0:
            await self.endpoint.close()

    async def _read(self, function: int, unit: int, address: int, count: int) -> tuple[int, ...]:
        answer = await self.endpoint.transact(self._question(function, unit, address, count))
        if not isinstance(answer, ModbusPDU):
            return answer
        registers = answer.registers
        if len(registers) != count:
            raise DeviceGarbage(f"{self.endpoint.where} unit {unit}: asked for {count} registers at {address}, got {len(registers)}")
        return registers  # type: ignore[return-value]  # _ExactRegisters holds a tuple

    def _question(self, function: int, unit: int, address: int, count: int) -> Question:
        """The question of a function, unit, address and number of registers; made when it is asked first.

        Raises `DeviceGarbage` for one that nobody can ask: it is the map of the device that leads there.
        """
        what = (function, unit, address, count)
        found = self._questions.get(what)
        if found is None:
            try:
                found = self._questions[what] = question(*what)
            except ValueError as error:
                raise DeviceGarbage(f"{self.endpoint.where} unit {unit}: {error}") from error
        return found


class ModbusTcpClient(ModbusClient):
    """Modbus TCP, or RTU frames over TCP (`framing="rtu"`) as serial gateways speak it."""

    def __init__(
        self,
        host: str,
        port: int = 502,
        *,
        framing: Literal["tcp", "rtu"] = "tcp",
        options: TransportOptions | None = None,
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        options = options or TransportOptions()
        params = CommParams(
            comm_type=CommType.TCP, comm_name="edge", host=host, port=port, timeout_connect=options.timeout_s, reconnect_delay=0.0
        )
        super().__init__(Endpoint(f"{host}:{port}", params, framing, options, monotonic_s))


class ModbusRtuClient(ModbusClient):
    """Modbus RTU on a serial line."""

    def __init__(
        self,
        line: SerialLine,
        *,
        options: TransportOptions | None = None,
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        options = options or TransportOptions()
        params = CommParams(
            comm_type=CommType.SERIAL,
            comm_name="edge",
            host=line.port,
            baudrate=line.baud,
            bytesize=8,
            parity=line.parity,
            stopbits=line.stop_bits,
            timeout_connect=options.timeout_s,
            reconnect_delay=0.0,
        )
        super().__init__(Endpoint(line.port, params, "rtu", options, monotonic_s))
