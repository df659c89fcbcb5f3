"""When the certificates in use end. A shell: it reads files, seldom."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography import x509

log = logging.getLogger(__name__)

READ_S: Final = 600.0


class Expiries:
    """Expiry of each certificate file by name, in Unix seconds; read again every `READ_S`, because certificates are renewed under a
    running program. A file that cannot be read is left out and reported once."""

    def __init__(self, files: Mapping[str, Path], monotonic_s: Callable[[], float]) -> None:
        self._files = files
        self._monotonic_s = monotonic_s
        self._due_s = float("-inf")
        self._found: dict[str, float] = {}
        self._reported: set[str] = set()

    def read(self) -> dict[str, float]:
        """What is known now."""
        now_s = self._monotonic_s()
        if now_s >= self._due_s:
            self._due_s = now_s + READ_S
            self._found = {name: expires_s for name, path in self._files.items() if (expires_s := self._one(name, path)) is not None}
        return self._found

    def _one(self, name: str, path: Path) -> float | None:
        try:
            expires_s = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
        except (OSError, ValueError) as error:
            if name not in self._reported:
                self._reported.add(name)
                log.warning("%s: its expiry cannot be read: %s", path, error)
            return None
        self._reported.discard(name)
        return expires_s
