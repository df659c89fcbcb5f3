"""Questions and their faithful answers, byte for byte as pymodbus 3.16 frames them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
    WriteMultipleRegistersRequest,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterRequest,
    WriteSingleRegisterResponse,
)

from edge.devices.question import Question, question

FRAMER = FramerSocket(DecodePDU(False))
ADDRESS, UNIT = st.integers(0, 0xFFFF), st.integers(0, 255)
REGISTERS = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123)


def framed(pdu: ModbusPDU, unit: int) -> bytes:
    pdu.dev_id = unit
    return FRAMER.buildFrame(pdu)[2:]


def agrees(it: Question, payload: list[int], request: ModbusPDU, answer: ModbusPDU, registers: list[int]) -> None:
    asked, answered = framed(request, it.unit), framed(answer, it.unit)
    assert it.tail + it.payload_of(*payload) == asked
    assert it.pdu + it.payload_of(*payload) == asked[5:]
    assert answered.startswith(it.answer_head)
    assert len(answered) + 2 == it.answer_bytes
    assert it.registers_of(b"\x12\x34" + answered) == tuple(registers)


@given(UNIT, ADDRESS, REGISTERS)
def test_a_read_is_asked_and_answered_as_pymodbus_frames_it(unit: int, address: int, registers: list[int]) -> None:
    count = len(registers)
    request, answer = ReadHoldingRegistersRequest(address=address, count=count), ReadHoldingRegistersResponse(registers=registers)
    agrees(question(3, unit, address, count), [], request, answer, registers)
    wanted, given_ = ReadInputRegistersRequest(address=address, count=count), ReadInputRegistersResponse(registers=registers)
    agrees(question(4, unit, address, count), [], wanted, given_, registers)


@given(UNIT, ADDRESS, REGISTERS)
def test_a_write_is_asked_and_acknowledged_as_pymodbus_frames_it(unit: int, address: int, registers: list[int]) -> None:
    request = WriteMultipleRegistersRequest(address=address, registers=registers)
    answer = WriteMultipleRegistersResponse(address=address, count=len(registers))
    agrees(question(16, unit, address, len(registers)), registers, request, answer, [])


@given(UNIT, ADDRESS, st.integers(0, 0xFFFF))
def test_a_single_write_is_asked_and_echoed_as_pymodbus_frames_it(unit: int, address: int, value: int) -> None:
    request = WriteSingleRegisterRequest(address=address, registers=[value])
    answer = WriteSingleRegisterResponse(address=address, registers=[value])
    agrees(question(6, unit, address, 1), [value], request, answer, [value])


@pytest.mark.parametrize(
    ("function", "address", "count"), [(3, -1, 1), (3, 65536, 1), (4, 0, 0), (3, 0, 126), (16, 5, 124), (6, 5, 2)]
)
def test_what_no_request_can_ask_is_refused_by_name(function: int, address: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"function {function}: .* got {address} and {count}"):
        question(function, 1, address, count)
