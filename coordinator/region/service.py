"""The service of a region's coordinator: listens to its communities, and says each regional epoch once it is written down. A shell."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from coordinator.errors import StoreError
from coordinator.region.config import RegionConfig
from coordinator.region.desk import RegionDesk
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.errors import ProtocolError
from protocols.files import write_public
from protocols.keys import load_private_key, load_public_key
from protocols.messages import RegionNotice
from protocols.signing import Sequencer, Signer
from protocols.topics import coordinator_topic

log = logging.getLogger(__name__)

SENDER = "coordinator"
STEP_S = 0.5


class _Kept(Struct, frozen=True):
    last: int


class RegionCoordinator:
    """See the module; construct, `start`, `step` as often as wanted, `stop`. Raises `StoreError` for a state that cannot be used."""

    def __init__(self, config: RegionConfig, *, bus: Bus, clock: Clock) -> None:
        self.region = config.identity.region
        self._bus = bus
        self._clock = clock
        self._signer = Signer(load_private_key(Path(config.identity.key_file)))
        self._sequencer = Sequencer(clock.now_s())
        self._state = Path(config.state)
        self._sessions = 0
        self.desk = RegionDesk(
            {entry.name: [load_public_key(Path(file)) for file in entry.coordinator_keys] for entry in config.communities},
            reputation_min=config.reputation_min,
            founding_s=config.founding_s,
            settle_s=config.settle_s,
            last=_read(self._state),
        )
        for topic_filter in self.desk.leads.filters():
            bus.subscribe(topic_filter)

    async def start(self) -> None:
        """Begin to connect."""
        await self._bus.start()

    def step(self) -> None:
        """Listen, and say what is due."""
        now_s = self._clock.now_s()
        for message in self._bus.receive():
            self.desk.take(message, now_s)
        entered = self.desk.step(now_s)
        if entered:
            self._write()
        if entered or (self._bus.sessions != self._sessions and self.desk.epoch is not None):
            self._say(now_s)
        self._sessions = self._bus.sessions

    async def run(self, stop: asyncio.Event) -> None:
        """Step until `stop` is set."""
        await self.start()
        while not stop.is_set():
            self.step()
            await self._bus.wait(STEP_S)
        await self.stop()

    async def stop(self) -> None:
        """Disconnect."""
        await self._bus.stop()

    def _say(self, now_s: float) -> None:
        assert self.desk.epoch is not None
        notice = RegionNotice(
            sender=SENDER, time_s=now_s, sequence=self._sequencer.next(), epoch=self.desk.epoch, leads=self.desk.names
        )
        self._bus.publish(self._signer.seal(coordinator_topic(self.region, "region"), notice, retain=True))
        log.info("regional epoch %d: %s", self.desk.epoch.number, ", ".join(self.desk.epoch.names))

    def _write(self) -> None:
        try:
            write_public(self._state, msgspec.json.encode(_Kept(self.desk.last)))
        except ProtocolError as error:
            raise StoreError(f"the number of a regional epoch must be on the disk before it is said: {error}") from error


def _read(path: Path) -> int:
    if not os.path.lexists(path):
        return 0
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept).last
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(f"{path}: {error}") from error
