"""The operator's desk inside the coordinator's service: keys on the disk, topics, and the demand that follows from sums. A shell.

In this mode the coordinator asks for no message that shows a household's power, so none of them is subscribed to, and the demand of its
envelopes comes from the community's sums alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator import store as tables
from coordinator.aggregation.convictions import Conviction, Court, unsound
from coordinator.aggregation.desk import SENDER, AggregationDesk
from coordinator.aggregation.head import head_limits_w
from coordinator.aggregation.keys import OperatorKey, generate_key, load_keys, read_passphrase, save_keys
from coordinator.aggregation.settlement import Asking, Settled
from coordinator.aggregation.standing import DECLARED_S, StandingBook
from coordinator.aggregation.sums import node_demand_w
from coordinator.config import CoordinatorConfig, NodeSection
from coordinator.demand import LimitPair
from coordinator.network.model import Network
from coordinator.store import Store
from protocols.aggregation.evidence import Notice, notice_of
from protocols.aggregation.messages import labelled, seal
from protocols.aggregation.settlement import sign_demand
from protocols.bus import Bus, BusMessage
from protocols.keys import load_public_key
from protocols.messages import (
    AdherenceReport,
    AggregateNotice,
    AnyMessage,
    ControlResponse,
    RoundNotice,
    SafetyState,
    Status,
    Verdict,
)
from protocols.signing import Signer
from protocols.topics import coordinator_topic, election_topic, node_topic, round_topic, sealed_route, sealed_topic

CONVICTION, OPENING, DECLARATION = "conviction", "opening", "declaration"
LOOK_S = 900.0

MakeKey = Callable[[float], OperatorKey]


class CommunityOffice:
    """See the module. Keys and passphrase are read from the configured files unless `keys` are given, which are then never written."""

    def __init__(
        self,
        config: CoordinatorConfig,
        network: Network,
        *,
        now_s: float,
        sequence: Callable[[], int],
        entropy: Callable[[int], bytes] = os.urandom,
        keys: list[OperatorKey] | None = None,
        make_key: MakeKey | None = None,
    ) -> None:
        section = config.aggregation
        self._config = config
        self._sequence = sequence
        self._section = section
        self._key_file = None if keys is not None else Path(section.key_file)
        self._passphrase = b"" if keys is not None else read_passphrase(Path(section.passphrase_file))
        if self._key_file is not None:
            keys = load_keys(self._key_file, self._passphrase, min_bits=section.key_bits)
        nodes = config.nodes
        self._import_ratings_w = sum(node.import_rating_w for node in nodes)
        self._export_ratings_w = sum(node.export_rating_w for node in nodes)
        self.standing = StandingBook((node.name for node in nodes), now_s)
        self._remembered = ""
        self._negotiated = ""
        self._struck = False
        self._court = Court()
        self._convictions: list[Conviction] = []
        self._declared: list[tuple[AdherenceReport, Notice]] = []
        self._looked_s = -math.inf
        self._weighed: set[tuple[str, str]] = set()
        self._sessions = 0
        self.desk = AggregationDesk(
            section,
            {node.name: _public_key(node) for node in nodes if node.key_files},
            keys or (),
            make_key=(lambda expires_s: generate_key(section.key_bits, expires_s)) if make_key is None else make_key,
            sequence=sequence,
            entropy=entropy,
            ratings_w=(self._import_ratings_w, self._export_ratings_w),
            reputation=self.standing.value,
            limits_w=head_limits_w(config, network),
        )

    def start(self, bus: Bus, store: Store) -> None:
        """Remember what an earlier run answered, and subscribe."""
        kept, reputations = store.remembered("aggregation"), store.remembered("reputations")
        if kept is not None:
            self.desk.restore(kept)
        if reputations is not None:
            self.standing.restore(reputations)
        self._weighed = _weighed(store)
        for conviction in convictions(store):
            known = conviction.accused, conviction.round_name
            if conviction.ground != "declaration" or known in self._weighed:
                self._court.convicted.add(known)
        community = self._config.identity.community
        bus.subscribe(node_topic(community, "+", "join"))
        bus.subscribe(election_topic(community, "+", "certificate"))
        bus.subscribe(round_topic(community, "+", "aggregate"))
        bus.subscribe(sealed_topic(community, "+", "opening", SENDER))

    def take(self, message: BusMessage, content: AnyMessage, now_s: float) -> None:
        """One authenticated message of a member."""
        match content:
            case Status():
                self.standing.seen(content.sender, content.state is not SafetyState.OFFLINE, now_s)
            case ControlResponse():
                self.standing.responded(content, now_s)
            case AdherenceReport():
                self.standing.declared(content, now_s)
                self._declared.append((content, notice_of(message, now_s)))
            case Verdict():
                self._convict(self._court.verdict(self.desk.epoch, content, notice_of(message, now_s)), now_s)
            case RoundNotice(body=AggregateNotice() as said) if said.aggregate.leader == content.sender:
                self._answer(message, content, said, now_s)
            case _:
                self.desk.take(content, now_s)

    def _answer(self, message: BusMessage, content: RoundNotice, said: AggregateNotice, now_s: float) -> None:
        """An aggregate: the desk answers it, and what it proves against who has signed it is recorded."""
        notice, epoch = notice_of(message, now_s), self.desk.epoch
        self.desk.take(content, now_s)
        self._convict(self._court.aggregate(epoch, said, notice), now_s)
        for accused, round_name in self.desk.breaches:
            assert epoch is not None
            self._convict(self._court.beacon(epoch, accused, round_name, notice), now_s)
        self.desk.breaches.clear()

    def _convict(self, conviction: Conviction | None, now_s: float) -> None:
        """Record it, and trust who is convicted no more."""
        if conviction is not None:
            self._strike(conviction.accused, now_s)
            self._convictions.append(conviction)

    def _strike(self, accused: str, now_s: float) -> None:
        """A new epoch says to everybody who is trusted no more, and elects another leader where it led. Of somebody who may not lead
        as it is there is nothing to say: a new epoch ends the round that is under way, and a liar could ask for one at any time."""
        self.standing.convicted(accused, now_s)
        self._struck = True
        epoch, value = self.desk.epoch, self.standing.value(accused)
        if epoch is not None and any(seat.name == accused and seat.reputation > value for seat in epoch.eligible()):
            self.desk.found_anew()

    def take_sealed(self, message: BusMessage) -> bool:
        """Whether this is a sealed opening; what is wrong with it is recorded by name."""
        match sealed_route(message.topic):
            case (community, member, "opening", recipient) if community == self._config.identity.community and recipient == SENDER:
                self.desk.settlement.answer(member, message.payload)
                return True
            case _:
                return False

    def decide(self, bus: Bus, store: Store, now_s: float) -> list[tuple[str, str]]:
        """Do what is due, and hand what must survive to the store; returns what has to be recorded."""
        if bus.sessions != self._sessions:
            self._sessions = bus.sessions
            self.desk.announce_anew()
        if not bus.connected:
            self.standing.cut_off(now_s)
        plan = self.desk.unit.plan
        self.standing.step(now_s, rounds_opened=plan is not None and now_s - plan.start_s <= DECLARED_S)
        self.desk.step(now_s)
        self._settled(store, now_s)
        for conviction in self._convictions:
            store.add(tables.messages, conviction_row(conviction, next_sequence=self._sequence(), received_s=now_s))
            self.desk.events.append(("convicted", f"{conviction.accused} in round {conviction.round_name}: {conviction.words}"))
        self._convictions.clear()
        if self.desk.keys_changed and self._key_file is not None:
            save_keys(self._key_file, self.desk.keys, self._passphrase)
        self.desk.keys_changed = False
        kept = self.desk.save()
        if kept != self._remembered or self._struck:
            self._remembered, self._struck = kept, False
            store.remember("aggregation", kept)
            store.remember("reputations", self.standing.save())
            store.remember("weighed", msgspec.json.encode(sorted(self._weighed)).decode())
        record = self.desk.bargain.record()
        if record is not None and record != self._negotiated:
            self._negotiated = record
            store.remember("negotiation", record)
        for settled in self.desk.settlement.settled:
            store.add(tables.messages, opening_row(settled, next_sequence=self._sequence(), received_s=now_s))
        self.desk.settlement.settled.clear()
        events, self.desk.events = self.desk.events, []
        return events

    def _settled(self, store: Store, now_s: float) -> None:
        """Keep what members declare, and look now and then whether `commonwatt-coordinator settle` has disproved it."""
        for report, notice in self._declared:
            store.add(tables.messages, declaration_row(report, notice))
        self._declared.clear()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        for conviction in convictions(store):
            known = conviction.accused, conviction.round_name
            if known in self._court.convicted:
                continue
            self._court.convicted.add(known)
            problem = unsound(conviction, self._config.identity.community)
            if problem is not None:
                self.desk.events.append(("conviction-refused", f"{conviction.accused}: {problem}"))
                continue
            self._weighed.add(known)
            self._strike(conviction.accused, now_s)
            self.desk.events.append(("convicted", f"{conviction.accused}: {conviction.words}"))

    def say(self, bus: Bus, signer: Signer) -> None:
        """Send what waits; called once the store has what it rests on."""
        community = self._config.identity.community
        for saying in self.desk.outgoing:
            bus.publish(signer.seal(coordinator_topic(community, saying.kind), saying.message, retain=saying.retain))
        self.desk.outgoing.clear()
        for asking in self.desk.settlement.asking:
            bus.publish(demand_message(community, asking, signer))
        self.desk.settlement.asking.clear()

    def wanted(self, node: NodeSection, now_s: float, start_s: float, end_s: float) -> LimitPair:
        """What the community's sums imply for one node in [start_s, end_s)."""
        section, unit = self._section, self.desk.unit
        ratings = (node.import_rating_w, self._import_ratings_w), (node.export_rating_w, self._export_ratings_w)
        import_w, export_w = (
            node_demand_w(reach, now_s, section.sums_hold_s, start_s, end_s, rating_w, total_w, section.concentration)
            for reach, (rating_w, total_w) in zip((unit.import_reach, unit.export_reach), ratings, strict=True)
        )
        return LimitPair(import_w=import_w, export_w=export_w)


