"""Every fault of the simulated devices, over real TCP and in memory; the two fail in the same way."""

import asyncio
import contextlib
import struct
from typing import Any

import msgspec
import pytest
from simulated_bench import RawClient, address_of, battery, pv, read_request, run, served, write_request

from edge.devices.modbus import ModbusTcpClient
from edge.devices.transport import TransportOptions
from edge.errors import DeviceError, DeviceRefused, DeviceTimeout, DeviceUnreachable
from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.faults import Fault, FaultKind, FaultPlan
from hil.devices.memory import MemoryRegisterClient
from hil.devices.quirks import Quirks

OPTIONS = TransportOptions(timeout_s=0.05, retries=0, backoff_s=0.0, backoff_max_s=0.0)
BASE = 40000


def plan(kind: FaultKind, *, start_s: float = 0.0, duration_s: float = 1e6, seed: int = 1, **fields: Any) -> FaultPlan:
    return FaultPlan(seed=seed, faults=(Fault(kind=kind, start_s=start_s, duration_s=duration_s, **fields),))


def faulty(kind: FaultKind, **fields: Any) -> SimulatedDevice:
    device = pv()
    run(device, 30.0)
    device.apply_faults(plan(kind, **fields))
    run(device, 1.0)
    return device


OUTCOMES: dict[FaultKind, type[DeviceError] | None] = {
    FaultKind.SILENT: DeviceTimeout,
    FaultKind.BUSY: DeviceRefused,
    FaultKind.ILLEGAL_ADDRESS: DeviceRefused,
    FaultKind.SLOW: DeviceTimeout,
    FaultKind.REBOOT: DeviceUnreachable,
    FaultKind.DROP: DeviceTimeout,
    FaultKind.DELAY: DeviceTimeout,
    FaultKind.TRUNCATE: DeviceTimeout,
    FaultKind.WRONG_TRANSACTION: DeviceTimeout,
    FaultKind.WRONG_UNIT: DeviceTimeout,
    FaultKind.WRONG_LENGTH: DeviceTimeout,
    FaultKind.CLOSE: DeviceUnreachable,
    FaultKind.SPLIT: None,
    FaultKind.DUPLICATE: None,
    FaultKind.STUCK: None,
    FaultKind.NOT_IMPLEMENTED: None,
    FaultKind.SECOND_MASTER: None,
    FaultKind.SETPOINT_LOST: None,
    FaultKind.CONTROL_IGNORED: None,
    FaultKind.BUSY_AS_ZERO: None,
    FaultKind.GARBAGE_REGISTERS: None,
}


@pytest.mark.parametrize("kind", OUTCOMES)
async def test_a_fault_looks_the_same_over_tcp_and_in_memory(kind: FaultKind) -> None:
    fields = {"value": 0.2} if kind in (FaultKind.SLOW, FaultKind.DELAY) else {}
    expected = OUTCOMES[kind]
    over_tcp, in_memory = faulty(kind, **fields), faulty(kind, **fields)
    async with served(over_tcp) as endpoint:
        client = ModbusTcpClient(endpoint.host, endpoint.port, options=OPTIONS)
        tcp_outcomes = [await _outcome(client) for _ in range(2)]
        await client.close()
    memory = MemoryRegisterClient([in_memory], options=OPTIONS)
    memory_outcomes = [await _outcome(memory) for _ in range(2)]
    assert tcp_outcomes == memory_outcomes
    if expected is not None:
        assert tcp_outcomes[0] is expected


async def test_a_garbage_frame_is_never_taken_for_an_answer() -> None:
    device = faulty(FaultKind.GARBAGE_FRAME)
    async with served(device) as endpoint:
        client = ModbusTcpClient(endpoint.host, endpoint.port, options=OPTIONS)
        for _ in range(20):
            with pytest.raises(DeviceError):
                await client.read_holding(1, BASE, 2)
        await client.close()


async def test_in_memory_no_request_waits_for_a_timeout() -> None:
    client = MemoryRegisterClient([faulty(FaultKind.SILENT)], options=TransportOptions(timeout_s=60.0, retries=3))
    before_s = asyncio.get_running_loop().time()
    with pytest.raises(DeviceTimeout):
        await client.read_holding(1, BASE, 2)
    assert asyncio.get_running_loop().time() - before_s < 1.0
    assert client.requests == 4, "one attempt and three retries"


async def test_a_busy_device_is_asked_again() -> None:
    device = faulty(FaultKind.BUSY, share=0.5)
    client = MemoryRegisterClient([device], options=TransportOptions(retries=20))
    for _ in range(20):
        assert await client.read_holding(1, BASE, 2) == (0x5375, 0x6E53)
    assert client.requests > 20


