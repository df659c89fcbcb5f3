"""Networks from folders of CSV tables, in the three forms found in practice.

* *branches form* (`buses.csv`, `branches.csv`): a balanced medium-voltage feeder; ohm in total, kW and kvar, line-to-line kV.
* *feeder form* (`buses.csv`, `lines.csv`, `transformers.csv`, `loads.csv`, `source.csv`): an unbalanced low-voltage feeder with phase
  matrices of equal diagonals and equal off-diagonals, already multiplied by length. Phase numbers are local to each bus in these files
  (a service line of phase 2 may end at node 1 of a single-phase bus) and are relabelled to the system's.
* *regional form* (`mv_nodes.csv` ...): a medium-voltage feeder with its low-voltage feeders given by a rule;
  see `coordinator.network.csv_region`.

Low-voltage limits are those of AS 61000.3.100: 230 V +10 % / -6 %, expressed on each file's own nominal voltage.
"""

from __future__ import annotations

import math
from pathlib import Path

from coordinator.errors import NetworkError
from coordinator.network import csv_region
from coordinator.network.model import (
    Bus,
    Connection,
    Line,
    Network,
    NetworkKind,
    Source,
    Transformer,
)
from coordinator.network.phasing import LocalBranch, relabel, system_phases, uniform_matrix
from coordinator.network.tables import Row, TableFolder

LV_MIN_V = 0.94 * 230.0
LV_MAX_V = 1.10 * 230.0
LV_THRESHOLD_LN_V = 1000.0
PUBLISHED_VMIN_PU = 0.90
PUBLISHED_VMAX_PU = 1.10

BUS_COLUMNS = ("id", "kv", "p_kw", "q_kvar")
BRANCH_COLUMNS = ("branch", "from_bus", "to_bus", "r_ohm", "x_ohm")
LINE_COLUMNS = (
    "line", "from_bus", "to_bus", "phases_from", "phases_to", "r_self_ohm", "x_self_ohm", "r_mut_ohm", "x_mut_ohm",
    "c_self_nf", "c_mut_nf", "amp_a", "in_service",
)  # fmt: skip
TRANSFORMER_COLUMNS = (
    "trafo", "bus_hv", "bus_lv", "kva", "kv_hv", "kv_lv", "conn_hv", "conn_lv", "xhl_pct", "r_hv_pct", "r_lv_pct",
    "noload_pct", "tap_hv", "tap_lv",
)  # fmt: skip
LOAD_COLUMNS = ("load", "bus", "phases", "p_kw", "q_kvar", "conn")
SOURCE_COLUMNS = ("bus", "kv_ll", "pu", "angle_deg", "r1_ohm", "x1_ohm", "r0_ohm", "x0_ohm", "base_freq_hz")
VECTOR_GROUPS = {("D", "YN"): "Dyn1", ("YN", "YN"): "YNyn0"}


def load_csv_folder(folder: Path) -> Network:
    """Read a folder in whichever of the three forms it has."""
    tables = TableFolder(folder)
    if tables.has("mv_nodes.csv"):
        return csv_region.load_region(tables)
    if tables.has("branches.csv"):
        return _load_branches(tables)
    if tables.has("lines.csv"):
        return _load_feeder(tables)
    raise NetworkError(f"{folder}: expected branches.csv, lines.csv or mv_nodes.csv in the folder, found none of them")


def _load_branches(tables: TableFolder) -> Network:
    buses: list[Bus] = []
    connections: list[Connection] = []
    for row in tables.rows("buses.csv", BUS_COLUMNS):
        bus = row.text("id")
        p_w, q_var = row.number("p_kw") * 1e3, row.number("q_kvar") * 1e3
        buses.append(Bus(id=bus, nominal_ln_v=row.number("kv") * 1e3 / math.sqrt(3.0)))
        if p_w != 0.0 or q_var != 0.0:
            connections.append(Connection(id=f"load{bus}", bus=bus, p_w=p_w, q_var=q_var))
    lines = tuple(_branch(row) for row in tables.rows("branches.csv", BRANCH_COLUMNS))
    tables.raise_if_bad(f"{tables.folder} cannot be read")
    if not buses:
        raise NetworkError(f"{tables.folder}: buses.csv lists no bus")
    return Network(
        name=tables.folder.name,
        kind=NetworkKind.BALANCED,
        frequency_hz=50.0,
        buses=tuple(buses),
        sources=(Source(bus=buses[0].id),),
        lines=lines,
        connections=tuple(connections),
        vmin_pu=PUBLISHED_VMIN_PU,
        vmax_pu=PUBLISHED_VMAX_PU,
    )


def _branch(row: Row) -> Line:
    return Line(
        id=row.text("branch"),
        from_bus=row.text("from_bus"),
        to_bus=row.text("to_bus"),
        r_ohm=((row.number("r_ohm"),),),
        x_ohm=((row.number("x_ohm"),),),
        ampacity_a=row.optional_number("rate_a"),
        in_service=not row.flag("is_tie"),
        is_switchable=True,
    )


