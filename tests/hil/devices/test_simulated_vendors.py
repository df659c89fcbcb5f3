"""The register maps that are not SunSpec, against the tables that their vendors publish (typed in here from the documents)."""

import math
import struct

import pytest
from simulated_bench import RawClient, read_request, run, served

from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.eastron import EastronSdm630
from hil.devices.ev_charger_maps import AlfenNg9xx, KebaP30
from hil.devices.faults import Fault, FaultKind, FaultPlan
from hil.devices.registers import ModbusRefusal
from hil.devices.vendor import VendorPoint, vendor_segments

CHARGING = Inputs(plugged=True, requested_wh=40_000.0, voltage_v=(231.0, 229.0, 230.0))
CHARGING_ONE_PHASE = Inputs(plugged=True, requested_wh=40_000.0, voltage_v=(231.0,))


def f32(device: SimulatedDevice, address: int) -> float:
    words = device.read_registers(1, address, 2)
    return float(struct.unpack(">f", struct.pack(">2H", *words))[0])


def f64(device: SimulatedDevice, address: int) -> float:
    words = device.read_registers(1, address, 4)
    return float(struct.unpack(">d", struct.pack(">4H", *words))[0])


def u32(device: SimulatedDevice, address: int) -> int:
    high, low = device.read_registers(1, address, 2)
    return high << 16 | low


def input_f32(device: SimulatedDevice, address: int) -> float:
    words = device.read_input_registers(1, address, 2)
    return float(struct.unpack(">f", struct.pack(">2H", *words))[0])


def write_f32(device: SimulatedDevice, address: int, value: float) -> None:
    device.write_registers(1, address, struct.unpack(">2H", struct.pack(">f", value)))


def text(device: SimulatedDevice, address: int, count: int) -> str:
    return struct.pack(f">{count}H", *device.read_registers(1, address, count)).rstrip(b"\x00").decode("ascii")


def test_an_alfen_socket_shows_its_measurements_where_table_3_4_says() -> None:
    device = AlfenNg9xx("ev", phases=3)
    write_f32(device, 1210, 16.0)
    run(device, 40.0, CHARGING)
    assert [f32(device, address) for address in (306, 308, 310)] == pytest.approx([231.0, 229.0, 230.0])
    assert [f32(device, address) for address in (320, 322, 324)] == pytest.approx([16.0] * 3, rel=1e-3)
    assert f32(device, 326) == pytest.approx(48.0, rel=1e-3)
    assert f32(device, 336) == pytest.approx(50.0)
    assert f32(device, 338) + f32(device, 340) + f32(device, 342) == pytest.approx(f32(device, 344))
    assert f32(device, 344) == pytest.approx(16 * 690, rel=1e-3)
    assert f64(device, 374) == pytest.approx(device.energy_in_wh)
    assert device.read_registers(1, 1200, 1) == (1,)
    assert text(device, 1201, 5) == "C2"
    assert f32(device, 1206) == 16.0
    assert f32(device, 1212) == 6.0
    assert device.read_registers(1, 1214, 2) == (1, 3)


def test_an_alfen_socket_is_at_its_safe_current_until_the_first_command_and_after_the_validity() -> None:
    device = AlfenNg9xx("ev", watchdog_s=60.0, failsafe_a=6.0)
    run(device, 30.0, CHARGING_ONE_PHASE)
    assert f32(device, 1206) == 6.0
    assert device.read_registers(1, 1214, 1) == (0,)
    write_f32(device, 1210, 20.0)
    run(device, 25.0, CHARGING_ONE_PHASE)
    assert u32(device, 1208) == 35
    assert f32(device, 1206) == 20.0
    run(device, 40.0, CHARGING_ONE_PHASE)
    assert f32(device, 1206) == 6.0
    assert u32(device, 1208) == 0


def test_an_alfen_socket_names_its_states_as_the_document_does() -> None:
    device = AlfenNg9xx("ev")
    assert device.read_registers(1, 1201, 1) == (0x4100,)
    write_f32(device, 1210, 0.0)
    run(device, 5.0, CHARGING_ONE_PHASE)
    assert text(device, 1201, 5) == "B1"
    write_f32(device, 1210, 10.0)
    run(device, 1.0, CHARGING_ONE_PHASE)
    assert text(device, 1201, 5) == "B2"
    run(device, 20.0, CHARGING_ONE_PHASE)
    assert text(device, 1201, 5) == "C2"
    assert math.isnan(f32(device, 308)), "a phase that is not there is not a number"


def test_an_alfen_socket_refuses_half_a_float_and_measurements() -> None:
    device = AlfenNg9xx("ev")
    for address, values in ((1210, (0x4180,)), (306, (0, 0)), (1209, (0, 0)), (1215, (2,)), (1210, (0x7FC0, 0))):
        with pytest.raises(ModbusRefusal):
            device.write_registers(1, address, values)


async def test_the_blocks_that_a_driver_reads_at_once_are_there() -> None:
    device = AlfenNg9xx("ev")
    async with served(device) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 300, 94), read_request(2, 1200, 16), read_request(3, 390, 10))
        assert len((await client.receive())[2]) == 2 + 2 * 94
        assert len((await client.receive())[2]) == 2 + 2 * 16
        assert (await client.receive())[2] == b"\x83\x02"
        await client.close()


