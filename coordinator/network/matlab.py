"""Just enough MATLAB to read a MATPOWER case: tables, scalars, constant arithmetic, and every other statement kept as text.

A case file is a program. Nothing is executed: numbers may be written as arithmetic of constants (`50/3`, `12/sqrt(3)`), and statements that
are not understood are returned with their line number, so that the caller can refuse them instead of ignoring a unit conversion.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from coordinator.errors import NetworkError
from coordinator.network.findings import Finding

MAX_FILE_BYTES = 64 * 1024 * 1024
_OPEN_TABLE = re.compile(r"^mpc\.(\w+)\s*=\s*([\[{])")
_SCALAR = re.compile(r"^mpc\.(\w+)\s*=\s*([^\[{].*)$")
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


class TableRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of numbers and the line of the file that it stands on."""

    line: int
    values: tuple[float, ...]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that is neither a table nor a scalar, without white space."""

    line: int
    text: str


class CaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of a case file, uninterpreted."""

    tables: dict[str, tuple[TableRow, ...]]
    scalars: dict[str, str]
    statements: tuple[Statement, ...]
    findings: tuple[Finding, ...]


def constant(text: str) -> float:
    """Return the value of constant arithmetic with + - * / ^ sqrt() and parentheses; raises ValueError for anything else."""
    try:
        return _evaluate(ast.parse(text.strip().replace("^", "**"), mode="eval").body)
    except (SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"not a constant: {text[:40]!r}") from error


def _evaluate(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id="Inf" | "inf"):
            return math.inf
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left), _evaluate(right))
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
            return math.sqrt(_evaluate(argument))
    raise ValueError("not a constant")


def read_case(path: Path) -> CaseFile:
    """Split a case file into tables, scalars and other statements."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise NetworkError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8", errors="strict")
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return _Splitter(path.name).split(text)


class _Splitter:
    def __init__(self, name: str) -> None:
        self._name = name
        self._tables: dict[str, list[TableRow]] = {}
        self._scalars: dict[str, str] = {}
        self._statements: list[Statement] = []
        self._findings: list[Finding] = []
        self._table: str | None = None
        self._closing = "]"

    def split(self, text: str) -> CaseFile:
        pending, first = "", 0
        for number, raw in enumerate(text.splitlines(), start=1):
            line = _without_comment(raw)
            if line.endswith("..."):
                first = first if pending else number
                pending += line[:-3]
                continue
            self._take(pending + line, first if pending else number)
            pending, first = "", 0
        if self._table is not None:
            self._bad(len(text.splitlines()), "unterminated-table", f"table mpc.{self._table} has no closing bracket")
        return CaseFile(
            tables={name: tuple(rows) for name, rows in self._tables.items()},
            scalars=self._scalars,
            statements=tuple(self._statements),
            findings=tuple(self._findings),
        )

    def _take(self, line: str, number: int) -> None:
        if self._table is None:
            opened = _OPEN_TABLE.match(line)
            if opened is None:
                self._statement(line, number)
                return
            self._table, bracket = opened.group(1), opened.group(2)
            self._closing = "]" if bracket == "[" else "}"
            self._tables.setdefault(self._table, [])
            line = line[opened.end() :]
        body, closed, _ = line.partition(self._closing)
        if self._closing == "]":
            for cells in body.split(";"):
                self._row(cells, number)
        if closed:
            self._table = None

    def _row(self, cells: str, number: int) -> None:
        if not cells.strip():
            return
        values = []
        for column, token in enumerate(cells.replace(",", " ").split(), start=1):
            try:
                values.append(constant(token))
            except ValueError:
                self._bad(number, "not-a-number", f"table mpc.{self._table} column {column}: expected a number, got {token[:40]!r}")
                return
        assert self._table is not None
        self._tables[self._table].append(TableRow(line=number, values=tuple(values)))

    def _statement(self, line: str, number: int) -> None:
        for part in line.split(";"):
            text = part.strip()
            scalar = _SCALAR.match(text)
            if scalar is not None:
                self._scalars[scalar.group(1)] = scalar.group(2).strip().strip("'\"")
            elif text:
                self._statements.append(Statement(line=number, text="".join(text.split())))

    def _bad(self, number: int, code: str, message: str) -> None:
        self._findings.append(Finding(where=f"{self._name} line {number}", code=code, message=message))


def _without_comment(line: str) -> str:
    quoted = False
    for position, character in enumerate(line):
        if character == "'":
            quoted = not quoted
        elif character == "%" and not quoted:
            return line[:position].strip()
    return line.strip()
