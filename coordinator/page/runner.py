"""aiohttp with fewer words: what is not HTTP is answered with one line, and what strangers send does not reach the log.

aiohttp answers a request that it cannot parse with several lines that quote it, and logs a trace. Its place for another answer is
`RequestHandler.handle_error`, which only a subclass reaches; that is why `pyproject.toml` pins the minor series. A shell.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

log = logging.getLogger(__name__)

LEAVE_S: Final = 2.0
IDLE_S: Final = 30.0
PATIENCE_S: Final = 10.0
MAX_CONNECTIONS: Final = 800
MAX_LINE_BYTES: Final = 4096
MAX_FIELD_BYTES: Final = 8192


class _TerseHandler(RequestHandler):
    """One connection. Whoever comes and asks for nothing, or never ends its question, is shown out."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, where there are not too many."""
        super().connection_made(transport)
        manager = self._manager
        if manager is not None and len(manager.connections) > MAX_CONNECTIONS:
            self.force_close()
        else:
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        patience = getattr(self, "_patience", None)
        if patience is not None:
            patience.cancel()
        super().connection_lost(exc)

    def _lose_patience(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """One line, and the end of the connection. A fault of ours is logged, a stranger's is not."""
        del message
        if status >= 500:
            log.error("a request could not be answered: %s", type(exc).__name__, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        answer = web.Response(status=status, text="the request cannot be understood" if status < 500 else "the page's server failed")
        answer.force_close()
        return answer


class _TerseServer(web.Server):
    """All connections."""

    def __call__(self) -> RequestHandler:
        return _TerseHandler(self, loop=self._loop, **self._kwargs)


class _TerseRunner(web.AppRunner):
    """The runner of one application."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _TerseServer(made.request_handler, request_factory=made.request_factory, **made._kwargs)


def page_runner(app: web.Application) -> web.AppRunner:
    """What serves an application to strangers: bounded lines and fields, no access log, connections that are idle are closed."""
    return _TerseRunner(
        app,
        access_log=None,
        shutdown_timeout=LEAVE_S,
        keepalive_timeout=IDLE_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    )
