"""What a member has heard of its rounds: compared as it is said, and kept as evidence. A shell: its log touches the disk.

A repeated statement is kept once. Two that contradict each other are both kept, and the member says so at once; what they prove waits in
`take_proofs` for the jury, and `proofs` of the log convinces a third party later. A disk that takes nothing costs the evidence, not the
round.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.errors import StoreError
from edge.leadership.evidence import EvidenceLog
from protocols import codec
from protocols.aggregation.audit import Statement, contradiction
from protocols.aggregation.evidence import (
    COORDINATOR,
    Exhibit,
    Notice,
    Proof,
    SignedAnswer,
    SignedReceipt,
    TwoCertificates,
    notice_of,
    proofs,
    statement_of,
    two_epochs,
)
from protocols.aggregation.messages import AuditAnswer, Receipt
from protocols.bus import BusMessage
from protocols.election.values import Certificate
from protocols.messages import EpochNotice, KeyCard, RoundNotice

log = logging.getLogger(__name__)

ROUNDS_KEPT = 32
CONTEXT_KEPT = 8
STATEMENTS_KEPT = 128
"""In one round: more are neither compared nor kept."""


class Witness:
    """See the module. `lies` are the contradictions of this run, in words, with who said them."""

    def __init__(self, evidence: EvidenceLog, community: str, operator_keys: Sequence[Ed25519PublicKey]) -> None:
        self.lies: list[tuple[str, str]] = []
        self.evidence = evidence
        self._community = community
        self._operator_keys = tuple(operator_keys)
        self._said: OrderedDict[tuple[str, str], list[tuple[Statement, Exhibit]]] = OrderedDict()
        self._epoch: tuple[EpochNotice, Notice] | None = None
        self._key: KeyCard | None = None
        self._context: deque[Notice] = deque(maxlen=CONTEXT_KEPT)
        self._proofs: list[Proof] = []
        self._unwritten = ""

    def heard(self, message: BusMessage, content: RoundNotice | EpochNotice | KeyCard, now_s: float) -> None:
        """A verified message about rounds."""
        notice = notice_of(message, now_s)
        match content:
            case EpochNotice():
                self._heard_epoch(content, notice)
            case KeyCard():
                if self._key is None or (content.n, content.x) != (self._key.n, self._key.x):
                    self._key = content
                    self._context.append(notice)
                    self.keep((notice,))
            case RoundNotice():
                self._compare(content.sender, statement_of(content), notice)

    def receipt(self, leader: str, receipt: Receipt, signature: bytes, now_s: float) -> None:
        """A receipt whose signature was verified."""
        self._compare(leader, receipt, SignedReceipt(leader=leader, receipt=receipt, signature=signature, heard_s=now_s))

    def shown(self, answer: AuditAnswer, now_s: float) -> None:
        """What a leader has signed in an audit that it did not pass."""
        exhibit = SignedAnswer(answer=answer, heard_s=now_s)
        self.keep((exhibit,))
        self._prove([*(shown for _, shown in self._said.get((answer.leader, answer.round_name), ())), exhibit])

    def two_leaders(self, first: Certificate, second: Certificate, now_s: float) -> None:
        """Two certificates of one term."""
        exhibit = TwoCertificates(first=first, second=second, heard_s=now_s)
        self.keep((exhibit,))
        self._prove([exhibit])

    def take_proofs(self) -> list[Proof]:
        """What was proved since this was asked last."""
        found, self._proofs = self._proofs, []
        return found

    def signed_now(self, proof: Proof) -> bool:
        """Whether the keys that the proof rests on are those with which its author signs at present: a key that was taken out of use may
        have been stolen, and says nothing about who had it."""
        if proof.author == COORDINATOR or self._epoch is None:
            return proof.author == COORDINATOR
        present = [seat.public_key for seat in self._epoch[0].epoch.seats if seat.name == proof.author]
        shown = [codec.decode(notice.payload, topic=notice.topic) for notice in proof.context if isinstance(notice, Notice)]
        named = [seat for said in shown if isinstance(said, EpochNotice) for seat in said.epoch.seats if seat.name == proof.author]
        return bool(named) and all(seat.public_key in present for seat in named)

    def keep(self, exhibits: Iterable[Exhibit]) -> None:
        """Bring them to the disk."""
        try:
            for exhibit in exhibits:
                self.evidence.add(exhibit)
        except StoreError as error:
            if str(error) != self._unwritten:
                log.error("evidence is lost: %s", error)
            self._unwritten = str(error)

    def _heard_epoch(self, content: EpochNotice, notice: Notice) -> None:
        known, self._epoch = self._epoch, (content, notice)
        words = None if known is None else two_epochs(known[0], content)
        if known is not None and words is not None:
            self._lied(content.sender, words)
            self._prove([known[1], notice])
        if known is None or words is not None or content.epoch.number != known[0].epoch.number:
            self._context.append(notice)
            self.keep((notice,))

    def _compare(self, author: str, statement: Statement, exhibit: Exhibit) -> None:
        """Keep it where it was not said before, and look whether it contradicts what was."""
        said = self._said.setdefault((author, statement.round_name), [])
        if any(statement == earlier for earlier, _ in said) or len(said) >= STATEMENTS_KEPT:
            return
        self.keep((exhibit,))
        for earlier, shown in said:
            words = contradiction(earlier, statement)
            if words is not None:
                self._lied(author, words)
                self._prove([shown, exhibit])
        said.append((statement, exhibit))
        while len(self._said) > ROUNDS_KEPT:
            self._said.popitem(last=False)

    def _lied(self, author: str, words: str) -> None:
        log.error("%s contradicts itself: %s", author, words)
        self.lies.append((author, words))
        del self.lies[:-20]

    def _prove(self, exhibits: Sequence[Exhibit]) -> None:
        self._proofs += proofs([*self._context, *exhibits], self._community, self._operator_keys)
        del self._proofs[:-STATEMENTS_KEPT]
