"""The two X25519 secrets of a member: for pads, and for what is sealed to it while it leads. A shell: it touches the disk.

Whoever loses the file joins again with new keys in a later epoch. Nothing here shows or serialises a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import StoreError
from edge.leadership.files import read_whole, write_whole
from protocols.aggregation.pads import PadKeys

_KEY_BYTES = 32


class MemberSecrets:
    """Pad keys and envelope key of one member."""

    def __init__(self, member: str, pad_key: X25519PrivateKey, envelope_key: X25519PrivateKey) -> None:
        self.pads = PadKeys(member, pad_key)
        self.envelope_key = envelope_key

    def __repr__(self) -> str:
        return f"MemberSecrets({self.pads.member})"

    def __reduce__(self) -> str:
        raise TypeError("a member's secrets are not serialised")

    @property
    def pad_public(self) -> str:
        """What the join card says, in hexadecimal."""
        return self.pads.public_bytes.hex()

    @property
    def envelope_public(self) -> str:
        """What the join card says, in hexadecimal."""
        return self.envelope_key.public_key().public_bytes_raw().hex()


def load_or_make_secrets(path: Path, member: str, entropy: Callable[[int], bytes]) -> MemberSecrets:
    """The secrets in the file; new ones, written there first, where there is none. Raises `StoreError` for a damaged file."""
    body = read_whole(path)
    if body is None:
        body = entropy(2 * _KEY_BYTES)
        write_whole(path, body)
    if len(body) != 2 * _KEY_BYTES:
        raise StoreError(f"{path}: {len(body)} bytes, {2 * _KEY_BYTES} are expected")
    halves = body[:_KEY_BYTES], body[_KEY_BYTES:]
    pad_key, envelope_key = (X25519PrivateKey.from_private_bytes(half) for half in halves)
    return MemberSecrets(member, pad_key, envelope_key)
