"""Small files that must survive a power cut whole. A shell: it touches the disk.

A file is written beside its old version, brought to the disk, and then takes the old one's place in one step; then the directory is
brought to the disk too. A checksum stands in front, so that a damaged file is known to be one. Only their owner may read them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from edge.errors import StoreError

_CHECKSUM_BYTES = 32
MAX_BYTES = 4 * 1024 * 1024


def write_whole(path: Path, body: bytes, *, durable: bool = True) -> None:
    """Replace the content of the file. Raises `StoreError` where that is not safely on the disk."""
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error


def read_whole(path: Path) -> bytes | None:
    """The content, None where there is no file. Raises `StoreError` for a damaged or unreadable one."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StoreError(f"{path}: larger than {MAX_BYTES} bytes")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    body = data[_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != data[:_CHECKSUM_BYTES]:
        raise StoreError(f"{path}: its checksum is wrong")
    return body


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
