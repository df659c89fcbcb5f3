"""What is said in a round, and under which name it is signed.

Everything but a member's report and its revealed seeds is public and readable JSON, signed as `protocols.signing` does. Reports and
seeds are sealed to the leader by HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305) around compact MessagePack, because they are
ciphertext for everybody else and every byte counts on the wire.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from msgspec import Meta, Struct

from protocols.errors import ProtocolError
from protocols.units import Fraction, Identifier, TimeS

SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
MAX_SEALED_BYTES: Final = 64 * 1024
MAX_TRANSCRIPT_BYTES: Final = 2 * 1024 * 1024

RoundName = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,11}):(0|[1-9][0-9]{0,11})$")]
"""`<leader's term>:<number>`. A round that failed is never tried again under its own name."""

Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Roster = Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=4096)]


class SealRefused(ProtocolError):
    """A sealed report or reveal is not one: wrong recipient, wrong round, wrong bytes, or a signature that does not verify."""


class Announce(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="announce"):
    """The leader opens a round: who takes part, under which key, with which beacon, until when reports are taken."""

    round_name: RoundName
    leader: Identifier
    key_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
    roster: Roster
    beacon: Hex32
    closes_s: TimeS


class Receipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="receipt"):
    """The leader has this report (step 0), or the seeds that answer the drop list before `step`.

    It contradicts a drop list of this step or an earlier one that names the member as missing (`protocols.aggregation.audit`).
    """

    round_name: RoundName
    member: Identifier
    digest: Hex32
    step: Annotated[int, Meta(ge=0, le=4096)] = 0


class Drops(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="drops"):
    """Who is left out: missing members, and decoys that hide which of several is missing (`protocols.aggregation.differencing`).

    The first list has step 0; every later one contains those before it. A member that holds a receipt of this step and stands among the
    dropped, not among the decoys, can prove that the leader lied.
    """

    round_name: RoundName
    leader: Identifier
    dropped: Annotated[tuple[Identifier, ...], Meta(max_length=4096)]
    decoys: Annotated[tuple[Identifier, ...], Meta(max_length=64)] = ()
    step: Annotated[int, Meta(ge=0, le=4096)] = 0

    @property
    def left_out(self) -> frozenset[str]:
        """Everybody whose report is not in the sum."""
        return frozenset(self.dropped) | frozenset(self.decoys)


class Aggregate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="aggregate"):
    """The leader's product for the network operator: a count and never a roster. `root` commits to the reports it was made of."""

    round_name: RoundName
    leader: Identifier
    key_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
    count: Annotated[int, Meta(ge=1, le=4096)]
    beacon: Hex32
    root: Hex32
    ciphertexts: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=64)]


class Acknowledgement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="acknowledgement"):
    """The operator's answer to an aggregate: taken, or refused with the reason. Never the sums."""

    round_name: RoundName
    digest: Hex32
    accepted: bool
    reason: Annotated[str, Meta(max_length=200)] = ""


class Report(Struct, frozen=True, array_like=True):
    """What a member seals to the leader: its ciphertexts and its signature over their digest."""

    round_name: RoundName
    member: Identifier
    ciphertexts: tuple[bytes, ...]
    signature: bytes


class Reveal(Struct, frozen=True, array_like=True):
    """The pad seeds of this round towards missing neighbours, sealed to the leader."""

    round_name: RoundName
    member: Identifier
    seeds: tuple[tuple[str, bytes], ...]
    signature: bytes

    def __repr__(self) -> str:
        return f"Reveal({self.round_name}, {self.member}, {len(self.seeds)} seeds)"


class Transcript(Struct, frozen=True, kw_only=True):
    """What a leader hands to an auditor about one sampled round. Its reports are padded, so it discloses no value to anybody.

    `exponents` (big-endian) re-randomised the aggregate; they say nothing about a member. Reports of those left out are not in it.
    """

    announce: Announce
    reports: tuple[Report, ...]
    left_out: tuple[str, ...]
    reveals: tuple[Reveal, ...]
    exponents: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Transcript({self.announce.round_name}, {len(self.reports)} reports)"


class AuditRequest(Struct, frozen=True, array_like=True):
    """A member that was on the roster asks the leader to show how an opened round was summed."""

    round_name: RoundName
    member: Identifier
    signature: bytes


