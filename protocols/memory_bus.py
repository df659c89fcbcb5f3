"""A broker in memory with the face of `protocols.bus`: deterministic, and at home in virtual time.

It does what the system relies on from an MQTT broker: topic filters, retained messages, last wills, order between two clients.
Delivery is immediate; loss, delay and partition belong to the bench's simulated network, which wraps this class.
"""

from __future__ import annotations

from collections import deque

from protocols.bus import BusMessage, Will
from protocols.topics import matches

INBOX_LIMIT = 100_000


class MemoryBroker:
    """Passes messages between `MemoryBus` clients and keeps what is retained."""

    def __init__(self) -> None:
        self._clients: list[MemoryBus] = []
        self._retained: dict[str, BusMessage] = {}
        self._routes: dict[str, tuple[MemoryBus, ...]] = {}
        self.delivered = 0

    def client(self, *, will: Will | None = None) -> MemoryBus:
        """A new client of this broker; what `will` makes at connection is published when it is cut off."""
        return MemoryBus(self, will)

    def route(self, message: BusMessage) -> None:
        """Deliver to every subscriber, in the order in which they connected."""
        if message.retain:
            if message.payload:
                self._retained[message.topic] = message
            else:
                self._retained.pop(message.topic, None)
        receivers = self._routes.get(message.topic)
        if receivers is None:
            receivers = tuple(client for client in self._clients if client.wants(message.topic))
            self._routes[message.topic] = receivers
        for client in receivers:
            client.deliver(message)
            self.delivered += 1

    def attach(self, client: MemoryBus) -> None:
        """Connect the client: it takes part in deliveries from now on."""
        if client not in self._clients:
            self._clients.append(client)
        self._routes.clear()

    def detach(self, client: MemoryBus) -> None:
        """Disconnect the client without its will."""
        if client in self._clients:
            self._clients.remove(client)
        self._routes.clear()

    def subscribed(self, client: MemoryBus, topic_filter: str) -> None:
        """Hand the retained messages under a new subscription to the client."""
        self._routes.clear()
        for topic in sorted(self._retained):
            if matches(topic_filter, topic):
                client.deliver(self._retained[topic])


class MemoryBus:
    """One client of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, will: Will | None) -> None:
        self._broker = broker
        self._make_will = will
        self._will: BusMessage | None = None
        self._filters: list[str] = []
        self._wanted: dict[str, bool] = {}
        self._inbox: deque[BusMessage] = deque()
        self._outbox: deque[BusMessage] = deque()
        self._connected = False
        self._sessions = 0
        self._dropped = 0

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def sessions(self) -> int:
        return self._sessions

    @property
    def dropped(self) -> int:
        return self._dropped

    async def start(self) -> None:
        self.connect()

    async def stop(self) -> None:
        self._connected = False
        self._broker.detach(self)

    def connect(self) -> None:
        """Come up: subscriptions are renewed, and what waited in the outbox is sent."""
        if self._connected:
            return
        self._connected = True
        self._sessions += 1
        self._will = None if self._make_will is None else self._make_will()
        self._broker.attach(self)
        for topic_filter in self._filters:
            self._broker.subscribed(self, topic_filter)
        while self._outbox:
            self._broker.route(self._outbox.popleft())

    def cut(self) -> None:
        """Lose the connection as a broken network does: the broker publishes the will."""
        if not self._connected:
            return
        self._connected = False
        self._broker.detach(self)
        if self._will is not None:
            self._broker.route(self._will)

    def publish(self, message: BusMessage) -> None:
        if self._connected:
            self._broker.route(message)
        elif len(self._outbox) < INBOX_LIMIT:
            self._outbox.append(message)
        else:
            self._dropped += 1

    def subscribe(self, topic_filter: str) -> None:
        if topic_filter in self._filters:
            return
        self._filters.append(topic_filter)
        self._wanted.clear()
        if self._connected:
            self._broker.subscribed(self, topic_filter)

    def receive(self) -> list[BusMessage]:
        messages = list(self._inbox)
        self._inbox.clear()
        return messages

    async def wait(self, timeout_s: float) -> bool:
        return bool(self._inbox)

    async def flush(self, timeout_s: float) -> bool:
        return self._connected

    def wants(self, topic: str) -> bool:
        """Whether one of this client's filters covers the topic."""
        wanted = self._wanted.get(topic)
        if wanted is None:
            wanted = self._wanted[topic] = any(matches(topic_filter, topic) for topic_filter in self._filters)
        return wanted

    def deliver(self, message: BusMessage) -> None:
        """Called by the broker: put the message into the inbox, or count it as dropped when the inbox is full."""
        if len(self._inbox) >= INBOX_LIMIT:
            self._dropped += 1
        else:
            self._inbox.append(message)
