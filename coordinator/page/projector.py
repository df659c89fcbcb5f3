"""Listens on the page's broker, keeps the board, and publishes its views there. A shell."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from coordinator.page.board import BRIDGE_STATE, Board
from protocols.bus import Bus, BusMessage
from protocols.clock import Clock
from protocols.topics import FEEDER_VIEW, PUBLIC_VIEW, control_topic, coordinator_topic, election_topic, node_topic, page_topic, round_topic

log = logging.getLogger(__name__)

SHORTEST_S: Final = 0.3
"""Between two publications: two hundred homes that report within a second make three pictures of it, not two hundred."""

LONGEST_S: Final = 10.0
VIEW_EXPIRY_S: Final = 30


class Projector:
    """See the module; `run` until it is cancelled."""

    def __init__(self, board: Board, bus: Bus, clock: Clock, community: str) -> None:
        self._board = board
        self._bus = bus
        self._clock = clock
        self._public_topic, self._feeder_topic = page_topic(community, PUBLIC_VIEW), page_topic(community, FEEDER_VIEW)
        self._filters = (
            node_topic(community, "+", "telemetry"),
            node_topic(community, "+", "status"),
            control_topic(community, "+", "envelope"),
            control_topic(community, "+", "default"),
            control_topic(community, "+", "ask"),
            coordinator_topic(community, "status"),
            coordinator_topic(community, "round"),
            coordinator_topic(community, "signal"),
            election_topic(community, "+", "certificate"),
            round_topic(community, "+", "call"),
            BRIDGE_STATE,
        )
        self.public = msgspec.json.encode(board.public_view())
        self.feeder = msgspec.json.encode(board.feeder_view())

    @property
    def connected(self) -> bool:
        """Whether the page's broker is there."""
        return self._bus.connected

    async def run(self) -> None:
        """Listen and publish."""
        for topic_filter in self._filters:
            self._bus.subscribe(topic_filter)
        await self._bus.start()
        try:
            due_s = self._clock.monotonic_s()
            changed = False
            while True:
                await self._bus.wait(LONGEST_S if not changed else SHORTEST_S)
                for message in self._bus.receive():
                    changed = self._board.take(message) or changed
                now_s = self._clock.monotonic_s()
                if changed and now_s < due_s:
                    await asyncio.sleep(due_s - now_s)
                elif changed or now_s >= due_s + LONGEST_S:
                    await self._publish()
                    changed, due_s = False, self._clock.monotonic_s() + SHORTEST_S
        finally:
            await self._bus.stop()

    async def _publish(self) -> None:
        """The power flow of a large feeder takes a while, and browsers must be answered meanwhile."""
        self.public, self.feeder = await asyncio.to_thread(self._project)
        if self._bus.connected:
            self._bus.publish(BusMessage(topic=self._public_topic, payload=self.public, qos=0, expiry_s=VIEW_EXPIRY_S))
            self._bus.publish(BusMessage(topic=self._feeder_topic, payload=self.feeder, qos=0, expiry_s=VIEW_EXPIRY_S))

    def _project(self) -> tuple[bytes, bytes]:
        return msgspec.json.encode(self._board.public_view()), msgspec.json.encode(self._board.feeder_view())
