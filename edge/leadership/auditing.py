"""Random audits: members ask how an opened round was summed, its leader shows it, and they compute the sum again. Shells.

Nobody but the asking member decides which rounds are looked at, and only after the operator has answered, so a leader that lies cannot
choose a round in which it is not looked at. What is shown is padded (`protocols.aggregation.messages.Transcript`): it tells a member
nothing about another. The operator, who could tell less from a sum if it knew whose it is, is shown nothing.
"""

from __future__ import annotations

import logging
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from edge.leadership.member_shell import SendSealed, Standing
from edge.leadership.witness import Witness
from protocols.aggregation.audit import Heard, judge
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.messages import (
    MAX_TRANSCRIPT_BYTES,
    Acknowledgement,
    Aggregate,
    AuditAnswer,
    AuditRequest,
    SealRefused,
    Transcript,
    label,
    labelled,
    seal,
    sign_answer,
    sign_request,
    unseal,
    verify_answer,
    verify_request,
)

log = logging.getLogger(__name__)

ROUNDS_KEPT: Final = 8
ANSWERS_MAX: Final = 8
"""Members that are answered about one round; more would cost the leader's connection more than they would find."""
REPEATS_MAX: Final = 2
"""Answers to one member about one round: a repetition may be lost as well."""
PART_BYTES: Final = 128 * 1024
PATIENCE_S: Final = 60.0

HeardOf = Callable[[Acknowledgement], tuple[Standing, Heard] | None]


class Shown(Struct, frozen=True):
    """One round as its leader can show it."""

    standing: Standing
    aggregate: Aggregate
    transcript: Transcript
    answered: dict[str, int]


class Archive:
    """The leader's side: the last rounds of which the operator has opened the sum. Also a member that leads no more answers for them."""

    def __init__(self, name: str, key: Ed25519PrivateKey, envelope_key: X25519PrivateKey, *, send: SendSealed) -> None:
        self.name = name
        self._key = key
        self._envelope_key = envelope_key
        self._send = send
        self._shown: OrderedDict[str, Shown] = OrderedDict()

    def keep(self, standing: Standing, aggregate: Aggregate, transcript: Transcript) -> None:
        """A round was opened."""
        self._shown[aggregate.round_name] = Shown(standing, aggregate, transcript, {})
        while len(self._shown) > ROUNDS_KEPT:
            self._shown.popitem(last=False)

    def request(self, sender: str, sealed: bytes) -> str | None:
        """Answer a sealed request; returns why it is refused, None where it is answered."""
        try:
            round_name, rest = label(sealed)
            shown = self._shown.get(round_name)
            if shown is None:
                return f"request of {sender!r}: round {round_name!r} is not kept here"
            return self._answer(sender, unseal(rest, AuditRequest, round_name, self._envelope_key), shown)
        except (RoundRefused, SealRefused) as refusal:
            return str(refusal)

    def _answer(self, sender: str, request: AuditRequest, shown: Shown) -> str | None:
        name, answered = request.member, shown.answered
        if name != sender or name not in shown.transcript.announce.roster:
            return f"request of {sender!r}: not a member of round {request.round_name} for itself"
        card = shown.standing.group.card(name)
        verify_request(request, card.signing_key)
        if answered.get(name, 0) >= REPEATS_MAX or (name not in answered and len(answered) >= ANSWERS_MAX):
            return f"request of {sender!r}: round {request.round_name} was shown often enough"
        answered[name] = answered.get(name, 0) + 1
        answer = sign_answer(self._key, self.name, shown.aggregate, shown.transcript)
        for part in _parts(seal(answer, card.envelope_key)):
            self._send("transcript", name, labelled(request.round_name, part))
        return None


class _Pending(Struct):
    standing: Standing
    heard: Heard
    due_s: float
    asked: int = 1
    parts: dict[int, bytes] = {}


