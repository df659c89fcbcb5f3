"""The Modbus client on real loopback sockets, against the traps of research on pymodbus 3.16.1 and against its own server."""

import asyncio
import struct

import pytest
from edge_awkward_server import AwkwardServer, Request
from edge_device_bank import failure
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.devices.modbus import ModbusTcpClient
from edge.devices.registry import DeviceConfig, ModbusSessions
from edge.devices.sunspec.fields import survey
from edge.devices.transport import TransportOptions
from edge.errors import DeviceGarbage, DeviceRefused, DeviceTimeout, DeviceUnreachable
from edge.values import DeviceKind
from protocols.clock import ManualClock

PATIENT = TransportOptions(timeout_s=20.0, retries=0)
QUICK = TransportOptions(timeout_s=0.2, retries=0, backoff_s=60.0)
"""For tests in which nobody answers; whoever answers has time enough on a busy machine."""


def good(request: Request) -> bytes:
    return request.registers() if request.function in (3, 4) else request.acknowledged()


def client(server: AwkwardServer, options: TransportOptions = PATIENT, clock: ManualClock | None = None) -> ModbusTcpClient:
    monotonic = None if clock is None else clock.monotonic_s
    return ModbusTcpClient("127.0.0.1", server.port, framing="rtu" if server.rtu else "tcp", options=options, monotonic_s=monotonic)


