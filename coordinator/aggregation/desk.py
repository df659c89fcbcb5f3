"""The operator's side of elections and rounds: who is registered, which leader is believed, what is opened. Chooses, and sends nothing.

What it says waits in `outgoing` until the service has brought `save` to the disk: an answer that was given and forgotten would let another
aggregate of the same round be opened. The rules:

1. An aggregate counts only from the leader whose certificate of votes was checked, under the highest term seen (the fence, on disk).
2. Its beacon must be the one that the round's call implies; the checksum of the sums then holds only for what the members were asked.
   A leader that signs another one has proven its own breach (`breaches`: who, and in which round), unless it was the epoch that changed.
3. One aggregate for each round (`protocols.aggregation.operator`), opened under the key it names, as long as that key lives.
4. Sums that the feeder's connections cannot add up to are answered and not used.
5. Answers carry no sums. Members join in batches, so that no two epochs differ by a few.
6. Epochs are numbered by the second of their beginning, so that an operator that lost its disk founds one which is newer than all before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from coordinator.aggregation.bargain import Bargain
from coordinator.aggregation.keys import OperatorKey
from coordinator.aggregation.settings import AggregationSection
from coordinator.aggregation.settlement import SettlementDesk, Term
from coordinator.aggregation.sums import VirtualUnit, implausible, updated
from protocols.aggregation.calls import beacon
from protocols.aggregation.differencing import admitted
from protocols.aggregation.group import MemberCard, RoundRefused, check_card
from protocols.aggregation.member import round_order
from protocols.aggregation.messages import Acknowledgement, aggregate_digest
from protocols.aggregation.operator import OperatorBook
from protocols.aggregation.packing import Layout
from protocols.election.rules import CertificateRefused, check_certificate
from protocols.election.values import Certificate, Epoch, Seat
from protocols.messages import (
    AggregateNotice,
    AnyMessage,
    CommunitySignal,
    ElectionNotice,
    JoinCard,
    KeyCard,
    RoundContent,
    RoundNotice,
    SeatCard,
)
from protocols.messages import EpochNotice as EpochMessage

log = logging.getLogger(__name__)

SENDER = "coordinator"
CARDS_HELD_S = 3600.0
"""A member's new keys found an epoch at once, and further ones only so long after: until then they wait for the next epoch there is."""
FORMERS_KEPT = 8
"""Epochs may follow each other while one round is under way, and its leader is not to blame."""


class Saying(Struct, frozen=True, kw_only=True):
    """One message to the whole community; `kind` names its topic below `coordinator/`."""

    kind: str
    message: EpochMessage | KeyCard | RoundNotice | CommunitySignal
    retain: bool = False


class _Kept(Struct):
    """What survives a restart."""

    epoch: Epoch | None = None
    cards: tuple[SeatCard, ...] = ()
    epoch_s: float = 0.0
    fence: Certificate | None = None
    books: dict[str, str] = {}
    settlement: dict[int, Term] = {}
    formers: tuple[Epoch, ...] = ()
    layout: tuple[int, int, int] | None = None


