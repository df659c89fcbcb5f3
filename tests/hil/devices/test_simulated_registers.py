"""Register maps: what is encoded when, what saturates, what is refused."""

import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_bench import meter, pv, run

from hil.devices.device import Inputs
from hil.devices.registers import FixedBlock, ModbusRefusal, RegisterMap
from hil.devices.sunspec import SunSpecBlock, Value, sunspec_map
from hil.devices.sunspec_device import scale_for
from hil.errors import HilError


def test_a_block_is_encoded_only_when_it_is_read_and_once_for_each_revision() -> None:
    calls: list[int] = []

    def live() -> Mapping[str, Value]:
        calls.append(1)
        return {"WHAvail": 5000.0, "SoC": 50.0}

    block = SunSpecBlock(713, {"WH_SF": 0, "Pct_SF": -2, "WHRtg": 10_000.0}, live=live)
    registers = RegisterMap([sunspec_map(40000, [block])])
    calls.clear()
    for _ in range(10):
        registers.revision += 1
    assert not calls, "nobody has read"
    registers.read(40000, 2)
    assert not calls, "the marker is another block"
    for _ in range(5):
        registers.read(40002, 9)
    assert len(calls) == 1
    registers.revision += 1
    registers.read(40005, 1)
    assert len(calls) == 2


def test_a_hundred_steps_without_a_read_encode_nothing() -> None:
    device = pv()
    device.blocks[101].encode = None  # type: ignore[assignment,method-assign]
    run(device, 100.0)
    assert device.generation_w == pytest.approx(3210.0)


@given(value=st.floats(-1e9, 1e9), scale=st.integers(-3, 3))
def test_a_value_that_does_not_fit_saturates_and_never_reads_as_not_implemented(value: float, scale: int) -> None:
    block = SunSpecBlock(101, {"W_SF": scale}, live=lambda: {"W": value})
    image = bytearray(2 * block.registers)
    block.encode(image, 0, blank=False)
    (raw,) = struct.unpack_from(">h", image, 2 * 14)
    assert raw != -0x8000
    assert raw == pytest.approx(min(max(value / 10.0**scale, -0x7FFF), 0x7FFF), abs=0.5001)


@pytest.mark.parametrize(("most", "scale"), [(3000.0, -1), (3276.7, -1), (3277.0, 0), (32767.0, 0), (33000.0, 1), (1e6, 2)])
def test_a_scale_factor_is_the_finest_that_fits(most: float, scale: int) -> None:
    assert scale_for(most) == scale


def test_holes_between_segments_do_not_exist() -> None:
    registers = RegisterMap([(100, [FixedBlock(b"\x00\x01")]), (102, [FixedBlock(b"\x00\x02")])])
    assert registers.read(100, 1) == b"\x00\x01"
    for address, count in ((99, 1), (101, 1), (100, 2), (100, 3), (103, 1)):
        with pytest.raises(ModbusRefusal):
            registers.read(address, count)
    assert registers.extent() == [(100, 101), (102, 103)]


def test_a_write_may_not_cross_from_one_model_to_the_next() -> None:
    device = pv()
    ((base, end),) = device.registers.extent()
    for address in range(base, end - 30, 7):
        with pytest.raises(ModbusRefusal):
            device.write_registers(1, address, [0] * 30)


def test_inputs_of_the_wrong_number_of_phases_are_an_error_not_a_guess() -> None:
    with pytest.raises(HilError, match="expected 3 phase voltages, got 1"):
        pv(phases=3).advance(0.0, 1.0, Inputs())
    with pytest.raises(HilError, match="expected 1 phase powers, got 3"):
        meter().advance(0.0, 1.0, Inputs(phase_power_w=(1.0, 2.0, 3.0)))
