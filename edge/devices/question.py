"""One Modbus request as bytes, and the bytes with which a device does exactly what it was asked. Pure.

A controller asks the same few things for years, so a question is made once and keeps both. An answer that begins as the faithful one
and is as long needs no decoder: transaction, unit, function, byte count and length are all right, and what is left are the registers.
Whatever else arrives is for the framer and the decoder of pymodbus to understand (`edge.devices.modbus_session`).
MODBUS Application Protocol V1.1b3, sections 6.3, 6.4, 6.6 and 6.12; MODBUS Messaging on TCP/IP V1.0b, section 3.1.3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAX_READ, MAX_WRITTEN = 125, 123
"""Registers that fit into one request of function 3 or 4, and of function 16."""

_HEADER = struct.Struct(">HHB")
_PAIR = struct.Struct(">BHH")


class Question:
    """See the module docstring. Over TCP a frame is a transaction number, then `tail`; its faithful answer has `answer_bytes` in all,
    begins with the same number and `answer_head`, and its registers follow."""

    __slots__ = ("address", "answer_bytes", "answer_head", "function", "pdu", "registers_of", "tail", "unit")

    def __init__(self, unit: int, pdu: bytes, answer_start: bytes, registers: int) -> None:
        self.unit = unit
        self.function, self.address, _ = _PAIR.unpack_from(pdu)
        self.pdu = pdu
        self.tail = _HEADER.pack(0, len(pdu) + 1, unit) + pdu
        length = len(answer_start) + 2 * registers
        self.answer_head = _HEADER.pack(0, length + 1, unit) + answer_start
        self.answer_bytes = 7 + length
        self.registers_of = struct.Struct(f">{9 if registers else self.answer_bytes}x{registers}H").unpack


def read_question(unit: int, function: int, address: int, count: int) -> Question:
    """Function 3 or 4: `count` registers."""
    return Question(unit, _start(function, address, count, MAX_READ), bytes((function, 2 * count)), count)


def write_question(unit: int, address: int, values: Sequence[int]) -> Question:
    """Function 16: consecutive registers; a faithful answer names them."""
    count = len(values)
    start = _start(16, address, count, MAX_WRITTEN)
    return Question(unit, start + struct.pack(f">B{count}H", 2 * count, *values), start, 0)


def single_write_question(unit: int, address: int, value: int) -> Question:
    """Function 6: one register; a faithful answer is the echo."""
    echo = _start(6, address, value, 0xFFFF)
    return Question(unit, echo, echo, 0)


def _start(function: int, address: int, number: int, most: int) -> bytes:
    least = 0 if function == 6 else 1
    if not 0 <= address <= 0xFFFF or not least <= number <= most:
        raise ValueError(f"function {function}: expected a register of 0 to 65535 and {least} to {most}, got {address} and {number}")
    return _PAIR.pack(function, address, number)
