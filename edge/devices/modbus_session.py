"""One Modbus connection over the framers, PDUs and transports of pymodbus 3.16: a request and its answer, and no second one meanwhile.

It relies on internals of that minor series (`TransactionManager`, `ModbusProtocol`), which is why `pyproject.toml` pins it.
"""

import asyncio
import functools
import struct
from typing import Any, Literal

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersResponse,
    ReadInputRegistersResponse,
    WriteMultipleRegistersResponse,
)
from pymodbus.transaction import TransactionManager
from pymodbus.transport import CommParams


class _Terse:
    """pymodbus renders every answer as text for its log, whether or not anybody reads it; a name is enough."""

    def __str__(self) -> str:
        return type(self).__name__


class _ExactRegisters(_Terse, ReadHoldingRegistersResponse):
    """A register answer that is decoded in one step, and whose byte count must agree with its length."""

    def decode(self, data: bytes) -> None:
        """Leave `registers` empty when the frame contradicts itself; the caller reports it as garbage."""
        size = data[0] if data else 0
        if size % 2 or len(data) != size + 1:
            self.registers = ()
            return
        self.registers = struct.unpack(f">{size // 2}H", data[1:])


class _ExactInputRegisters(_ExactRegisters, ReadInputRegistersResponse):
    function_code = 4


class _WriteAcknowledgement(_Terse, WriteMultipleRegistersResponse):
    pass


@functools.cache
def _decoder() -> DecodePDU:
    decoder = DecodePDU(False)
    for kind in (_ExactRegisters, _ExactInputRegisters, _WriteAcknowledgement):
        decoder.register(kind)
    return decoder


class ModbusSession(TransactionManager):
    """One connection: a request, its answer or its failure, never two at a time.

    It keeps the connection, framing and PDU classes of pymodbus and replaces the waiting: the timer is one call-back instead of a
    task, a lost connection fails the request at once instead of after the timeout, and undecodable bytes end the session. Bytes go
    straight between socket and framer: pymodbus's traces and the hexadecimal dumps of its log cost more than the decoding.
    """

    def __init__(self, params: CommParams, framing: Literal["tcp", "rtu"]) -> None:
        framer = FramerSocket(_decoder()) if framing == "tcp" else FramerRTU(_decoder())
        super().__init__(params, framer, 0, False, None, None, None)
        self.response_future = asyncio.get_running_loop().create_future()
        self.response_future.cancel()

    async def ask(self, request: ModbusPDU, timeout_s: float) -> ModbusPDU:
        """The answer to `request`; `TimeoutError` or `ConnectionError` without one, `ModbusException` for an unreadable one."""
        loop = asyncio.get_running_loop()
        self.response_future = future = loop.create_future()
        request.transaction_id = self.request_transaction_id = self.getNextTID()
        self.request_dev_id = request.dev_id
        self.recv_buffer = b""
        self.send(self.framer.buildFrame(request))
        timer = loop.call_later(timeout_s, self._expire, future)
        try:
            answer: ModbusPDU = await future
        finally:
            timer.cancel()
        if answer.transaction_id != request.transaction_id or answer.dev_id != request.dev_id:
            raise ModbusException(
                f"expected transaction {request.transaction_id} of unit {request.dev_id}, "
                f"got transaction {answer.transaction_id} of unit {answer.dev_id}"
            )
        return answer

    def send(self, data: bytes, addr: tuple[Any, ...] | None = None) -> None:
        """Put a frame on the line."""
        if self.transport is None:
            raise ConnectionError("closed by the device")
        self.transport.write(data)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Collect bytes until the framer has a whole frame."""
        self.recv_buffer += data
        if len(self.recv_buffer) > self.max_buffer_size:
            self.recv_buffer = b""
            return
        used = self.callback_data(self.recv_buffer)
        self.recv_buffer = self.recv_buffer[used:]

    @staticmethod
    def _expire(future: asyncio.Future[ModbusPDU]) -> None:
        if not future.done():
            future.set_exception(TimeoutError())

    def callback_data(self, data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        """Hand the answer over; bytes that cannot be decoded fail the request instead of being an unhandled error of the event loop."""
        try:
            used, answer = self.framer.handleFrame(data, self.request_dev_id, self.request_transaction_id)
            if answer is not None and not self.response_future.done():
                self.response_future.set_result(answer)
            return used
        except (ModbusException, struct.error, IndexError, ValueError) as error:
            if not self.response_future.done():
                self.response_future.set_exception(ModbusException(f"undecodable answer {data[:16].hex()}: {error}"))
            return len(data)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """Fail the request in progress."""
        if not self.response_future.done():
            self.response_future.set_exception(ConnectionError(str(exc) if exc else "closed by the device"))
