"""What a member can show to a third party about a round: signed statements as they were received, and what two of them prove.

A statement counts only under the signature of who made it, over the bytes that were received. The keys come from an epoch that the
coordinator signed, so whoever trusts the coordinator's key can judge the rest alone. Two statements of one author that
`protocols.aggregation.audit.contradiction` forbids are a proof against it; so is a sum that the leader stands by and that is none
(`wrong_sums`). One statement alone proves nothing. A proof carries all that is needed to find it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from protocols.aggregation.audit import Statement, contradiction
from protocols.aggregation.messages import (
    Acknowledgement,
    Aggregate,
    AuditAnswer,
    Drops,
    Receipt,
    SealRefused,
    verify_answer,
    verify_receipt,
)
from protocols.aggregation.wrong_sums import wrong_sum
from protocols.bus import BusMessage
from protocols.election.rules import double_voters, public_key_of
from protocols.election.values import Certificate
from protocols.errors import Refusal
from protocols.keys import key_id
from protocols.messages import AggregateNotice, AnyMessage, EpochNotice, KeyCard, RoundCall, RoundNotice
from protocols.signing import KEY_PROPERTY, SIGNATURE_PROPERTY, Verifier

COORDINATOR = "coordinator"


class Notice(Struct, frozen=True, kw_only=True, tag="notice"):
    """A message with the signature that came with it."""

    topic: str
    payload: bytes
    signature: str
    key: str
    heard_s: float

    @property
    def message(self) -> BusMessage:
        """The message as it was received."""
        properties = {SIGNATURE_PROPERTY: self.signature, KEY_PROPERTY: self.key}
        return BusMessage(topic=self.topic, payload=self.payload, properties=properties)


class SignedReceipt(Struct, frozen=True, kw_only=True, tag="receipt"):
    """A receipt with its leader's signature."""

    leader: str
    receipt: Receipt
    signature: bytes
    heard_s: float


class SignedAnswer(Struct, frozen=True, kw_only=True, tag="answer"):
    """A leader's answer in an audit that found something: whoever has the epoch and the key computes the finding again (`audit.judge`)."""

    answer: AuditAnswer
    heard_s: float


class TwoCertificates(Struct, frozen=True, kw_only=True, tag="certificates"):
    """Two leaders of one term: whoever has a vote in both certificates voted twice."""

    first: Certificate
    second: Certificate
    heard_s: float


Exhibit = Notice | SignedReceipt | SignedAnswer | TwoCertificates


class Proof(Struct, frozen=True, kw_only=True):
    """Why `author` cannot be honest, and the two exhibits that show it. `context` is what they are judged by: epochs, and the key.

    `round_name` is `<term>:<number>`; the number is 0 for votes, which belong to a term and to no round, and empty for epochs.
    """

    author: str
    round_name: str
    words: str
    first: Exhibit
    second: Exhibit
    context: tuple[Exhibit, ...]

    @property
    def exhibits(self) -> tuple[Exhibit, ...]:
        """All that `proofs` needs to find this proof again."""
        held = (*self.context, self.first, self.second)
        return tuple(exhibit for index, exhibit in enumerate(held) if exhibit not in held[:index])

    @property
    def digest(self) -> str:
        """What the evidence is named by: the two statements, not what they are judged by."""
        return evidence_digest((self.first, self.second))


def evidence_digest(exhibits: Iterable[Exhibit]) -> str:
    """What evidence is named by: a hash over the signed bytes, whoever heard them and whenever."""
    packed = sorted(msgspec.msgpack.encode(msgspec.structs.replace(exhibit, heard_s=0.0)) for exhibit in exhibits)
    hasher = hashlib.sha256(b"commonwatt/1 evidence\0")
    for part in packed:
        hasher.update(len(part).to_bytes(4, "big") + part)
    return hasher.hexdigest()


def notice_of(message: BusMessage, now_s: float) -> Notice:
    """What is kept of a received message."""
    signature, key = (message.properties.get(name, "") for name in (SIGNATURE_PROPERTY, KEY_PROPERTY))
    return Notice(topic=message.topic, payload=message.payload, signature=signature, key=key, heard_s=now_s)


