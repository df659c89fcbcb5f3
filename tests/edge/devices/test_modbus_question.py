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

from edge.devices.question import Question, read_question, single_write_question, write_question

FRAMER = FramerSocket(DecodePDU(False))
ADDRESS, UNIT = st.integers(0, 0xFFFF), st.integers(0, 255)
REGISTERS = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123)


def framed(pdu: ModbusPDU, unit: int) -> bytes:
    pdu.dev_id = unit
    return FRAMER.buildFrame(pdu)[2:]


def agrees(question: Question, request: ModbusPDU, answer: ModbusPDU, registers: tuple[int, ...]) -> None:
    asked, answered = framed(request, question.unit), framed(answer, question.unit)
    assert question.tail == asked
    assert question.pdu == asked[5:]
    assert answered.startswith(question.answer_head)
    assert len(answered) + 2 == question.answer_bytes
    assert question.registers_of(b"\x12\x34" + answered) == registers


@given(UNIT, ADDRESS, REGISTERS)
def test_a_read_is_asked_and_answered_as_pymodbus_frames_it(unit: int, address: int, registers: list[int]) -> None:
    count = len(registers)
    request, answer = ReadHoldingRegistersRequest(address=address, count=count), ReadHoldingRegistersResponse(registers=registers)
    agrees(read_question(unit, 3, address, count), request, answer, tuple(registers))
    wanted, given_ = ReadInputRegistersRequest(address=address, count=count), ReadInputRegistersResponse(registers=registers)
    agrees(read_question(unit, 4, address, count), wanted, given_, tuple(registers))


@given(UNIT, ADDRESS, REGISTERS)
def test_a_write_is_asked_and_acknowledged_as_pymodbus_frames_it(unit: int, address: int, registers: list[int]) -> None:
    request = WriteMultipleRegistersRequest(address=address, registers=registers)
    answer = WriteMultipleRegistersResponse(address=address, count=len(registers))
    agrees(write_question(unit, address, registers), request, answer, ())


@given(UNIT, ADDRESS, st.integers(0, 0xFFFF))
def test_a_single_write_is_asked_and_echoed_as_pymodbus_frames_it(unit: int, address: int, value: int) -> None:
    request = WriteSingleRegisterRequest(address=address, registers=[value])
    answer = WriteSingleRegisterResponse(address=address, registers=[value])
    agrees(single_write_question(unit, address, value), request, answer, ())


@pytest.mark.parametrize(("address", "count"), [(-1, 1), (65536, 1), (0, 0), (0, 126)])
def test_what_no_request_can_ask_is_refused_by_name(address: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"got {address} and {count}"):
        read_question(1, 3, address, count)


def test_more_registers_than_one_request_writes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="1 to 123, got 5 and 124"):
        write_question(1, 5, [0] * 124)