def demand_message(community: str, asking: Asking, signer: Signer) -> BusMessage:
    """A demand as it is sent: signed, and sealed to the member whose report was sampled."""
    demand = sign_demand(signer, asking.round_name, asking.member, asking.secret, asking.reply_key)
    payload = labelled(asking.round_name, seal(demand, asking.envelope_key))
    return BusMessage(topic=sealed_topic(community, SENDER, "demand", asking.member), payload=payload)


def convictions(store: Store) -> list[Conviction]:
    """What was proven against whom, the oldest first."""
    rows = store.rows(tables.messages, tables.messages.c.kind == CONVICTION)
    return sorted((msgspec.json.decode(row["body_json"], type=Conviction) for row in rows), key=lambda found: found.time_s)


def _weighed(store: Store) -> set[tuple[str, str]]:
    """Convictions by declarations that have cost their strike: another process records them, whether the service runs or not."""
    kept = store.remembered("weighed")
    return set() if kept is None else set(msgspec.json.decode(kept, type=list[tuple[str, str]]))


def openings(store: Store) -> list[Settled]:
    """What members have opened."""
    rows = store.rows(tables.messages, tables.messages.c.kind == OPENING)
    return [msgspec.json.decode(row["body_json"], type=Settled) for row in rows]


def declarations(store: Store) -> list[Notice]:
    """What members have declared of how they kept to their reports, as they signed it."""
    rows = store.rows(tables.messages, tables.messages.c.kind == DECLARATION)
    return [msgspec.json.decode(row["body_json"], type=Notice) for row in rows]


