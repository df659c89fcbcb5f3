"""A member's side of the rounds: answers its leader's calls, helps to recover, keeps receipts and openings.

Only calls of the leader that the election's certificate proves are answered, under no lower term than the fence. A round's report is
made once; the same call again gets the same bytes, and none once the leader has given its receipt. Key rotation and a new epoch do not
disturb a round in flight: it ends under the keys with which it began.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from edge.errors import StoreError
from edge.leadership.records import Kept, MemberRecords, Remembered
from edge.leadership.witness import Witness
from protocols.aggregation.audit import Heard
from protocols.aggregation.calls import announcement
from protocols.aggregation.group import Group, RoundRefused
from protocols.aggregation.member import ROUND_MAX_S, Member, Randomiser, check_time, round_order
from protocols.aggregation.messages import Acknowledgement, Announce, Drops, Receipt, Sampling, SealRefused, verify_receipt
from protocols.aggregation.packing import ValuesRefused
from protocols.aggregation.pads import PadKeys
from protocols.aggregation.paillier import Encryptor
from protocols.election.values import Epoch
from protocols.messages import RoundCall

log = logging.getLogger(__name__)

STANDINGS_KEPT = 4

ValuesFor = Callable[[RoundCall], Sequence[int] | None]
SendSealed = Callable[[str, str, bytes], None]
Randomisers = Callable[["Standing"], Sequence[Randomiser]]


class Standing(Struct, frozen=True, eq=False):
    """Epoch, group and key under which rounds are held, and what will be opened of them."""

    epoch: Epoch
    group: Group
    encryptor: Encryptor
    expires_s: float
    sampling: Sampling | None = None

    @property
    def name(self) -> tuple[int, str]:
        """What a call names it by."""
        return self.epoch.number, self.group.key.key_id


class MemberShell:
    """See the module. `send(kind, recipient, payload)` queues sealed bytes; `values` gives what a call asks for, None to sit it out;
    `randomisers` gives fresh ones for one report, `uptime_s` is a clock that does not jump."""

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        pad_keys: PadKeys,
        *,
        records: MemberRecords,
        send: SendSealed,
        values: ValuesFor,
        randomisers: Randomisers,
        witness: Witness,
        now_s: float,
        uptime_s: Callable[[], float],
    ) -> None:
        self.name = name
        self.receipts: OrderedDict[str, list[Receipt]] = OrderedDict()
        self.refusals: list[str] = []
        self.answered = 0
        self.previous_ack: str | None = None
        self._key = key
        self._pad_keys = pad_keys
        self._records = records
        self._send = send
        self._values = values
        self._randomisers = randomisers
        self._witness = witness
        self._remembered: Remembered = records.load(now_s)
        self._uptime_s = uptime_s
        self._begun_s = uptime_s()
        self._standings: OrderedDict[tuple[int, str], tuple[Standing, Member]] = OrderedDict()
        self._called: OrderedDict[str, Announce] = OrderedDict()
        self._left_out: dict[str, frozenset[str]] = {}
        self._current: Member | None = None

    @property
    def summed(self) -> Sequence[Sequence[str]]:
        """The groups of the last rounds that the operator has opened, the newest last.

        A member that lost its memory supposes that everybody was summed, so that, should it lead, whoever is missing is hidden as well.
        """
        groups = self._remembered.groups
        if groups or self._remembered.forgot_s is None or not self._standings:
            return groups
        standing, _ = next(reversed(self._standings.values()))
        return [tuple(sorted(standing.group.cards))]

    def stand(self, standing: Standing) -> None:
        """Take part under a further epoch or key; earlier ones stay for the rounds that are in flight."""
        if standing.name in self._standings:
            return
        member = Member(self.name, standing.group, self._key, self._pad_keys, standing.encryptor)
        self._standings[standing.name] = (standing, member)
        while len(self._standings) > STANDINGS_KEPT:
            self._standings.popitem(last=False)

    def call(self, leader: str, call: RoundCall, now_s: float) -> None:
        """Answer a call of the proven leader. Whatever breaks a rule is refused by name, and changes nothing."""
        try:
            self._answer(leader, call, now_s)
        except (RoundRefused, ValuesRefused) as refusal:
            self._refuse(f"round {call.round_name}: {refusal}")
        except StoreError as error:
            self._refuse(f"round {call.round_name} is not answered: {error}")

    def drops(self, drops: Drops) -> None:
        """Reveal this round's pads towards those left out, if the rules allow it."""
        announce = self._called.get(drops.round_name)
        if announce is None or announce.leader != drops.leader:
            return
        if not self._left_out.get(drops.round_name, frozenset()) <= drops.left_out <= set(announce.roster):
            self._refuse(f"drop list of round {drops.round_name}: it does not contain an earlier one, or leaves the roster")
            return
        self._left_out[drops.round_name] = drops.left_out
        if any(receipt.step >= drops.step for receipt in self.receipts.get(drops.round_name, ())) and self.name in drops.dropped:
            self._refuse(f"round {drops.round_name}: the leader calls this member missing and gave it a receipt")
        owed = None if self._current is None else self._current.receipt
        if self._current is None or owed is None or owed.round_name != drops.round_name or self.name in drops.left_out:
            return
        try:
            sealed = self._current.reveal(drops)
        except RoundRefused as refusal:
            self._refuse(f"drop list of round {drops.round_name}: {refusal}")
            return
        if sealed is not None:
            self._send("reveal", drops.leader, sealed)

    def receipt(self, leader: str, payload: bytes, now_s: float) -> None:
        """Keep what the leader signed: a bare signature for the report, or one with step and digest for a reveal."""
        owed = None if self._current is None else self._current.receipt
        if owed is None or len(payload) not in (64, 98):
            return
        if len(payload) == 98:
            owed = Receipt(
                round_name=owed.round_name, member=self.name, digest=payload[66:].hex(), step=int.from_bytes(payload[64:66], "big")
            )
        announce = self._called.get(owed.round_name)
        if announce is None or announce.leader != leader:
            return
        standing = next((known for known, _ in self._standings.values() if known.group.key.key_id == announce.key_id), None)
        if standing is None:
            return
        try:
            verify_receipt(owed, payload[:64], standing.group.card(leader).signing_key)
        except SealRefused as refusal:
            self._refuse(str(refusal))
            return
        self._witness.receipt(leader, owed, payload[:64], now_s)
        self.receipts.setdefault(owed.round_name, []).append(owed)
        while len(self.receipts) > 8:
            self.receipts.popitem(last=False)

    def heard(self, answer: Acknowledgement) -> tuple[Standing, Heard] | None:
        """What this member knows of an answered round; None for one whose call it has not heard."""
        announce = self._called.get(answer.round_name)
        if announce is None:
            return None
        standing = next((known for known, _ in self._standings.values() if known.group.key.key_id == announce.key_id), None)
        receipt = next((receipt for receipt in self.receipts.get(answer.round_name, ()) if receipt.step == 0), None)
        left_out = self._left_out.get(answer.round_name, frozenset())
        heard = Heard(announce=announce, left_out=left_out, acknowledged=answer.digest, receipt=receipt)
        return None if standing is None else (standing, heard)

    def acknowledged(self, answer: Acknowledgement) -> None:
        """The operator has answered a round: if it was opened, its group counts for the guard against differencing."""
        announce = self._called.get(answer.round_name)
        for _, member in self._standings.values():
            member.end(answer.round_name)
        if not answer.accepted:
            return
        self.previous_ack = answer.digest
        if announce is None:
            return
        left_out = self._left_out.get(answer.round_name, frozenset())
        group = tuple(name for name in announce.roster if name not in left_out)
        if self._remembered.groups and self._remembered.groups[-1] == group:
            return
        if group in self._remembered.groups:
            self._remembered.groups.remove(group)
        self._remembered.groups.append(group)
        try:
            self._records.save(self._remembered)
        except StoreError as error:
            log.error("%s", error)

    def _answer(self, leader: str, call: RoundCall, now_s: float) -> None:
        known = self._standings.get((call.epoch, call.key_id))
        if known is None:
            raise RoundRefused(f"epoch {call.epoch} with key {call.key_id} is not known here")
        standing, member = known
        announce = announcement(standing.epoch, call, leader)
        if self._called.setdefault(announce.round_name, announce) != announce:
            raise RoundRefused("it was announced before, and otherwise")
        while len(self._called) > 16:
            forgotten, _ = self._called.popitem(last=False)
            self._left_out.pop(forgotten, None)
        if announce.round_name in self.receipts or self.name not in announce.roster:
            return
        if now_s > standing.expires_s:
            raise RoundRefused(f"key {call.key_id} has expired")
        check_time(announce, now_s, forgot_s=self._remembered.forgot_s)
        if self._remembered.forgot_s is not None and self._uptime_s() < self._begun_s + ROUND_MAX_S:
            raise RoundRefused("it may have been answered before this member lost its memory, and its clock may have been wrong then")
        owed = member.receipt
        repeated = owed is not None and owed.round_name == announce.round_name
        values: Sequence[int] | None = () if repeated else self._values(call)
        if values is None:
            return
        if not repeated and round_order(announce.round_name) <= self._remembered.newest:
            term, number = self._remembered.newest
            raise RoundRefused(f"not newer than round {term}:{number}, which was answered")
        randomisers = () if repeated else self._randomisers(standing)
        sealed, opening = member.report(announce, values, randomisers)
        if not repeated:
            self._remembered.newest = round_order(announce.round_name)
            self._records.save(self._remembered)
            self._records.keep(Kept(opening=opening, sampling=standing.sampling), now_s)
            self.answered += 1
        self._current = member
        self._send("report", leader, sealed)

    def _refuse(self, words: str) -> None:
        log.warning("%s", words)
        self.refusals.append(words)
        del self.refusals[:-20]
