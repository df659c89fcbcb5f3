"""The leader's part of a round: collect, name who is missing, correct for their orphaned pads, multiply once.

    COLLECTING --close()--> RECOVERING (somebody is left out) --advance()--> RECOVERING (more are) ... --> DONE
         |                                                                                     |
         +--close(), nobody missing----------------------------------------------> DONE        +--> FAILED (group too small)

The leader reads ciphertexts and seeds of missing members' pads, never a value: what is left of a missing member stays under the
operator's key. A report after `close()` is refused, because its sender's pads are being unmasked. What one member sends wrong is
refused by name and changes nothing for the others. A receipt is given only for what can be summed, so that an honest leader never
contradicts its own receipts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.aggregation import packing
from protocols.aggregation.group import Group, RoundRefused
from protocols.aggregation.messages import (
    Aggregate,
    Announce,
    Drops,
    Receipt,
    Report,
    Reveal,
    Transcript,
    merkle_root,
    reveal_digest,
    unseal_report,
    unseal_reveal,
    verify_report,
    verify_reveal,
)
from protocols.aggregation.pads import PadGraph, pads_total, sign
from protocols.aggregation.paillier import CiphertextRefused, Encryptor, check_ciphertexts, from_bytes, multiply, to_bytes


class Phase(StrEnum):
    """Where a round stands."""

    COLLECTING = "collecting"
    RECOVERING = "recovering"
    DONE = "done"
    FAILED = "failed"


class LeaderRound:
    """One round as its leader holds it."""

    def __init__(self, group: Group, announce: Announce, envelope_key: X25519PrivateKey, encryptor: Encryptor) -> None:
        self.announce = announce
        self.phase = Phase.COLLECTING
        self.failure = ""
        self._group = group
        self._envelope_key = envelope_key
        self._encryptor = encryptor
        self._graph = PadGraph(announce.roster, bytes.fromhex(announce.beacon))
        self._reports: dict[str, tuple[bytes, list[int]]] = {}
        self._seeds: dict[str, dict[str, bytes]] = {}
        self._dropped: set[str] = set()
        self._decoys: tuple[str, ...] = ()
        self._step = 0
        self._signed: dict[str, Report] = {}
        self._reveals: list[Reveal] = []

    @property
    def reported(self) -> frozenset[str]:
        """Members whose reports were taken so far."""
        return frozenset(self._reports)

    @property
    def present(self) -> frozenset[str]:
        """Members that will be in the sum if the collecting, or the step of the recovery, ends now: what decoys are drawn from."""
        return self.reported if self.phase is Phase.COLLECTING else frozenset(self.survivors) - self.awaited

    @property
    def missing(self) -> frozenset[str]:
        """Members of the roster without a report."""
        return frozenset(self.announce.roster) - self.reported

    @property
    def survivors(self) -> tuple[str, ...]:
        """Members whose reports will be in the sum, in the order of the roster."""
        left_out = self._dropped | set(self._decoys)
        return tuple(member for member in self.announce.roster if member not in left_out)

    def receive_report(self, sealed: bytes) -> Receipt:
        """Take a report. The same one again gives the same receipt; another one of the same member is refused."""
        if self.phase is not Phase.COLLECTING:
            raise RoundRefused(f"round {self.announce.round_name} takes no more reports")
        report = unseal_report(sealed, self.announce.round_name, self._envelope_key)
        if report.member not in self._graph.roster:
            raise RoundRefused(f"{report.member!r} is not on the roster of round {self.announce.round_name}")
        digest = verify_report(report, self._group.card(report.member).signing_key)
        known = self._reports.get(report.member)
        if known is not None and known[0] != digest:
            raise RoundRefused(f"{report.member!r} sent two different reports in round {self.announce.round_name}")
        if known is None:
            self._reports[report.member] = (digest, self._ciphertexts(report))
            self._signed[report.member] = report
        return Receipt(round_name=self.announce.round_name, member=report.member, digest=digest.hex())

    def close(self, decoys: tuple[str, ...] = ()) -> Drops | None:
        """End the collecting phase. A drop list to publish where somebody is left out, None where the aggregate can be made."""
        if self.phase is not Phase.COLLECTING:
            raise RoundRefused(f"round {self.announce.round_name} is closed already")
        self._dropped = set(self.missing)
        self._decoys = tuple(member for member in decoys if member in self._reports)
        return self._next_step()

    def receive_reveal(self, sealed: bytes) -> Receipt:
        """Take a survivor's seeds towards those left out. The receipt is for the last drop list that they answer completely."""
        if self.phase is not Phase.RECOVERING:
            raise RoundRefused(f"round {self.announce.round_name} awaits no seeds")
        reveal = unseal_reveal(sealed, self.announce.round_name, self._envelope_key)
        if reveal.member not in self.survivors:
            raise RoundRefused(f"{reveal.member!r} is not a survivor of round {self.announce.round_name}")
        verify_reveal(reveal, self._group.card(reveal.member).signing_key)
        self._check_reveal(reveal)
        self._seeds.setdefault(reveal.member, {}).update(reveal.seeds)
        self._reveals.append(reveal)
        return Receipt(
            round_name=self.announce.round_name,
            member=reveal.member,
            digest=reveal_digest(reveal.round_name, reveal.member, reveal.seeds).hex(),
            step=self._step + 1 if self._complete(reveal.member) else self._step,
        )

    @property
    def awaited(self) -> frozenset[str]:
        """Survivors whose seeds towards those left out are not complete."""
        return frozenset(member for member in self.survivors if not self._complete(member))

    def advance(self, decoys: tuple[str, ...] = ()) -> Drops | None:
        """End a recovery step: whoever has not revealed is left out too. None where the aggregate can be made.

        Further `decoys` are needed where somebody fell silent: the group is another one than at `close`. Otherwise they are not used.
        """
        if self.phase is not Phase.RECOVERING:
            raise RoundRefused(f"round {self.announce.round_name} is not recovering")
        silent = self.awaited
        self._dropped |= silent
        if silent:
            self._decoys += tuple(member for member in decoys if member in self.survivors)
        self._step += 1
        return self._next_step()

    def aggregate(self, exponents: list[int]) -> Aggregate:
        """The product of the survivors' reports, corrected for orphaned pads and re-randomised with fresh exponents."""
        if self.phase is not Phase.DONE:
            raise RoundRefused(f"round {self.announce.round_name} is {self.phase.value}: it has no aggregate")
        group = self._group
        correction = orphaned_pads(group, self._graph, self.survivors, self._seeds)
        products = []
        for index, (plaintext, exponent) in enumerate(zip(correction, exponents, strict=True)):
            factors = [self._reports[member][1][index] for member in self.survivors]
            products.append(multiply(group.key, [*factors, self._encryptor.encrypt(plaintext, exponent)]))
        return Aggregate(
            round_name=self.announce.round_name,
            leader=self.announce.leader,
            key_id=self.announce.key_id,
            count=len(self.survivors),
            beacon=self.announce.beacon,
            root=merkle_root([self._reports[member][0] for member in self.survivors]),
            ciphertexts=tuple(to_bytes(group.key, product) for product in products),
        )

    def transcript(self, exponents: list[int]) -> Transcript:
        """What an auditor needs to compute the aggregate again, with the exponents that went into it."""
        if self.phase is not Phase.DONE:
            raise RoundRefused(f"round {self.announce.round_name} is {self.phase.value}: there is nothing to audit")
        survivors = frozenset(self.survivors)
        return Transcript(
            announce=self.announce,
            reports=tuple(self._signed[member] for member in self.survivors),
            left_out=tuple(member for member in self.announce.roster if member not in survivors),
            reveals=tuple(reveal for reveal in self._reveals if reveal.member in survivors),
            exponents=tuple(exponent.to_bytes(self._group.key.plaintext_bytes, "big") for exponent in exponents),
        )

    def _next_step(self) -> Drops | None:
        count = len(self.survivors)
        if count < self._group.members_min:
            self.phase = Phase.FAILED
            self.failure = f"{count} survivors: below the smallest group of {self._group.members_min}"
            raise RoundRefused(self.failure)
        if not self.awaited:
            self.phase = Phase.DONE
            return None
        self.phase = Phase.RECOVERING
        return Drops(
            round_name=self.announce.round_name,
            leader=self.announce.leader,
            dropped=tuple(sorted(self._dropped)),
            decoys=tuple(member for member in self._decoys if member not in self._dropped),
            step=self._step,
        )

    def _ciphertexts(self, report: Report) -> list[int]:
        expected = self._group.ciphertexts
        if len(report.ciphertexts) != expected:
            raise RoundRefused(f"report of {report.member!r} has {len(report.ciphertexts)} ciphertexts: {expected} are expected")
        values = [from_bytes(self._group.key, data) for data in report.ciphertexts]
        if check_ciphertexts(self._group.key, values):
            raise CiphertextRefused(f"report of {report.member!r} holds a ciphertext that is not a unit modulo n^2")
        return values

    def _check_reveal(self, reveal: Reveal) -> None:
        for peer, seed in reveal.seeds:
            if peer not in self._orphans(reveal.member) or len(seed) != 32:
                raise RoundRefused(f"reveal of {reveal.member!r} holds a seed that was not asked for, towards {peer!r}")

    def _complete(self, member: str) -> bool:
        return self._orphans(member) <= self._seeds.get(member, {}).keys()

    def _orphans(self, member: str) -> set[str]:
        left_out = self._dropped | set(self._decoys)
        return {peer for peer in left_out if self._graph.joined(member, peer)}


def orphaned_pads(
    group: Group, graph: PadGraph, survivors: Collection[str], seeds: Mapping[str, Mapping[str, bytes]]
) -> list[int]:
    """Plaintexts that cancel the pads which `survivors` share with those left out: minus their sum modulo 2^w in each slot.

    `seeds[member][peer]` is what a member revealed; raises `KeyError` where a seed is not there.
    """
    left_out = [peer for peer in graph.roster if peer not in survivors]
    orphans = ((member, peer) for member in survivors for peer in left_out if graph.joined(member, peer))
    total = pads_total(group.layout, ((-sign(member, peer), seeds[member][peer]) for member, peer in orphans))
    return packing.pack((total & group.layout.mask).astype(np.uint32), group.chunk)