class AuditAnswer(Struct, frozen=True, array_like=True):
    """The leader shows it; by its signature it stands by every byte of `body`, which is aggregate and transcript."""

    round_name: RoundName
    leader: Identifier
    body: bytes
    signature: bytes

    @property
    def shown(self) -> tuple[Aggregate, Transcript]:
        """What the body says; raises `SealRefused` where it says nothing."""
        try:
            return msgspec.msgpack.decode(self.body, type=tuple[Aggregate, Transcript])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SealRefused(f"answer of {self.leader!r}: {error}") from error


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an epoch says of its settlement: the commitment to the secret, and the share of all reports that will be opened."""

    commitment: Hex32
    share: Fraction


def announce_digest(announce: Announce) -> bytes:
    """What pads are bound to: the whole announcement, so that the same round announced otherwise has other pads."""
    return hashlib.sha256(b"commonwatt/1 announce\0" + msgspec.json.encode(announce)).digest()


def report_digest(round_name: str, member: str, ciphertexts: tuple[bytes, ...]) -> bytes:
    """What a report's signature, its receipt and the audit name it by."""
    hasher = hashlib.sha256(f"commonwatt/1 report\0{round_name}\0{member}\0".encode())
    for ciphertext in ciphertexts:
        hasher.update(len(ciphertext).to_bytes(4, "big") + ciphertext)
    return hasher.digest()


def reveal_digest(round_name: str, member: str, seeds: tuple[tuple[str, bytes], ...]) -> bytes:
    """What a reveal's signature covers."""
    hasher = hashlib.sha256(f"commonwatt/1 reveal\0{round_name}\0{member}\0".encode())
    for peer, seed in seeds:
        for part in (peer.encode(), seed):
            hasher.update(len(part).to_bytes(4, "big") + part)
    return hasher.digest()


def aggregate_digest(aggregate: Aggregate) -> str:
    """What an acknowledgement names the aggregate by."""
    return hashlib.sha256(b"commonwatt/1 aggregate\0" + msgspec.json.encode(aggregate)).hexdigest()


def merkle_root(digests: list[bytes]) -> str:
    """Root over the reports of a round in the order of the roster, hashed as RFC 9162, section 2.1.1."""
    if not digests:
        return hashlib.sha256(b"").hexdigest()
    level = [hashlib.sha256(b"\x00" + digest).digest() for digest in digests]
    return _merkle(level).hex()


def _merkle(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + _merkle(leaves[:split]) + _merkle(leaves[split:])).digest()


def sign_report(key: Ed25519PrivateKey, round_name: str, member: str, ciphertexts: tuple[bytes, ...]) -> Report:
    """The report with its member's signature."""
    signature = key.sign(report_digest(round_name, member, ciphertexts))
    return Report(round_name, member, ciphertexts, signature)


def sign_reveal(key: Ed25519PrivateKey, round_name: str, member: str, seeds: tuple[tuple[str, bytes], ...]) -> Reveal:
    """The reveal with its member's signature."""
    return Reveal(round_name, member, seeds, key.sign(reveal_digest(round_name, member, seeds)))


def verify_report(report: Report, key: Ed25519PublicKey) -> bytes:
    """The report's digest, if its member signed it; raises `SealRefused`."""
    digest = report_digest(report.round_name, report.member, report.ciphertexts)
    _verify(key, report.signature, digest, f"report of {report.member!r}")
    return digest


def verify_reveal(reveal: Reveal, key: Ed25519PublicKey) -> None:
    """Check a reveal's signature; raises `SealRefused`."""
    _verify(key, reveal.signature, reveal_digest(reveal.round_name, reveal.member, reveal.seeds), f"reveal of {reveal.member!r}")


def sign_receipt(key: Ed25519PrivateKey, receipt: Receipt) -> bytes:
    """The leader's signature over a receipt. It travels alone: the member knows the rest."""
    return key.sign(_receipt_bytes(receipt))


def verify_receipt(receipt: Receipt, signature: bytes, key: Ed25519PublicKey) -> None:
    """Check the leader's signature over a receipt; raises `SealRefused`."""
    _verify(key, signature, _receipt_bytes(receipt), f"receipt for {receipt.member!r}")


def sign_request(key: Ed25519PrivateKey, round_name: str, member: str) -> AuditRequest:
    """The request with its member's signature."""
    return AuditRequest(round_name, member, key.sign(_request_bytes(round_name, member)))


