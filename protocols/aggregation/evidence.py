"""What a member can show to a third party about a round: signed statements as they were received, and what two of them prove.

A statement counts only under the signature of who made it, over the bytes that were received. The keys come from an epoch that the
coordinator signed, so whoever trusts the coordinator's key can judge the rest alone. Two statements of one author that
`protocols.aggregation.audit.contradiction` forbids are a proof against it; one statement alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from protocols.aggregation.audit import Statement, contradiction
from protocols.aggregation.messages import Acknowledgement, Aggregate, AuditAnswer, Drops, Receipt, SealRefused, verify_receipt
from protocols.bus import BusMessage
from protocols.election.rules import double_voters, public_key_of
from protocols.election.values import Certificate
from protocols.errors import Refusal
from protocols.messages import AggregateNotice, AnyMessage, EpochNotice, RoundNotice
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
    """Why `author` cannot be honest, and the two exhibits that show it."""

    author: str
    words: str
    first: Exhibit
    second: Exhibit


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
    held = list(exhibits)
    verifier = Verifier(community, {COORDINATOR: coordinator_keys})
    keys = _member_keys(held, verifier)
    found = [proof for exhibit in held if isinstance(exhibit, TwoCertificates) for proof in _double_votes(exhibit, held, verifier)]
    found += _two_epochs(held, verifier)
    for name, known in keys.items():
        verifier.trust(name, known)
    said: dict[tuple[str, str], list[tuple[Statement, Exhibit]]] = {}
    for exhibit in held:
        judged = _judged(exhibit, keys, verifier)
        if judged is not None:
            author, statement = judged
            said.setdefault((author, statement.round_name), []).append((statement, exhibit))
    for (author, _), statements in said.items():
        for index, (second, later) in enumerate(statements):
            for first, earlier in statements[:index]:
                words = contradiction(first, second)
                if words is not None:
                    found.append(Proof(author=author, words=words, first=earlier, second=later))
    return found


def _member_keys(exhibits: Sequence[Exhibit], verifier: Verifier) -> dict[str, list[Ed25519PublicKey]]:
    """Every key that a member had in an epoch among the exhibits."""
    keys: dict[str, list[Ed25519PublicKey]] = {}
    for exhibit in exhibits:
        content = _read(exhibit, verifier) if isinstance(exhibit, Notice) else None
        if isinstance(content, EpochNotice):
            for seat in content.epoch.seats:
                if seat.name != COORDINATOR:
                    key, known = public_key_of(seat), keys.setdefault(seat.name, [])
                    if key not in known:
                        known.append(key)
    return keys


def _judged(exhibit: Exhibit, keys: Mapping[str, list[Ed25519PublicKey]], verifier: Verifier) -> tuple[str, Statement] | None:
    """Who said what, if it is signed; an answer is no statement that another one could contradict."""
    match exhibit:
        case SignedReceipt():
            return _receipt(exhibit, keys)
        case Notice():
            return _statement(exhibit, verifier)
        case SignedAnswer() | TwoCertificates():
            return None


def _receipt(exhibit: SignedReceipt, keys: Mapping[str, list[Ed25519PublicKey]]) -> tuple[str, Statement] | None:
    for key in keys.get(exhibit.leader, ()):
        try:
            verify_receipt(exhibit.receipt, exhibit.signature, key)
        except SealRefused:
            continue
        return exhibit.leader, exhibit.receipt
    return None


def _statement(exhibit: Notice, verifier: Verifier) -> tuple[str, Statement] | None:
    """Who said what; None for what was not signed so, or what its author cannot say for itself."""
    content = _read(exhibit, verifier)
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
    return (author, statement) if author == content.sender else None


def _two_epochs(held: Sequence[Exhibit], verifier: Verifier) -> Iterator[Proof]:
    epochs: dict[int, list[tuple[EpochNotice, Notice]]] = {}
    for exhibit in held:
        content = _read(exhibit, verifier) if isinstance(exhibit, Notice) else None
        if isinstance(content, EpochNotice) and isinstance(exhibit, Notice):
            known = epochs.setdefault(content.epoch.number, [])
            for earlier, first in known[:1]:
                words = two_epochs(earlier, content)
                if words is not None:
                    yield Proof(author=COORDINATOR, words=words, first=first, second=exhibit)
            known.append((content, exhibit))


def _double_votes(exhibit: TwoCertificates, held: Sequence[Exhibit], verifier: Verifier) -> Iterator[Proof]:
    for other in held:
        notice = _read(other, verifier) if isinstance(other, Notice) else None
        if isinstance(notice, EpochNotice):
            for voter in double_voters(notice.epoch, exhibit.first, exhibit.second):
                words = f"two votes in term {exhibit.first.term}: for {exhibit.first.leader!r} and for {exhibit.second.leader!r}"
                yield Proof(author=voter, words=words, first=exhibit, second=exhibit)


def _read(exhibit: Notice, verifier: Verifier) -> AnyMessage | None:
    try:
        return verifier.read(exhibit.message)
    except Refusal:
        return None
