"""Ed25519 keys: made, kept in files that only their owner reads, and named by a fingerprint. A shell: it touches the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.errors import ProtocolError
from protocols.files import give_to_owner_of, write_public


class KeyFileError(ProtocolError):
    """A key file is absent, readable by others, or not an Ed25519 key. The message names the file, never its content."""


def key_id(public_key: Ed25519PublicKey) -> str:
    """16 hexadecimal digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:16]


def save_private_key(key: Ed25519PrivateKey, path: Path) -> None:
    """Write the key as PKCS #8 PEM with mode 0600. An existing file is never overwritten (`KeyFileError`)."""
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot create the key file: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        give_to_owner_of(path.parent, descriptor)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a key that `save_private_key` wrote; refuses one that group or others may read."""
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"{path}: a private key must not be accessible to group or others (chmod 600)")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: expected an Ed25519 key, got another algorithm")
    return key


def save_public_key(key: Ed25519PublicKey, path: Path) -> None:
    """Write the public key as SubjectPublicKeyInfo PEM."""
    write_public(path, key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a PEM public key."""
    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: not a PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: expected an Ed25519 key, got another algorithm")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
