"""One member as a juror: what it can prove it says, what others prove it verifies for itself, and it says so. A shell.

Whoever heard a lie itself says its verdict at once and waits a little before it accuses, since others may have heard it too: an
accusation is as large as its proof, and one is enough. A verdict is said three times, because a message may be lost and a repetition
costs nothing; the operator counts it once.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from edge.leadership.witness import Witness
from protocols.aggregation.charges import Charges, Part, charge, proved
from protocols.aggregation.evidence import COORDINATOR, Proof
from protocols.aggregation.group import RoundRefused
from protocols.messages import Accusation

log = logging.getLogger(__name__)

CASES_KEPT: Final = 64
CASES_OF_ONE: Final = 8
"""Who proves itself a liar again and again must not push out what is proved of others."""
TIMES: Final = 3
AGAIN_S: Final = 300.0
HESITATE_S: Final = 10.0
ACCUSATIONS_MAX: Final = 32
"""Of one member in a day: each one costs every other member a verification."""
DAY_S: Final = 86400.0
SHOWN_BYTES: Final = 4 * 1024 * 1024
"""What others have shown is kept up to this in a day: the rest of the evidence's room is for what this member has heard itself."""

SayVerdict = Callable[[Proof], None]
SayAccusation = Callable[[Part], None]


class _Case(Struct):
    proof: Proof
    due_s: float
    accuse_s: float
    said: int = 0
    accused: int = 0


class Jury:
    """See the module. `judge` and `accuse` publish."""

    def __init__(
        self,
        name: str,
        community: str,
        operator_keys: Sequence[Ed25519PublicKey],
        *,
        witness: Witness,
        judge: SayVerdict,
        accuse: SayAccusation,
    ) -> None:
        self.name = name
        self.refusals: list[str] = []
        self._community = community
        self._operator_keys = tuple(operator_keys)
        self._witness = witness
        self._judge = judge
        self._accuse = accuse
        self._charges = Charges()
        self._cases: OrderedDict[tuple[str, str], _Case] = OrderedDict()
        self._accusations: Counter[str] = Counter()
        self._shown_bytes = 0
        self._day = -1

    @property
    def verdicts(self) -> tuple[Proof, ...]:
        """What this member holds for proved."""
        return tuple(case.proof for case in self._cases.values())

    def accused(self, accusation: Accusation, now_s: float) -> None:
        """A part of somebody's accusation."""
        if accusation.sender == self.name:
            return
        try:
            packed = self._charges.take(accusation)
            if packed is None:
                return
            self._count(accusation.sender, now_s)
            proven = list(proved(packed, self._community, self._operator_keys))
            found = [proof for proof in proven if self._witness.signed_now(proof)]
            if not found:
                why = "rests on a key that is not in use any more" if proven else "proves nothing"
                raise RoundRefused(f"the accusation by {accusation.sender!r} {why}")
        except RoundRefused as refusal:
            log.warning("%s", refusal)
            self.refusals.append(str(refusal))
            del self.refusals[:-20]
            return
        for proof in found:
            if self._open(proof, now_s):
                self._keep(proof)
            self._cases[proof.author, proof.round_name].accused = TIMES

    def tick(self, now_s: float) -> None:
        """Say what is due; `now_s` is monotonic."""
        for proof in self._witness.take_proofs():
            self._open(proof, now_s)
        for case in self._cases.values():
            if case.said < TIMES and now_s >= case.due_s and case.proof.author != COORDINATOR:
                case.said, case.due_s = case.said + 1, now_s + AGAIN_S
                self._judge(case.proof)
            if case.accused < TIMES and now_s >= case.accuse_s:
                case.accused, case.accuse_s = case.accused + 1, now_s + AGAIN_S
                self._show(case)

    def _open(self, proof: Proof, now_s: float) -> bool:
        """Whether this is a new case."""
        known = proof.author, proof.round_name
        if known in self._cases:
            return False
        log.error("proved of %s in round %s: %s", proof.author, proof.round_name, proof.words)
        self._cases[known] = _Case(proof=proof, due_s=now_s, accuse_s=now_s + HESITATE_S * self._patience(proof))
        of_one = [case for case in self._cases if case[0] == proof.author]
        if len(of_one) > CASES_OF_ONE:
            del self._cases[of_one[0]]
        while len(self._cases) > CASES_KEPT:
            self._cases.popitem(last=False)
        return True

    def _keep(self, proof: Proof) -> None:
        """Bring what somebody has shown to the disk, as far as there is room for it."""
        size = len(msgspec.msgpack.encode(proof.exhibits))
        if self._shown_bytes + size <= SHOWN_BYTES:
            self._shown_bytes += size
            self._witness.keep(proof.exhibits)

    def _patience(self, proof: Proof) -> float:
        """In [0, 1), another one for each member and case: who accuses first spares the others."""
        drawn = hashlib.sha256(f"{self.name}\0{proof.author}\0{proof.round_name}".encode()).digest()
        return int.from_bytes(drawn[:4], "big") / 2.0**32

    def _show(self, case: _Case) -> None:
        try:
            for part in charge(case.proof):
                self._accuse(part)
        except RoundRefused as refusal:
            log.error("no accusation of %s: %s", case.proof.author, refusal)
            case.accused = TIMES

    def _count(self, sender: str, now_s: float) -> None:
        if int(now_s // DAY_S) != self._day:
            self._day = int(now_s // DAY_S)
            self._accusations.clear()
            self._shown_bytes = 0
        self._accusations[sender] += 1
        if self._accusations[sender] > ACCUSATIONS_MAX:
            raise RoundRefused(f"{sender!r} accuses too often: no more is verified today")
