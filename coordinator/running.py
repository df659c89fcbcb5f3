"""The coordinator's loop on the wall clock: what arrives is stored at once, what is due is computed beside it. A shell.

An envelope computation takes seconds on a large feeder and is not waited for by what arrives: messages are verified and brought to the
disk every `BATCH_S` while there are any, in one transaction each time. At most one `act` is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from coordinator.service import CoordinatorService, Ingested, StepRecord
from protocols.clock import Clock

log = logging.getLogger(__name__)

BATCH_S: Final = 0.2
"""Messages of so long share one transaction: one write to the disk that is waited for."""

Observer = Callable[[Ingested, StepRecord | None], None]
"""Whoever is shown every turn of the loop, and what was computed and published where that came to its end in it."""


async def run_service(
    service: CoordinatorService,
    *,
    clock: Clock,
    step_s: float,
    stopping: asyncio.Event,
    before: Callable[[], None] = lambda: None,
    observers: Sequence[Observer] = (),
) -> None:
    """Run until `stopping` is set. `before` is called at the beginning of every turn."""
    await service.start()
    log.info("started")
    acting: asyncio.Task[StepRecord] | None = None
    act_due_s = clock.monotonic_s()
    try:
        while not stopping.is_set():
            before()
            ingested, record = service.ingest(), None
            if acting is not None and acting.done():
                record, acting = acting.result(), None
                log.debug("computed %d, published %d", record.computed, record.published)
            if acting is None and clock.monotonic_s() >= act_due_s:
                act_due_s = clock.monotonic_s() + step_s
                acting = asyncio.ensure_future(service.act())
            for observer in observers:
                observer(ingested, record)
            await _pause(service, stopping, step_s)
    finally:
        if acting is not None:
            await acting
        service.ingest()
        await service.stop()


async def _pause(service: CoordinatorService, stopping: asyncio.Event, step_s: float) -> None:
    """Until a batch has come together, `step_s` has passed without a message, or the end is wanted."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), BATCH_S)
    if not stopping.is_set():
        await service.wait(max(step_s - BATCH_S, 0.0))