async def test_a_silent_unit_is_left_alone_for_a_growing_while() -> None:
    now_s = 0.0
    options = TransportOptions(retries=0, backoff_s=0.5, backoff_max_s=4.0)
    client = MemoryRegisterClient([faulty(FaultKind.SILENT)], options=options, monotonic_s=lambda: now_s)
    asked_s = []
    for step in range(200):
        now_s = step * 0.1
        before = client.requests
        with contextlib.suppress(DeviceTimeout):
            await client.read_holding(1, BASE, 2)
        if client.requests > before:
            asked_s.append(round(now_s, 1))
    assert asked_s[:6] == [0.0, 0.1, 0.6, 1.6, 3.6, 7.6]


async def test_a_missing_unit_is_refused_as_by_a_gateway() -> None:
    client = MemoryRegisterClient([pv()])
    with pytest.raises(DeviceRefused) as refused:
        await client.read_holding(9, BASE, 1)
    assert refused.value.exception_code == 11


async def test_the_memory_client_writes_what_it_is_told() -> None:
    device = pv()
    address = address_of(device, 123, "WMaxLimPct")
    client = MemoryRegisterClient([device])
    await client.write_holding(1, address, (5500,))
    await client.write_single(1, address_of(device, 123, "WMaxLim_Ena"), 1)
    assert await client.read_input(1, address, 1) == (5500,)
    assert device.limit.setpoint.enabled
    with pytest.raises(DeviceRefused) as refused:
        await client.write_holding(1, address, (20000,))
    assert refused.value.exception_code == 3
    await client.close()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultKind.SPLIT, [(1, 1, b"\x03\x04SunS")]),
        (FaultKind.DUPLICATE, [(1, 1, b"\x03\x04SunS"), (1, 1, b"\x03\x04SunS")]),
        (FaultKind.WRONG_TRANSACTION, [(2, 1, b"\x03\x04SunS")]),
        (FaultKind.WRONG_UNIT, [(1, 2, b"\x03\x04SunS")]),
    ],
)
async def test_frames_are_damaged_as_the_fault_says(kind: FaultKind, expected: list[tuple[int, int, bytes]]) -> None:
    async with served(faulty(kind)) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, BASE, 2))
        assert [await client.receive() for _ in expected] == expected
        await client.close()


async def test_a_dropped_answer_to_a_write_has_been_executed() -> None:
    device = faulty(FaultKind.DROP)
    address = address_of(device, 123, "WMaxLimPct")
    async with served(device) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(write_request(1, address, 3300))
        with pytest.raises(TimeoutError):
            await client.receive(0.05)
        await client.close()
    assert device.limit.setpoint.value == pytest.approx(0.33)


def test_faults_begin_and_end_by_the_time_of_the_device() -> None:
    device = pv()
    device.apply_faults(plan(FaultKind.BUSY_AS_ZERO, start_s=100.0, duration_s=50.0))
    seen = {}
    for second in range(200):
        run(device, 1.0)
        seen[second + 1] = device.read_registers(1, BASE, 2) == (0, 0)
    assert [second for second, zero in seen.items() if zero] == list(range(100, 150))


def test_busy_as_zero_swallows_writes() -> None:
    device = faulty(FaultKind.BUSY_AS_ZERO)
    device.apply_faults(FaultPlan())
    address = address_of(device, 123, "WMaxLimPct")
    device.apply_faults(plan(FaultKind.BUSY_AS_ZERO))
    device.write_registers(1, address, (1000,))
    device.apply_faults(FaultPlan())
    assert device.read_registers(1, address, 1) == (10000,)


def test_a_faulty_device_still_refuses_what_cannot_be_asked() -> None:
    for kind in (FaultKind.BUSY_AS_ZERO, FaultKind.GARBAGE_REGISTERS):
        assert faulty(kind).answer(b"\x03\x9c\x40\xff\xff") == b"\x83\x03"


def test_a_stuck_device_repeats_itself_and_goes_on_living() -> None:
    device = pv()
    run(device, 30.0, Inputs(available_w=1000.0))
    address = address_of(device, 101, "W")
    device.apply_faults(plan(FaultKind.STUCK, start_s=device.now_s, duration_s=60.0))
    run(device, 30.0, Inputs(available_w=3000.0))
    assert device.read_registers(1, address, 1) == (1000,)
    assert device.generation_w == pytest.approx(3000.0)
    run(device, 31.0, Inputs(available_w=3000.0))
    assert device.read_registers(1, address, 1) == (3000,)


