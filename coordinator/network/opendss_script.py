"""Reading an OpenDSS script without trusting it: which commands may reach the engine.

A .dss file is a program that can read and write files, change directory and run solutions in loops. Only commands that describe a circuit
pass, checked by name; included files must lie in the script's own folder; load shapes become constants (a snapshot does not use them), so
that no command with a file name is left. Everything else is a finding that names file and line.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from coordinator.errors import NetworkError
from coordinator.network.findings import Finding

MAX_SCRIPT_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 8

CIRCUIT_CLASSES = frozenset({
    "circuit", "vsource", "line", "linecode", "linegeometry", "linespacing", "wiredata", "cndata", "tsdata",
    "transformer", "xfmrcode", "load", "capacitor", "generator",
})  # fmt: skip
IGNORED_CLASSES = frozenset({"monitor", "energymeter", "tcc_curve", "fuse", "relay", "recloser", "growthshape", "spectrum"})
SHAPE_CLASSES = frozenset({"loadshape", "tshape", "priceshape", "xycurve"})
SETTINGS = frozenset({
    "voltagebases", "mode", "tolerance", "maxiterations", "maxiter", "controlmode", "number", "stepsize", "year", "hour", "loadmult",
    "algorithm", "maxcontroliter", "emergvminpu", "normvminpu", "normvmaxpu", "trapezoidal",
})  # fmt: skip
IGNORED_VERBS = frozenset({
    "solve", "calcvoltagebases", "calcv", "buscoords", "setbusxy", "latlongcoords", "show", "plot", "export", "summary", "clear",
    "clearall", "closedi", "sample", "interpolate",
})  # fmt: skip
SWITCHING = re.compile(r"^(open|close)\s+(object\s*=\s*)?line\.\S+(\s+(term\s*=\s*)?[12])?$", re.IGNORECASE)
FILE_REFERENCE = re.compile(r"\b(file|csvfile|sngfile|dblfile|pqcsvfile|dll|editor|datapath)\s*=", re.IGNORECASE)
OBJECT = re.compile(r'^new\s+(?:object\s*=\s*)?["\'(\[{]?\s*([a-z_]+)\.', re.IGNORECASE)


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """Commands that may be run, in order, after the frequency has been set."""

    frequency_hz: float
    has_voltage_bases: bool
    commands: tuple[str, ...]


def read_script(path: Path) -> Script:
    """Return the harmless commands of a script and its includes. Raises NetworkError with every command that is refused."""
    reader = _Reader(path.resolve().parent)
    reader.include(path.resolve(), 0)
    if reader.findings:
        raise NetworkError(f"{path} cannot be read", reader.findings)
    return Script(frequency_hz=reader.frequency_hz, has_voltage_bases=reader.has_voltage_bases, commands=tuple(reader.commands))


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.frequency_hz = 60.0
        self.commands: list[str] = []
        self.findings: list[Finding] = []
        self.has_voltage_bases = False
        self._folder = folder
        self._skipping = False

    def include(self, path: Path, depth: int) -> None:
        """Take every command of a file; includes inside it are relative to it."""
        try:
            if path.stat().st_size > MAX_SCRIPT_BYTES:
                raise NetworkError(f"{path}: is larger than {MAX_SCRIPT_BYTES} bytes")
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise NetworkError(f"{path}: cannot be read ({error.strerror})") from error
        in_comment = False
        for number, raw in enumerate(text.splitlines(), start=1):
            line = raw.strip()
            if line.startswith("/*"):
                in_comment = True
            if not in_comment:
                self._command(re.split(r"!|//", line, maxsplit=1)[0].strip(), path, number, depth)
            if line.endswith("*/"):
                in_comment = False

    def _command(self, line: str, path: Path, number: int, depth: int) -> None:
        if not line:
            return
        where = f"{path.name} line {number}"
        verb = "~" if line.startswith("~") else line.split(None, 1)[0].lower()
        if verb in ("~", "more", "m"):
            self._continue(line, where)
            return
        self._skipping = False
        if verb == "new":
            self._new(line, where)
        elif verb == "set":
            self._set(line, where)
        elif verb in ("redirect", "compile"):
            self._redirect(line, path, where, depth)
        elif SWITCHING.match(line):
            self.commands.append(line)
        elif verb in IGNORED_VERBS:
            self._skipping = True
        else:
            self._refuse(where, f"command {verb[:40]!r} is not one that describes a circuit")

    def _continue(self, line: str, where: str) -> None:
        if self._skipping:
            return
        if FILE_REFERENCE.search(line):
            self._refuse(where, "reads a file")
        else:
            self.commands.append(line)

    def _new(self, line: str, where: str) -> None:
        found = OBJECT.match(line)
        kind = found.group(1).lower() if found else ""
        if kind in IGNORED_CLASSES:
            self._skipping = True
        elif kind in SHAPE_CLASSES:
            self._skipping = True
            if kind == "loadshape":
                self.commands.append(f"{line.split()[0]} {line.split()[1]} npts=1 interval=1 mult=(1)")
        elif kind not in CIRCUIT_CLASSES:
            self._skipping = True
            self._refuse(where, f"element class {kind or line[:40]!r} is not supported; supported are {', '.join(sorted(CIRCUIT_CLASSES))}")
        elif FILE_REFERENCE.search(line):
            self._refuse(where, "reads a file")
        else:
            self.commands.append(line)

    def _set(self, line: str, where: str) -> None:
        name, _, value = line[3:].partition("=")
        option = name.strip().lower()
        if option in ("defaultbasefrequency", "defaultbasefreq"):
            try:
                self.frequency_hz = float(value.strip().strip("\"'"))
            except ValueError:
                self._refuse(where, f"frequency {value.strip()[:40]!r} is not a number")
        elif option not in SETTINGS or FILE_REFERENCE.search(line):
            self._refuse(where, f"option {option[:40]!r} is not one that describes a circuit")
        elif option in ("loadmult", "voltagebases"):
            self.commands.append(line)
            self.has_voltage_bases = self.has_voltage_bases or option == "voltagebases"

    def _redirect(self, line: str, path: Path, where: str, depth: int) -> None:
        name = re.sub(r"^file\s*=\s*", "", line.split(None, 1)[1].strip() if " " in line else "", flags=re.IGNORECASE)
        target = (path.parent / name.strip("\"'()[]{}").replace("\\", "/")).resolve()
        if depth >= MAX_DEPTH:
            self._refuse(where, f"includes are nested deeper than {MAX_DEPTH}")
        elif not target.is_relative_to(self._folder):
            self._refuse(where, f"includes {name[:60]!r}, which lies outside the script's folder")
        elif not target.is_file():
            self._refuse(where, f"includes {name[:60]!r}, which does not exist")
        else:
            self.include(target, depth + 1)

    def _refuse(self, where: str, message: str) -> None:
        self.findings.append(Finding(where=where, code="refused-command", message=message))
