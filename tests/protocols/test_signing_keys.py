"""Key files: private to their owner, never overwritten, refused by name when they are something else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.keys import KeyFileError, key_id, load_private_key, load_public_key, save_private_key, save_public_key


def test_a_key_survives_the_disk_and_is_private(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    save_private_key(key, tmp_path / "node.key")
    save_public_key(key.public_key(), tmp_path / "node.pub")
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600
    loaded = load_private_key(tmp_path / "node.key")
    assert key_id(loaded.public_key()) == key_id(load_public_key(tmp_path / "node.pub"))


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    save_private_key(Ed25519PrivateKey.generate(), tmp_path / "node.key")
    with pytest.raises(KeyFileError):
        save_private_key(Ed25519PrivateKey.generate(), tmp_path / "node.key")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    save_private_key(Ed25519PrivateKey.generate(), tmp_path / "node.key")
    (tmp_path / "node.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_private_key(tmp_path / "node.key")


def test_another_algorithm_is_refused(tmp_path: Path) -> None:
    data = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "other.key"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match="Ed25519"):
        load_private_key(path)


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_garbage_is_refused_by_file_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"bad\.key"):
        load_private_key(path)
    with pytest.raises(KeyFileError, match=r"bad\.key"):
        load_public_key(path)
