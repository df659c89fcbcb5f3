"""What comes over HTTP and websockets from anybody: to the page, and to figures and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from coordinator.page import runner as runner_module
from coordinator.page.access import Tokens
from coordinator.page.board import Board
from coordinator.page.estimate import Estimator
from coordinator.page.projector import Projector
from coordinator.page.replay import Archive
from coordinator.page.runner import page_runner
from coordinator.page.server import PageServer
from coordinator.page.settings import PageSection
from coordinator.store import Store
from protocols.clock import ManualClock
from protocols.files import write_private
from protocols.memory_bus import MemoryBroker
from protocols.observation.book import MetricBook
from protocols.observation.health import Health, judged
from protocols.observation.server import ObservationServer
from protocols.observation.settings import MetricsSection
from tests.coordinator.service.service_world import START_S, settings, street
from tests.fuzz.mutation import boundary, is_one_line, mutations

PATIENCE_S, IDLE_S = 20.0, 0.25
TOGETHER = 8
HANDSHAKE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\nOrigin: http://localhost\r\n\r\n"
)
CONNECT = b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00"
MASK = bytes([1, 2, 3, 4])
FRAME = bytes([0x82, 0x80 | len(CONNECT)]) + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(CONNECT))
GOOD = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n",
    b'GET /main.js HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "abc"\r\n\r\n',
    b"GET /api/session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer home-a:token\r\n\r\n",
    b"GET /api/feeder HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/now HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/day?start=1700000000&end=1700086400 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/home?name=h1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HANDSHAKE,
    HANDSHAKE + FRAME,
]
FIGURES = [
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
    *GOOD[:3],
    GOOD[6],
]


async def answers(port: int, data: bytes) -> bytes:
    """Send, and read what comes until nothing more does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            while more := await asyncio.wait_for(reader.read(1_000_000), IDLE_S):
                answer += more
    except (ConnectionError, TimeoutError):
        return answer
    finally:
        writer.close()
    return answer


def check(data: bytes, answer: bytes) -> None:
    """Of every answer in what came back: no fault of the server, and for a refusal one line that says why."""
    if not answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    assert status < 500 or status == 503, (data, answer[:500])
    if status >= 400 and b"Content-Encoding" not in head and answer.count(b"HTTP/1.") == 1:
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        text = body[:length].decode("utf-8").strip()
        assert text == "" or is_one_line(text), (data, text)
        assert "Traceback" not in text and "File " not in text


async def hammer(port: int, good: list[bytes], count: int) -> None:
    """All inputs, some at once; most are answered in some way."""
    waiting: set[asyncio.Task[None]] = set()
    answered = 0

    async def one(data: bytes) -> None:
        nonlocal answered
        answer = await answers(port, data)
        check(data, answer)
        answered += answer != b""

    for data in mutations(good, count):
        waiting.add(asyncio.create_task(one(data)))
        if len(waiting) >= TOGETHER:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    for task in waiting:
        await task
    assert answered > count / 2


@asynccontextmanager
async def page(folder: Path) -> AsyncIterator[int]:
    """The page's server in this process, before a broker that swallows what it is sent; yields its port."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            continue
        writer.close()

    broker = await asyncio.start_server(swallow, "127.0.0.1", 0)
    clock = ManualClock(START_S)
    section = PageSection(broker_port=broker.sockets[0].getsockname()[1])
    config = msgspec.structs.replace(settings(), page=section)
    estimator = Estimator(config, street())
    board = Board(config, estimator)
    Store(f"sqlite:///{folder / 'c.db'}").close()
    write_private(folder / "page.tokens", b"")
    projector = Projector(board, MemoryBroker().client(), clock, config.identity.community)
    archive = Archive(f"sqlite:///{folder / 'c.db'}", board.network, board.diagram, estimator)
    runner = page_runner(PageServer(config, board, projector, archive, Tokens(folder / "page.tokens"), clock).app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        archive.close()
        broker.close()
        await broker.wait_closed()


@boundary
async def test_the_page_answers_or_refuses_in_one_line(count: int, tmp_path: Path) -> None:
    async with page(tmp_path) as port:
        await hammer(port, GOOD, count)
        assert (await answers(port, GOOD[3])).startswith(b"HTTP/1.1 200 OK"), "it still serves"


@boundary
async def test_figures_and_health_answer_or_refuse_in_one_line(count: int, tmp_path: Path) -> None:
    health = Health(service="test", description="a test", version="1", checks=(judged("all", True, "well"),), time_s=START_S)
    section, book = MetricsSection(enabled=True, port=0), MetricBook(())
    server = ObservationServer(section, tmp_path, book=book, refresh=lambda: None, health=lambda: health)
    await server.start()
    try:
        await hammer(server.port, FIGURES, count)
        assert b" 200 " in (await answers(server.port, FIGURES[0]))[:20], "it still serves"
    finally:
        await server.stop()


async def test_whoever_never_ends_its_question_is_shown_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PATIENCE_S", 0.2)
    async with page(tmp_path) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()
        assert (await answers(port, GOOD[0])).startswith(b"HTTP/1.1 200 OK")