class Auditor:
    """A member's side. `share` is how many of the opened rounds it looks at; `heard` gives what it knows of a round."""

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        envelope_key: X25519PrivateKey,
        *,
        share: float,
        rng: random.Random,
        heard: HeardOf,
        witness: Witness,
        send: SendSealed,
    ) -> None:
        self.name = name
        self.passed = 0
        self.findings: list[tuple[str, str]] = []
        self._key = key
        self._envelope_key = envelope_key
        self._share = share
        self._rng = rng
        self._heard = heard
        self._witness = witness
        self._send = send
        self._pending: OrderedDict[str, _Pending] = OrderedDict()

    def acknowledged(self, answer: Acknowledgement, now_s: float) -> None:
        """The operator has opened a round: look at it, or not."""
        if not answer.accepted or self._rng.random() >= self._share:
            return
        known = self._heard(answer)
        if known is None or known[1].announce.leader == self.name or self.name not in known[1].announce.roster:
            return
        self._pending[answer.round_name] = _Pending(standing=known[0], heard=known[1], due_s=now_s + PATIENCE_S)
        self._ask(answer.round_name)

    def part(self, leader: str, payload: bytes, wall_s: float) -> None:
        """A part of an answer; with the last one that was missing the sum is computed again."""
        try:
            round_name, part = label(payload)
            pending = self._pending.get(round_name)
            if pending is None or pending.heard.announce.leader != leader or not _is_part(part):
                return
            pending.parts[part[0]] = part[2:]
            if sorted(pending.parts) == list(range(part[1])):
                sealed = b"".join(pending.parts[index] for index in range(part[1]))
                pending.parts.clear()
                self._judge(round_name, pending, sealed, wall_s)
        except (RoundRefused, SealRefused) as refusal:
            log.warning("from %s: %s", leader, refusal)

    def tick(self, now_s: float) -> None:
        """Ask again who has not answered, and then no more: silence is a finding, and no proof."""
        for round_name, pending in list(self._pending.items()):
            if now_s < pending.due_s:
                continue
            if pending.asked < REPEATS_MAX:
                pending.asked, pending.due_s = pending.asked + 1, now_s + PATIENCE_S
                self._ask(round_name)
            else:
                del self._pending[round_name]
                self._find(pending.heard.announce.leader, f"round {round_name}: the leader does not show how it was summed")

    def _ask(self, round_name: str) -> None:
        pending = self._pending[round_name]
        leader = pending.heard.announce.leader
        request = sign_request(self._key, round_name, self.name)
        sealed = seal(request, pending.standing.group.card(leader).envelope_key)
        self._send("audit", leader, labelled(round_name, sealed))

    def _judge(self, round_name: str, pending: _Pending, sealed: bytes, wall_s: float) -> None:
        standing, leader = pending.standing, pending.heard.announce.leader
        answer = unseal(sealed, AuditAnswer, round_name, self._envelope_key, limit=MAX_TRANSCRIPT_BYTES)
        verify_answer(answer, standing.group.card(leader).signing_key)
        wrong = judge(standing.group, standing.encryptor, pending.heard, answer)
        del self._pending[round_name]
        if wrong is None:
            self.passed += 1
        else:
            self._witness.shown(answer, wall_s)
            self._find(leader, f"round {round_name}: {wrong}")

    def _find(self, leader: str, words: str) -> None:
        log.error("audit of %s: %s", leader, words)
        self.findings.append((leader, words))
        del self.findings[:-20]


def _parts(sealed: bytes) -> Iterator[bytes]:
    """The sealed bytes in pieces that a broker lets pass, each with its number and how many there are."""
    count = math.ceil(len(sealed) / PART_BYTES)
    for index in range(count):
        yield bytes((index, count)) + sealed[index * PART_BYTES : (index + 1) * PART_BYTES]


def _is_part(part: bytes) -> bool:
    """Whether this can be one of the pieces that `_parts` makes."""
    return 3 <= len(part) <= PART_BYTES + 2 and part[0] < part[1] <= MAX_TRANSCRIPT_BYTES // PART_BYTES
