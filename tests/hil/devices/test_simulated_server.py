"""The Modbus endpoints: framing, exceptions, sessions, and the four faults of the pymodbus 3.16.1 server that this one must not have."""

import asyncio
import random
import struct

import pytest
from pymodbus.client import AsyncModbusTcpClient
from simulated_bench import RawClient, address_of, meter, pv, read_request, run, served, write_request
from sunspec2.modbus.client import SunSpecModbusClientDeviceRTU

from hil.devices.faults import Fault, FaultKind, FaultPlan
from hil.devices.quirks import Quirks
from hil.devices.registers import ModbusRefusal
from hil.devices.rtu import RtuConnection, SerialLineServer, crc16
from hil.devices.server import DeviceServer, Endpoint, ServerError


async def test_two_requests_in_one_segment_are_both_answered() -> None:
    """The first fault: the stock server answers the first and drops the rest."""
    async with served(pv()) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 40000, 2), read_request(2, 40002, 1), read_request(3, 40003, 1))
        answers = [await client.receive() for _ in range(3)]
        await client.close()
    assert [answer[0] for answer in answers] == [1, 2, 3]
    assert answers[0][2] == b"\x03\x04SunS"
    assert answers[1][2] == b"\x03\x02\x00\x01"
    assert answers[2][2] == b"\x03\x02\x00\x41"


async def test_a_request_that_arrives_in_pieces_is_answered_once() -> None:
    async with served(pv()) as endpoint:
        client = await RawClient.connect(endpoint)
        request = read_request(9, 40000, 2)
        for index in range(len(request)):
            client.send(request[index : index + 1])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.receive() == (9, 1, b"\x03\x04SunS")
        client.send(read_request(10, 40002, 1))
        assert (await client.receive())[0] == 10
        await client.close()


async def test_a_late_answer_keeps_the_transaction_of_its_own_request() -> None:
    """The second fault: the stock server stamps a late answer with the newest transaction, so registers of another address pass."""
    device = pv(quirks=Quirks(response_delay_s=0.05))
    async with served(device) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(100, 40000, 2))
        await asyncio.sleep(0.01)
        client.send(read_request(101, 40002, 1))
        answers = {transaction: pdu for transaction, _, pdu in [await client.receive(), await client.receive()]}
        await client.close()
    assert answers == {100: b"\x03\x04SunS", 101: b"\x03\x02\x00\x01"}


@pytest.mark.parametrize("count", [0, 126, 0xFFFF])
async def test_an_illegal_count_is_refused_with_exception_3_under_its_own_function(count: int) -> None:
    """The third fault: the stock server answers function 0x80, exception 1."""
    async with served(pv()) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 40000, count))
        assert await client.receive() == (1, 1, b"\x83\x03")
        await client.close()


@pytest.mark.parametrize("function", [1, 2, 5, 15, 23, 43, 99])
async def test_an_unknown_function_is_refused_with_exception_1(function: int) -> None:
    async with served(pv()) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 40000, 1, function=function))
        assert await client.receive() == (1, 1, bytes((function | 0x80, 1)))
        await client.close()


async def test_an_unknown_unit_is_refused_as_a_gateway_would_or_not_at_all() -> None:
    """The fourth fault: the stock server answers exception 4 out of a traceback."""
    async with served(pv()) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 40000, 1, unit=77))
        assert await client.receive() == (1, 77, b"\x83\x0b")
        await client.close()
    async with served(pv(), silent_to_strangers=True) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 40000, 1, unit=77), read_request(2, 40000, 1))
        assert (await client.receive())[0] == 2
        await client.close()


async def test_a_read_past_the_end_of_the_map_is_refused_with_exception_2() -> None:
    device = pv()
    ((base, end),) = device.registers.extent()
    async with served(device) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, end - 2, 2), read_request(2, end - 1, 2), read_request(3, base - 1, 2))
        assert (await client.receive())[2] == b"\x03\x04\xff\xff\x00\x00"
        assert (await client.receive())[2] == b"\x83\x02"
        assert (await client.receive())[2] == b"\x83\x02"
        await client.close()


