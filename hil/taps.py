"""Taps on the bus of an edge or of the coordinator: the bench listens to what passes, and nobody else notices.

A barrier is a message of the bench on a topic of its own. When a client has seen it, it has seen everything that the broker queued for it
before; so after a phase in which somebody published, nothing depends on who was faster. Barriers never reach the owner of a bus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hil.passing_bus import PassingBus
from protocols.bus import Bus, BusMessage

BARRIER_TOPIC: Final = "commonwatt-bench/barrier"


class BusTap(PassingBus):
    """A bus with the face of `protocols.bus` that reports what its owner publishes and takes."""

    def __init__(
        self,
        inner: Bus,
        *,
        on_publish: Callable[[BusMessage], None] | None = None,
        on_receive: Callable[[BusMessage], None] | None = None,
    ) -> None:
        super().__init__(inner)
        self._on_publish = on_publish
        self._on_receive = on_receive
        self._waiting: list[BusMessage] = []
        self.barrier = -1
        self.published = 0
        self.received = 0

    def publish(self, message: BusMessage) -> None:
        self.published += 1
        if self._on_publish is not None:
            self._on_publish(message)
        super().publish(message)

    def receive(self) -> list[BusMessage]:
        self.pump()
        messages, self._waiting = self._waiting, []
        self.received += len(messages)
        if self._on_receive is not None:
            for message in messages:
                self._on_receive(message)
        return messages

    async def wait(self, timeout_s: float) -> bool:
        return bool(self._waiting) or await super().wait(timeout_s)

    def pump(self) -> None:
        """Take what has arrived from the transport, so that a barrier in it is noticed before the owner asks."""
        for message in self._inner.receive():
            if message.topic == BARRIER_TOPIC:
                self.barrier = max(self.barrier, int(message.payload))
            else:
                self._waiting.append(message)
