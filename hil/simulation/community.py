"""Keys of a simulated community. They are the same in every run, so that only the runs themselves cost time.

The operator's moduli have 512 bits: the arithmetic is the same at every size, and what the simulation looks for does not lie in it.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Final

import gmpy2
import phe
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from protocols.aggregation.group import Group, MemberCard
from protocols.aggregation.packing import Layout
from protocols.aggregation.pads import PadKeys
from protocols.aggregation.paillier import Encryptor, PublicKey, public_key

MODULUS_BITS: Final = 512


class OperatorKeys(Struct, frozen=True):
    """One epoch's key of the operator, both halves, with the table that encrypts under it."""

    public: PublicKey
    private: phe.PaillierPrivateKey
    encryptor: Encryptor
    factor: int

    def __repr__(self) -> str:
        return f"OperatorKeys({self.public.key_id})"


class Keys(Struct, frozen=True):
    """One member's secrets."""

    signing: Ed25519PrivateKey
    pads: PadKeys
    envelope: X25519PrivateKey
    card: MemberCard

    def __repr__(self) -> str:
        return f"Keys({self.card.name})"


def operator_keys(number: int, bits: int = MODULUS_BITS, teeth: int = 6, tables: int = 2) -> OperatorKeys:
    """The key of epoch `number`: drawn once, and the same in every process."""
    return _operator_keys(number, bits, teeth, tables)


@cache
def _operator_keys(number: int, bits: int, teeth: int, tables: int) -> OperatorKeys:
    rng = random.Random(f"operator {number} {bits}")
    while True:
        p, q = _prime(rng, bits // 2), _prime(rng, bits // 2)
        if p != q and gmpy2.gcd(p - 1, q - 1) == 2:
            key = public_key(p * q, rng.randrange(2, p * q), min_bits=bits - 1)
            private = phe.PaillierPrivateKey(phe.PaillierPublicKey(p * q), p, q)
            return OperatorKeys(key, private, Encryptor(key, teeth=teeth, tables=tables), p)


@cache
def member_keys(index: int) -> Keys:
    """Keys of the member with this number."""
    rng = random.Random(f"member {index}")
    name = f"h{index:03d}"
    signing = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
    pads = PadKeys(name, X25519PrivateKey.from_private_bytes(rng.randbytes(32)))
    envelope = X25519PrivateKey.from_private_bytes(rng.randbytes(32))
    card = MemberCard(name, signing.public_key(), pads.public_bytes, envelope.public_key().public_bytes_raw())
    return Keys(signing, pads, envelope, card)


def group(members: int, operator: OperatorKeys, layout: Layout, members_min: int) -> Group:
    """The first `members` members under one key of the operator."""
    cards = {keys.card.name: keys.card for keys in map(member_keys, range(members))}
    return Group(cards, operator.public, layout, members_min)


def _prime(rng: random.Random, bits: int) -> int:
    while True:
        candidate = rng.getrandbits(bits) | (3 << (bits - 2)) | 3
        if gmpy2.is_prime(candidate, 25):
            return candidate