def test_some_inverters_refuse_to_read_across_models_and_some_read_zeros_past_their_end() -> None:
    strict, lax = pv(quirks=Quirks(whole_models=True)), pv(quirks=Quirks(zeros_past_end=True))
    inside = address_of(strict, 101, "A")
    assert strict.read_registers(1, inside, 50)
    with pytest.raises(ModbusRefusal):
        strict.read_registers(1, inside, 51)
    ((_, end),) = lax.registers.extent()
    assert lax.read_registers(1, end - 2, 4) == (0xFFFF, 0, 0, 0)


@pytest.mark.parametrize(
    "pdu",
    [
        b"\x10\x9c\x40\x00\x02\x04\x00\x00",
        b"\x10\x9c\x40\x00\x02\x03\x00\x00\x00\x00",
        b"\x10\x9c\x40\x00\x00\x00",
        b"\x10\x9c\x40",
        b"\x03\x9c\x40\x00",
        b"\x06\x9c\x40\x00\x00\x00",
    ],
)
async def test_a_request_that_contradicts_itself_is_refused_with_exception_3(pdu: bytes) -> None:
    async with served(pv()) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(struct.pack(">HHHB", 5, 0, len(pdu) + 1, 1) + pdu)
        assert await client.receive() == (5, 1, bytes((pdu[0] | 0x80, 3)))
        await client.close()


async def test_a_stream_that_is_not_modbus_is_cut_and_others_go_on() -> None:
    async with served(pv()) as endpoint:
        good, bad = await RawClient.connect(endpoint), await RawClient.connect(endpoint)
        bad.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await _closed(bad)
        good.send(read_request(1, 40000, 2))
        assert (await good.receive())[2] == b"\x03\x04SunS"
        await good.close()


async def test_random_bytes_never_stop_the_server() -> None:
    rng = random.Random(7)
    async with served(pv()) as endpoint:
        for _ in range(60):
            client = await RawClient.connect(endpoint)
            client.send(rng.randbytes(rng.randrange(1, 300)))
            client.send(struct.pack(">HHH", 1, 0, 20) + rng.randbytes(20))
            await client.writer.drain()
            await client.close()
        client = await RawClient.connect(endpoint)
        client.send(read_request(1, 40000, 2))
        assert (await client.receive())[2] == b"\x03\x04SunS"
        await client.close()


async def test_a_device_with_one_session_turns_the_second_client_away() -> None:
    async with served(pv(), sessions=1) as endpoint:
        first = await RawClient.connect(endpoint)
        first.send(read_request(1, 40000, 2))
        await first.receive()
        second = await RawClient.connect(endpoint)
        assert await _closed(second)
        first.send(read_request(2, 40000, 2))
        assert (await first.receive())[0] == 2
        await first.close()
        await asyncio.sleep(0.01)
        third = await RawClient.connect(endpoint)
        third.send(read_request(3, 40000, 2))
        assert (await third.receive())[0] == 3
        await third.close()


async def test_many_units_share_one_port() -> None:
    async with served(pv(unit=1), meter(unit=2)) as endpoint:
        client = AsyncModbusTcpClient(endpoint.host, port=endpoint.port)
        await client.connect()
        first = await client.read_holding_registers(40000, count=70, device_id=1)
        second = await client.read_holding_registers(40000, count=70, device_id=2)
        client.close()
    assert first.registers[69] == 101
    assert second.registers[69] == 201


async def test_a_port_that_is_taken_is_one_clear_error() -> None:
    async with served(pv()) as endpoint:
        other = DeviceServer([Endpoint(devices=(pv(),), port=endpoint.port)])
        with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{endpoint.port}"):
            await other.start()


