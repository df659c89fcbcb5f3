"""A community for tests: real keys (short ones, for speed), all three roles, and a round that loses members where it is told to."""

from __future__ import annotations

import random
from collections.abc import Collection
from functools import cache

import gmpy2
import phe
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.aggregation.group import Group, MemberCard
from protocols.aggregation.leader import LeaderRound, Phase
from protocols.aggregation.member import Member, Randomiser
from protocols.aggregation.messages import Announce, Drops
from protocols.aggregation.operator import OperatorBook
from protocols.aggregation.packing import Layout
from protocols.aggregation.pads import PadKeys
from protocols.aggregation.paillier import Encryptor, PublicKey, exponent_from_seed, public_key

BITS = 1024


@cache
def operator_keys(seed: int = 1) -> tuple[PublicKey, phe.PaillierPrivateKey]:
    rng = random.Random(seed)

    def prime() -> int:
        while True:
            candidate = rng.getrandbits(BITS // 2) | (3 << (BITS // 2 - 2)) | 3
            if gmpy2.is_prime(candidate, 25):
                return candidate

    while True:
        p, q = prime(), prime()
        if p != q and gmpy2.gcd(p - 1, q - 1) == 2:
            key = public_key(p * q, rng.randrange(2, p * q), min_bits=BITS - 1)
            return key, phe.PaillierPrivateKey(phe.PaillierPublicKey(p * q), p, q)


@cache
def encryptor(seed: int = 1) -> Encryptor:
    return Encryptor(operator_keys(seed)[0], teeth=6, tables=2)


class Community:
    """Members, a leader and an operator with keys from a seed."""

    def __init__(self, size: int, *, values: int = 7, members_min: int = 3, seed: int = 7, members_max: int = 12) -> None:
        self.rng = random.Random(seed)
        self.names = [f"h{i:03d}" for i in range(size)]
        self.signing = {name: Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32)) for name in self.names}
        self.pads = {name: PadKeys(name, X25519PrivateKey.from_private_bytes(self.rng.randbytes(32))) for name in self.names}
        self.envelopes = {name: X25519PrivateKey.from_private_bytes(self.rng.randbytes(32)) for name in self.names}
        self.key, self.private_key = operator_keys()
        cards = {
            name: MemberCard(
                name,
                self.signing[name].public_key(),
                self.pads[name].public_bytes,
                self.envelopes[name].public_key().public_bytes_raw(),
            )
            for name in self.names
        }
        layout = Layout(values=values, members_max=members_max)
        self.group = Group(cards, self.key, layout, members_min)
        self.members = {
            name: Member(name, self.group, self.signing[name], self.pads[name], encryptor()) for name in self.names
        }
        self.book = OperatorBook(self.key, layout, self.private_key.raw_decrypt, members_min=members_min)

    def announce(self, number: int = 1, *, term: int = 1, leader: str = "h000") -> Announce:
        return Announce(
            round_name=f"{term}:{number}",
            leader=leader,
            key_id=self.key.key_id,
            roster=tuple(self.names),
            beacon=self.rng.randbytes(32).hex(),
            closes_s=0.0,
        )

    def leader_round(self, announce: Announce) -> LeaderRound:
        return LeaderRound(self.group, announce, self.envelopes[announce.leader], encryptor())

    def randomisers(self) -> list[Randomiser]:
        made = []
        for _ in range(self.group.ciphertexts):
            seed = self.rng.randbytes(32)
            made.append(Randomiser(seed, encryptor().randomiser(exponent_from_seed(self.key, seed))))
        return made

    def exponents(self) -> list[int]:
        return [self.rng.getrandbits(self.key.exponent_bits) for _ in range(self.group.ciphertexts)]

    def values(self) -> list[int]:
        limit = self.group.layout.value_max
        return [self.rng.choice([-limit, limit, 0, self.rng.randint(-limit, limit)]) for _ in range(self.group.layout.values)]

    def recover(self, round_: LeaderRound, drops: Drops | None, mute: Collection[str] = ()) -> None:
        """Let the survivors answer drop lists until the round is done; `mute` members never do."""
        while drops is not None:
            for name in round_.survivors:
                if name not in mute:
                    sealed = self.members[name].reveal(drops)
                    if sealed is not None:
                        round_.receive_reveal(sealed)
            drops = round_.advance()
        assert round_.phase is Phase.DONE