def _load_feeder(tables: TableFolder) -> Network:
    source_rows = list(tables.rows("source.csv", SOURCE_COLUMNS))
    line_rows = list(tables.rows("lines.csv", LINE_COLUMNS))
    transformer_rows = list(tables.rows("transformers.csv", TRANSFORMER_COLUMNS)) if tables.has("transformers.csv") else []
    sources = tuple(_source(row) for row in source_rows)
    transformers = tuple(_transformer(row) for row in transformer_rows)
    ends = [_line_ends(row) for row in line_rows]
    links = [
        LocalBranch(id=item.id, from_bus=item.from_bus, to_bus=item.to_bus, from_phases=(1, 2, 3), to_phases=(1, 2, 3))
        for item in transformers
    ]
    labels, wrong = system_phases([*links, *ends], [source.bus for source in sources])
    names = {branch.id: row for branch, row in zip(ends, line_rows, strict=True)}
    for branch in wrong:
        names[branch.id].refuse("phases_to", "phase-conflict", "connects different phases than another path to the bus does")
    lines = tuple(_line(row, branch, labels) for row, branch in zip(line_rows, ends, strict=True))
    stated_ln_v = {row.text("bus"): row.number("kv_ll") * 1e3 / math.sqrt(3.0) for row in source_rows}
    buses = tuple(_feeder_bus(row, labels, stated_ln_v) for row in tables.rows("buses.csv", ("bus", "kv_ln", "nodes")))
    connections = tuple(_load(row, labels) for row in tables.rows("loads.csv", LOAD_COLUMNS))
    frequency_hz = source_rows[0].number("base_freq_hz") if source_rows else 50.0
    tables.raise_if_bad(f"{tables.folder} cannot be read")
    low_v = [bus.nominal_ln_v for bus in buses if bus.nominal_ln_v < LV_THRESHOLD_LN_V]
    base_v = max(low_v, default=230.0)
    return Network(
        name=tables.folder.name,
        kind=NetworkKind.UNBALANCED,
        frequency_hz=frequency_hz,
        buses=buses,
        sources=sources,
        lines=lines,
        transformers=transformers,
        connections=connections,
        vmin_pu=LV_MIN_V / base_v,
        vmax_pu=LV_MAX_V / base_v,
    )


def _source(row: Row) -> Source:
    return Source(
        bus=row.text("bus"),
        voltage_pu=row.number("pu"),
        angle_rad=math.radians(row.number("angle_deg")),
        r1_ohm=row.number("r1_ohm"),
        x1_ohm=row.number("x1_ohm"),
        r0_ohm=row.number("r0_ohm"),
        x0_ohm=row.number("x0_ohm"),
    )


def _transformer(row: Row) -> Transformer:
    windings = (row.text("conn_hv").upper(), row.text("conn_lv").upper())
    if windings not in VECTOR_GROUPS:
        row.refuse("conn_lv", "unknown-connection", f"expected D/Yn or Yn/Yn, got {windings[0]}/{windings[1]}")
    rated_va = row.number("kva") * 1e3
    return Transformer(
        id=row.text("trafo"),
        from_bus=row.text("bus_hv"),
        to_bus=row.text("bus_lv"),
        rated_va=rated_va,
        from_ll_v=row.number("kv_hv") * 1e3,
        to_ll_v=row.number("kv_lv") * 1e3,
        vector_group=VECTOR_GROUPS.get(windings, "Dyn1"),
        r_frac=(row.number("r_hv_pct") + row.number("r_lv_pct")) / 100.0,
        x_frac=row.number("xhl_pct") / 100.0,
        no_load_w=row.number("noload_pct") / 100.0 * rated_va,
        from_tap_frac=row.number("tap_hv"),
        to_tap_frac=row.number("tap_lv"),
    )


def _line_ends(row: Row) -> LocalBranch:
    from_phases, to_phases = row.phases("phases_from"), row.phases("phases_to")
    if len(from_phases) != len(to_phases):
        row.refuse("phases_to", "bad-phases", f"expected {len(from_phases)} phases as at the other end, got {len(to_phases)}")
        to_phases = from_phases
    return LocalBranch(
        id=row.text("line"),
        from_bus=row.text("from_bus"),
        to_bus=row.text("to_bus"),
        from_phases=from_phases,
        to_phases=to_phases,
    )


def _line(row: Row, ends: LocalBranch, labels: dict[str, dict[int, int]]) -> Line:
    size = len(ends.from_phases)
    c_self_f, c_mutual_f = row.number("c_self_nf") * 1e-9, row.number("c_mut_nf") * 1e-9
    return Line(
        id=ends.id,
        from_bus=ends.from_bus,
        to_bus=ends.to_bus,
        phases=relabel(ends.from_phases, labels.get(ends.from_bus)),
        r_ohm=uniform_matrix(row.number("r_self_ohm"), row.number("r_mut_ohm"), size),
        x_ohm=uniform_matrix(row.number("x_self_ohm"), row.number("x_mut_ohm"), size),
        c_f=uniform_matrix(c_self_f, c_mutual_f, size) if c_self_f != 0.0 else (),
        ampacity_a=row.optional_number("amp_a"),
        in_service=row.flag("in_service", default=True),
    )


def _feeder_bus(row: Row, labels: dict[str, dict[int, int]], stated_ln_v: dict[str, float]) -> Bus:
    """The source states the nominal voltage of its own bus; buses.csv holds what OpenDSS guessed, 22 kV at an 11 kV source."""
    bus = row.text("bus")
    nominal_ln_v = row.number("kv_ln") * 1e3
    return Bus(
        id=bus,
        nominal_ln_v=stated_ln_v.get(bus, nominal_ln_v),
        phases=relabel(row.phases("nodes"), labels.get(bus)),
    )


def _load(row: Row, labels: dict[str, dict[int, int]]) -> Connection:
    bus = row.text("bus")
    if row.text("conn").upper() not in ("Y", "YN"):
        row.refuse("conn", "unknown-connection", "expected Y, phase to neutral")
    return Connection(
        id=row.text("load"),
        bus=bus,
        phases=relabel(row.phases("phases"), labels.get(bus)),
        p_w=row.number("p_kw") * 1e3,
        q_var=row.number("q_kvar") * 1e3,
    )