def statement_of(notice: RoundNotice) -> Statement:
    """What contradictions are looked for in."""
    return notice.body.aggregate if isinstance(notice.body, AggregateNotice) else notice.body


def two_epochs(first: EpochNotice, second: EpochNotice) -> str | None:
    """Why an operator cannot honestly have said both, or None: who sits in an epoch, with which keys, and what is sampled never changes."""
    if first.epoch.number != second.epoch.number:
        return None
    said = [(notice.epoch, notice.cards, notice.settlement) for notice in (first, second)]
    return None if said[0] == said[1] else f"two epochs of number {first.epoch.number}"


def proofs(exhibits: Iterable[Exhibit], community: str, coordinator_keys: Sequence[Ed25519PublicKey]) -> list[Proof]:
    """What the exhibits prove, each pair of contradicting statements once. What is not signed as it should be proves nothing."""
    return _Bench(exhibits, community, coordinator_keys).proofs()


class _Bench:
    """The exhibits as they were read, by whose signature holds. An epoch or a key card is kept with the notice that says it."""

    def __init__(self, exhibits: Iterable[Exhibit], community: str, coordinator_keys: Sequence[Ed25519PublicKey]) -> None:
        held = list(exhibits)
        verifier = Verifier(community, {COORDINATOR: coordinator_keys})
        self.epochs: list[tuple[EpochNotice, Notice]] = []
        self.cards: list[tuple[KeyCard, Notice]] = []
        for exhibit in held:
            content = _read(exhibit, verifier) if isinstance(exhibit, Notice) and "/coordinator/" in exhibit.topic else None
            if not isinstance(exhibit, Notice):
                continue
            if isinstance(content, EpochNotice) and not any(_same_epoch(content, known) for known, _ in self.epochs):
                self.epochs.append((content, exhibit))
            elif isinstance(content, KeyCard) and not any(_same_card(content, known) for known, _ in self.cards):
                self.cards.append((content, exhibit))
        self._keys = self._member_keys()
        for name, known in self._keys.items():
            verifier.trust(name, [key for key, _ in known])
        self._verifier = verifier
        self._certificates = [exhibit for exhibit in held if isinstance(exhibit, TwoCertificates)]
        self._answers = [exhibit for exhibit in held if isinstance(exhibit, SignedAnswer)]
        self._said: dict[tuple[str, str], list[tuple[Statement, Exhibit, Notice | None]]] = {}
        for exhibit in held:
            judged = self._judged(exhibit)
            if judged is not None:
                author, statement, epoch = judged
                self._said.setdefault((author, statement.round_name), []).append((statement, exhibit, epoch))

    def proofs(self) -> list[Proof]:
        """Everything that is proved, votes and epochs first."""
        found = [proof for exhibit in self._certificates for proof in self._double_votes(exhibit)]
        found += self._two_epochs()
        for (author, round_name), statements in self._said.items():
            for index, (second, later, epoch) in enumerate(statements):
                for first, earlier, other in statements[:index]:
                    words = contradiction(first, second)
                    if words is not None:
                        context = tuple(notice for notice in (other, epoch) if notice is not None)
                        found.append(
                            Proof(author=author, round_name=round_name, words=words, first=earlier, second=later, context=context)
                        )
        return found + [proof for exhibit in self._answers for proof in self._wrong_sums(exhibit)]

    def _member_keys(self) -> dict[str, list[tuple[Ed25519PublicKey, Notice]]]:
        """Every key that a member had in an epoch, and the first notice that says so."""
        keys: dict[str, list[tuple[Ed25519PublicKey, Notice]]] = {}
        for content, notice in self.epochs:
            for seat in content.epoch.seats:
                if seat.name != COORDINATOR:
                    key, known = public_key_of(seat), keys.setdefault(seat.name, [])
                    if key not in [other for other, _ in known]:
                        known.append((key, notice))
        return keys

    def _judged(self, exhibit: Exhibit) -> tuple[str, Statement, Notice | None] | None:
        """Who said what and which epoch names its key, if it is signed; an answer is no statement that another one could contradict."""
        match exhibit:
            case SignedReceipt():
                return self._receipt(exhibit)
            case Notice():
                return self._statement(exhibit)
            case SignedAnswer() | TwoCertificates():
                return None

    def _receipt(self, exhibit: SignedReceipt) -> tuple[str, Statement, Notice | None] | None:
        for key, epoch in self._keys.get(exhibit.leader, ()):
            try:
                verify_receipt(exhibit.receipt, exhibit.signature, key)
            except SealRefused:
                continue
            return exhibit.leader, exhibit.receipt, epoch
        return None

    def _statement(self, exhibit: Notice) -> tuple[str, Statement, Notice | None] | None:
        """Who said what; None for what was not signed so, or what its author cannot say for itself."""
        content = _read(exhibit, self._verifier)
        if not isinstance(content, RoundNotice):
            return None
        statement = statement_of(content)
        match statement:
            case Acknowledgement():
                author = COORDINATOR
            case Drops(leader=leader) | Aggregate(leader=leader):
                author = leader
            case _:
                author = content.sender
        epoch = next((notice for key, notice in self._keys.get(author, ()) if key_id(key) == exhibit.key), None)
        return (author, statement, epoch) if author == content.sender else None

    def _two_epochs(self) -> Iterator[Proof]:
        epochs: dict[int, tuple[EpochNotice, Notice]] = {}
        for content, notice in self.epochs:
            earlier, first = epochs.setdefault(content.epoch.number, (content, notice))
            words = two_epochs(earlier, content)
            if words is not None:
                yield Proof(author=COORDINATOR, round_name="", words=words, first=first, second=notice, context=())

    def _double_votes(self, exhibit: TwoCertificates) -> Iterator[Proof]:
        term = exhibit.first.term
        words = f"two votes in term {term}: for {exhibit.first.leader!r} and for {exhibit.second.leader!r}"
        for content, notice in self.epochs:
            for voter in double_voters(content.epoch, exhibit.first, exhibit.second):
                yield Proof(author=voter, round_name=f"{term}:0", words=words, first=exhibit, second=exhibit, context=(notice,))

    def _wrong_sums(self, exhibit: SignedAnswer) -> Iterator[Proof]:
        """The answer beside its call. Who has made several calls is proved a liar without a sum, and each would cost a computation."""
        answer = exhibit.answer
        said = self._said.get((answer.leader, answer.round_name), ())
        drops = [(statement, shown) for statement, shown, _ in said if isinstance(statement, Drops)]
        calls = [(statement, shown) for statement, shown, _ in said if isinstance(statement, RoundCall)]
        for call, called in calls[:1]:
            for content, epoch in self.epochs:
                if content.epoch.number != call.epoch or not _answered(answer, content):
                    continue
                for card, key in self.cards:
                    words = wrong_sum(answer, call, content, card, [drop for drop, _ in drops])
                    if words is not None:
                        yield Proof(
                            author=answer.leader,
                            round_name=answer.round_name,
                            words=words,
                            first=called,
                            second=exhibit,
                            context=(epoch, key, *(shown for _, shown in drops)),
                        )
                        return


def _answered(answer: AuditAnswer, notice: EpochNotice) -> bool:
    """Whether the leader has signed the answer with the key of its seat."""
    seat = next((seat for seat in notice.epoch.seats if seat.name == answer.leader), None)
    try:
        if seat is not None:
            verify_answer(answer, public_key_of(seat))
    except SealRefused:
        return False
    return seat is not None


def _same_epoch(first: EpochNotice, second: EpochNotice) -> bool:
    """Whether it was said again, as at every connection."""
    return first.epoch.number == second.epoch.number and two_epochs(first, second) is None


def _same_card(first: KeyCard, second: KeyCard) -> bool:
    """Whether it was said again, as at every connection."""
    said = [(card.n, card.x, card.values, card.pad_bits, card.members_max) for card in (first, second)]
    return said[0] == said[1]


def _read(exhibit: Notice, verifier: Verifier) -> AnyMessage | None:
    try:
        return verifier.read(exhibit.message)
    except Refusal:
        return None
