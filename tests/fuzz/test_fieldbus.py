"""What comes over Modbus: to the edge from devices that answer anything (TCP, RTU over TCP, a serial line), and to the bench's devices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import random
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from edge.devices.modbus import ModbusClient, ModbusRtuClient, ModbusTcpClient
from edge.devices.transport import SerialLine, TransportOptions
from edge.errors import DeviceError
from hil.devices.meter import Meter
from hil.devices.server import DeviceServer, Endpoint
from tests.edge.devices.edge_awkward_server import crc16
from tests.fuzz.mutation import SEED, boundary, is_one_line, mutations

OPTIONS = TransportOptions(timeout_s=0.02, retries=0, backoff_s=0.0, backoff_max_s=0.0, late_s=0.002)
BOUND_S = 20.0
UNIT, FIRST, REGISTERS = 1, 100, 8


def tcp_frame(pdu: bytes, transaction: int = 1) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, UNIT) + pdu


def rtu_frame(pdu: bytes) -> bytes:
    body = bytes([UNIT]) + pdu
    return body + crc16(body)


PDUS = [
    bytes([3, 2 * REGISTERS]) + bytes(range(2 * REGISTERS)),
    bytes([4, 2 * REGISTERS]) + bytes(2 * REGISTERS),
    bytes([0x83, 2]),
    bytes([0x83, 6]),
    struct.pack(">BHH", 16, FIRST, 2),
    struct.pack(">BHH", 6, FIRST, 7),
]


def answers_of(framing: str, count: int) -> list[bytes]:
    """Frames and what becomes of them."""
    make: Callable[[bytes], bytes] = tcp_frame if framing == "tcp" else rtu_frame
    good = [make(pdu) for pdu in PDUS]
    return list(mutations(good, count))


async def ask(client: ModbusClient, number: int) -> None:
    """One request; a device may disappoint, in one line and in bounded time."""
    try:
        async with asyncio.timeout(BOUND_S):
            match number % 3:
                case 0:
                    values = await client.read_holding(UNIT, FIRST, REGISTERS)
                    assert len(values) == REGISTERS and all(0 <= value <= 0xFFFF for value in values)
                case 1:
                    await client.write_holding(UNIT, FIRST, [1, 2])
                case _:
                    await client.write_single(UNIT, FIRST, 7)
    except DeviceError as error:
        assert is_one_line(str(error)), str(error)


@asynccontextmanager
async def liar(answers: list[bytes], *, echo_transaction: bool) -> AsyncIterator[int]:
    """A server that answers each request with the next of these; yields its port. Now and then it hangs up."""
    rng, left = random.Random(SEED), iter(answers)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(ConnectionError):
            while request := await reader.read(512):
                answer = next(left, b"")
                if echo_transaction and rng.random() < 0.7:
                    answer = request[:2] + answer[2:]
                writer.write(answer)
                if rng.random() < 0.05:
                    break
            writer.close()
            await writer.wait_closed()
        serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*serving)
        await server.wait_closed()


@boundary
@pytest.mark.parametrize("framing", ["tcp", "rtu"])
async def test_an_edge_bears_any_answer_of_a_device(framing: str, count: int) -> None:
    answers = answers_of(framing, count)
    async with liar(answers, echo_transaction=framing == "tcp") as port:
        client = ModbusTcpClient("127.0.0.1", port, framing=framing, options=OPTIONS)  # type: ignore[arg-type]
        for number in range(count):
            await ask(client, number)
        await client.close()


@boundary
async def test_an_edge_bears_any_noise_on_a_serial_line(count: int) -> None:
    """A pseudo-terminal is the line; the far end answers with noise, also when nobody asked."""
    far, near = pty.openpty()
    tty.setraw(far)
    tty.setraw(near)
    os.set_blocking(far, False)
    loop, rng, noise = asyncio.get_running_loop(), random.Random(SEED), iter(answers_of("rtu", 2 * count))

    def respond() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(far, 4096)
            _offer(far, next(noise, b""))

    loop.add_reader(far, respond)
    client = ModbusRtuClient(SerialLine(port=os.ttyname(near)), options=OPTIONS)
    try:
        for number in range(count):
            if rng.random() < 0.05:
                _offer(far, next(noise, b""))
            await ask(client, number)
        await client.close()
    finally:
        loop.remove_reader(far)
        os.close(far)
        os.close(near)


@boundary
async def test_a_simulated_device_bears_any_request(count: int) -> None:
    """So that another controller under test cannot stop the bench."""
    endpoint = Endpoint(devices=(Meter("meter", rated_w=14_000.0, phases=1),))
    server = DeviceServer((endpoint,))
    await server.start()
    requests = [tcp_frame(struct.pack(">BHH", 3, 40000, 50)), tcp_frame(struct.pack(">BHHB", 16, 40100, 2, 4) + bytes(4))]
    requests += [tcp_frame(struct.pack(">BHH", 6, 40100, 1)), tcp_frame(bytes([43, 14, 1, 0]))]
    try:
        for data in mutations(requests, count):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(BOUND_S):
                await reader.read(100_000)
            writer.close()
        client = ModbusTcpClient(endpoint.host, endpoint.port)
        assert (await client.read_holding(1, 40000, 2)) == (0x5375, 0x6E53), "SunS: it still serves"
        await client.close()
    finally:
        await server.stop()


def _offer(line: int, data: bytes) -> None:
    """Write as much as the line takes."""
    with contextlib.suppress(BlockingIOError):
        os.write(line, data[:2000])
