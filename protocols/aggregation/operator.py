"""The network operator's part of a round: one aggregate for each round, decrypted to sums or refused with the reason.

What the operator answers must not depend on what it decrypted beyond yes or no: an answer that said which check failed, or what the
head-count was, would let a lying leader read a plaintext piece by piece. The exact reason stays with the operator (`findings`). One
bit for each round is left to such a leader, for a member that it has falsely dropped, and that lie can be proved
(`protocols.aggregation.audit`).

Decryption itself is handed in (the coordinator holds the private key); here are the rules of what is decrypted at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from protocols.aggregation import packing
from protocols.aggregation.group import MEMBERS_MIN
from protocols.aggregation.member import round_order
from protocols.aggregation.messages import Acknowledgement, Aggregate, aggregate_digest
from protocols.aggregation.packing import Layout, SumRefused, Values
from protocols.aggregation.paillier import CiphertextRefused, PublicKey, check_ciphertexts, from_bytes

Decrypt = Callable[[int], int]

NOT_A_SUM: Final = "what was decrypted is not the sum of whole reports"


class Sums(Struct, frozen=True, eq=False):
    """What a round says: the exact signed sums and how many households are in them."""

    round_name: str
    values: Values
    count: int


class OperatorBook:
    """Which rounds were answered, under one key. Keys of earlier epochs keep their own book until their rounds have ended."""

    def __init__(
        self, key: PublicKey, layout: Layout, decrypt: Decrypt, *, members_min: int = MEMBERS_MIN
    ) -> None:
        self.findings: dict[str, str] = {}
        self._key = key
        self._layout = layout
        self._decrypt = decrypt
        self._members_min = members_min
        self._answered: dict[str, Acknowledgement] = {}
        self._newest = (0, 0)

    def receive(self, aggregate: Aggregate) -> tuple[Acknowledgement, Sums | None]:
        """Answer an aggregate. The same one again gets the same answer and no sums; another one of an answered round is refused."""
        digest = aggregate_digest(aggregate)
        known = self._answered.get(aggregate.round_name)
        if known is not None:
            if known.digest == digest:
                return known, None
            return self._refuse(aggregate, digest, "another aggregate of this round was answered", keep=False), None
        if round_order(aggregate.round_name) <= self._newest:
            return self._refuse(aggregate, digest, "a later round was answered", keep=False), None
        try:
            ciphertexts = self._checked(aggregate)
        except (SumRefused, CiphertextRefused) as error:
            return self._refuse(aggregate, digest, str(error), keep=True), None
        try:
            sums = self._open(aggregate, ciphertexts)
        except SumRefused as error:
            self.findings[aggregate.round_name] = str(error)
            return self._refuse(aggregate, digest, NOT_A_SUM, keep=True), None
        answer = Acknowledgement(round_name=aggregate.round_name, digest=digest, accepted=True)
        self._keep(answer)
        return answer, sums

    def _checked(self, aggregate: Aggregate) -> list[int]:
        if aggregate.key_id != self._key.key_id:
            raise SumRefused(f"aggregate is under key {aggregate.key_id}, not {self._key.key_id}")
        if aggregate.count < self._members_min:
            raise SumRefused(f"{aggregate.count} reports: below the smallest group of {self._members_min}")
        ciphertexts = [from_bytes(self._key, data) for data in aggregate.ciphertexts]
        if check_ciphertexts(self._key, ciphertexts):
            raise SumRefused("a ciphertext is not a unit modulo n^2")
        return ciphertexts

    def save(self) -> bytes:
        """What was answered, for the operator's disk: to be there before an answer leaves."""
        return msgspec.json.encode(list(self._answered.values()))

    def restore(self, data: bytes) -> None:
        """Take back what `save` gave."""
        for answer in msgspec.json.decode(data, type=list[Acknowledgement]):
            self._keep(answer)

    def _open(self, aggregate: Aggregate, ciphertexts: list[int]) -> Sums:
        chunk = packing.chunk_slots(self._key.n.bit_length())
        slots = packing.unpack([self._decrypt(value) for value in ciphertexts], self._layout.slots, chunk)
        alpha = packing.checksum_coefficients(self._layout, bytes.fromhex(aggregate.beacon))
        values, count = packing.decode(self._layout, slots, alpha)
        if count != aggregate.count:
            raise SumRefused(f"the sum holds {count} reports, the aggregate says {aggregate.count}")
        return Sums(aggregate.round_name, values, count)

    def _refuse(self, aggregate: Aggregate, digest: str, reason: str, *, keep: bool) -> Acknowledgement:
        answer = Acknowledgement(round_name=aggregate.round_name, digest=digest, accepted=False, reason=reason)
        if keep:
            self._keep(answer)
        return answer

    def _keep(self, answer: Acknowledgement) -> None:
        self._answered[answer.round_name] = answer
        self._newest = max(self._newest, round_order(answer.round_name))
        while len(self._answered) > 1000:
            oldest = next(iter(self._answered))
            self._answered.pop(oldest)
            self.findings.pop(oldest, None)
