"""MQTT over websockets: bytes between a browser and the page's broker, which alone decides what they may mean. A shell.

The broker takes plain MQTT from this machine and nothing else, because Mosquitto 2.0 serves websockets less well than MQTT. Frames are
bounded, a silent browser is dropped, and there is a limit to how many come at once and from one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

log = logging.getLogger(__name__)

MAX_FRAME_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 64 * 1024
HEARTBEAT_S: Final = 30.0
CONNECT_S: Final = 5.0
MAX_BROWSERS: Final = 400
MAX_BROWSERS_OF_ONE_PEER: Final = 40
PROTOCOL: Final = "mqtt"


class Relay:
    """All connections of browsers to one broker."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._peers: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One browser, until either side ends it."""
        peer = request.remote or ""
        if self._peers.total() >= MAX_BROWSERS or self._peers[peer] >= MAX_BROWSERS_OF_ONE_PEER:
            raise web.HTTPServiceUnavailable(text="too many connections; try again later")
        browser = web.WebSocketResponse(protocols=(PROTOCOL,), heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME_BYTES, compress=False)
        if not browser.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(text="expected a websocket with the protocol mqtt", headers={"Upgrade": "websocket"})
        self._peers[peer] += 1
        try:
            await browser.prepare(request)
            await self._join(browser)
        finally:
            self._peers[peer] -= 1
            if self._peers[peer] == 0:
                del self._peers[peer]
        return browser

    async def _join(self, browser: web.WebSocketResponse) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:
            await browser.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"the broker is away")
            return
        downward = asyncio.create_task(_downward(reader, browser))
        try:
            await _upward(browser, writer)
        finally:
            downward.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await downward
            writer.close()
            await browser.close()


async def _upward(browser: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    """From the browser to the broker. MQTT 5, section 6.0: a frame that is not binary ends the connection."""
    async for message in browser:
        if message.type is not WSMsgType.BINARY:
            await browser.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"expected binary frames")
            return
        try:
            writer.write(message.data)
            await writer.drain()
        except OSError:
            return


async def _downward(reader: asyncio.StreamReader, browser: web.WebSocketResponse) -> None:
    """From the broker to the browser; the end of one is the end of the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await browser.send_bytes(data)
    await browser.close(code=WSCloseCode.GOING_AWAY, message=b"the broker ended the connection")
