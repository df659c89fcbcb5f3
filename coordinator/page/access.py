"""Who is asking: tokens, roles, and how often somebody may guess. The file is read again when it changed. A shell around pure rules."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Final

from msgspec import Struct

from coordinator.enrolment.broker_files import PROJECTOR, VISITOR
from coordinator.enrolment.founding import ADMINISTRATOR
from coordinator.enrolment.page_tokens import is_token, read_page_tokens
from coordinator.errors import CoordinatorError
from protocols.errors import ProtocolError

log = logging.getLogger(__name__)

MAX_FAILURES: Final = 10
FORGET_S: Final = 60.0
MAX_PEERS: Final = 4096
MAX_HEADER: Final = 400


class Visitor(Struct, frozen=True, kw_only=True):
    """Who asks. `name` is empty for who has not logged in; `sees_all` for administrators, and for everybody where the page is open."""

    name: str = ""
    sees_all: bool = False

    @property
    def household(self) -> str | None:
        """The household that asks, if it is one."""
        return None if self.name == "" or self.name.startswith(ADMINISTRATOR) else self.name


class Tokens:
    """The file of tokens, as it is now. One that cannot be read lets nobody in, and is reported once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_ns = -1
        self._tokens: dict[str, str] = {}
        self._problem = ""

    def known(self) -> dict[str, str]:
        """Name and hash of everybody who may log in."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._tokens = read_page_tokens(self._path)
                self._changed_ns = changed_ns
            self._problem = ""
        except (OSError, CoordinatorError, ProtocolError) as error:
            self._tokens, self._changed_ns = {}, -1
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("nobody can log in to the page: %s", error)
        return self._tokens


class Failures:
    """Failed logins by peer, for a minute each; a peer with too many has to wait."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def too_many(self, peer: str, now_s: float) -> bool:
        """Whether the peer has to wait."""
        times = [time_s for time_s in self._times.get(peer, []) if now_s - time_s < FORGET_S]
        if times:
            self._times[peer] = times
        else:
            self._times.pop(peer, None)
        return len(times) >= MAX_FAILURES

    def add(self, peer: str, now_s: float) -> None:
        """One more."""
        self._times.setdefault(peer, []).append(now_s)
        self._times.move_to_end(peer)
        while len(self._times) > MAX_PEERS:
            self._times.popitem(last=False)


def visitor_of(header: str | None, tokens: dict[str, str], *, is_open: bool) -> Visitor | None:
    """Who this Authorization header speaks for; None where it names somebody and the token is not theirs."""
    if header is None:
        return Visitor(sees_all=is_open)
    scheme, _, given = header[:MAX_HEADER].partition(" ")
    name, _, token = given.strip().partition(":")
    if scheme.lower() != "bearer" or name in (VISITOR, PROJECTOR) or not is_token(tokens, name, token):
        return None
    return Visitor(name=name, sees_all=is_open or name.startswith(ADMINISTRATOR))
