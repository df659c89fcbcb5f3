"""Pairwise pads: noise that two members add with opposite signs, so that it is gone from the sum and nowhere else.

Each pair (i, j) derives a root key from its static X25519 keys. For a round it derives a seed from the root and the digest of the
announcement by HKDF-SHA256, and from the seed the pad by ChaCha20; the member with the smaller name adds it, the other subtracts it,
modulo 2^w. What a member reveals when its neighbour is missing is the seed of that one round, from which neither the root nor another
round's pad follows (Bonawitz et al., CCS 2017, section 4, whose self-mask is played here by the operator's Paillier key).

Which pairs pad is a public random graph: an edge where H(beacon, i, j) < q, with an expected degree of 48. A sum over a part of the
roster decrypts to noise as long as the part is joined to the rest by an edge between honest members.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from protocols.aggregation.packing import Layout, Slots, Values

EXPECTED_DEGREE: Final = 48
SEED_BYTES: Final = 32
_NONCE: Final = bytes(16)
"""A seed is used for one pad, so its keystream needs no nonce of its own."""


class PadKeys:
    """One member's pad secret and the root keys it shares with its peers; shows nothing of them."""

    def __init__(self, member: str, private_key: X25519PrivateKey) -> None:
        self.member = member
        self._private_key = private_key
        self._roots: dict[str, tuple[bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"PadKeys({self.member})"

    def __reduce__(self) -> str:
        raise TypeError("pad keys are secret and are not serialised")

    @property
    def public_bytes(self) -> bytes:
        """What the join card says."""
        return self._private_key.public_key().public_bytes_raw()

    def seed(self, peer: str, peer_public: bytes, context: bytes) -> bytes:
        """The pad seed of this pair for one announced round (`context`: its digest). Both sides compute the same."""
        root = self._root(peer, peer_public)
        return HKDFExpand(hashes.SHA256(), SEED_BYTES, b"commonwatt/1 pad seed\0" + context).derive(root)

    def _root(self, peer: str, peer_public: bytes) -> bytes:
        known = self._roots.get(peer)
        if known is not None and known[0] == peer_public:
            return known[1]
        shared = self._private_key.exchange(X25519PublicKey.from_public_bytes(peer_public))
        low, high = sorted((self.member, peer))
        info = b"commonwatt/1 pad root\0" + low.encode() + b"\0" + high.encode()
        root = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(shared)
        self._roots[peer] = (peer_public, root)
        return root


def pad(layout: Layout, seed: bytes) -> Slots:
    """The pad that belongs to a seed: one number below 2^w for each slot."""
    return np.frombuffer(_keystream(layout, seed), dtype="<u4") & np.uint32(layout.mask)


def add_pads(layout: Layout, slots: Slots, member: str, seeds: Iterable[tuple[str, bytes]]) -> Slots:
    """The member's slots with the pads towards each (peer, seed) added or, for the larger name of the pair, subtracted."""
    return ((slots + pads_total(layout, ((sign(member, peer), seed) for peer, seed in seeds))) & layout.mask).astype(np.uint32)


def pads_total(layout: Layout, signed_seeds: Iterable[tuple[int, bytes]]) -> Values:
    """The sum of the pads of these seeds with their signs, in one pass. Not reduced: fewer than 2^31 pads cannot overflow it."""
    pairs = list(signed_seeds)
    keystreams = b"".join(_keystream(layout, seed) for _, seed in pairs)
    pads = np.frombuffer(keystreams, dtype="<u4").reshape(len(pairs), layout.slots) & np.uint32(layout.mask)
    plus = np.array([factor > 0 for factor, _ in pairs], dtype=bool)
    total: Values = pads[plus].sum(axis=0, dtype=np.int64) - pads[~plus].sum(axis=0, dtype=np.int64)
    return total


def _keystream(layout: Layout, seed: bytes) -> bytes:
    return Cipher(ChaCha20(seed, _NONCE), mode=None).encryptor().update(bytes(4 * layout.slots))


def sign(member: str, peer: str) -> int:
    """+1 for the smaller name of a pair, -1 for the larger."""
    return 1 if member < peer else -1


class PadGraph:
    """Who pads with whom in one round; everybody computes the same from roster and beacon."""

    def __init__(self, roster: tuple[str, ...], beacon: bytes, *, degree: int = EXPECTED_DEGREE) -> None:
        self.roster = roster
        self._digests = {member: hashlib.sha256(member.encode()).digest() for member in roster}
        self._beacon = beacon
        others = max(len(roster) - 1, 1)
        self._threshold = min(1 << 32, (degree << 32) // others)
        self._complete = degree >= others

    def neighbours(self, member: str) -> list[str]:
        """The peers with whom the member shares a pad, in the order of the roster."""
        if self._complete:
            return [peer for peer in self.roster if peer != member]
        return [peer for peer in self.roster if peer != member and self.joined(member, peer)]

    def joined(self, a: str, b: str) -> bool:
        """Whether two members share a pad: H(beacon, smaller, larger) < q."""
        if self._complete:
            return a != b
        low, high = (a, b) if a < b else (b, a)
        digest = hashlib.blake2b(self._digests[low] + self._digests[high], key=self._beacon[:64], digest_size=4).digest()
        return int.from_bytes(digest, "big") < self._threshold
