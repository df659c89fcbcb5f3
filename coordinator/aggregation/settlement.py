"""The operator's side of the settlement: which reports were sampled, who has opened them, which openings hold. Chooses, and sends nothing.

`protocols.aggregation.settlement` has the rules. When an epoch is over, its secret may be known, and with it the samples: each sampled
member is asked, again and again while it is silent, and then no more. What a member stands by waits in `settled` for the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from protocols.aggregation.group import RoundRefused
from protocols.aggregation.messages import Aggregate, Sampling, SealRefused, label, unseal
from protocols.aggregation.packing import Layout
from protocols.aggregation.paillier import Encryptor, PublicKey
from protocols.aggregation.settlement import (
    SECRET_BYTES,
    Disclosure,
    Sampled,
    check_disclosure,
    commitment,
    is_sampled,
)
from protocols.election.values import Epoch
from protocols.messages import AggregateNotice, SeatCard

ASKED_MAX: Final = 5
ASK_AGAIN_S: Final = 3600.0
EPOCHS_KEPT: Final = 8
SMALL_COMB: Final = (5, 1)
"""Openings are few: a small table is made faster than it would be used."""


class OpenedRound(Struct, frozen=True, kw_only=True):
    """A round of which the sum was opened, and what its values meant."""

    sampled: Sampled
    content: str
    start_s: float
    step_s: float


class Asked(Struct, kw_only=True):
    """A sampled report: how often it was asked for, and when again."""

    member: str
    round: OpenedRound
    times: int = 0
    due_s: float = 0.0


class Term(Struct, kw_only=True):
    """One epoch's settlement. Keys are in hexadecimal: signing and envelope key of each member, n and x of each Paillier key."""

    secret: str
    share: float
    members: dict[str, tuple[str, str]]
    keys: dict[str, tuple[str, str]] = {}
    rounds: list[OpenedRound] = []
    waiting: list[Asked] | None = None

    def __repr__(self) -> str:
        return f"Term({len(self.members)} members, {len(self.rounds)} rounds)"


class Settled(Struct, frozen=True, kw_only=True):
    """What one member stands by; without values it said that it has no report in this round."""

    member: str
    round: OpenedRound
    values: tuple[int, ...] | None

    def __repr__(self) -> str:
        return f"Settled({self.round.sampled.round_name}, {self.member})"


class Asking(Struct, frozen=True, kw_only=True):
    """A demand to be signed and sent, and the key it is sealed to."""

    round_name: str
    member: str
    secret: bytes
    reply_key: bytes
    envelope_key: bytes

    def __repr__(self) -> str:
        return f"Asking({self.round_name}, {self.member})"


