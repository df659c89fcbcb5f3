"""By what a member holds others to their word, and is held to its own: audits of leaders, its own rounds shown, its sampled reports opened,
proofs shown and judged. A shell."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.leadership.auditing import Archive, Auditor
from edge.leadership.jury import Jury
from edge.leadership.member_shell import MemberShell
from edge.leadership.opener import Opener
from edge.leadership.records import MemberRecords
from edge.leadership.settings import AggregationSection
from edge.leadership.voice import Voice
from edge.leadership.witness import Witness

log = logging.getLogger(__name__)

OPERATOR: Final = "coordinator"
KINDS: Final = ("audit", "transcript", "demand")
"""What arrives here of the sealed kinds."""


class Accountability:
    """See the module."""

    def __init__(
        self,
        community: str,
        name: str,
        key: Ed25519PrivateKey,
        envelope_key: X25519PrivateKey,
        operator_keys: tuple[Ed25519PublicKey, ...],
        settings: AggregationSection,
        *,
        member: MemberShell,
        records: MemberRecords,
        witness: Witness,
        voice: Voice,
        entropy: Callable[[int], bytes],
    ) -> None:
        send = voice.letter
        self.archive = Archive(name, key, envelope_key, send=send)
        self.auditor = Auditor(
            name,
            key,
            envelope_key,
            share=settings.audit_share,
            rng=random.Random(entropy(32)),
            heard=member.heard,
            witness=witness,
            send=send,
        )
        self.opener = Opener(
            name,
            key,
            envelope_key,
            operator_keys,
            operator=OPERATOR,
            records=records,
            evidence=witness.evidence,
            send=send,
            share_max=settings.settlement_share_max,
        )

        self.jury = Jury(name, community, operator_keys, witness=witness, judge=voice.verdict, accuse=voice.accusation)

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        self.auditor.tick(now_s)
        self.jury.tick(now_s)

    def take(self, kind: str, writer: str, payload: bytes, wall_s: float) -> None:
        """One sealed message of the kinds in `KINDS`."""
        match kind:
            case "transcript":
                self.auditor.part(writer, payload, wall_s)
            case "demand" if writer == OPERATOR:
                self.opener.demand(payload)
            case "audit":
                refusal = self.archive.request(writer, payload)
                if refusal is not None:
                    log.warning("%s", refusal)
            case _:
                log.warning("%s of %r: it may not say that", kind, writer)