async def test_it_reads_and_writes_what_the_pymodbus_server_holds() -> None:
    device = SimDevice(7, simdata=[SimData(0, values=[0] * 200, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    it = ModbusTcpClient("127.0.0.1", port)
    await it.write_holding(7, 10, [1, 0xFFFF, 3])
    await it.write_single(7, 13, 4)
    assert await it.read_holding(7, 9, 6) == (0, 1, 0xFFFF, 3, 4, 0)
    assert len(await it.read_holding(7, 0, 125)) == 125
    assert isinstance(await failure(it.read_holding(7, 500, 2)), DeviceRefused)
    await it.close()
    await server.shutdown()


@pytest.mark.parametrize(
    ("what", "pdu"),
    [
        ("one register too few", bytes([3, 4]) + b"\0" * 4),
        ("one register too many", bytes([3, 8]) + b"\0" * 8),
        ("a byte count above the frame", bytes([3, 6]) + b"\0" * 4),
        ("a byte count below the frame", bytes([3, 2]) + b"\0" * 6),
        ("an odd byte count", bytes([3, 5]) + b"\0" * 5),
        ("function 4 instead of 3", bytes([4, 6]) + b"\0" * 6),
        ("an acknowledgement of a write", bytes([16]) + struct.pack(">HH", 10, 3)),
        ("a function nobody knows", bytes([99, 1, 2])),
        ("no data at all", bytes([3])),
    ],
)
async def test_an_answer_that_cannot_be_meant_is_garbage(what: str, pdu: bytes) -> None:
    async with AwkwardServer(lambda request: pdu) as server:
        it = client(server)
        assert isinstance(await failure(it.read_holding(1, 10, 3)), DeviceGarbage), what
        server.answer = good
        assert await it.read_holding(1, 10, 3) == (10, 11, 12), "and the next request is answered again"
        await it.close()


@pytest.mark.parametrize("pdu", [bytes([16]) + struct.pack(">HH", 11, 2), bytes([16]) + struct.pack(">HH", 10, 1)])
async def test_the_acknowledgement_of_another_write_is_garbage(pdu: bytes) -> None:
    async with AwkwardServer(lambda request: pdu) as server:
        it = client(server)
        assert isinstance(await failure(it.write_holding(1, 10, [5, 6])), DeviceGarbage)
        await it.close()


async def test_a_single_write_must_be_echoed_as_it_was() -> None:
    async with AwkwardServer(lambda request: bytes([6]) + struct.pack(">HH", request.address, 9)) as server:
        it = client(server)
        assert isinstance(await failure(it.write_single(1, 10, 5)), DeviceGarbage)
        await it.close()


async def test_an_exception_is_a_refusal_with_its_code() -> None:
    async with AwkwardServer(lambda request: bytes([0x83, 2])) as server:
        it = client(server)
        error = await failure(it.read_holding(1, 10, 3))
        assert isinstance(error, DeviceRefused) and error.exception_code == 2 and "illegal data address" in str(error)
        await it.close()


async def test_a_busy_device_is_asked_again_and_never_taken_for_zero() -> None:
    answers = [bytes([0x83, 6]), None]
    async with AwkwardServer(lambda request: answers.pop(0) or good(request)) as server:
        it = client(server, TransportOptions(timeout_s=0.5, retries=1))
        assert await it.read_holding(1, 10, 2) == (10, 11)
        server.answer = lambda request: bytes([0x83, 6])
        error = await failure(it.read_holding(1, 10, 2))
        assert isinstance(error, DeviceRefused) and error.exception_code == 6
        assert len(server.requests) == 4
        await it.close()


async def test_a_late_answer_over_tcp_belongs_to_its_own_request() -> None:
    async with AwkwardServer(lambda request: None) as server:
        it = client(server, TransportOptions(timeout_s=0.2, retries=0, backoff_s=0.0))
        assert isinstance(await failure(it.read_holding(1, 100, 2)), DeviceTimeout)
        late = server.framed(server.requests[0], good(server.requests[0]))
        server.frame = lambda request: late + server.framed(request, good(request))
        assert await it.read_holding(1, 200, 2) == (200, 201)
        await it.close()


LATE = TransportOptions(timeout_s=0.2, retries=0, late_s=0.5, backoff_s=0.0)


async def test_a_late_answer_over_rtu_is_not_taken_for_the_next_one() -> None:
    async with AwkwardServer(lambda request: (0.3, good(request)), rtu=True) as server:
        it = client(server, LATE)
        assert isinstance(await failure(it.read_holding(1, 100, 2)), DeviceTimeout)
        server.answer = good
        assert await it.read_holding(1, 200, 2) == (200, 201)
        assert server.times_s[1] - server.times_s[0] >= 0.69, "the line stayed silent while an answer could still come"
        await it.close()


async def test_rtu_frames_with_a_broken_checksum_are_no_answer() -> None:
    async with AwkwardServer(good, rtu=True) as server:
        it = client(server, QUICK)
        assert await it.read_holding(1, 7, 2) == (7, 8)
        await it.write_holding(1, 7, [1, 2])
        server.frame = lambda request: server.framed(request, good(request))[:-2] + b"\0\0"
        assert isinstance(await failure(it.read_holding(1, 7, 2)), DeviceTimeout)
        await it.close()


@pytest.mark.parametrize("field", ["transaction", "unit", "protocol"])
async def test_an_answer_for_somebody_else_is_no_answer(field: str) -> None:
    async with AwkwardServer(good) as server:

        def frame(request: Request) -> bytes:
            transaction = request.transaction + (field == "transaction")
            pdu = good(request)
            return struct.pack(">HHHB", transaction, int(field == "protocol"), len(pdu) + 1, request.unit + (field == "unit")) + pdu

        server.frame = frame
        it = client(server, QUICK)
        assert isinstance(await failure(it.read_holding(1, 10, 2)), DeviceTimeout)
        await it.close()


async def test_a_transaction_number_of_zero_is_garbage() -> None:
    async with AwkwardServer(good) as server:
        server.frame = lambda request: b"\0\0" + server.framed(request, good(request))[2:]
        it = client(server)
        assert isinstance(await failure(it.read_holding(1, 10, 2)), DeviceGarbage)
        await it.close()


async def test_an_answer_in_pieces_is_put_together() -> None:
    async with AwkwardServer(good) as server:

        def pieces(request: Request) -> bytes:
            whole = server.framed(request, good(request))
            writer = server._writers[-1]
            asyncio.get_running_loop().call_later(0.01, writer.write, whole[5:])
            return whole[:5]

        server.frame = pieces
        it = client(server)
        assert await it.read_holding(1, 10, 2) == (10, 11)
        await it.close()


async def test_a_lost_connection_fails_at_once_and_is_opened_again() -> None:
    async with AwkwardServer(good) as server:
        it = client(server, TransportOptions(timeout_s=30.0, retries=0))
        server.close_after = 2
        assert await it.read_holding(1, 10, 1) == (10,)
        before_s = asyncio.get_running_loop().time()
        assert isinstance(await failure(it.read_holding(1, 10, 1)), DeviceUnreachable)
        assert asyncio.get_running_loop().time() - before_s < 5.0, "not after the timeout of 30 s"
        assert await it.read_holding(1, 11, 1) == (11,)
        assert server.connections == 2
        await it.close()


async def test_a_device_that_is_off_is_tried_ever_more_rarely_and_found_when_it_is_back() -> None:
    clock = ManualClock(1_000_000.0)
    server = AwkwardServer(good)
    await server.start()
    await server.stop()
    it = client(server, TransportOptions(timeout_s=5.0, retries=0, backoff_s=1.0, backoff_max_s=4.0), clock)
    attempts: list[int] = []
    for second in range(20):
        error = await failure(it.read_holding(1, 1, 1))
        assert isinstance(error, DeviceUnreachable)
        if "cannot connect" in str(error):
            attempts.append(second)
        clock.advance(1.0)
    assert attempts == [0, 1, 2, 4, 8, 12, 16]
    await server.start()
    for _ in range(4):
        clock.advance(1.0)
    assert await it.read_holding(1, 1, 1) == (1,)
    await it.close()
    await server.stop()


async def test_a_silent_unit_does_not_take_the_line_from_its_neighbour() -> None:
    clock = ManualClock(1_000_000.0)
    async with AwkwardServer(lambda request: None if request.unit == 2 else good(request)) as server:
        it = client(server, TransportOptions(timeout_s=0.5, retries=0, backoff_s=10.0), clock)
        for _ in range(20):
            assert isinstance(await failure(it.read_holding(2, 1, 1)), DeviceTimeout)
            assert await it.read_holding(1, 1, 1) == (1,)
        assert sum(request.unit == 2 for request in server.requests) == 2, "once, once more, then not for ten seconds"
        assert server.connections == 1
        clock.advance(11.0)
        server.answer = good
        assert await it.read_holding(2, 5, 1) == (5,)
        await it.close()


async def test_a_dead_endpoint_does_not_slow_another_one() -> None:
    async with AwkwardServer(lambda request: None) as dead, AwkwardServer(good) as alive:
        slow, quick = client(dead, TransportOptions(timeout_s=1.0, retries=0)), client(alive)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        waiting = asyncio.ensure_future(failure(slow.read_holding(1, 1, 1)))
        assert await quick.read_holding(1, 1, 1) == (1,)
        assert loop.time() - started_s < 0.9
        assert isinstance(await waiting, DeviceTimeout)
        await slow.close()
        await quick.close()


async def test_devices_behind_one_endpoint_share_one_session_and_never_talk_at_once() -> None:
    async with AwkwardServer(lambda request: (0.005, good(request))) as server:
        sessions = ModbusSessions()
        clients = [
            sessions(DeviceConfig(name=f"d{unit}", kind=DeviceKind.METER, host="127.0.0.1", port=server.port, unit=unit))
            for unit in range(1, 6)
        ]
        answers = await asyncio.gather(*(c.read_holding(unit, 10 * unit, 2) for unit, c in enumerate(clients, 1)))
        assert answers == [(10 * unit, 10 * unit + 1) for unit in range(1, 6)]
        assert server.connections == 1
        gaps_s = [b - a for a, b in zip(server.times_s, server.times_s[1:], strict=False)]
        assert min(gaps_s) >= 0.004, "the next request waits for the answer"
        for one in clients[:-1]:
            await one.close()
        assert await clients[-1].read_holding(5, 1, 1) == (1,)
        await clients[-1].close()


async def test_the_silence_between_requests_is_kept() -> None:
    async with AwkwardServer(good) as server:
        it = client(server, TransportOptions(timeout_s=1.0, gap_s=0.025))
        for _ in range(4):
            await it.read_holding(1, 1, 1)
        gaps_s = [b - a for a, b in zip(server.times_s, server.times_s[1:], strict=False)]
        assert min(gaps_s) >= 0.024
        await it.close()


async def test_a_connection_on_which_nobody_answers_any_more_is_replaced() -> None:
    async with AwkwardServer(good) as server:
        it = client(server, TransportOptions(timeout_s=0.2, retries=0, backoff_s=0.0))
        assert await it.read_holding(1, 1, 1) == (1,)
        server.answer = lambda request: None
        for _ in range(3):
            assert isinstance(await failure(it.read_holding(1, 1, 1)), DeviceTimeout)
        server.answer = good
        assert await it.read_holding(1, 1, 1) == (1,)
        assert server.connections == 2
        await it.close()


async def test_input_registers_are_asked_for_with_function_4() -> None:
    async with AwkwardServer(good) as server:
        it = client(server)
        assert await it.read_input(1, 30, 2) == (30, 31)
        assert server.requests[0].function == 4
        await it.close()


async def test_a_request_that_is_given_up_over_rtu_does_not_answer_the_next_one() -> None:
    async with AwkwardServer(lambda request: (0.3, good(request)), rtu=True) as server:
        it = client(server, LATE)
        given_up = asyncio.ensure_future(it.read_holding(1, 100, 2))
        while not server.requests:
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        server.answer = good
        assert await it.read_holding(1, 200, 2) == (200, 201)
        await it.close()


async def test_a_device_whose_map_leads_behind_the_last_register_is_garbage() -> None:
    """A SunSpec device that answers everything, and whose nameplate claims 60 000 registers from 40 069 on."""
    head = {40000: 0x5375, 40001: 0x6E53, 40002: 1, 40003: 65, 40069: 120, 40070: 60000}

    def answer(request: Request) -> bytes:
        registers = [head.get(address, 0) for address in range(request.address, request.address + request.count)]
        return bytes([request.function, 2 * request.count]) + struct.pack(f">{request.count}H", *registers)

    async with AwkwardServer(answer) as server:
        it = client(server)
        assert isinstance(await failure(survey(it, 1, (40000,))), DeviceGarbage)
        assert server.requests[-1].address <= 0xFFFF
        await it.close()
