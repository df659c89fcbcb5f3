"""The operator in simulated rounds: the shipped books, one for each key, a disk, and the checkers' eyes on every decryption."""

from __future__ import annotations

from collections.abc import Callable

from hil.simulation import aggregation_lies as lies
from hil.simulation.aggregation_checks import Checks, Claim
from hil.simulation.aggregation_world import Faults
from hil.simulation.community import OperatorKeys
from protocols.aggregation import packing
from protocols.aggregation.group import Group
from protocols.aggregation.messages import Acknowledgement, Aggregate, aggregate_digest
from protocols.aggregation.operator import NOT_A_SUM, OperatorBook, Sums


class SimulatedOperator:
    """Answers aggregates as the coordinator does: its book is on disk before an answer leaves."""

    def __init__(self, checks: Checks, faults: Faults, operators: list[OperatorKeys], groups: list[Group]) -> None:
        self.claims: dict[str, Claim] = {}
        self._checks = checks
        self._faults = faults
        self._operators = operators
        self._groups = groups
        self._saved = [b"[]" for _ in operators]
        self._books: list[OperatorBook] = []
        self.restart()

    def restart(self) -> None:
        """Come up with what the disk has."""
        self._books = []
        for keys, saved in zip(self._operators, self._saved, strict=True):
            book = OperatorBook(keys.public, self._checks.layout, self._decrypting(keys), members_min=self._faults.members_min)
            book.restore(saved)
            self._books.append(book)

    def receive(self, aggregate: Aggregate) -> tuple[Acknowledgement, Sums | None]:
        """Answer under the key that the round was announced with."""
        index = next(i for i, one in enumerate(self._groups) if one.key.key_id == aggregate.key_id)
        claim = self.claims[aggregate_digest(aggregate)]
        self._checks.excused = not claim.honest and claim.proof is not None
        answer, sums = self._books[index].receive(aggregate)
        self._checks.excused = False
        self._saved[index] = self._books[index].save()
        self._check_answer(aggregate, answer, claim)
        if sums is not None:
            self._checks.accepted(sums, claim)
        return answer, sums

    def _decrypting(self, keys: OperatorKeys) -> Callable[[int], int]:
        """The operator's decryption, which the checkers watch; they look once all parts of a report are there."""
        parts: list[int] = []

        def decrypt(ciphertext: int) -> int:
            plaintext = int(keys.private.raw_decrypt(ciphertext))
            parts.append(plaintext)
            if len(parts) == self._groups[0].ciphertexts:
                width = 1 << (32 * self._groups[0].chunk)
                whole = [part % width for part in parts]
                parts.clear()
                last = self._checks.layout.slots - (len(whole) - 1) * self._groups[0].chunk
                whole[-1] %= 1 << (32 * last)
                self._checks.decryption(packing.unpack(whole, self._checks.layout.slots, self._groups[0].chunk))
            return plaintext

        return decrypt

    def _check_answer(self, aggregate: Aggregate, answer: Acknowledgement, claim: Claim) -> None:
        """An acknowledgement says nothing of what was decrypted, and only a poisoned report can spoil an honest leader's sum."""
        opened = aggregate.round_name in self._books[0].findings or aggregate.round_name in self._books[1].findings
        silent = answer.reason in ("", NOT_A_SUM) or not opened or "another aggregate" in answer.reason
        self._checks.check("no_plaintext", silent, f"the answer to round {answer.round_name} says {answer.reason!r}")
        poisoned = self._faults.member_lie in lies.POISON or self._faults.leader_lie in lies.ROSTER_LIES
        fine = answer.reason != NOT_A_SUM or not claim.honest or poisoned
        self._checks.check("rounds_go_on", fine, f"round {answer.round_name} of an honest leader was no sum")
