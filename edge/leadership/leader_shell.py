"""The elected leader's rounds: call, collect, recover from who is missing, multiply, hand in, say it again until the operator has answered.

One round at a time. Its name is the leader's term and a number; a round that failed is never tried again under its name. When the term
or the lease ends, what is under way is dropped where it stands: the next leader begins a new round. Times are monotonic but for what
members compare with their clocks.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from edge.leadership.member_shell import SendSealed, Standing
from edge.leadership.settings import AggregationSection
from protocols.aggregation.calls import NOTHING_ANSWERED, announcement, seat_mask
from protocols.aggregation.differencing import admitted, decoys
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.leader import LeaderRound, Phase
from protocols.aggregation.messages import (
    Acknowledgement,
    Aggregate,
    Drops,
    Receipt,
    SealRefused,
    Transcript,
    aggregate_digest,
    sign_receipt,
)
from protocols.aggregation.operator import NOT_A_SUM
from protocols.aggregation.paillier import CiphertextRefused, exponent_from_seed
from protocols.aggregation.quarantine import Quarantine
from protocols.messages import AggregateNotice, RoundCall, RoundContent

log = logging.getLogger(__name__)

STEP_S: Final = 900.0
"""Intervals of what is reported."""

Say = Callable[[str, RoundCall | Drops | AggregateNotice], None]


class Wish(Struct, frozen=True, kw_only=True):
    """A round that shall be held: what its values mean, and for which intervals."""

    content: RoundContent
    start_s: float
    step_s: float
    iteration: int = 0


class _Running(Struct):
    call: RoundCall
    round: LeaderRound
    standing: Standing
    wait_until_s: float
    deadline_s: float
    repeat_s: float
    notice: AggregateNotice | None = None
    exponents: list[int] = []
    digest: str = ""


class LeaderShell:
    """See the module. `say(kind, body)` publishes under this member's name, `send` queues receipts; `entropy(count)` gives random bytes;
    `opened` keeps what an audit of an opened round may ask for."""

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        envelope_key: X25519PrivateKey,
        settings: AggregationSection,
        *,
        say: Say,
        send: SendSealed,
        entropy: Callable[[int], bytes],
        opened: Callable[[Standing, Aggregate, Transcript], None],
    ) -> None:
        self.name = name
        self.outcomes: deque[str] = deque(maxlen=50)
        self.accepted = 0
        self.refused = 0
        self.failed = 0
        self._key = key
        self._envelope_key = envelope_key
        self._settings = settings
        self._say = say
        self._send = send
        self._entropy = entropy
        self._opened = opened
        self._rng = random.Random(entropy(32))
        self._quarantine = Quarantine(self._rng)
        self._wishes: deque[Wish] = deque()
        self._running: _Running | None = None
        self._term = -1
        self._number = 0
        self._due_s = -math.inf

    @property
    def busy(self) -> bool:
        """Whether a round is under way."""
        return self._running is not None

    def drop(self) -> None:
        """This member does not lead any more: what is under way ends here."""
        if self._running is not None:
            self.outcomes.append(f"round {self._running.call.round_name} was given up with its term")
        self._running = None
        self._wishes.clear()

    def wish(self, wish: Wish) -> None:
        """Hold this round as soon as none is under way. A wish that is there already is not doubled."""
        if wish not in self._wishes and (self._running is None or _wish_of(self._running.call) != wish):
            self._wishes.append(wish)

    def lead(
        self,
        term: int,
        standing: Standing,
        *,
        now_s: float,
        wall_s: float,
        present: frozenset[str],
        summed: Sequence[Sequence[str]],
        previous_ack: str | None,
    ) -> None:
        """Do what is due, as the leader of `term` within its lease."""
        if term != self._term:
            self.drop()
            self._term, self._number = term, 0
        if wall_s >= self._due_s:
            period_s = self._settings.period_s
            start_s = math.floor(wall_s / period_s) * period_s
            if self._due_s > -math.inf or wall_s - start_s <= 0.5 * period_s:
                self.wish(Wish(content=RoundContent.PLAN, start_s=start_s, step_s=STEP_S))
                if self._due_s == -math.inf or round(start_s / period_s) % self._settings.flexibility_every == 0:
                    self.wish(Wish(content=RoundContent.FLEXIBILITY, start_s=start_s, step_s=STEP_S))
            self._due_s = start_s + period_s
        if self._running is not None:
            self._advance(self._running, now_s, summed)
        if self._running is None and self._wishes:
            if wall_s >= standing.expires_s:
                self.outcomes.append(f"no round: key {standing.group.key.key_id} has expired")
                self._wishes.clear()
            else:
                self._open(self._wishes.popleft(), standing, now_s, wall_s, present, summed, previous_ack)

    def receive(self, kind: str, sender: str, sealed: bytes) -> None:
        """Take a sealed report or reveal. What is wrong with it is refused by name and changes nothing for the others."""
        running = self._running
        if running is None:
            return
        try:
            receipt = running.round.receive_report(sealed) if kind == "report" else running.round.receive_reveal(sealed)
        except (RoundRefused, SealRefused, CiphertextRefused) as refusal:
            self.refused += 1
            log.warning("from %s: %s", sender, refusal)
            return
        self._acknowledge(receipt, bare=kind == "report")

    def acknowledged(self, answer: Acknowledgement) -> None:
        """The operator's answer ends the round."""
        running = self._running
        if running is None or running.notice is None or answer.digest != running.digest:
            return
        if answer.accepted:
            self.accepted += 1
            self._quarantine.opened(running.round.survivors)
            self._opened(running.standing, running.notice.aggregate, running.round.transcript(running.exponents))
        else:
            self.failed += 1
            if answer.reason == NOT_A_SUM:
                self._quarantine.refused(running.round.survivors)
        self.outcomes.append(f"round {answer.round_name} {'was opened' if answer.accepted else f'was refused: {answer.reason}'}")
        self._running = None

    def _open(
        self,
        wish: Wish,
        standing: Standing,
        now_s: float,
        wall_s: float,
        present: frozenset[str],
        summed: Sequence[Sequence[str]],
        previous_ack: str | None,
    ) -> None:
        group, settings = standing.group, self._settings
        previous = summed[-1] if summed else ()
        here = present & group.cards.keys() if previous else group.cards.keys()
        names = {*previous, *admitted(previous, here)} & group.cards.keys()
        called = self._quarantine.roster(names, members_min=group.members_min)
        self._number += 1
        if len(called) < group.members_min:
            self.failed += 1
            self.outcomes.append(f"no round: {len(called)} members, {group.members_min} are the smallest group")
            return
        call = RoundCall(
            round_name=f"{self._term}:{self._number}",
            epoch=standing.epoch.number,
            key_id=group.key.key_id,
            seats=seat_mask(standing.epoch, called),
            previous=NOTHING_ANSWERED if previous_ack is None else previous_ack,
            content=wish.content,
            start_s=wish.start_s,
            step_s=wish.step_s,
            iteration=wish.iteration,
            closes_s=math.ceil(wall_s + settings.collect_s + 1.0),
        )
        announce = announcement(standing.epoch, call, self.name)
        self._running = _Running(
            call=call,
            round=LeaderRound(group, announce, self._envelope_key, standing.encryptor),
            standing=standing,
            wait_until_s=now_s + settings.collect_s,
            deadline_s=now_s + settings.period_s,
            repeat_s=now_s + 0.5 * settings.collect_s,
        )
        self._say("call", call)

    def _advance(self, running: _Running, now_s: float, summed: Sequence[Sequence[str]]) -> None:
        phase = running.round.phase
        if now_s >= running.deadline_s:
            self._fail(running, "it was not answered in time" if running.notice else "it did not end in time")
        elif running.notice is not None:
            if now_s >= running.repeat_s:
                running.repeat_s = now_s + self._settings.resend_s
                self._say("aggregate", running.notice)
        elif phase is Phase.COLLECTING:
            if not running.round.missing or now_s >= running.wait_until_s:
                self._step(running, now_s, summed)
            elif now_s >= running.repeat_s:
                running.repeat_s = math.inf
                self._say("call", running.call)
        elif phase is Phase.RECOVERING and (not running.round.awaited or now_s >= running.wait_until_s):
            self._step(running, now_s, summed)

    def _step(self, running: _Running, now_s: float, summed: Sequence[Sequence[str]]) -> None:
        """End collecting, or a step of the recovery."""
        round_ = running.round
        try:
            earlier = list(summed)
            last = earlier.pop() if earlier else ()
            hidden = decoys(last, round_.present, self._rng, earlier=earlier)
            drops = round_.close(hidden) if round_.phase is Phase.COLLECTING else round_.advance(hidden)
        except RoundRefused as refusal:
            self._fail(running, str(refusal))
            return
        if drops is None:
            self._hand_in(running, now_s)
            return
        running.wait_until_s = now_s + self._settings.recover_s
        self._say("call", drops)

    def _hand_in(self, running: _Running, now_s: float) -> None:
        key = running.standing.group.key
        running.exponents = [exponent_from_seed(key, self._entropy(32)) for _ in range(running.standing.group.ciphertexts)]
        aggregate = running.round.aggregate(running.exponents)
        call = running.call
        running.notice = AggregateNotice(
            aggregate=aggregate,
            previous=call.previous,
            content=call.content,
            start_s=call.start_s,
            step_s=call.step_s,
            iteration=call.iteration,
        )
        running.digest = aggregate_digest(aggregate)
        running.repeat_s = now_s + self._settings.resend_s
        self._say("aggregate", running.notice)

    def _acknowledge(self, receipt: Receipt, *, bare: bool) -> None:
        signature = sign_receipt(self._key, receipt)
        payload = signature if bare else signature + receipt.step.to_bytes(2, "big") + bytes.fromhex(receipt.digest)
        self._send("receipt", receipt.member, payload)

    def _fail(self, running: _Running, reason: str) -> None:
        self.failed += 1
        self.outcomes.append(f"round {running.call.round_name}: {reason}")
        log.warning("round %s: %s", running.call.round_name, reason)
        self._running = None


def _wish_of(call: RoundCall) -> Wish:
    return Wish(content=call.content, start_s=call.start_s, step_s=call.step_s, iteration=call.iteration)
