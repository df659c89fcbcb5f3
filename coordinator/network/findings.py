"""What is wrong with a network, as data: an empty list means that nothing is (the convention of power-grid-model's validation)."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that is wrong: `where` names the element, or file, line and column; `code` is stable for machines."""

    where: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"
