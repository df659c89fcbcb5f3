"""Who watches a running edge: the server of figures and health, where it is configured. A shell: it reads certificates and opens sockets.

What watches must not stop what controls: an address that cannot be had is reported, and the edge runs without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import EdgeConfig
from edge.cycle_record import CycleRecord
from edge.errors import ConfigurationError
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.credentials import Expiries
from protocols.files import FileRefused
from protocols.observation.watch import ServedWatch, serving

if TYPE_CHECKING:
    from edge.observation.observer import CommunityFacts, EdgeObserver
    from protocols.observation.server import OptionalServer


class Watch(ServedWatch):
    """Everything that is shown the control cycle. Without an observer it does nothing."""

    def __init__(self, observer: EdgeObserver | None = None, server: OptionalServer | None = None) -> None:
        super().__init__(server)
        self._observer = observer

    def cycle(self, record: CycleRecord) -> None:
        """One cycle has ended."""
        if self._observer is not None:
            self._observer.cycle(record)


def open_watch(config: EdgeConfig, folder: Path, *, bus: Bus, clock: Clock, community: CommunityFacts | None) -> Watch:
    """What the configuration asks for; relative paths start at `folder`. Nothing is imported for what is off."""
    if not config.metrics.enabled:
        return Watch()
    from edge.observation.observer import EdgeObserver

    tls = config.broker.tls
    files = {} if tls is None else {"node": folder / tls.cert_file, "authority": folder / tls.ca_file}
    observer = EdgeObserver(config, bus=bus, clock=clock, expiries=Expiries(files, clock.monotonic_s).read, community=community)
    try:
        server = serving(config.metrics, folder, observer)
    except FileRefused as error:
        raise ConfigurationError(f"{error} - at $.metrics.token_file") from error
    return Watch(observer, server)