def test_a_keba_station_shows_its_values_where_the_guide_says() -> None:
    device = KebaP30("ev", phases=3, max_a=32.0)
    device.write_registers(1, 5004, (16000,))
    run(device, 40.0, CHARGING)
    assert u32(device, 1000) == 3
    assert u32(device, 1004) == 7
    assert u32(device, 1006) == 0
    assert [u32(device, address) for address in (1008, 1010, 1012)] == pytest.approx([16000] * 3, rel=1e-3)
    assert u32(device, 1020) == pytest.approx(16 * 690 * 1000, rel=1e-3)
    assert u32(device, 1036) == pytest.approx(10 * device.energy_in_wh, abs=1)
    assert [u32(device, address) for address in (1040, 1042, 1044)] == [231, 229, 230]
    assert u32(device, 1100) == 16000
    assert u32(device, 1110) == 32000
    assert u32(device, 1016) // 1000 % 10 == 3, "32 A"


def test_a_keba_station_gives_one_value_for_each_read() -> None:
    device = KebaP30("ev")
    with pytest.raises(ModbusRefusal) as refused:
        device.read_registers(1, 1008, 6)
    assert refused.value.exception_code == 2


@pytest.mark.parametrize(("address", "value"), [(5004, 5999), (5004, 63001), (5014, 2), (5018, 5), (5018, 601), (5016, 100), (1000, 1)])
def test_a_keba_station_refuses_what_the_guide_does_not_list(address: int, value: int) -> None:
    with pytest.raises(ModbusRefusal):
        KebaP30("ev").write_registers(1, address, (value,))


def test_a_keba_station_pauses_and_falls_back() -> None:
    device = KebaP30("ev")
    device.write_registers(1, 5004, (20000,))
    device.write_registers(1, 5016, (8000,))
    device.write_registers(1, 5018, (30,))
    run(device, 25.0, CHARGING_ONE_PHASE)
    assert device.power_w == pytest.approx(20 * 231, rel=1e-2)
    for _ in range(4):
        u32(device, 1000)
        run(device, 20.0, CHARGING_ONE_PHASE)
    assert device.power_w == pytest.approx(20 * 231, rel=1e-3), "reading keeps it alive"
    run(device, 60.0, CHARGING_ONE_PHASE)
    assert device.power_w == pytest.approx(8 * 231, rel=1e-3)
    assert u32(device, 1600) == 8000
    assert u32(device, 1602) == 30
    device.write_registers(1, 5004, (20000,))
    device.write_registers(1, 5014, (0,))
    run(device, 5.0, CHARGING_ONE_PHASE)
    assert device.power_w == 0.0
    assert u32(device, 1000) == 5


def test_an_eastron_meter_shows_floats_in_input_registers() -> None:
    device = EastronSdm630("meter")
    run(device, 3600.0, Inputs(voltage_v=(231.0, 229.0, 230.0), phase_power_w=(1500.0, -800.0, 300.0)), dt_s=10.0)
    assert [input_f32(device, address) for address in (0, 2, 4)] == pytest.approx([231.0, 229.0, 230.0])
    assert [input_f32(device, address) for address in (12, 14, 16)] == [1500.0, -800.0, 300.0]
    assert input_f32(device, 52) == 1000.0
    assert input_f32(device, 70) == 50.0
    assert input_f32(device, 72) == pytest.approx(1.001, rel=1e-5)
    assert input_f32(device, 74) == pytest.approx(0.001, rel=1e-3)
    assert input_f32(device, 342) == pytest.approx(1.002, rel=1e-5)


def test_an_eastron_meter_answers_forty_parameters_at_once_and_keeps_its_settings_apart() -> None:
    device = EastronSdm630("meter")
    assert len(device.read_input_registers(1, 0, 76)) == 76
    with pytest.raises(ModbusRefusal):
        device.read_input_registers(1, 0, 82)
    with pytest.raises(ModbusRefusal):
        device.read_registers(1, 0, 2)
    assert f32(device, 10) == 3.0
    write_f32(device, 2, 15.0)
    assert f32(device, 2) == 15.0
    with pytest.raises(ModbusRefusal):
        write_f32(device, 2, 7.0)


def test_measurements_that_fail_are_not_a_number() -> None:
    device = EastronSdm630("meter")
    device.apply_faults(FaultPlan(faults=(Fault(kind=FaultKind.NOT_IMPLEMENTED, start_s=0.0, duration_s=1e9),)))
    run(device, 1.0, Inputs(voltage_v=(230.0,) * 3, phase_power_w=(1.0,) * 3))
    assert math.isnan(input_f32(device, 52))


def test_low_words_may_come_first() -> None:
    points = (VendorPoint(address=0, name="energy", type="uint32", writable=True),)
    taken: list[dict[str, float]] = []
    ((_, (block,)),) = vendor_segments(
        points, lambda: {"energy": 0x12345678}, lambda written: taken.append(dict(written)), low_word_first=True
    )
    image = bytearray(4)
    block.encode(image, 0, blank=False)
    assert image == b"\x56\x78\x12\x34"
    block.write(0, b"\x00\x01\x00\x02", image, 0)
    assert taken == [{"energy": 0x00020001}]
