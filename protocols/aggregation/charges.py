"""A proof as it travels from the member that found it to the others, and what a quorum of their verdicts says. Pure.

Each member verifies the proof by itself (`evidence.proofs`) and says so under its own name. The operator counts verdicts of seats of the
epoch, as votes are counted: it convicts where a quorum of what is registered has verified a proof, and is shown no roster for it. Against
the operator itself a proof is shown as well; nobody convicts it, and every member has it on its disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from protocols.aggregation.evidence import Exhibit, Proof, proofs
from protocols.aggregation.group import RoundRefused
from protocols.election.values import Epoch
from protocols.messages import Accusation

PART_BYTES: Final = 64 * 1024
PARTS_MAX: Final = 48
"""Above the largest answer in an audit (`messages.MAX_TRANSCRIPT_BYTES`) with what it is judged by."""
EXHIBITS_MAX: Final = 192
"""Above what one proof needs. Every exhibit is compared with every other of its author and round: thousands would be millions of pairs."""


class Part(Struct, frozen=True, kw_only=True):
    """One part of a packed proof."""

    digest: str
    part: int
    parts: int
    body: bytes


def charge(proof: Proof) -> list[Part]:
    """A proof in pieces that a broker lets pass; raises `RoundRefused` for one that is too large."""
    packed = msgspec.msgpack.encode(proof.exhibits)
    count = -(-len(packed) // PART_BYTES)
    if count > PARTS_MAX:
        raise RoundRefused(f"a proof of {len(packed)} bytes: at most {PARTS_MAX * PART_BYTES} are shown")
    digest = hashlib.sha256(packed).hexdigest()
    return [
        Part(digest=digest, part=index, parts=count, body=packed[index * PART_BYTES : (index + 1) * PART_BYTES])
        for index in range(count)
    ]


class Charges:
    """Puts accusations together: one at a time from each member, since an honest one has no reason to mix them."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, int, dict[int, bytes]]] = {}

    def take(self, accusation: Accusation) -> bytes | None:
        """The whole proof with its last part. Raises `RoundRefused` for parts that do not belong together."""
        sender, digest = accusation.sender, accusation.digest
        if not accusation.part < accusation.parts <= PARTS_MAX:
            raise RoundRefused(f"accusation by {sender!r}: part {accusation.part} of {accusation.parts}")
        known = self._open.get(sender)
        if known is None or known[:2] != (digest, accusation.parts):
            known = self._open[sender] = (digest, accusation.parts, {})
        parts = known[2]
        parts[accusation.part] = accusation.body
        if len(parts) < accusation.parts:
            return None
        del self._open[sender]
        packed = b"".join(parts[index] for index in range(accusation.parts))
        if hashlib.sha256(packed).hexdigest() != digest:
            raise RoundRefused(f"accusation by {sender!r}: its parts are not what their digest names")
        return packed


def proved(packed: bytes, community: str, coordinator_keys: Sequence[Ed25519PublicKey]) -> Iterator[Proof]:
    """What a packed proof proves, once of each author and round. Raises `RoundRefused` for bytes that are none."""
    try:
        exhibits = msgspec.msgpack.decode(packed, type=list[Exhibit])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RoundRefused(f"an accusation that shows nothing: {error}") from error
    if len(exhibits) > EXHIBITS_MAX:
        raise RoundRefused(f"an accusation of {len(exhibits)} exhibits: at most {EXHIBITS_MAX} are verified")
    seen: set[tuple[str, str]] = set()
    for proof in proofs(exhibits, community, coordinator_keys):
        if (proof.author, proof.round_name) not in seen:
            seen.add((proof.author, proof.round_name))
            yield proof


def convicts(epoch: Epoch, accused: str, jurors: Collection[str]) -> bool:
    """Whether these members are enough; who is accused has no voice in its own case."""
    return epoch.weight(frozenset(jurors) - {accused}) >= epoch.quorum_weight
