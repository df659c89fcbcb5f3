"""What serves figures and health beside a program, where its configuration asks for it. A shell: it reads a token and opens a socket.

Nothing that serves is imported for who does not serve.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from protocols.observation.settings import MetricsSection

if TYPE_CHECKING:
    from protocols.observation.book import MetricBook
    from protocols.observation.health import Health
    from protocols.observation.server import OptionalServer


class Shown(Protocol):
    """An observer as a server sees it: its figures, brought up to date by `refresh`, and its verdict."""

    @property
    def book(self) -> MetricBook:
        """The figures."""
        ...

    def refresh(self) -> None:
        """Bring figures up to date that nobody sets in passing."""
        ...

    def health(self) -> Health:
        """The verdict at present."""
        ...


class ServedWatch:
    """Begins and ends with its program; without a server it does nothing."""

    def __init__(self, server: OptionalServer | None) -> None:
        self.server = server

    @property
    def port(self) -> int | None:
        """Where figures and health are served, None where they are not."""
        return None if self.server is None else self.server.port

    async def start(self) -> None:
        """Begin to serve."""
        if self.server is not None:
            await self.server.start()

    async def stop(self) -> None:
        """Close."""
        if self.server is not None:
            await self.server.stop()


def serving(section: MetricsSection, folder: Path, observer: Shown) -> OptionalServer:
    """A server of this observer; the token's path starts at `folder`. Raises FileRefused for a token that cannot be used."""
    from protocols.observation.server import ObservationServer, OptionalServer

    return OptionalServer(ObservationServer(section, folder, book=observer.book, refresh=observer.refresh, health=observer.health))
