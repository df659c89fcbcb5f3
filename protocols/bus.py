"""The face that every transport has: MQTT 5 (`protocols.mqtt_bus`) and memory (`protocols.memory_bus`).

A bus never calls its owner back. It collects what arrives in a bounded inbox, which the owner drains once in each of its cycles;
what the owner publishes goes into a bounded outbox. So the owner alone decides when it listens, and nothing that a peer sends can
interrupt a control cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, field


class BusMessage(Struct, frozen=True, kw_only=True):
    """One message as the transport carries it. `expiry_s` is MQTT 5's message expiry; `properties` are its user properties."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    properties: dict[str, str] = field(default_factory=dict)


Will = Callable[[], BusMessage]
"""Makes the last will of the connection that is about to be made: each connection has one that is newly signed."""


class Bus(Protocol):
    """What edge, coordinator and bench need of a transport."""

    @property
    def connected(self) -> bool:
        """Whether the transport is up at this moment."""
        ...

    @property
    def sessions(self) -> int:
        """How many times the transport came up; a change tells the owner to announce itself again."""
        ...

    @property
    def dropped(self) -> int:
        """Messages lost to full queues, to expiry while the transport was down, or because they cannot be read."""
        ...

    async def start(self) -> None:
        """Begin to connect, and keep connected until `stop`. Returns without waiting for the peer."""
        ...

    async def stop(self) -> None:
        """Leave in order: what was published is sent where that is possible at once, then the connection closes."""
        ...

    def publish(self, message: BusMessage) -> None:
        """Queue the message. Never blocks and never raises for a peer that is away."""
        ...

    def subscribe(self, topic_filter: str) -> None:
        """Ask for a topic filter, now and after every reconnection."""
        ...

    def receive(self) -> list[BusMessage]:
        """All that has arrived since the last call, in order of arrival."""
        ...

    async def wait(self, timeout_s: float) -> bool:
        """Wait until the inbox holds something; False after `timeout_s`."""
        ...

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the peer has acknowledged all that was published at QoS 1; False after `timeout_s`."""
        ...
