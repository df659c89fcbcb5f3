"""The feeder as the plant sees it: network tables read into arrays in SI units.

The bench reads the CSV tables itself, on purpose: a plant that shared the coordinator's reader would share its misreadings
as well. Folder layout (the same as that of the published low-voltage data sets): `buses.csv`, `lines.csv`, `transformers.csv`,
`loads.csv`, `source.csv`; impedances are totals per line in ohm, `r_self`/`x_self` the diagonal and `r_mut`/`x_mut` the
off-diagonal of the phase matrix, so that z1 = self - mutual and z0 = self + 2 mutual (a line of fewer than three phases has
no mutual part to its absent phases).
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from hil.errors import FeederError

CONNECTIONS = {"d": "delta", "yn": "wye_n", "y": "wye"}


class Bus(NamedTuple):
    name: str
    rated_v: float
    """Line to neutral; voltages in per unit refer to it."""


class Line(NamedTuple):
    name: str
    from_bus: str
    to_bus: str
    r1_ohm: float
    x1_ohm: float
    r0_ohm: float
    x0_ohm: float
    c1_f: float
    c0_f: float
    rated_a: float
    """Infinite where the table gives none."""


class Transformer(NamedTuple):
    name: str
    hv_bus: str
    lv_bus: str
    rated_va: float
    hv_v: float
    lv_v: float
    hv_winding: str
    lv_winding: str
    clock: int
    resistance_pu: float
    reactance_pu: float
    no_load_w: float


class Connection(NamedTuple):
    """Where one customer is connected: `phases` of {0, 1, 2}; a three-phase customer loads its phases alike."""

    name: str
    bus: str
    phases: tuple[int, ...]


class Source(NamedTuple):
    bus: str
    voltage_pu: float
    rated_ll_v: float
    r1_ohm: float
    x1_ohm: float
    r0_ohm: float
    x0_ohm: float


class Feeder(NamedTuple):
    name: str
    buses: tuple[Bus, ...]
    lines: tuple[Line, ...]
    transformers: tuple[Transformer, ...]
    connections: tuple[Connection, ...]
    source: Source


def read_feeder(folder: Path) -> Feeder:
    """Read the tables of `folder`; raises `FeederError` naming file, row and column of the first thing that is wrong."""
    feeder = Feeder(
        name=folder.name,
        buses=tuple(Bus(row.text("bus"), row.number("kv_ln", above=0.0) * 1e3) for row in _rows(folder / "buses.csv")),
        lines=tuple(_line(row) for row in _rows(folder / "lines.csv") if row.text("in_service", "1") == "1"),
        transformers=tuple(_transformer(row) for row in _rows(folder / "transformers.csv")),
        connections=tuple(_connection(row) for row in _rows(folder / "loads.csv")),
        source=_source(folder / "source.csv"),
    )
    _check_topology(feeder, folder)
    return feeder


class _Row:
    """One row of a table that can say where it comes from."""

    def __init__(self, path: Path, number: int, cells: dict[str, str]) -> None:
        self._where = f"{path}, row {number}"
        self._cells = cells

    def text(self, column: str, default: str | None = None) -> str:
        value = self._cells.get(column)
        if value is None or value == "":
            if default is None:
                raise FeederError(f"{self._where}: column {column!r} is missing or empty")
            return default
        return value

    def number(self, column: str, default: float | None = None, above: float = -math.inf) -> float:
        if default is not None and self._cells.get(column, "") == "":
            return default
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            raise FeederError(f"{self._where}: {column} must be a number, got {text!r}") from None
        if not math.isfinite(value) or value <= above:
            raise FeederError(f"{self._where}: {column} must be finite and above {above}, got {text}")
        return value

    def phases(self, column: str) -> tuple[int, ...]:
        text = self.text(column)
        parts = text.split(".")
        if not all(part in ("1", "2", "3") for part in parts) or len(set(parts)) != len(parts):
            raise FeederError(f"{self._where}: {column} must name phases like 1 or 1.2.3, got {text!r}")
        return tuple(int(part) - 1 for part in parts)

    def fault(self, message: str) -> FeederError:
        return FeederError(f"{self._where}: {message}")


def _rows(path: Path) -> list[_Row]:
    if not path.is_file():
        raise FeederError(f"{path}: network table is missing")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [_Row(path, number, cells) for number, cells in enumerate(csv.DictReader(file), start=2)]
    if not rows:
        raise FeederError(f"{path}: network table has no rows")
    return rows


def _line(row: _Row) -> Line:
    phases = row.phases("phases_from")
    mutual = 1.0 if len(phases) == 3 else 0.0
    r_self_ohm, x_self_ohm = row.number("r_self_ohm", above=-1e-12), row.number("x_self_ohm", above=-1e-12)
    r_mut_ohm, x_mut_ohm = mutual * row.number("r_mut_ohm", 0.0), mutual * row.number("x_mut_ohm", 0.0)
    c_self_f, c_mut_f = row.number("c_self_nf", 0.0) * 1e-9, mutual * row.number("c_mut_nf", 0.0) * 1e-9
    if r_self_ohm == 0.0 and x_self_ohm == 0.0:
        raise row.fault("the line has no impedance; join its buses instead")
    return Line(
        row.text("line"),
        row.text("from_bus"),
        row.text("to_bus"),
        r1_ohm=r_self_ohm - r_mut_ohm,
        x1_ohm=x_self_ohm - x_mut_ohm,
        r0_ohm=r_self_ohm + 2.0 * r_mut_ohm,
        x0_ohm=x_self_ohm + 2.0 * x_mut_ohm,
        c1_f=c_self_f - c_mut_f,
        c0_f=c_self_f + 2.0 * c_mut_f,
        rated_a=row.number("amp_a", math.inf, above=0.0),
    )


def _transformer(row: _Row) -> Transformer:
    windings = {side: row.text(f"conn_{side}").lower() for side in ("hv", "lv")}
    for side, winding in windings.items():
        if winding not in CONNECTIONS:
            raise row.fault(f"conn_{side} must be one of {sorted(CONNECTIONS)}, got {winding!r}")
    rated_va = row.number("kva", above=0.0) * 1e3
    # Dyn and Yd transformers of the tables lag by 30 degrees (clock 1), as OpenDSS solves them by default.
    clock = 0 if (windings["hv"] == "d") == (windings["lv"] == "d") else 1
    return Transformer(
        row.text("trafo"),
        row.text("bus_hv"),
        row.text("bus_lv"),
        rated_va=rated_va,
        hv_v=row.number("kv_hv", above=0.0) * 1e3 * row.number("tap_hv", 1.0, above=0.0),
        lv_v=row.number("kv_lv", above=0.0) * 1e3 * row.number("tap_lv", 1.0, above=0.0),
        hv_winding=CONNECTIONS[windings["hv"]],
        lv_winding=CONNECTIONS[windings["lv"]],
        clock=clock,
        resistance_pu=(row.number("r_hv_pct", above=-1e-12) + row.number("r_lv_pct", above=-1e-12)) / 100.0,
        reactance_pu=row.number("xhl_pct", above=0.0) / 100.0,
        no_load_w=rated_va * row.number("noload_pct", 0.0) / 100.0,
    )


def _connection(row: _Row) -> Connection:
    return Connection(row.text("load"), row.text("bus"), row.phases("phases"))


def _source(path: Path) -> Source:
    rows = _rows(path)
    if len(rows) != 1:
        raise FeederError(f"{path}: expected one source, got {len(rows)}")
    row = rows[0]
    return Source(
        row.text("bus"),
        voltage_pu=row.number("pu", above=0.0),
        rated_ll_v=row.number("kv_ll", above=0.0) * 1e3,
        r1_ohm=row.number("r1_ohm"),
        x1_ohm=row.number("x1_ohm"),
        r0_ohm=row.number("r0_ohm"),
        x0_ohm=row.number("x0_ohm"),
    )


def _check_topology(feeder: Feeder, folder: Path) -> None:
    """Every name known and used once, every bus reached from the source, no loop."""
    names = [bus.name for bus in feeder.buses]
    known = set(names)
    if len(known) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise FeederError(f"{folder / 'buses.csv'}: bus names must be unique, {twice[:3]} are not")
    if len({connection.name for connection in feeder.connections}) != len(feeder.connections):
        raise FeederError(f"{folder / 'loads.csv'}: load names must be unique")
    neighbours: dict[str, list[str]] = {name: [] for name in names}
    branches = [(line.name, line.from_bus, line.to_bus) for line in feeder.lines]
    branches += [(transformer.name, transformer.hv_bus, transformer.lv_bus) for transformer in feeder.transformers]
    for name, one, other in branches:
        for bus in (one, other):
            if bus not in known:
                raise FeederError(f"{folder}: branch {name!r} ends at bus {bus!r}, which buses.csv does not have")
        neighbours[one].append(other)
        neighbours[other].append(one)
    for connection in feeder.connections:
        if connection.bus not in known:
            raise FeederError(f"{folder}: load {connection.name!r} is at bus {connection.bus!r}, which buses.csv does not have")
    if feeder.source.bus not in known:
        raise FeederError(f"{folder}: the source is at bus {feeder.source.bus!r}, which buses.csv does not have")
    reached, stack = {feeder.source.bus}, [feeder.source.bus]
    while stack:
        for bus in neighbours[stack.pop()]:
            if bus not in reached:
                reached.add(bus)
                stack.append(bus)
    if reached != known:
        raise FeederError(f"{folder}: {len(known - reached)} buses are cut off from the source, e.g. {min(known - reached)!r}")
    if len(branches) != len(names) - 1:
        raise FeederError(
            f"{folder}: a radial feeder of {len(names)} buses has {len(names) - 1} branches, got {len(branches)}: it has a loop"
        )
