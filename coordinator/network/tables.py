"""Reading CSV tables so that every mistake becomes a finding that names file, line and column.

A loader asks for what it needs, gets a placeholder where a cell is bad, and goes on; `TableFolder.raise_if_bad` then reports everything at
once. Line numbers are those of a text editor: the header is line 1.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from coordinator.errors import NetworkError
from coordinator.network.findings import Finding
from coordinator.network.model import THREE_PHASES

MAX_TABLE_BYTES = 64 * 1024 * 1024


class Row:
    """One line of a table, read cell by cell; a bad cell is recorded and yields a placeholder."""

    def __init__(self, table: str, line: int, cells: dict[str, str], findings: list[Finding]) -> None:
        self.where = f"{table} line {line}"
        self._cells = cells
        self._findings = findings

    def text(self, column: str) -> str:
        """Return a cell that must not be empty."""
        value = self._cells.get(column, "").strip()
        if not value:
            self._bad(column, "missing-value", "is empty, expected a name")
        return value

    def number(self, column: str, default: float | None = None) -> float:
        """Return a finite number; an empty cell is `default` where one is given."""
        value = self._cells.get(column, "").strip()
        if not value and default is not None:
            return default
        try:
            number = float(value)
        except ValueError:
            self._bad(column, "not-a-number", f"expected a number, got {value[:40]!r}")
            return 1.0
        if not math.isfinite(number):
            self._bad(column, "not-finite", f"expected a finite number, got {value[:40]!r}")
            return 1.0
        return number

    def optional_number(self, column: str) -> float | None:
        """Return a number, or None for an empty cell."""
        return self.number(column) if self._cells.get(column, "").strip() else None

    def flag(self, column: str, *, default: bool = False) -> bool:
        """Return a 0/1 cell as a bool."""
        value = self._cells.get(column, "").strip()
        if value not in ("", "0", "1"):
            self._bad(column, "not-a-flag", f"expected 0 or 1, got {value[:40]!r}")
        return value == "1" if value else default

    def phases(self, column: str) -> tuple[int, ...]:
        """Return phases written as 1.2.3 (a trailing .0 for a grounded neutral is dropped) or as letters ABC."""
        value = self._cells.get(column, "").strip().upper()
        parts = value.split(".") if "." in value or value.isdigit() else list(value)
        names = {"1": 1, "2": 2, "3": 3, "A": 1, "B": 2, "C": 3}
        phases = tuple(names.get(part, -1) for part in parts if part != "0")
        if not phases or -1 in phases or len(set(phases)) != len(phases):
            self._bad(column, "bad-phases", f"expected phases like 1.2.3, got {value[:40]!r}")
            return THREE_PHASES
        return phases

    def refuse(self, column: str, code: str, message: str) -> None:
        """Record that a readable cell holds something this loader cannot use."""
        self._bad(column, code, message)

    def _bad(self, column: str, code: str, message: str) -> None:
        self._findings.append(Finding(where=f"{self.where} column {column}", code=code, message=message))


class TableFolder:
    """A folder of CSV tables and what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[Finding] = []

    def has(self, name: str) -> bool:
        """Whether the folder has this table."""
        return (self.folder / name).is_file()

    def rows(self, name: str, columns: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of a table that must have these columns; missing file or column is a finding."""
        path = self.folder / name
        try:
            if path.stat().st_size > MAX_TABLE_BYTES:
                self._bad(name, "too-large", f"is larger than {MAX_TABLE_BYTES} bytes")
                return
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            self._bad(name, "missing-file", f"no such file in {self.folder}")
            return
        except (OSError, UnicodeDecodeError) as error:
            self._bad(name, "unreadable-file", f"cannot be read as UTF-8 text ({error})")
            return
        yield from self._parse(name, text, tuple(columns))

    def raise_if_bad(self, what: str) -> None:
        """Raise one NetworkError with every finding so far."""
        if self.findings:
            raise NetworkError(what, self.findings)

    def _parse(self, name: str, text: str, columns: tuple[str, ...]) -> Iterator[Row]:
        if "\0" in text:
            self._bad(name, "not-csv", "holds NUL bytes, expected CSV text")
            return
        reader = csv.reader(text.splitlines())
        header = [cell.strip() for cell in next(reader, [])]
        missing = [column for column in columns if column not in header]
        if missing:
            self._bad(
                f"{name} line 1",
                "missing-column",
                f"expected column {', '.join(missing)}, got {', '.join(header)[:120] or 'an empty line'}",
            )
            return
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    self._bad(
                        f"{name} line {reader.line_num}",
                        "wrong-cell-count",
                        f"expected {len(header)} cells, got {len(cells)}",
                    )
                    continue
                yield Row(name, reader.line_num, dict(zip(header, cells, strict=True)), self.findings)
        except csv.Error as error:
            self._bad(f"{name} line {reader.line_num}", "not-csv", str(error))

    def _bad(self, where: str, code: str, message: str) -> None:
        self.findings.append(Finding(where=where, code=code, message=message))
