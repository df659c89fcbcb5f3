"""One household in its community: what arrives goes to election, rounds or leadership, what is due is done. A shell around its own bus.

It has a connection of its own, so that its last will means that this member can lead no more, and so that heartbeats wait for no
control cycle. `step` does everything that is due at the clock's present time: the bench calls it, `run` calls it whenever something
arrives. Trust: the epoch, signed by the coordinator, names the members and their keys; a certificate of votes, which everybody checks
against the epoch, names the leader; what a leader calls counts only under the highest term whose certificate was seen.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from edge.leadership.accountability import KINDS, Accountability
from edge.leadership.ballots import BallotStore
from edge.leadership.election_shell import ElectionShell
from edge.leadership.encryption import Encryption
from edge.leadership.evidence import EvidenceLog
from edge.leadership.leader_shell import LeaderShell, Wish
from edge.leadership.member_shell import MemberShell, Standing
from edge.leadership.records import MemberRecords
from edge.leadership.secrets import load_or_make_secrets
from edge.leadership.settings import AggregationSection, LeadershipSection
from edge.leadership.voice import Voice
from edge.leadership.witness import Witness
from protocols.aggregation.evidence import statement_of
from protocols.aggregation.member import round_order
from protocols.aggregation.messages import Acknowledgement, Drops
from protocols.aggregation.packing import ValuesRefused
from protocols.aggregation.paillier import COMB_TABLES, COMB_TEETH, KeyRefused
from protocols.bus import Bus, BusMessage
from protocols.clock import Clock
from protocols.election.rules import public_key_of
from protocols.errors import Refusal
from protocols.messages import (
    Accusation,
    AnyMessage,
    CommunitySignal,
    ElectionNotice,
    EpochNotice,
    Gone,
    KeyCard,
    RoundCall,
    RoundContent,
    RoundNotice,
)
from protocols.signing import Verifier
from protocols.topics import (
    coordinator_topic,
    election_letter_topic,
    election_topic,
    round_topic,
    sealed_route,
    sealed_topic,
)

log = logging.getLogger(__name__)

COORDINATOR = "coordinator"


class Household(Protocol):
    """What a member says about its house, and hears about its price."""

    def values(self, call: RoundCall) -> Sequence[int] | None:
        """What this call asks for as whole watts; None to sit the round out."""
        ...

    def signal(self, signal: CommunitySignal) -> None:
        """What the negotiation asks next."""
        ...


class Identity(Struct, frozen=True, kw_only=True):
    """Who this member is, and whom it believes."""

    community: str
    node: str
    key: Ed25519PrivateKey
    coordinator_keys: tuple[Ed25519PublicKey, ...]


class Membership:
    """See the module. `commissioned` says that this member has never voted; `comb` is (teeth, tables) of the encryption's table."""

    def __init__(
        self,
        identity: Identity,
        leadership: LeadershipSection,
        aggregation: AggregationSection,
        *,
        bus: Bus,
        clock: Clock,
        folder: Path,
        runtime_folder: Path,
        household: Household,
        commissioned: bool = False,
        durable: bool = True,
        entropy: Callable[[int], bytes] = os.urandom,
        comb: tuple[int, int] = (COMB_TEETH, COMB_TABLES),
    ) -> None:
        self.node = identity.node
        self.refused: Counter[str] = Counter()
        self.fenced = 0
        self._community = identity.community
        self._leadership = leadership
        self._aggregation = aggregation
        self._bus = bus
        self._clock = clock
        self._household = household
        self._voice = Voice(identity.community, self.node, identity.key, bus=bus, clock=clock, lease_s=leadership.lease_s)
        self._verifier = Verifier(identity.community, {COORDINATOR: identity.coordinator_keys})
        self._secrets = load_or_make_secrets(folder / "member.key", self.node, entropy)
        records = MemberRecords(folder, keep_openings_s=aggregation.keep_openings_s, durable=durable)
        evidence = EvidenceLog(folder / "evidence", keep_s=aggregation.keep_openings_s, durable=durable)
        self.witness = Witness(evidence, identity.community, identity.coordinator_keys)
        ballots = BallotStore(folder / "ballot.json", self.node, durable=durable)
        if commissioned:
            ballots.commission()
            records.commission()
        self.election = self._make_election(identity.key, ballots, entropy)
        self._encryption = Encryption(aggregation, folder, runtime_folder, durable=durable, entropy=entropy, comb=comb)
        self.member = MemberShell(
            self.node,
            identity.key,
            self._secrets.pads,
            records=records,
            send=self._voice.letter,
            values=household.values,
            randomisers=self._encryption.randomisers,
            witness=self.witness,
            now_s=clock.now_s(),
            uptime_s=clock.monotonic_s,
        )
        self.accountability = Accountability(
            identity.community,
            self.node,
            identity.key,
            self._secrets.envelope_key,
            identity.coordinator_keys,
            aggregation,
            member=self.member,
            records=records,
            witness=self.witness,
            voice=self._voice,
            entropy=entropy,
        )
        self.leader = self._make_leader(identity.key, entropy)
        self._sessions = 0
        self._was_connected = False
        self._epoch_notice: EpochNotice | None = None
        self._key_card: KeyCard | None = None
        self._standing: Standing | None = None
        self._signal: CommunitySignal | None = None
        self._wished: tuple[tuple[int, int, int], float] | None = None

    def _make_election(self, key: Ed25519PrivateKey, ballots: BallotStore, entropy: Callable[[int], bytes]) -> ElectionShell:
        return ElectionShell(
            self.node,
            key,
            ballots=ballots,
            timing=self._leadership.timing,
            send=self._voice.election,
            nonce=lambda: entropy(32).hex(),
            expose=lambda first, second: self.witness.two_leaders(first, second, self._clock.now_s()),
        )

    def _make_leader(self, key: Ed25519PrivateKey, entropy: Callable[[int], bytes]) -> LeaderShell:
        return LeaderShell(
            self.node,
            key,
            self._secrets.envelope_key,
            self._aggregation,
            say=lambda kind, body: self._voice.round(kind, body, expiry_s=self._aggregation.collect_s),
            send=self._voice.letter,
            entropy=entropy,
            opened=self.accountability.archive.keep,
        )

    @property
    def term(self) -> int:
        """The fencing token: nothing under a lower term is obeyed."""
        return self.election.term

    @property
    def leads(self) -> bool:
        """Whether this member may act as the leader now."""
        return self.election.leads(self._clock.monotonic_s())

    async def start(self) -> None:
        """Subscribe and begin to connect."""
        community = self._community
        for topic_filter in (
            coordinator_topic(community, "+"),
            election_topic(community, "+", "call"),
            election_topic(community, "+", "certificate"),
            election_topic(community, "+", "gone"),
            election_letter_topic(community, "+", self.node),
            round_topic(community, "+", "call"),
            round_topic(community, "+", "accusation"),
            *(sealed_topic(community, "+", kind, self.node) for kind in ("report", "reveal", "receipt", "audit", "transcript")),
            sealed_topic(community, COORDINATOR, "demand", self.node),
        ):
            self._bus.subscribe(topic_filter)
        await self._bus.start()

    async def stop(self) -> None:
        """Leave in order: the others learn it from the will, whose content this is."""
        self._voice.gone()
        self._encryption.close()
        await self._bus.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Step whenever something arrives, and several times in each heartbeat, until `stop` is set."""
        while not stop.is_set():
            self.step()
            await self._bus.wait(0.25 * self._leadership.heartbeat_s)
            await asyncio.sleep(0)

    def step(self) -> None:
        """Do everything that is due now."""
        now_s, wall_s = self._clock.monotonic_s(), self._clock.now_s()
        self._watch_connection(now_s)
        for message in self._bus.receive():
            self._take(message, now_s, wall_s)
        self.election.tick(now_s)
        if self._standing is not None and self._aggregation.enabled and self.election.leads(now_s):
            self.leader.lead(
                self.election.term,
                self._standing,
                now_s=now_s,
                wall_s=wall_s,
                present=self.election.present(now_s),
                summed=self.member.summed,
                previous_ack=self.member.previous_ack,
            )
            self._negotiate(now_s)
        elif self.leader.busy:
            self.leader.drop()
        self.accountability.tick(now_s)
        self._encryption.fill()

    def _negotiate(self, now_s: float) -> None:
        """Hold the round that the newest signal asks for; again, where it failed, as long as no newer signal has come."""
        signal = self._signal
        if signal is None or signal.final or self.leader.busy:
            return
        asked = (self.term, signal.negotiation, signal.iteration)
        if self._wished is not None and self._wished[0] == asked and now_s < self._wished[1]:
            return
        self._wished = (asked, now_s + 2.0 * self._aggregation.collect_s)
        self.leader.wish(
            Wish(content=RoundContent.NEGOTIATION, start_s=signal.start_s, step_s=signal.step_s, iteration=signal.iteration)
        )

    def _watch_connection(self, now_s: float) -> None:
        if self._was_connected and (not self._bus.connected or self._bus.sessions != self._sessions):
            self.election.disconnected(now_s)
        self._was_connected = self._bus.connected
        if self._bus.connected and self._bus.sessions != self._sessions:
            self._sessions = self._bus.sessions
            self._voice.join(self._secrets)

    def _take(self, message: BusMessage, now_s: float, wall_s: float) -> None:
        route = sealed_route(message.topic)
        if route is not None:
            self._take_sealed(route, message.payload, wall_s)
            return
        try:
            content = self._verifier.open(message, wall_s)
        except Refusal as refusal:
            self.refused[type(refusal).__name__] += 1
            if not message.retain:
                log.debug("refused: %s", refusal)
            return
        self._take_signed(content, now_s, wall_s)
        if isinstance(content, EpochNotice | KeyCard) or (isinstance(content, RoundNotice) and self._counts(content)):
            self.witness.heard(message, content, wall_s)

    def _counts(self, notice: RoundNotice) -> bool:
        """Whether it is of the operator or of the leader that is followed: what others say of rounds is nothing."""
        term = round_order(statement_of(notice).round_name)[0]
        return notice.sender == COORDINATOR or self.election.accepts(notice.sender, term)

    def _take_sealed(self, route: tuple[str, str, str, str], payload: bytes, wall_s: float) -> None:
        community, writer, kind, recipient = route
        if community != self._community or recipient != self.node:
            self.refused["Malformed"] += 1
        elif kind == "receipt":
            self.member.receipt(writer, payload, wall_s)
        elif kind in KINDS:
            self.accountability.take(kind, writer, payload, wall_s)
        elif self.leads:
            self.leader.receive(kind, writer, payload)

    def _take_signed(self, content: AnyMessage, now_s: float, wall_s: float) -> None:
        sender = content.sender
        match content:
            case ElectionNotice(body=body) if sender != self.node:
                self.election.receive(sender, body, now_s)
            case Gone():
                self.election.gone(sender, now_s)
            case RoundNotice(body=Acknowledgement() as answer) if sender == COORDINATOR:
                self.member.acknowledged(answer)
                self.accountability.auditor.acknowledged(answer, now_s)
                self.leader.acknowledged(answer)
            case RoundNotice(body=RoundCall() as call) if self._obeyed(sender, call.round_name):
                self.member.call(sender, call, wall_s)
            case RoundNotice(body=Drops() as drops) if drops.leader == sender and self._obeyed(sender, drops.round_name):
                self.member.drops(drops)
            case Accusation():
                self.accountability.jury.accused(content, now_s)
            case EpochNotice():
                self._adopt_epoch(content, now_s)
            case KeyCard():
                self._adopt_key(content)
            case CommunitySignal() if content.term >= self.term:
                self._signal = content
                self._household.signal(content)
            case CommunitySignal():
                self.fenced += 1
            case _:
                pass

    def _obeyed(self, sender: str, round_name: str) -> bool:
        """The fence: only the proven leader of the highest term that is known here commands."""
        if self.election.accepts(sender, round_order(round_name)[0]):
            return True
        self.fenced += 1
        return False

    def _adopt_epoch(self, notice: EpochNotice, now_s: float) -> None:
        known = self._epoch_notice
        if known is not None and notice.epoch.number <= known.epoch.number:
            return
        if len(set(notice.epoch.names)) != len(notice.epoch.names):
            self.refused["RoundRefused"] += 1
            return
        for seat in () if known is None else known.epoch.seats:
            self._verifier.trust(seat.name, ())
        for seat in notice.epoch.seats:
            if seat.name != COORDINATOR:
                self._verifier.trust(seat.name, (public_key_of(seat),))
        self._epoch_notice = notice
        self.leader.drop()
        self.election.adopt(notice.epoch, now_s)
        self._stand()

    def _adopt_key(self, card: KeyCard) -> None:
        self._key_card = card
        self._stand()

    def _stand(self) -> None:
        """Take part under the newest epoch and key, once both are known and the key has passed its checks."""
        notice, card = self._epoch_notice, self._key_card
        if notice is None or card is None or self.node not in notice.epoch.names or not self._aggregation.enabled:
            return
        try:
            self._standing = self._encryption.standing(notice, card)
        except (KeyRefused, ValuesRefused) as refusal:
            self.refused["KeyRefused"] += 1
            log.error("the operator's key is refused: %s", refusal)
            return
        self.member.stand(self._standing)
