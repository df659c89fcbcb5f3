"""A bus in front of another: what the bench's own buses change is all that they say; everything else passes."""

from __future__ import annotations

from protocols.bus import Bus, BusMessage


class PassingBus:
    """The face of `protocols.bus.Bus` over `inner`."""

    def __init__(self, inner: Bus) -> None:
        self._inner = inner

    @property
    def inner(self) -> Bus:
        """The transport below."""
        return self._inner

    @property
    def connected(self) -> bool:
        return self._inner.connected

    @property
    def sessions(self) -> int:
        return self._inner.sessions

    @property
    def dropped(self) -> int:
        return self._inner.dropped

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    def publish(self, message: BusMessage) -> None:
        self._inner.publish(message)

    def subscribe(self, topic_filter: str) -> None:
        self._inner.subscribe(topic_filter)

    def receive(self) -> list[BusMessage]:
        return self._inner.receive()

    async def wait(self, timeout_s: float) -> bool:
        return await self._inner.wait(timeout_s)

    async def flush(self, timeout_s: float) -> bool:
        return await self._inner.flush(timeout_s)
