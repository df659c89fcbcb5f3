"""Files that matter, written whole or not at all, and secrets that only their owner reads. A shell: it touches the disk.

A file is made beside its final name, brought to the disk and renamed, so that a power cut leaves the old one or the new one. A secret
has mode 0600 from its first byte on; one that group or others may touch is refused when it is read, as ssh does.

Run as root, a file that is replaced stays with its owner, and a new one belongs to the owner of its folder: the broker must read its own,
and a service what an administrator put into its folder.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final

from protocols.errors import ProtocolError

MAX_FILE_BYTES: Final = 256 * 1024
STANDARD_STREAM: Final = Path("-")


class FileRefused(ProtocolError):
    """A file cannot be read or written, is too large, or others have access to a secret in it. The message never shows content."""


def write_private(path: Path, data: bytes) -> None:
    """Write a secret with mode 0600, in one step."""
    _write(path, data, 0o600)


def write_public(path: Path, data: bytes) -> None:
    """Write a file that everybody may read, in one step."""
    _write(path, data, 0o644)


def read_private(path: Path, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a secret; refuses one that group or others have access to."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise FileRefused(f"{path}: a secret must not be accessible to group or others (chmod 600)")
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise FileRefused(f"{path}: {error.strerror or error}") from error
    return _bounded(data, str(path), limit_bytes)


def read_any(path: Path, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a file that is not secret; `-` is standard input."""
    if path == STANDARD_STREAM:
        return _bounded(sys.stdin.buffer.read(limit_bytes + 1), "standard input", limit_bytes)
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileRefused(f"{path}: not a regular file")
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise FileRefused(f"{path}: {error.strerror or error}") from error
    return _bounded(data, str(path), limit_bytes)


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner enters; one that is there already keeps its mode. Its owner is that of the folder above."""
    try:
        if path.is_dir():
            return
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_folder_to_owner_above(path)
    except OSError as error:
        raise FileRefused(f"{path}: cannot make the folder: {error.strerror or error}") from error


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                give_to_owner_of(path if path.exists() else path.parent, file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise FileRefused(f"{path}: cannot be written: {error.strerror or error}") from error


def give_folder_to_owner_above(path: Path) -> None:
    """Run as root, make the owner of the folder above the owner of a new folder, for which everything in it is written then."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        give_to_owner_of(path.parent, descriptor)
    finally:
        os.close(descriptor)


def give_to_owner_of(like: Path, descriptor: int) -> None:
    """Run as root, make the owner of `like` the owner of an open file as well."""
    if os.geteuid() == 0:
        found = like.stat()
        os.fchown(descriptor, found.st_uid, found.st_gid)


def _bounded(data: bytes, where: str, limit_bytes: int) -> bytes:
    if len(data) > limit_bytes:
        raise FileRefused(f"{where}: longer than {limit_bytes} bytes")
    return data
