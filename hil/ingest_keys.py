"""Names and keys of the edges of an ingest measurement, the same in every process that takes part in it."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

COMMUNITY = "load"


def name_of(index: int) -> str:
    """The node's name; the coordinator is -1."""
    return "coordinator" if index < 0 else f"edge_{index:05d}"


def key_of(index: int) -> Ed25519PrivateKey:
    """Its key; nothing outside a bench should derive one from a name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"commonwatt ingest {name_of(index)}".encode()).digest())
