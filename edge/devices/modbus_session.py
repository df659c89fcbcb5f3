"""One Modbus connection over the framers, PDUs and transports of pymodbus 3.16: a request and its answer, and no second one meanwhile.

It relies on internals of that minor series (`TransactionManager`, `ModbusProtocol`), which is why `pyproject.toml` pins it. A shell.
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

from edge.devices.question import Question

LAST_TRANSACTION = 65000


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


Answer = ModbusPDU | tuple[int, ...]
"""What came back: the registers of a faithful answer, or anything else that could be decoded."""


class ModbusSession(TransactionManager):
    """One connection: a question, its answer or its failure, never two at a time.

    It keeps the connection, framing and PDU classes of pymodbus and replaces the waiting: a lost connection fails the request at once
    instead of after the timeout, and undecodable bytes end the session. Bytes go straight between socket and framer: pymodbus's traces
    and the hexadecimal dumps of its log cost more than the decoding; over TCP a faithful answer that arrives whole does not even need
    the framer. One timer looks after all requests: it is moved on when it goes off and the present request has time left.
    """

    def __init__(self, params: CommParams, framing: Literal["tcp", "rtu"], timeout_s: float) -> None:
        framer = FramerSocket(_decoder()) if framing == "tcp" else FramerRTU(_decoder())
        super().__init__(params, framer, 0, False, None, None, None)
        self.response_future = self.loop.create_future()
        self.response_future.cancel()
        self._over_tcp = framing == "tcp"
        self._timeout_s = timeout_s
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._asked: Question | None = None
        self._faithful = b""

    async def ask(self, question: Question, payload: bytes) -> Answer:
        """The answer to a question; `TimeoutError` or `ConnectionError` without one, `ModbusException` for an unreadable one."""
        self.recv_buffer = b""
        self.request_dev_id = question.unit
        if self._over_tcp:
            self.request_transaction_id = self.next_tid = number = self.next_tid % LAST_TRANSACTION + 1
            start = number.to_bytes(2, "big")
            self._faithful = start + question.answer_head
            self._asked = question
            self.send(start + question.tail + payload)
        else:
            self.send(self.framer.encode(question.pdu + payload, question.unit, 0))
        loop = self.loop
        self.response_future = future = loop.create_future()
        self._deadline_s = loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._look)
        answer: Answer = await future
        if isinstance(answer, ModbusPDU) and (answer.transaction_id, answer.dev_id) != (self.request_transaction_id, question.unit):
            raise ModbusException(
                f"expected transaction {self.request_transaction_id} of unit {question.unit}, "
                f"got transaction {answer.transaction_id} of unit {answer.dev_id}"
            )
        return answer

    def send(self, data: bytes, addr: tuple[Any, ...] | None = None) -> None:
        """Put a frame on the line."""
        if self.transport is None:
            raise ConnectionError("closed by the device")
        self.transport.write(data)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Take a faithful answer that arrives whole; collect other bytes until the framer has a frame."""
        asked = self._asked
        if asked is not None and len(data) == asked.answer_bytes and data.startswith(self._faithful) and not self.recv_buffer:
            self._asked = None
            if not self.response_future.done():
                self.response_future.set_result(asked.registers_of(data))
            return
        self.recv_buffer += data
        if len(self.recv_buffer) > self.max_buffer_size:
            self.recv_buffer = b""
            return
        used = self.callback_data(self.recv_buffer)
        self.recv_buffer = self.recv_buffer[used:]

    def _look(self) -> None:
        """Fail the request whose time is up; look again later while one has time left."""
        self._timer = None
        if self.response_future.done():
            return
        left_s = self._deadline_s - self.loop.time()
        if left_s > 0.0:
            self._timer = self.loop.call_later(left_s, self._look)
        else:
            self.response_future.set_exception(TimeoutError())

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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.response_future.done():
            self.response_future.set_exception(ConnectionError(str(exc) if exc else "closed by the device"))