class SettlementDesk:
    """See the module. `epochs` survives a restart; the keys of replies do not, so demands are then made anew."""

    def __init__(self, share: float, layout: Layout, entropy: Callable[[int], bytes]) -> None:
        self.epochs: dict[int, Term] = {}
        self.asking: list[Asking] = []
        self.settled: list[Settled] = []
        self.events: list[tuple[str, str]] = []
        self._share = share
        self._layout = layout
        self._entropy = entropy
        self._replies: dict[tuple[str, str], X25519PrivateKey] = {}

    def begin(self, epoch: Epoch, cards: Sequence[SeatCard]) -> None:
        """Commit to the samples of a new epoch."""
        if self._share == 0.0:
            return
        seats = {seat.name: seat.public_key for seat in epoch.seats}
        members = {card.name: (seats[card.name], card.envelope_key) for card in cards if card.name in seats}
        self.epochs[epoch.number] = Term(secret=self._entropy(SECRET_BYTES).hex(), share=self._share, members=members)
        while len(self.epochs) > EPOCHS_KEPT:
            del self.epochs[min(self.epochs)]

    def sampling(self, number: int) -> Sampling | None:
        """What the epoch's notice says."""
        term = self.epochs.get(number)
        return None if term is None else Sampling(commitment=commitment(bytes.fromhex(term.secret)), share=term.share)

    def opened(self, number: int, notice: AggregateNotice, key: PublicKey) -> None:
        """A round of this epoch was summed."""
        term = self.epochs.get(number)
        if term is not None:
            term.keys.setdefault(key.key_id, (format(key.n, "x"), format(key.x, "x")))
            term.rounds.append(_round_of(notice))

    def step(self, present: int, now_s: float) -> None:
        """Ask for what was sampled in epochs that are over."""
        for number, term in self.epochs.items():
            if number >= present:
                continue
            if term.waiting is None:
                secret = bytes.fromhex(term.secret)
                term.waiting = [
                    Asked(member=member, round=one)
                    for one in term.rounds
                    for member in term.members
                    if is_sampled(secret, one.sampled.beacon, member, term.share)
                ]
                term.rounds = []
            for asked in list(term.waiting):
                self._ask(term, term.waiting, asked, now_s)

    def answer(self, sender: str, payload: bytes) -> None:
        """An opening arrived. What does not hold is refused by name, and the demand stays open."""
        try:
            round_name, sealed = label(payload)
            reply = self._replies.get((round_name, sender))
            if reply is None:
                raise RoundRefused(f"an opening of {sender!r} for which nobody has asked")
            disclosure = unseal(sealed, Disclosure, round_name, reply)
            if disclosure.member != sender:
                raise RoundRefused(f"{sender!r} opens a report of {disclosure.member!r}")
            self._settle(disclosure)
        except (RoundRefused, SealRefused) as refusal:
            self.events.append(("opening-refused", str(refusal)))

    def _ask(self, term: Term, waiting: list[Asked], asked: Asked, now_s: float) -> None:
        round_name, member = asked.round.sampled.round_name, asked.member
        if now_s < asked.due_s:
            return
        if asked.times >= ASKED_MAX:
            waiting.remove(asked)
            self._replies.pop((round_name, member), None)
            self.events.append(("opening-missing", f"{member!r} has not opened its report of round {round_name}"))
            return
        asked.times, asked.due_s = asked.times + 1, now_s + ASK_AGAIN_S
        reply = self._replies.setdefault((round_name, member), X25519PrivateKey.from_private_bytes(self._entropy(32)))
        self.asking.append(
            Asking(
                round_name=round_name,
                member=member,
                secret=bytes.fromhex(term.secret),
                reply_key=reply.public_key().public_bytes_raw(),
                envelope_key=bytes.fromhex(term.members[member][1]),
            )
        )

    def _settle(self, disclosure: Disclosure) -> None:
        for term in self.epochs.values():
            for asked in term.waiting or ():
                if (asked.round.sampled.round_name, asked.member) == (disclosure.round_name, disclosure.member):
                    encryptor = self._encryptor(term, asked.round.sampled.key_id)
                    values = check_disclosure(disclosure, asked.round.sampled, self._layout, encryptor, _signing(term.members))
                    assert term.waiting is not None
                    term.waiting.remove(asked)
                    del self._replies[disclosure.round_name, disclosure.member]
                    self.settled.append(Settled(member=disclosure.member, round=asked.round, values=values))
                    return
        raise RoundRefused(f"an opening of {disclosure.member!r} that is settled already")

    def _encryptor(self, term: Term, key_id: str) -> Encryptor:
        n, x = term.keys[key_id]
        return _encryptor(PublicKey(int(n, 16), int(x, 16)))


def _round_of(notice: AggregateNotice) -> OpenedRound:
    aggregate: Aggregate = notice.aggregate
    return OpenedRound(
        sampled=Sampled(
            round_name=aggregate.round_name, leader=aggregate.leader, key_id=aggregate.key_id, beacon=aggregate.beacon
        ),
        content=notice.content.value,
        start_s=notice.start_s,
        step_s=notice.step_s,
    )


def _signing(members: Mapping[str, tuple[str, str]]) -> dict[str, Ed25519PublicKey]:
    return {name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for name, (key, _) in members.items()}


@lru_cache(maxsize=2)
def _encryptor(key: PublicKey) -> Encryptor:
    return Encryptor(key, teeth=SMALL_COMB[0], tables=SMALL_COMB[1])
