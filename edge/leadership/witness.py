"""What a member has heard of its rounds: compared as it is said, and kept as evidence. A shell: its log touches the disk.

A repeated statement is kept once. Two that contradict each other are both kept, and the member says so at once; `proofs` of the log then
convinces a third party. A disk that takes nothing costs the evidence, not the round.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from edge.errors import StoreError
from edge.leadership.evidence import EvidenceLog
from protocols.aggregation.audit import Statement, contradiction
from protocols.aggregation.evidence import Exhibit, SignedAnswer, SignedReceipt, TwoCertificates, notice_of, statement_of, two_epochs
from protocols.aggregation.messages import AuditAnswer, Receipt
from protocols.bus import BusMessage
from protocols.election.values import Certificate
from protocols.messages import EpochNotice, RoundNotice

log = logging.getLogger(__name__)

ROUNDS_KEPT = 32
STATEMENTS_KEPT = 128
"""In one round: more are neither compared nor kept."""


class Witness:
    """See the module. `lies` are the contradictions of this run, in words, with who said them."""

    def __init__(self, evidence: EvidenceLog) -> None:
        self.lies: list[tuple[str, str]] = []
        self.evidence = evidence
        self._said: OrderedDict[tuple[str, str], list[Statement]] = OrderedDict()
        self._epoch: EpochNotice | None = None
        self._unwritten = ""

    def heard(self, message: BusMessage, content: RoundNotice | EpochNotice, now_s: float) -> None:
        """A verified message about rounds."""
        if isinstance(content, EpochNotice):
            words = None if self._epoch is None else two_epochs(self._epoch, content)
            new = words is not None or self._epoch is None or content.epoch.number != self._epoch.epoch.number
            if words is not None:
                log.error("%s contradicts itself: %s", content.sender, words)
                self.lies.append((content.sender, words))
            self._epoch = content
        else:
            new = self._compare(content.sender, statement_of(content))
        if new:
            self._keep(notice_of(message, now_s))

    def receipt(self, leader: str, receipt: Receipt, signature: bytes, now_s: float) -> None:
        """A receipt whose signature was verified."""
        if self._compare(leader, receipt):
            self._keep(SignedReceipt(leader=leader, receipt=receipt, signature=signature, heard_s=now_s))

    def shown(self, answer: AuditAnswer, now_s: float) -> None:
        """What a leader has signed in an audit that it did not pass."""
        self._keep(SignedAnswer(answer=answer, heard_s=now_s))

    def two_leaders(self, first: Certificate, second: Certificate, now_s: float) -> None:
        """Two certificates of one term."""
        self._keep(TwoCertificates(first=first, second=second, heard_s=now_s))

    def _compare(self, author: str, statement: Statement) -> bool:
        """Whether it was not said before and is worth keeping."""
        said = self._said.setdefault((author, statement.round_name), [])
        if statement in said or len(said) >= STATEMENTS_KEPT:
            return False
        for earlier in said:
            words = contradiction(earlier, statement)
            if words is not None:
                log.error("%s contradicts itself: %s", author, words)
                self.lies.append((author, words))
                del self.lies[:-20]
        said.append(statement)
        while len(self._said) > ROUNDS_KEPT:
            self._said.popitem(last=False)
        return True

    def _keep(self, exhibit: Exhibit) -> None:
        try:
            self.evidence.add(exhibit)
        except StoreError as error:
            if str(error) != self._unwritten:
                log.error("evidence is lost: %s", error)
            self._unwritten = str(error)
