"""Who watches a running coordinator: the server of figures and health, where it is configured. A shell: it opens sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.config import CoordinatorConfig
from coordinator.errors import ConfigError
from coordinator.service import CoordinatorService, Ingested, StepRecord
from coordinator.store import Store
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.files import FileRefused
from protocols.observation.watch import ServedWatch, serving

if TYPE_CHECKING:
    from coordinator.observation.observer import CoordinatorObserver
    from protocols.observation.server import OptionalServer


class Watch(ServedWatch):
    """Everything that is shown the turns of the loop. Without an observer it does nothing."""

    def __init__(self, observer: CoordinatorObserver | None = None, server: OptionalServer | None = None) -> None:
        super().__init__(server)
        self._observer = observer

    def turn(self, ingested: Ingested, record: StepRecord | None) -> None:
        """One turn of the loop has ended."""
        if self._observer is not None:
            self._observer.turn(ingested, record)


def open_watch(
    config: CoordinatorConfig,
    folder: Path,
    service: CoordinatorService,
    *,
    bus: Bus,
    store: Store,
    clock: Clock,
    expiries: Callable[[], dict[str, float]],
) -> Watch:
    """What the configuration asks for; the token's path starts at `folder`."""
    if not config.metrics.enabled:
        return Watch()
    from coordinator.observation.observer import CoordinatorObserver

    observer = CoordinatorObserver(config, service, bus=bus, store=store, clock=clock, expiries=expiries)
    try:
        server = serving(config.metrics, folder, observer)
    except FileRefused as error:
        raise ConfigError(f"{error} - at $.metrics.token_file") from error
    return Watch(observer, server)
