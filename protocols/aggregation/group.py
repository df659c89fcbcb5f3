"""What all roles of a round agree on beforehand: the members' cards, the layout, and the smallest group that is summed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec import Struct

from protocols.aggregation.packing import Layout, chunk_slots
from protocols.aggregation.paillier import PublicKey
from protocols.errors import ProtocolError

MEMBERS_MIN: Final = 10
"""A sum over fewer households says too much about each."""


class RoundRefused(ProtocolError):
    """A step of a round is refused; the message says which rule forbids it. The round goes on for the others."""


class MemberCard(Struct, frozen=True):
    """One member's public keys, as its co-signed join card gives them."""

    name: str
    signing_key: Ed25519PublicKey
    pad_key: bytes
    envelope_key: bytes


def check_card(card: MemberCard) -> None:
    """Raise `RoundRefused` for a card whose X25519 keys are not usable: one such card would stop everybody who pads with its owner."""
    for what, key in (("pad", card.pad_key), ("envelope", card.envelope_key)):
        if not _of_full_order(key):
            raise RoundRefused(f"{what} key of {card.name!r} is not an X25519 key of full order")


class Group(Struct, frozen=True):
    """The registered members and the operator's key of one epoch."""

    cards: Mapping[str, MemberCard]
    key: PublicKey
    layout: Layout
    members_min: int = MEMBERS_MIN

    @property
    def chunk(self) -> int:
        """Slots of one ciphertext."""
        return chunk_slots(self.key.n.bit_length())

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts of one report."""
        return -(-self.layout.slots // self.chunk)

    def card(self, name: str) -> MemberCard:
        """The card of a registered member; raises `RoundRefused` for another name."""
        card = self.cards.get(name)
        if card is None:
            raise RoundRefused(f"{name!r} is not a registered member")
        return card


@lru_cache(maxsize=4096)
def _of_full_order(key: bytes) -> bool:
    """Whether an exchange with this key gives a shared secret at all (RFC 7748, section 6.1: all zeros otherwise)."""
    try:
        X25519PrivateKey.from_private_bytes(b"\x01" * 32).exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True
