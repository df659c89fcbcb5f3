"""A household in the region: while it leads its community it has a connection there, and takes part in the election of the region. A shell.

In the region's topics the communities are the nodes, and their leaders write for them, signed with their own keys. Which key speaks for
which community follows from the communities' certificates, which this household collects itself (`protocols.election.leads`); the
region's coordinator gives each set of leads a number and nothing more. The connection lasts as long as the lease at home, so that its
last will means that the community has nobody in the region.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from edge.leadership.ballots import BallotStore
from edge.leadership.region import RegionalSeat
from edge.leadership.settings import RegionSection
from edge.leadership.voice import Voice, gone_message
from protocols.bus import Bus, BusMessage, Will
from protocols.clock import Clock
from protocols.election.leads import COORDINATOR, LeadBook
from protocols.election.region import CommunityLead
from protocols.election.rules import CertificateRefused, public_key_of
from protocols.errors import Refusal
from protocols.messages import ElectionNotice, Gone, RegionNotice
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import coordinator_topic, election_letter_topic, election_topic

log = logging.getLogger(__name__)


class RegionKeys(Struct, frozen=True, kw_only=True):
    """Whom a household believes in the region: its coordinator, and the coordinators of its communities by their names."""

    coordinator: tuple[Ed25519PublicKey, ...]
    communities: Mapping[str, tuple[Ed25519PublicKey, ...]]


class RegionalPart:
    """See the module. `leads_home` says whether the household may act for its community at a monotonic time."""

    def __init__(
        self,
        section: RegionSection,
        community: str,
        household: str,
        key: Ed25519PrivateKey,
        *,
        keys: RegionKeys,
        bus: Bus,
        clock: Clock,
        folder: Path,
        leads_home: Callable[[float], bool],
        durable: bool = True,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.region = section.name
        self.community = community
        self.refused: Counter[str] = Counter()
        self._section = section
        self._keys = keys
        self._bus = bus
        self._clock = clock
        self._leads_home = leads_home
        self._voice = Voice(section.name, community, key, bus=bus, clock=clock, lease_s=section.lease_s)
        self._verifier = Verifier(section.name, {COORDINATOR: keys.coordinator})
        self._leads = LeadBook(keys.communities)
        self._notice: RegionNotice | None = None
        self._up = False
        self._until_s = -math.inf
        self._sessions = 0
        self._was_connected = False
        ballots = BallotStore(folder / "region.json", household, durable=durable)
        self.seat = RegionalSeat(
            community,
            household,
            key,
            ballots=ballots,
            timing=section.timing,
            send=self._voice.election,
            nonce=lambda: entropy(32).hex(),
            speaks=leads_home,
        )
        for topic_filter in (
            *self._leads.filters(),
            coordinator_topic(self.region, "region"),
            election_topic(self.region, "+", "call"),
            election_topic(self.region, "+", "certificate"),
            election_topic(self.region, "+", "gone"),
            election_letter_topic(self.region, "+", community),
        ):
            bus.subscribe(topic_filter)

    @property
    def leads(self) -> bool:
        """Whether this household may act for the region now."""
        return self.seat.leads(self._clock.monotonic_s())

    async def run(self, stop: asyncio.Event) -> None:
        """Step several times in each heartbeat until `stop` is set."""
        try:
            while not stop.is_set():
                await self.step()
                await self._bus.wait(0.25 * self._section.heartbeat_s)
                await asyncio.sleep(0)
        finally:
            await self.leave()

    async def step(self) -> None:
        """Do everything that is due now."""
        now_s, wall_s = self._clock.monotonic_s(), self._clock.now_s()
        await self._follow_home(now_s)
        if not self._up:
            return
        if self._was_connected and (not self._bus.connected or self._bus.sessions != self._sessions):
            self.seat.disconnected(now_s)
        self._was_connected, self._sessions = self._bus.connected, self._bus.sessions
        for message in self._bus.receive():
            self._take(message, now_s, wall_s)
        self._adopt(now_s)
        self.seat.tick(now_s)

    async def leave(self) -> None:
        """Say that this community has nobody in the region, and disconnect."""
        if self._up:
            self._up = self._was_connected = False
            self.seat.disconnected(self._clock.monotonic_s())
            self._voice.gone()
            await self._bus.stop()

    async def _follow_home(self, now_s: float) -> None:
        """Be connected while this household leads at home, and for one lease longer: leases are sometimes renewed late."""
        if self._leads_home(now_s):
            self._until_s = now_s + self._section.lease_s
            if not self._up:
                self._up = True
                self._voice.renumber()
                await self._bus.start()
        elif now_s >= self._until_s:
            await self.leave()

    def _take(self, message: BusMessage, now_s: float, wall_s: float) -> None:
        if self._leads.take(message, wall_s):
            return
        try:
            content = self._verifier.open(message, wall_s)
        except Refusal as refusal:
            self.refused[type(refusal).__name__] += 1
            return
        match content:
            case RegionNotice() if content.sender == COORDINATOR:
                if self._notice is None or content.epoch.number > self._notice.epoch.number:
                    self._notice = content
            case ElectionNotice(body=body) if content.sender != self.community:
                self.seat.receive(content.sender, body, now_s)
            case Gone():
                self.seat.gone(content.sender, now_s)
            case _:
                pass

    def _adopt(self, now_s: float) -> None:
        """Enter the newest regional epoch once everything that it follows from has been proven here."""
        notice = self._notice
        if notice is None or notice.epoch.number <= self.seat.entered:
            return
        leads: dict[str, CommunityLead] = {}
        for name in notice.leads:
            lead = self._leads.lead(name.community, name.epoch, name.term)
            if lead is None:
                return
            leads[name.community] = lead
        try:
            self.seat.adopt(notice.epoch, leads, now_s)
        except CertificateRefused as refusal:
            self.refused["CertificateRefused"] += 1
            log.error("%s", refusal)
            self._notice = None
            return
        for community in self._leads.communities:
            self._verifier.trust(community, ())
        for seat in notice.epoch.seats:
            if seat.name != COORDINATOR:
                self._verifier.trust(seat.name, (public_key_of(seat),))


def region_will(region: str, community: str, key: Ed25519PrivateKey, clock: Clock) -> Will:
    """Makes the last wills of a leader's connections to the region."""
    signer = Signer(key)
    return lambda: gone_message(region, community, signer, Sequencer(clock.now_s()), clock.now_s())
