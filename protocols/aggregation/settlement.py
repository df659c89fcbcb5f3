"""The settlement of sampled rounds: a household opens what it reported, bit for bit, and the operator finds it to be what was summed.

Nothing in a round makes a household tell the truth. So that a lie can be held against it, a small share of all reports is opened
afterwards and compared with the signed meter. Whose and when is chosen by nobody:

1. With an epoch, before its first round, the operator commits itself to a secret. A report is sampled if H(secret, beacon of the round,
   member) falls below the share that the epoch names. Members cannot know the secret before they report; the operator cannot know the
   beacons, which follow from the reports of all, when it commits itself.
2. The secret is shown when the epoch is over, with each demand. A member opens nothing that was not sampled under the commitment which it
   saw when it reported, and never a larger share than its own limit.
3. What is opened holds the values and randomness of one report, and pads without the names they were shared with: neither the roster nor
   a drop list. It goes to the operator alone, sealed to a key made for the demand.
4. An opening counts if the report that it describes is the one for which the round's leader has signed a receipt.

A member can say that it has no report in a round. That is on record, and who says so far more often than the counts of the rounds allow
gives itself away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct, msgpack, structs

from protocols.aggregation import packing
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.member import Opening
from protocols.aggregation.messages import Hex32, Receipt, RoundName, Sampling, SealRefused, report_digest, verify_receipt
from protocols.aggregation.packing import Layout, ValuesRefused, chunk_slots
from protocols.aggregation.pads import pads_total, sign
from protocols.aggregation.paillier import Encryptor, exponent_from_seed, to_bytes
from protocols.units import Identifier

SECRET_BYTES: Final = 32


class Signing(Protocol):
    """Whatever holds the operator's signing key."""

    def sign(self, statement: bytes, /) -> bytes:
        """An Ed25519 signature."""
        ...


class Demand(Struct, frozen=True, array_like=True):
    """The operator asks one member to open its report of a round. `reply_key` is the X25519 key that the opening is sealed to."""

    round_name: RoundName
    member: Identifier
    secret: bytes
    reply_key: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Demand({self.round_name}, {self.member})"


class Disclosure(Struct, frozen=True, array_like=True):
    """One report, opened. `pads` are (sign, seed), in no order that says whose; `receipt` is the leader's signature, empty without one.

    Without `values`, the member says that it has no report in this round.
    """

    round_name: RoundName
    member: Identifier
    leader: str
    key_id: str
    beacon: str
    values: tuple[int, ...]
    exponent_seeds: tuple[bytes, ...]
    pads: tuple[tuple[int, bytes], ...]
    receipt: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Disclosure({self.round_name}, {self.member})"


class Sampled(Struct, frozen=True, kw_only=True):
    """What the operator knows of a round that it has opened, from its aggregate."""

    round_name: RoundName
    leader: Identifier
    key_id: str
    beacon: Hex32


def commitment(secret: bytes) -> str:
    """What the operator publishes before the rounds."""
    return hashlib.sha256(b"commonwatt/1 settlement secret\0" + secret).hexdigest()


def is_sampled(secret: bytes, beacon: str, member: str, share: float) -> bool:
    """Whether this member's report of the round with this beacon is to be opened."""
    digest = hashlib.sha256(b"commonwatt/1 settlement sample\0" + secret + bytes.fromhex(beacon) + member.encode()).digest()
    return int.from_bytes(digest[:7], "big") < share * 2.0**56


def sign_demand(signer: Signing, round_name: str, member: str, secret: bytes, reply_key: bytes) -> Demand:
    """The demand with the operator's signature."""
    unsigned = Demand(round_name, member, secret, reply_key, b"")
    return Demand(round_name, member, secret, reply_key, signer.sign(_signed_bytes("demand", unsigned)))


def check_demand(
    demand: Demand,
    member: str,
    sampling: Sampling | None,
    opening: Opening | None,
    keys: tuple[Ed25519PublicKey, ...],
    *,
    share_max: float,
) -> None:
    """Raise `RoundRefused` unless this member has to answer. `sampling` is what the epoch said when the member made the report
    that `opening` opens; both are None where it has none, which it may say to the operator in any case."""
    if demand.member != member:
        raise RoundRefused(f"demand for {demand.member!r}, not for {member!r}")
    if not any(_verifies(key, demand.signature, _signed_bytes("demand", demand)) for key in keys):
        raise RoundRefused(f"demand for round {demand.round_name}: not signed by the operator")
    if opening is None or sampling is None:
        return
    if sampling.share > share_max:
        raise RoundRefused(f"a share of {sampling.share:g} is to be opened: this household opens at most {share_max:g}")
    if len(demand.secret) != SECRET_BYTES or commitment(demand.secret) != sampling.commitment:
        raise RoundRefused(f"demand for round {demand.round_name}: its secret is not what the epoch was committed to")
    if not is_sampled(demand.secret, opening.announce.beacon, member, sampling.share):
        raise RoundRefused(f"round {demand.round_name} was not sampled")


