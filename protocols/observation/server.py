"""The HTTP boundary of figures and health: GET and HEAD of two paths, and nothing else. A shell on the loop of its owner.

h11 reads the requests, so what is not HTTP is refused by a library that was written for that. Everything is bounded: head and body of a
request, the time a client may take, how many clients are served at once, how many requests a connection may carry. A client can cost
one rendering of the page at a time and nothing more; nothing that it sends reaches the control cycle or the log in its own words.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import h11
from msgspec import Struct

from protocols.files import FileRefused, read_private
from protocols.observation.book import CONTENT_TYPE as METRICS_TYPE
from protocols.observation.book import MetricBook
from protocols.observation.health import CONTENT_TYPE as HEALTH_TYPE
from protocols.observation.health import Health
from protocols.observation.settings import MetricsSection

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 8192
MAX_BODY_BYTES: Final = 4096
MAX_CLIENTS: Final = 16
MAX_REQUESTS: Final = 1000
PATIENCE_S: Final = 10.0
"""How long a client may take for one request, and how long an idle connection stays."""

READ_BYTES: Final = 4096
LINGER_READS: Final = 16
TOKEN_CHARS: Final = (16, 256)
TEXT: Final = "text/plain; charset=utf-8"


class Reply(Struct, frozen=True, kw_only=True):
    """An answer before it is sent."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


class ObservationServer:
    """Serves one book of figures and one health. `refresh` is called before figures are read, `health` when the verdict is asked for."""

    def __init__(
        self, section: MetricsSection, folder: Path, *, book: MetricBook, refresh: Callable[[], None], health: Callable[[], Health]
    ) -> None:
        self._section = section
        self._token = None if section.token_file is None else read_token(folder / section.token_file)
        self._book = book
        self._refresh = refresh
        self._health = health
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens; differs from the configured port where that is 0."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises `OSError` where the address cannot be had."""
        section = self._section
        self._server = await asyncio.start_server(self._serve, section.host, section.port, limit=READ_BYTES, backlog=MAX_CLIENTS)
        log.info("figures and health at http://%s:%d", section.host, self.port)

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) >= MAX_CLIENTS:
                return
            self._clients.add(task)
            with contextlib.suppress(TimeoutError, OSError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._clients.discard(task)
            if writer.transport.get_write_buffer_size() > 0:
                writer.transport.abort()
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        for _ in range(MAX_REQUESTS):
            async with asyncio.timeout(PATIENCE_S):
                try:
                    request = await _request(connection, reader)
                except h11.RemoteProtocolError as error:
                    await _send(connection, writer, Reply(status=error.error_status_hint, body=b"not understood\n"), head=False)
                    await _linger(reader, writer)
                    return
                if request is None:
                    return
                await _send(connection, writer, self.answer(request), head=request.method == b"HEAD")
            if connection.our_state is not h11.DONE:
                return
            connection.start_next_cycle()

    def answer(self, request: h11.Request) -> Reply:
        """The reply to one complete request."""
        path = request.target.split(b"?", 1)[0]
        if path not in (b"/metrics", b"/health"):
            return Reply(status=404, body=b"there are /metrics and /health\n")
        if request.method not in (b"GET", b"HEAD"):
            return Reply(status=405, body=b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))
        known = self._token is None or _bearer(request, self._token)
        if path == b"/health":
            health = self._health()
            return Reply(status=health.status, body=health.document() if known else health.bare(), content_type=HEALTH_TYPE)
        if not known:
            return Reply(status=401, body=b"a bearer token is needed\n", headers=(("WWW-Authenticate", "Bearer"),))
        self._refresh()
        return Reply(status=200, body=self._book.render(), content_type=METRICS_TYPE)


class OptionalServer:
    """A server that may be off, and whose address may be taken: what watches must not stop what works."""

    def __init__(self, server: ObservationServer | None) -> None:
        self._server = server

    @property
    def port(self) -> int | None:
        """Where figures and health are served, None where they are not."""
        return None if self._server is None else self._server.port

    async def start(self) -> None:
        """Begin to serve; an address that cannot be had is reported."""
        if self._server is not None:
            try:
                await self._server.start()
            except OSError as error:
                log.error("figures and health are not served: %s", error)
                self._server = None

    async def stop(self) -> None:
        """Close."""
        if self._server is not None:
            await self._server.stop()


def read_token(path: Path) -> bytes:
    """The token in a file of mode 0600. Raises `FileRefused`; the message never shows it."""
    token = read_private(path).strip()
    if not TOKEN_CHARS[0] <= len(token) <= TOKEN_CHARS[1] or not token.isascii() or any(byte <= 0x20 for byte in token):
        raise FileRefused(f"{path}: expected {TOKEN_CHARS[0]} to {TOKEN_CHARS[1]} printable ASCII characters without spaces")
    return token


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next request with its body read and dropped; None where the client has gone."""
    request: h11.Request | None = None
    body_bytes = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body_bytes += len(event.data)
            if body_bytes > MAX_BODY_BYTES:
                raise h11.RemoteProtocolError("body too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:
            return None


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, reply: Reply, *, head: bool) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [
        ("Content-Type", reply.content_type),
        ("Content-Length", str(len(reply.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *reply.headers,
    ]
    data = connection.send(h11.Response(status_code=reply.status, headers=headers)) or b""
    if not head:
        data += connection.send(h11.Data(data=reply.body)) or b""
    writer.write(data + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a little of what is still under way: closing on unread bytes would reset the connection and take the answer with it."""
    writer.write_eof()
    for _ in range(LINGER_READS):
        if await reader.read(READ_BYTES) == b"":
            return


def _bearer(request: h11.Request, token: bytes) -> bool:
    given = next((value for name, value in request.headers if name == b"authorization"), b"")
    scheme, _, credentials = given.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), token)
