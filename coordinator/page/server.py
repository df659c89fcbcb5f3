"""The HTTP server of the page: files, the feeder's shape, the present, a day, and the relay to the broker. A shell.

What a browser may load is only what this server sends: the content security policy allows no inline script or style and no other origin.
A bad request is answered with one line and a status of 400 or above, never with a trace.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from coordinator.config import CoordinatorConfig
from coordinator.errors import CoordinatorError
from coordinator.page.access import Failures, Tokens, Visitor, visitor_of
from coordinator.page.board import Board
from coordinator.page.projector import Projector
from coordinator.page.relay import Relay
from coordinator.page.replay import LONGEST_S, Archive
from protocols.clock import Clock
from protocols.topics import FEEDER_VIEW, PUBLIC_VIEW, election_topic, node_topic, page_topic
from protocols.units import MAX_TIME_S

log = logging.getLogger(__name__)

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
MAX_BODY_BYTES: Final = 4096
REPLAYS_KEPT: Final = 8
RECENT_S: Final = 6 * 3600.0
RECENT_STEP_S: Final = 300.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageServer:
    """See the module; `app` is what aiohttp serves."""

    def __init__(
        self, config: CoordinatorConfig, board: Board, projector: Projector, archive: Archive, tokens: Tokens, clock: Clock
    ) -> None:
        self._config = config
        self._board = board
        self._projector = projector
        self._archive = archive
        self._tokens = tokens
        self._clock = clock
        self._failures = Failures()
        self._relay = Relay(config.page.broker_port)
        self._files = _read_files()
        self._replays: OrderedDict[tuple[float, float, Visitor], bytes] = OrderedDict()
        self._replaying = asyncio.Semaphore(1)

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[_guarded], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(_with_headers)
        app.router.add_get("/api/session", self._session)
        app.router.add_get("/api/feeder", self._feeder)
        app.router.add_get("/api/now", self._now)
        app.router.add_get("/api/home", self._home)
        app.router.add_get("/api/day", self._day)
        app.router.add_get("/mqtt", self._mqtt)
        app.router.add_get("/{path:.*}", self._file)
        return app

    async def _file(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["path"] or "index.html")
        if found is None:
            raise web.HTTPNotFound(text="no such page")
        data, kind, tag = found
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        response = web.Response(body=data, headers={"Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache"})
        response.enable_compression()
        return response

    async def _mqtt(self, request: web.Request) -> web.StreamResponse:
        """A page of another site must not use what this browser may do here."""
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text=f"this page is not served to {origin[:100]}")
        return await self._relay.handle(request)

    async def _session(self, request: web.Request) -> web.Response:
        """Who the browser speaks for, and what it may subscribe to."""
        visitor = self._visitor(request)
        community = self._config.identity.community
        if visitor.sees_all:
            topics = [page_topic(community, FEEDER_VIEW)]
        else:
            topics = [page_topic(community, PUBLIC_VIEW)]
        if visitor.household is not None:
            kinds = "telemetry", "status"
            topics += [node_topic(community, visitor.household, kind) for kind in kinds]
            topics.append(election_topic(community, "+", "certificate"))
        return _json({"name": visitor.name, "sees_all": visitor.sees_all, "topics": topics, "community": community})

    async def _feeder(self, request: web.Request) -> web.Response:
        """The diagram. Names of buses are for who sees all, the place of a household for itself."""
        visitor, network = self._visitor(request), self._board.network
        rows = [
            {
                "parent": drawn.parent,
                "transformer": drawn.transformer is not None,
                "drop": drawn.drop,
                "home": drawn.bus in self._board.node_buses,
                "along": drawn.along,
                "across": drawn.across,
                **({"name": network.buses[drawn.bus].id} if visitor.sees_all else {}),
            }
            for drawn in self._board.diagram.buses
        ]
        own = None if visitor.household is None or not self._board.knows(visitor.household) else self._board.home(visitor.household).bus
        return _json({"network": network.name, "buses": rows, "own": own, "vmin_pu": network.vmin_pu, "vmax_pu": network.vmax_pu})

    async def _now(self, request: web.Request) -> web.Response:
        """The present as whoever asks may see it, and the way to it."""
        visitor, board = self._visitor(request), self._board
        view = self._projector.feeder if visitor.sees_all else self._projector.public
        points = board.points if visitor.sees_all else board.public_points
        document: dict[str, Any] = {
            "view": msgspec.Raw(view),
            "points": [(time_s, total.net_import_w, total.import_limit_w, total.export_limit_w) for time_s, total in points],
            "broker": self._projector.connected,
        }
        if visitor.household is not None and board.knows(visitor.household):
            document |= {"home": board.home(visitor.household), "leader": board.leader(), "own": await self._recent(visitor.household)}
        return _json(document)

    async def _home(self, request: web.Request) -> web.Response:
        """One home, for who sees all."""
        visitor, name = self._visitor(request), request.query.get("name", "")
        if not visitor.sees_all:
            raise web.HTTPForbidden(text="another household is not shown")
        if not self._board.knows(name):
            raise web.HTTPNotFound(text="no such home")
        return _json({"home": self._board.home(name), "own": await self._recent(name)})

    async def _recent(self, name: str) -> dict[str, Any] | None:
        """The last hours of one household."""
        end_s = math.ceil(self._board.now_s / RECENT_STEP_S) * RECENT_STEP_S
        try:
            series = await asyncio.to_thread(self._archive.own, name, end_s - RECENT_S, end_s, RECENT_STEP_S)
        except CoordinatorError as error:
            log.debug("no recent series: %s", error)
            return None
        return {"start_s": end_s - RECENT_S, "step_s": RECENT_STEP_S, **series}

    async def _day(self, request: web.Request) -> web.Response:
        """A stretch of at most a day. Without bounds: from when to when there is something."""
        visitor = self._visitor(request)
        try:
            if not request.query:
                span = await asyncio.to_thread(self._archive.span)
                return _json({"span": span})
            start_s, end_s = (_time(request, name) for name in ("start", "end"))
            if not 0.0 < end_s - start_s <= LONGEST_S:
                raise web.HTTPBadRequest(text=f"expected end after start, by at most {LONGEST_S:.0f} s")
            return web.Response(body=await self._replayed(start_s, end_s, visitor), content_type="application/json")
        except CoordinatorError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error

    async def _replayed(self, start_s: float, end_s: float, visitor: Visitor) -> bytes:
        key = start_s, end_s, visitor
        async with self._replaying:
            if key not in self._replays:
                day = await asyncio.to_thread(
                    self._archive.day, start_s, end_s, all_of_it=visitor.sees_all, name=visitor.household
                )
                data = msgspec.json.encode(day)
                if end_s > self._board.now_s:
                    return data
                self._replays[key] = data
            self._replays.move_to_end(key)
            while len(self._replays) > REPLAYS_KEPT:
                self._replays.popitem(last=False)
            return self._replays[key]

    def _visitor(self, request: web.Request) -> Visitor:
        peer, now_s = request.remote or "", self._clock.monotonic_s()
        header = request.headers.get("Authorization")
        if header is not None and self._failures.too_many(peer, now_s):
            raise web.HTTPTooManyRequests(text="too many failed logins; wait a minute")
        visitor = visitor_of(header, self._tokens.known(), is_open=self._config.page.open)
        if visitor is None:
            self._failures.add(peer, now_s)
            raise web.HTTPUnauthorized(text="no such name and token")
        return visitor


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only what this server means to say leaves it."""
    if request.content_length is not None and request.content_length > 0:
        raise web.HTTPRequestEntityTooLarge(max_size=0, actual_size=request.content_length)
    try:
        return await handler(request)
    except (ValueError, UnicodeError) as error:
        log.debug("bad request: %s", error)
        raise web.HTTPBadRequest(text="the request cannot be understood") from error


async def _with_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.update(HEADERS)
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    response.headers.popall("Server", None)


def _json(document: Any) -> web.Response:
    response = web.Response(body=msgspec.json.encode(document), content_type="application/json")
    response.enable_compression()
    return response


def _time(request: web.Request, name: str) -> float:
    text = request.query.get(name, "")[:40]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= MAX_TIME_S:
        raise web.HTTPBadRequest(text=f"{name}: expected Unix seconds, got {json.dumps(text)}")
    return value


def _read_files() -> dict[str, tuple[bytes, str, str]]:
    """Every file that is served, in memory; no path of a request reaches the disk."""
    found: dict[str, tuple[bytes, str, str]] = {}
    root = files("coordinator.page") / "static"
    for folder, prefix in ((root, ""), (root / "vendor", "vendor/")):
        for entry in folder.iterdir():
            suffix = entry.name[entry.name.rfind(".") :]
            if entry.is_file() and suffix in KINDS:
                data = entry.read_bytes()
                found[prefix + entry.name] = data, KINDS[suffix], f'"{hashlib.sha256(data).hexdigest()[:20]}"'
    return found
