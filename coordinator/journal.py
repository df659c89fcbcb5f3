"""What the coordinator records: rows on their way to the disk, events, and conditions that the status has to say. A shell."""

from __future__ import annotations

import logging

from coordinator import store as tables
from coordinator.errors import StoreError
from coordinator.store import Store
from protocols.clock import Clock

log = logging.getLogger(__name__)

MAX_EVENTS_PER_STEP = 50
STORE_RETRY_S = 30.0
MAX_MESSAGE = 2000
MAX_CONDITION = 200


class Journal:
    """The record of one service. `store` takes rows; `conditions` are the words for what is wrong at present, by kind."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.conditions: dict[str, str] = {}
        self._clock = clock
        self._retry_due_s = 0.0
        self._events = 0

    def begin_step(self) -> None:
        """Let as many events be recorded again as one step may bring."""
        self._events = 0

    def event(self, now_s: float, kind: str, message: str) -> None:
        """Record an event, at most so many per step, so that a flood of bad messages fills neither memory nor disk."""
        self._events += 1
        if self._events == MAX_EVENTS_PER_STEP:
            kind, message = "events-dropped", "more events in this step than are recorded"
        if self._events <= MAX_EVENTS_PER_STEP:
            self.note(now_s, kind, message)
        if kind not in ("refused", "events-dropped"):
            self._condition(kind, message)

    def note(self, now_s: float, kind: str, message: str) -> None:
        """Record an event that is nothing to worry about."""
        self.store.add(tables.events, {"time_s": now_s, "kind": kind, "message": message[:MAX_MESSAGE]})

    def over(self, *kinds: str) -> None:
        """These conditions no longer hold."""
        for kind in kinds:
            self.conditions.pop(kind, None)

    def flush(self, now_s: float, *, at_once: bool = False) -> int | None:
        """Bring the record to the disk; None while that is not possible: then it waits, and is tried again after a while or `at_once`."""
        if "store" in self.conditions and self._clock.monotonic_s() < self._retry_due_s and not at_once:
            return None
        try:
            written = self.store.flush(now_s)
        except StoreError as error:
            self._retry_due_s = self._clock.monotonic_s() + STORE_RETRY_S
            self._condition("store", f"{error}; {self.store.waiting} rows wait, lost so far: {self.store.lost.total()}")
            return None
        self.over("store")
        return written

    def _condition(self, kind: str, message: str) -> None:
        """Something that the status has to say until it is over."""
        if kind not in self.conditions:
            log.warning("%s: %s", kind, message)
        self.conditions[kind] = f"{kind}: {message}"[:MAX_CONDITION]