def verify_request(request: AuditRequest, key: Ed25519PublicKey) -> None:
    """Check a request's signature; raises `SealRefused`."""
    _verify(key, request.signature, _request_bytes(request.round_name, request.member), f"request of {request.member!r}")


def sign_answer(key: Ed25519PrivateKey, leader: str, aggregate: Aggregate, transcript: Transcript) -> AuditAnswer:
    """The answer with its leader's signature."""
    body = msgspec.msgpack.encode((aggregate, transcript))
    return AuditAnswer(aggregate.round_name, leader, body, key.sign(_answer_bytes(leader, body)))


def verify_answer(answer: AuditAnswer, key: Ed25519PublicKey) -> None:
    """Check an answer's signature; raises `SealRefused`."""
    _verify(key, answer.signature, _answer_bytes(answer.leader, answer.body), f"answer of {answer.leader!r}")


def labelled(round_name: str, sealed: bytes) -> bytes:
    """Sealed bytes behind the name of their round, where their reader could not know it: they are bound to it."""
    name = round_name.encode()
    return bytes((len(name),)) + name + sealed


def label(payload: bytes) -> tuple[str, bytes]:
    """Inverse of `labelled`; raises `SealRefused` for bytes without a name."""
    end = 1 + (payload[0] if payload else 0)
    try:
        return payload[1:end].decode("ascii"), payload[end:]
    except UnicodeDecodeError as error:
        raise SealRefused("sealed bytes without the name of their round") from error


class Sealable(Protocol):
    """What is sealed names its round first."""

    @property
    def round_name(self) -> str:
        """The round that it belongs to."""
        ...


Content = TypeVar("Content", bound=Sealable)


def seal(content: Sealable, recipient_key: bytes) -> bytes:
    """Encrypt to the recipient's envelope key, bound to the kind of content and its round."""
    plaintext = msgspec.msgpack.encode(content)
    return SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(recipient_key), info=_info(type(content), content.round_name))


def unseal_report(sealed: bytes, round_name: str, leader_key: X25519PrivateKey) -> Report:
    """Open a report of this round; raises `SealRefused` for anything else."""
    return unseal(sealed, Report, round_name, leader_key)


def unseal_reveal(sealed: bytes, round_name: str, leader_key: X25519PrivateKey) -> Reveal:
    """Open a reveal of this round; raises `SealRefused` for anything else."""
    return unseal(sealed, Reveal, round_name, leader_key)


def unseal(sealed: bytes, kind: type[Content], round_name: str, key: X25519PrivateKey, *, limit: int = MAX_SEALED_BYTES) -> Content:
    """Open what was sealed to this key as this kind for this round; raises `SealRefused` for anything else."""
    if len(sealed) > limit:
        raise SealRefused(f"sealed message of {len(sealed)} bytes: at most {limit} are read")
    try:
        plaintext = SUITE.decrypt(sealed, key, info=_info(kind, round_name))
    except (InvalidTag, ValueError) as error:
        raise SealRefused(f"not a {kind.__name__.lower()} sealed to this leader for round {round_name}") from error
    try:
        content: Content = msgspec.msgpack.decode(plaintext, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SealRefused(f"sealed {kind.__name__.lower()}: {error}") from error
    if content.round_name != round_name:
        raise SealRefused(f"sealed {kind.__name__.lower()} names round {content.round_name}, not {round_name}")
    return content


def _receipt_bytes(receipt: Receipt) -> bytes:
    return f"commonwatt/1 receipt\0{receipt.round_name}\0{receipt.member}\0{receipt.step}\0{receipt.digest}".encode()


def _request_bytes(round_name: str, member: str) -> bytes:
    return f"commonwatt/1 audit request\0{round_name}\0{member}".encode()


def _answer_bytes(leader: str, body: bytes) -> bytes:
    return f"commonwatt/1 audit answer\0{leader}\0{hashlib.sha256(body).hexdigest()}".encode()


def _info(kind: type[Sealable], round_name: str) -> bytes:
    return f"commonwatt/1 {kind.__name__.lower()} {round_name}".encode()


def _verify(key: Ed25519PublicKey, signature: bytes, digest: bytes, what: str) -> None:
    try:
        key.verify(signature, digest)
    except InvalidSignature as error:
        raise SealRefused(f"{what}: signature does not verify") from error