def declaration_row(report: AdherenceReport, notice: Notice) -> dict[str, Any]:
    """Row of `store.messages`: a declaration with its signature."""
    return {
        "kind": DECLARATION,
        "node": report.sender,
        "sequence": report.sequence,
        "time_s": report.time_s,
        "received_s": notice.heard_s,
        "body_json": msgspec.json.encode(notice).decode(),
    }


def conviction_row(conviction: Conviction, *, next_sequence: int, received_s: float) -> dict[str, Any]:
    """Row of `store.messages`: a conviction with all that proves it."""
    return {
        "kind": CONVICTION,
        "node": conviction.accused,
        "sequence": next_sequence,
        "time_s": conviction.time_s,
        "received_s": received_s,
        "body_json": msgspec.json.encode(conviction).decode(),
    }


def opening_row(settled: Settled, *, next_sequence: int, received_s: float) -> dict[str, Any]:
    """Row of `store.messages`: what a household stands by, to be compared with its meter."""
    return {
        "kind": OPENING,
        "node": settled.member,
        "sequence": next_sequence,
        "time_s": settled.round.start_s,
        "received_s": received_s,
        "body_json": msgspec.json.encode(settled).decode(),
    }


def _public_key(node: NodeSection) -> Ed25519PublicKey:
    return load_public_key(Path(node.key_files[0]))
