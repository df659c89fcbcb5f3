"""What this member could show about its leaders and its operator, on the disk before anybody can deny it. A shell: it touches the disk.

One file for each day; each entry is its length, a checksum and MessagePack. A receipt is on the disk when `add` returns, and with it all
that was added before. A power cut leaves a torn last entry, which the next start cuts off; an entry that was damaged later ends the
reading of its file. Files older than the openings of the same rounds are removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.errors import StoreError
from protocols.aggregation.evidence import Exhibit, Notice, SignedReceipt

log = logging.getLogger(__name__)

DAY_S = 86400.0
DAY_BYTES = 16 * 1024 * 1024
"""Above what an honest community says in a day; a leader that floods its members must not fill their disks."""
_LENGTH_BYTES = 4
_CHECKSUM_BYTES = 8


class EvidenceLog:
    """Keeps exhibits for `keep_s`. Without `durable` nothing waits for the disk."""

    def __init__(self, folder: Path, *, keep_s: float, durable: bool = True) -> None:
        self._folder = folder
        self._keep_s = keep_s
        self._durable = durable
        self._mended: set[Path] = set()

    def add(self, exhibit: Exhibit) -> None:
        """Append it; raises `StoreError` where the disk does not take it."""
        path = self._path(exhibit.heard_s)
        body = msgspec.msgpack.encode(exhibit)
        framed = len(body).to_bytes(_LENGTH_BYTES, "big") + hashlib.sha256(body).digest()[:_CHECKSUM_BYTES] + body
        try:
            if path not in self._mended:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._mend(path)
                self._prune(exhibit.heard_s)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                if file.tell() + len(framed) > DAY_BYTES:
                    raise StoreError(f"{path}: the evidence of one day has {DAY_BYTES} bytes; no more is kept")
                file.write(framed)
                file.flush()
                if self._durable and not isinstance(exhibit, Notice):
                    os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error

    def exhibits(self) -> Iterator[Exhibit]:
        """Everything that is kept, the oldest first."""
        for path in sorted(self._folder.glob("*.evidence")):
            yield from (exhibit for exhibit, _ in _read(path.read_bytes()))

    def receipt(self, round_name: str) -> SignedReceipt | None:
        """The receipt for this member's report in a round."""
        for exhibit in self.exhibits():
            if isinstance(exhibit, SignedReceipt) and exhibit.receipt.round_name == round_name and exhibit.receipt.step == 0:
                return exhibit
        return None

    def _path(self, now_s: float) -> Path:
        return self._folder / f"{int(now_s // DAY_S):06d}.evidence"

    def _mend(self, path: Path) -> None:
        """Cut a torn last entry off, so that what is appended can be read."""
        self._mended = {path}
        if path.exists():
            data = path.read_bytes()
            whole = max((end for _, end in _read(data)), default=0)
            if whole < len(data):
                log.warning("%s: %d bytes of a torn entry are cut off", path, len(data) - whole)
                os.truncate(path, whole)

    def _prune(self, now_s: float) -> None:
        oldest = self._path(now_s - self._keep_s - DAY_S).name
        for path in self._folder.glob("*.evidence"):
            if path.name < oldest:
                path.unlink(missing_ok=True)


def _read(data: bytes) -> Iterator[tuple[Exhibit, int]]:
    """Entries and where each ends, up to the first that is torn or damaged."""
    start = 0
    while start + _LENGTH_BYTES + _CHECKSUM_BYTES <= len(data):
        size = int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
        checksum = data[start + _LENGTH_BYTES : start + _LENGTH_BYTES + _CHECKSUM_BYTES]
        start += _LENGTH_BYTES + _CHECKSUM_BYTES
        body = data[start : start + size]
        start += size
        if len(body) != size or hashlib.sha256(body).digest()[:_CHECKSUM_BYTES] != checksum:
            return
        try:
            exhibit: Exhibit = msgspec.msgpack.decode(body, type=Exhibit)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        yield exhibit, start