def disclose(opening: Opening, receipt: bytes, key: Ed25519PrivateKey) -> Disclosure:
    """What leaves the house about a sampled report: nobody's name but the member's and its leader's."""
    announce, member = opening.announce, opening.member
    pads = tuple(sorted((sign(member, peer), seed) for peer, seed in opening.pad_seeds))
    body = Disclosure(
        announce.round_name,
        member,
        announce.leader,
        announce.key_id,
        announce.beacon,
        opening.values,
        opening.exponent_seeds,
        pads,
        receipt,
        b"",
    )
    return _signed(body, key)


def nothing_to_disclose(round_name: str, member: str, key: Ed25519PrivateKey) -> Disclosure:
    """The member has no report in this round, or does not keep it any more."""
    return _signed(Disclosure(round_name, member, "", "", "", (), (), (), b"", b""), key)


def recomputed(layout: Layout, encryptor: Encryptor, disclosure: Disclosure) -> bytes:
    """The digest of the report that a disclosure describes; raises `ValuesRefused` or `ValueError` for one that describes none."""
    key = encryptor.key
    alpha = packing.checksum_coefficients(layout, bytes.fromhex(disclosure.beacon))
    slots = packing.encode(layout, _whole(disclosure.values), alpha).astype(np.int64) + pads_total(layout, disclosure.pads)
    plaintexts = packing.pack((slots & layout.mask).astype(np.uint32), chunk_slots(key.n.bit_length()))
    ciphertexts = tuple(
        to_bytes(key, encryptor.encrypt(plaintext, exponent_from_seed(key, seed)))
        for plaintext, seed in zip(plaintexts, disclosure.exponent_seeds, strict=True)
    )
    return report_digest(disclosure.round_name, disclosure.member, ciphertexts)


def check_disclosure(
    disclosure: Disclosure, sampled: Sampled, layout: Layout, encryptor: Encryptor, keys: Mapping[str, Ed25519PublicKey]
) -> tuple[int, ...] | None:
    """The values that the member stands by, None where it says that it has no report. Raises `RoundRefused` for what proves nothing.

    `keys` are the members' signing keys of the epoch. That the disclosure is of the member that was asked is the caller's to compare.
    """
    member, round_name = disclosure.member, disclosure.round_name
    if not _verifies(keys[member], disclosure.signature, _signed_bytes("disclosure", disclosure)):
        raise RoundRefused(f"opening of {member!r} in round {round_name}: its signature does not verify")
    if not disclosure.values:
        return None
    named = (round_name, disclosure.leader, disclosure.key_id, disclosure.beacon)
    if named != (sampled.round_name, sampled.leader, sampled.key_id, sampled.beacon):
        raise RoundRefused(f"opening of {member!r}: it describes another round than {sampled.round_name}")
    try:
        digest = recomputed(layout, encryptor, disclosure)
        receipt = Receipt(round_name=round_name, member=member, digest=digest.hex())
        verify_receipt(receipt, disclosure.receipt, keys[sampled.leader])
    except (ValuesRefused, ValueError, OverflowError) as error:
        raise RoundRefused(f"opening of {member!r} in round {round_name} describes no report: {error}") from error
    except SealRefused as error:
        raise RoundRefused(f"opening of {member!r} in round {round_name}: not the report that its leader took") from error
    return disclosure.values


def _whole(values: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _signed(body: Disclosure, key: Ed25519PrivateKey) -> Disclosure:
    return structs.replace(body, signature=key.sign(_signed_bytes("disclosure", body)))


def _signed_bytes(what: str, content: Demand | Disclosure) -> bytes:
    """Everything but the signature, which is the last field, and a name for what it is."""
    fields = [getattr(content, field) for field in content.__struct_fields__[:-1]]
    return f"commonwatt/1 settlement {what}\0".encode() + msgpack.encode(fields)


def _verifies(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
