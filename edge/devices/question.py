"""What one Modbus request asks, as bytes, and the bytes with which a device does exactly that. Pure.

A controller asks the same few things for years, so a question is made once and keeps both; what a write carries is put behind it each
time. An answer that begins as the faithful one and is as long needs no decoder: transaction, unit, function, byte count and length are
all right, and what is left are the registers. Whatever else arrives is for the framer and the decoder of pymodbus to understand
(`edge.devices.modbus_session`). MODBUS Application Protocol V1.1b3, sections 6.3, 6.4, 6.6 and 6.12; MODBUS Messaging on TCP/IP V1.0b,
section 3.1.3.
"""

from __future__ import annotations

import struct

MAX_READ, MAX_WRITTEN = 125, 123
"""Registers that fit into one request of function 3 or 4, and of function 16."""

_HEADER = struct.Struct(">HHB")
_PAIR = struct.Struct(">BHH")


class Question:
    """See the module docstring. `pdu` is the request up to the `payload_of` its registers. Over TCP a frame is a transaction number,
    `tail` and the payload; its faithful answer has `answer_bytes` in all, begins with the same number and `answer_head`, and ends with
    the registers that `registers_of` takes from it."""

    __slots__ = ("address", "answer_bytes", "answer_head", "function", "payload_of", "pdu", "registers_of", "tail", "unit")

    def __init__(self, unit: int, pdu: bytes, answer_start: bytes, *, carries: int = 0, answered: int = 0) -> None:
        self.unit = unit
        self.function, self.address = struct.unpack_from(">BH", pdu)
        self.pdu = pdu
        self.payload_of = struct.Struct(f">{carries}H").pack
        self.tail = _HEADER.pack(0, len(pdu) + 2 * carries + 1, unit) + pdu
        length = len(answer_start) + 2 * answered
        self.answer_head = _HEADER.pack(0, length + 1, unit) + answer_start
        self.answer_bytes = 7 + length
        self.registers_of = struct.Struct(f">{7 + len(answer_start)}x{answered}H").unpack


def question(function: int, unit: int, address: int, count: int) -> Question:
    """Reads `count` registers (functions 3 and 4), or writes them (16; 6, which writes one)."""
    most = MAX_READ if function < 5 else MAX_WRITTEN if function == 16 else 1
    if not 0 <= address <= 0xFFFF or not 1 <= count <= most:
        raise ValueError(f"function {function}: expected a register of 0 to 65535 and 1 to {most} of them, got {address} and {count}")
    start = _PAIR.pack(function, address, count)
    if function == 16:
        return Question(unit, start + bytes((2 * count,)), start, carries=count)
    if function == 6:
        return Question(unit, start[:3], start[:3], carries=1, answered=1)
    return Question(unit, start, bytes((function, 2 * count)), answered=count)