def test_measurements_read_as_not_implemented_while_the_fault_lasts() -> None:
    device = faulty(FaultKind.NOT_IMPLEMENTED)
    assert device.read_registers(1, address_of(device, 101, "W"), 1) == (0x8000,)
    assert device.read_registers(1, address_of(device, 101, "PhVphA"), 1) == (0xFFFF,)
    assert device.read_registers(1, address_of(device, 101, "WH"), 2) == (0, 0)
    assert device.read_registers(1, address_of(device, 120, "WRtg"), 1) == (50000,), "ratings are not measured"
    floats = pv(phases=3, quirks=Quirks(float_models=True))
    floats.apply_faults(plan(FaultKind.NOT_IMPLEMENTED))
    run(floats, 1.0)
    words = floats.read_registers(1, address_of(floats, 113, "W"), 2)
    (value,) = struct.unpack(">f", struct.pack(">2H", *words))
    assert value != value


def test_a_reboot_forgets_the_setpoint_unless_the_device_remembers() -> None:
    for remembers in (False, True):
        device = pv(quirks=Quirks(remembers_setpoints=remembers))
        device.write_registers(1, address_of(device, 123, "WMaxLimPct"), (1000,))
        device.write_registers(1, address_of(device, 123, "WMaxLim_Ena"), (1,))
        run(device, 30.0)
        device.apply_faults(plan(FaultKind.REBOOT, start_s=device.now_s, duration_s=20.0))
        run(device, 10.0)
        assert device.power_w == 0.0
        run(device, 40.0)
        assert device.generation_w == pytest.approx(500.0 if remembers else 3210.0, rel=1e-3)


def test_a_second_master_rewrites_the_limit_again_and_again() -> None:
    device = pv()
    device.apply_faults(plan(FaultKind.SECOND_MASTER, value=0.4, period_s=30.0))
    enable, limit = address_of(device, 123, "WMaxLim_Ena"), address_of(device, 123, "WMaxLimPct")
    seen = []
    for _ in range(90):
        run(device, 1.0)
        seen.append(device.read_registers(1, limit, 1)[0])
        device.write_registers(1, limit, (1000,))
        device.write_registers(1, enable, (1,))
    assert seen.count(4000) == 3


def test_a_second_master_commands_a_battery_through_the_door_it_has() -> None:
    for device in (battery(), battery(legacy=True)):
        device.apply_faults(plan(FaultKind.SECOND_MASTER, value=0.5, period_s=30.0))
        run(device, 10.0, Inputs())
        assert device.power_w == pytest.approx(2500.0, rel=0.25)


def test_a_setpoint_that_gets_lost_is_gone_until_it_is_written_again() -> None:
    device = pv()
    device.write_registers(1, address_of(device, 123, "WMaxLimPct"), (1000,))
    device.write_registers(1, address_of(device, 123, "WMaxLim_Ena"), (1,))
    run(device, 30.0)
    assert device.generation_w == pytest.approx(500.0)
    device.apply_faults(plan(FaultKind.SETPOINT_LOST, start_s=device.now_s + 5.0))
    run(device, 20.0)
    assert device.generation_w == pytest.approx(3210.0, rel=1e-3)


def test_a_device_may_acknowledge_a_limit_and_ignore_it() -> None:
    device = faulty(FaultKind.CONTROL_IGNORED)
    device.write_registers(1, address_of(device, 123, "WMaxLimPct"), (1000,))
    device.write_registers(1, address_of(device, 123, "WMaxLim_Ena"), (1,))
    run(device, 60.0)
    assert device.read_registers(1, address_of(device, 123, "WMaxLimPct"), 1) == (1000,)
    assert device.generation_w == pytest.approx(3210.0)


def test_the_same_plan_strikes_the_same_requests() -> None:
    def struck(seed: int) -> list[bool]:
        device = pv()
        device.apply_faults(plan(FaultKind.BUSY_AS_ZERO, share=0.3, seed=seed))
        run(device, 1.0)
        return [device.read_registers(1, BASE, 2) == (0, 0) for _ in range(200)]

    assert struck(5) == struck(5)
    assert struck(5) != struck(6)
    assert 35 <= sum(struck(5)) <= 85


def test_a_plan_is_data_that_survives_its_encoding() -> None:
    original = plan(FaultKind.SECOND_MASTER, value=0.4, period_s=60.0, share=0.5)
    assert msgspec.json.decode(msgspec.json.encode(original), type=FaultPlan) == original


async def _outcome(client: Any) -> Any:
    """The kind of failure, or the registers; few of them, because pymodbus forgets more than 264 bytes that come at once."""
    try:
        return await client.read_holding(1, BASE, 20)
    except DeviceError as error:
        return type(error)