async def test_a_device_that_loses_power_drops_its_connections() -> None:
    endpoint = Endpoint(devices=(pv(),))
    server = DeviceServer([endpoint])
    await server.start()
    client = await RawClient.connect(endpoint)
    client.send(read_request(1, 40000, 2))
    await client.receive()
    assert server.drop_connections(endpoint.port) == 1
    assert await _closed(client)
    await server.stop()


async def test_writes_and_reads_in_one_segment_happen_in_their_order() -> None:
    device = pv()
    run(device, 5.0)
    address = address_of(device, 123, "WMaxLimPct")
    async with served(device) as endpoint:
        client = await RawClient.connect(endpoint)
        client.send(write_request(1, address, 4000), read_request(2, address, 1), write_request(3, address, 7000))
        client.send(read_request(4, address, 1))
        pdus = [(await client.receive())[2] for _ in range(4)]
        await client.close()
    assert pdus[1] == b"\x03\x02" + struct.pack(">H", 4000)
    assert pdus[3] == b"\x03\x02" + struct.pack(">H", 7000)


def test_the_checksum_of_a_serial_frame_is_that_of_the_standard() -> None:
    """MODBUS over Serial Line V1.02, section 6.2.2: the frame 02 07 has the checksum 1241h, low byte 41h first."""
    assert crc16(b"\x02\x07") == 0x1241


async def test_rtu_frames_over_tcp_are_answered_and_damaged_ones_are_not() -> None:
    endpoint = Endpoint(devices=(pv(),))
    server = DeviceServer([endpoint], connection=RtuConnection)
    await server.start()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    request = struct.pack(">BBHH", 1, 3, 40000, 2)
    writer.write(request + b"\x00\x00")
    await writer.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.05)
    writer.write(request + crc16(request).to_bytes(2, "little"))
    answer = await asyncio.wait_for(reader.readexactly(9), 2.0)
    assert answer[:7] == b"\x01\x03\x04SunS"
    assert crc16(answer[:-2]) == int.from_bytes(answer[-2:], "little")
    writer.close()
    await writer.wait_closed()
    await server.stop()


async def test_an_independent_client_reads_a_serial_line() -> None:
    """pysunspec2's RTU client over a pseudo-terminal."""
    device = pv()
    run(device, 30.0)
    line = SerialLineServer((device,))
    line.start()

    def scan() -> tuple[list[int], float]:
        client = SunSpecModbusClientDeviceRTU(slave_id=1, name=line.path, baudrate=9600)
        try:
            client.scan()
            return [model.model_id for model in client.model_list], client.models[101][0].W.cvalue
        finally:
            client.close()

    try:
        models, power_w = await asyncio.to_thread(scan)
    finally:
        line.stop()
    assert tuple(models) == device.model_ids
    assert power_w == pytest.approx(3210, abs=1)


async def test_a_late_answer_on_a_serial_line_carries_no_transaction() -> None:
    """Why the edge's RTU driver must keep silent after a timeout: this answer could be taken for that of the next request."""
    device = pv()
    device.apply_faults(FaultPlan(faults=(Fault(kind=FaultKind.DELAY, start_s=0.0, duration_s=10.0, value=0.05),)))
    endpoint = Endpoint(devices=(device,))
    server = DeviceServer([endpoint], connection=RtuConnection)
    await server.start()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    for address in (40000, 40002):
        request = struct.pack(">BBHH", 1, 3, address, 2)
        writer.write(request + crc16(request).to_bytes(2, "little"))
    first, second = await asyncio.wait_for(reader.readexactly(9), 2.0), await asyncio.wait_for(reader.readexactly(9), 2.0)
    assert first[3:7] == b"SunS"
    assert second[3:5] == b"\x00\x01"
    writer.close()
    await writer.wait_closed()
    await server.stop()


async def _closed(client: RawClient) -> bool:
    try:
        return await asyncio.wait_for(client.reader.read(1), 2.0) == b""
    except ConnectionError:
        return True
    finally:
        await client.close()