class AggregationDesk:
    """See the module. `keys` are the private keys, the newest last; `make_key(expires_s)` makes a further one; `sequence` numbers messages;
    `entropy(count)` gives random bytes; `ratings_w` are (import, export) of all nodes together, `limits_w` what they may negotiate about
    at the feeder's head (None: the ratings)."""

    def __init__(
        self,
        section: AggregationSection,
        members: Mapping[str, Ed25519PublicKey],
        keys: Sequence[OperatorKey],
        *,
        make_key: Callable[[float], OperatorKey],
        sequence: Callable[[], int],
        entropy: Callable[[int], bytes],
        ratings_w: tuple[float, float],
        reputation: Callable[[str], float],
        limits_w: tuple[float, float] | None = None,
    ) -> None:
        self.unit = VirtualUnit()
        self.outgoing: list[Saying] = []
        self.events: list[tuple[str, str]] = []
        self.breaches: list[tuple[str, str]] = []
        self.opened = 0
        self.refused = 0
        self.keys = list(keys)
        self.keys_changed = False
        self._section = section
        self._members = dict(members)
        self._make_key = make_key
        self._sequence = sequence
        self._entropy = entropy
        self._ratings_w = ratings_w
        self._reputation = reputation
        self._joined: dict[str, JoinCard] = {}
        self._first_join_s: float | None = None
        self._changed_s: dict[str, float] = {}
        self._kept = _Kept()
        self._books: dict[str, OperatorBook] = {}
        self._anew = True
        self._found_anew = False
        self.bargain = Bargain(section.negotiation, ratings_w if limits_w is None else limits_w)
        layout = Layout(section.values, section.pad_bits, section.members_max)
        self.settlement = SettlementDesk(section.settlement_share, layout, entropy)

    @property
    def term(self) -> int:
        """The fence: the highest term whose certificate was checked."""
        return 0 if self._kept.fence is None else self._kept.fence.term

    @property
    def epoch(self) -> Epoch | None:
        """The present epoch, None before the first."""
        return self._kept.epoch

    def found_anew(self) -> None:
        """Reputations have changed at once: the same members, in a new epoch with the next step."""
        self._found_anew = True

    @property
    def _layout(self) -> tuple[int, int, int]:
        """How reports are laid out. A key has one layout for ever: under another one an honest sum of before would look like none."""
        return self._section.values, self._section.pad_bits, self._section.members_max

    def save(self) -> str:
        """What must be on the disk before `outgoing` is sent."""
        self._kept.books = {key_id: book.save().decode() for key_id, book in self._books.items()}
        self._kept.settlement = self.settlement.epochs
        self._kept.layout = self._layout
        return msgspec.json.encode(self._kept).decode()

    def restore(self, text: str) -> None:
        """Take back what `save` gave."""
        self._kept = msgspec.json.decode(text, type=_Kept)
        self.settlement.epochs = self._kept.settlement
        if self._kept.layout not in (None, self._layout):
            self.keys.clear()
            self._books.clear()
            self.keys_changed = True
        for key in self.keys:
            self._book(key)
            answered = self._kept.books.get(key.key_id)
            if answered is not None:
                self._books[key.key_id].restore(answered.encode())

    def announce_anew(self) -> None:
        """The transport came up: retained messages are said again."""
        self._anew = True

    def take(self, content: AnyMessage, now_s: float) -> None:
        """One authenticated message of a member."""
        match content:
            case JoinCard() if content.sender in self._members:
                self._admit(content, now_s)
            case ElectionNotice(body=Certificate() as certificate):
                self._believe(certificate)
            case RoundNotice(body=AggregateNotice() as notice) if notice.aggregate.leader == content.sender:
                self._answer(notice, now_s)
            case _:
                pass

    def step(self, now_s: float) -> None:
        """Found or renew the epoch and the key when it is time."""
        self._renew_key(now_s)
        self._renew_epoch(now_s)
        if self._anew:
            self._anew = False
            self._say_key(now_s)
            self._say_epoch(now_s)
        signal = self.bargain.due(now_s, self.unit, self.term)
        if signal is not None:
            self._signal(signal, now_s)
        if self._kept.epoch is not None:
            self.settlement.step(self._kept.epoch.number, now_s)
        self.events += self.settlement.events
        self.settlement.events.clear()

    def _admit(self, join: JoinCard, now_s: float) -> None:
        """Take a member's public keys, once they are usable and its own: a useless card would stop whoever pads with its owner."""
        card = MemberCard(
            join.sender, self._members[join.sender], bytes.fromhex(join.pad_key), bytes.fromhex(join.envelope_key)
        )
        try:
            check_card(card)
        except RoundRefused as refusal:
            self.events.append(("card-refused", str(refusal)))
            return
        for name, other in self._joined.items():
            if name != join.sender and {join.pad_key, join.envelope_key} & {other.pad_key, other.envelope_key}:
                self.events.append(("card-refused", f"the card of {join.sender!r} holds a key of {name!r}"))
                return
        self._joined[join.sender] = join
        self._first_join_s = now_s if self._first_join_s is None else self._first_join_s

    def _renew_key(self, now_s: float) -> None:
        section = self._section
        if not self.keys or now_s >= self.keys[-1].expires_s - section.key_overlap_s:
            self.keys.append(self._make_key(now_s + section.key_life_s))
            self.keys_changed = True
            self._say_key(now_s)
        for key in [key for key in self.keys[:-1] if now_s >= key.expires_s + section.key_overlap_s]:
            self.keys.remove(key)
            self._books.pop(key.key_id, None)
            self.keys_changed = True
        for key in self.keys:
            self._book(key)

    def _renew_epoch(self, now_s: float) -> None:
        section, kept = self._section, self._kept
        present: tuple[str, ...] = ()
        if kept.epoch is None:
            waited = self._first_join_s is not None and now_s - self._first_join_s >= section.founding_s
            if len(self._joined) == len(self._members) or (waited and len(self._joined) >= section.members_min):
                present = tuple(sorted(self._joined))
        else:
            newcomers = admitted(kept.epoch.names, self._joined)
            if newcomers or self._found_anew or self._cards_changed(now_s) or now_s >= kept.epoch_s + section.epoch_s:
                present = tuple(sorted({*kept.epoch.names, *newcomers} & self._members.keys()))
        if len(present) < section.members_min or len(present) > section.members_max:
            return
        known = {card.name: card for card in kept.cards}
        for name in present:
            join = self._joined.get(name)
            if join is not None:
                known[name] = SeatCard(name=name, pad_key=join.pad_key, envelope_key=join.envelope_key)
        kept.cards = tuple(known[name] for name in present if name in known)
        self._found_anew = False
        if kept.epoch is not None:
            kept.formers = (*kept.formers, kept.epoch)[-FORMERS_KEPT:]
        kept.epoch = Epoch(
            number=max(int(now_s), 0 if kept.epoch is None else kept.epoch.number + 1),
            seats=tuple(
                Seat(name=name, public_key=self._members[name].public_bytes_raw().hex(), reputation=self._reputation(name))
                for name in present
            ),
            reputation_min=section.reputation_min,
            seed=self._entropy(32).hex(),
        )
        kept.epoch_s = now_s
        self.settlement.begin(kept.epoch, kept.cards)
        self._say_epoch(now_s)

    def _cards_changed(self, now_s: float) -> bool:
        """A member that lost its secrets has joined with new ones. Once in a while of each member: an epoch ends the round under way."""
        for card in self._kept.cards:
            join = self._joined.get(card.name)
            if join is None or (join.pad_key, join.envelope_key) == (card.pad_key, card.envelope_key):
                continue
            if now_s - self._changed_s.get(card.name, -CARDS_HELD_S) >= CARDS_HELD_S:
                self._changed_s[card.name] = now_s
                return True
        return False

    def _believe(self, certificate: Certificate) -> None:
        epoch = self._kept.epoch
        if epoch is None or certificate.term <= self.term:
            return
        try:
            check_certificate(epoch, certificate)
        except CertificateRefused as refusal:
            self.events.append(("certificate-refused", str(refusal)))
            return
        self._kept.fence = certificate

    def _answer(self, notice: AggregateNotice, now_s: float) -> None:
        aggregate = notice.aggregate
        term = round_order(aggregate.round_name)[0]
        fence, epoch = self._kept.fence, self._kept.epoch
        if epoch is None or fence is None or term > fence.term:
            return
        if term < fence.term or aggregate.leader != fence.leader:
            self._refuse(notice, f"term {term} of {aggregate.leader}: {fence.leader} leads in term {fence.term}", now_s)
            return
        if aggregate.beacon != beacon(epoch, notice):
            for former in self._kept.formers:
                if aggregate.beacon == beacon(former, notice):
                    self._refuse(notice, f"epoch {former.number} is over", now_s)
                    return
            self.breaches.append((aggregate.leader, aggregate.round_name))
            self._refuse(notice, "its beacon is not that of its call", now_s)
            return
        book = self._books.get(aggregate.key_id)
        if book is None:
            self._refuse(notice, f"key {aggregate.key_id} is not in use", now_s)
            return
        answer, sums = book.receive(aggregate)
        self._say(RoundNotice(sender=SENDER, time_s=now_s, sequence=self._sequence(), body=answer))
        if not answer.accepted:
            self.refused += 1
            self.events.append(("round-refused", f"round {answer.round_name}: {answer.reason}"))
        elif sums is not None:
            self.opened += 1
            self.settlement.opened(epoch.number, notice, next(key.public for key in self.keys if key.key_id == aggregate.key_id))
            doubt = implausible(notice, sums, *self._ratings_w)
            if doubt is not None:
                self.events.append(("sums-implausible", f"round {answer.round_name}: {doubt}"))
            elif notice.content is RoundContent.NEGOTIATION:
                signal = self.bargain.answered(notice, sums, self.term)
                if signal is not None:
                    self._signal(signal, now_s)
            else:
                self.unit = updated(self.unit, notice, sums)

    def _refuse(self, notice: AggregateNotice, reason: str, now_s: float) -> None:
        self.refused += 1
        digest = aggregate_digest(notice.aggregate)
        answer = Acknowledgement(round_name=notice.aggregate.round_name, digest=digest, accepted=False, reason=reason[:200])
        self.events.append(("round-refused", f"round {answer.round_name}: {reason}"))
        self._say(RoundNotice(sender=SENDER, time_s=now_s, sequence=self._sequence(), body=answer))

    def _say(self, message: RoundNotice) -> None:
        self.outgoing.append(Saying(kind="round", message=message))

    def _signal(self, signal: CommunitySignal, now_s: float) -> None:
        numbered = msgspec.structs.replace(signal, time_s=now_s, sequence=self._sequence())
        self.outgoing.append(Saying(kind="signal", message=numbered))

    def _say_key(self, now_s: float) -> None:
        if not self.keys:
            return
        section, newest = self._section, self.keys[-1]
        card = KeyCard(
            sender=SENDER,
            time_s=now_s,
            sequence=self._sequence(),
            n=format(newest.public.n, "x"),
            x=format(newest.public.x, "x"),
            values=section.values,
            pad_bits=section.pad_bits,
            members_max=section.members_max,
            expires_s=newest.expires_s,
        )
        self.outgoing.append(Saying(kind="key", message=card, retain=True))

    def _say_epoch(self, now_s: float) -> None:
        kept = self._kept
        if kept.epoch is None:
            return
        message = EpochMessage(
            sender=SENDER,
            time_s=now_s,
            sequence=self._sequence(),
            epoch=kept.epoch,
            cards=kept.cards,
            members_min=self._section.members_min,
            settlement=self.settlement.sampling(kept.epoch.number),
        )
        self.outgoing.append(Saying(kind="epoch", message=message, retain=True))

    def _book(self, key: OperatorKey) -> None:
        if key.key_id not in self._books:
            section = self._section
            layout = Layout(section.values, section.pad_bits, section.members_max)
            self._books[key.key_id] = OperatorBook(key.public, layout, key.decrypt, members_min=section.members_min)
