"""A medium-voltage feeder with all its low-voltage feeders, from tables that state the low voltage by a rule.

The rule (of the OE1 / HPK11 workbook of Team-Nando and AusNet Services): each low-voltage feeder is a chain from the transformer's
low-voltage bus; node k lies `section_m` metres behind node k-1 on the main conductor, and the customer at position k hangs on node k by a
service line of `SERVICE_LENGTH_M`. The 66/22 kV head transformer is ideal, so the 66 kV source impedance is referred to 22 kV.
"""

from __future__ import annotations

import math

from coordinator.network.model import Bus, Connection, Line, Matrix, Network, NetworkKind, Source, Transformer
from coordinator.network.phasing import sequence_matrix
from coordinator.network.tables import Row, TableFolder

MAIN_LINECODE = "247-3ph"
SERVICE_LINECODE = "248-3ph"
SERVICE_LENGTH_M = 10.0
LV_NOMINAL_LN_V = 400.0 / math.sqrt(3.0)
LV_VMIN_PU = 0.94 * 230.0 / LV_NOMINAL_LN_V
LV_VMAX_PU = 1.10 * 230.0 / LV_NOMINAL_LN_V
FREQUENCY_HZ = 50.0
HEAD_RATIO = 66.0 / 22.0
HEAD_R1_OHM, HEAD_X1_OHM, HEAD_R0_OHM, HEAD_X0_OHM = 0.52824, 2.113, 0.59157, 1.7747


class _Conductor:
    """A line code: sequence impedances per kilometre and ampacity."""

    def __init__(self, row: Row) -> None:
        self._r = row.number("r1_ohm_km"), row.number("r0_ohm_km")
        self._x = row.number("x1_ohm_km"), row.number("x0_ohm_km")
        self._b = row.number("b1_us_km"), row.number("b0_us_km")
        self._ampacity_a = row.number("amp_a")

    def line(self, line: str, from_bus: str, to_bus: str, length_m: float) -> Line:
        """Return a three-phase line of this conductor."""
        length_km = length_m / 1e3
        per_farad = 1e-6 * length_km / (2.0 * math.pi * FREQUENCY_HZ)
        return Line(
            id=line,
            from_bus=from_bus,
            to_bus=to_bus,
            r_ohm=_scaled(self._r, length_km),
            x_ohm=_scaled(self._x, length_km),
            c_f=_scaled(self._b, per_farad),
            ampacity_a=self._ampacity_a,
        )


def _scaled(sequence: tuple[float, float], factor: float) -> Matrix:
    return sequence_matrix(sequence[0] * factor, sequence[1] * factor)


def load_region(tables: TableFolder) -> Network:
    """Read the regional form; customers have no metered load in it, so every connection's base power is zero."""
    codes = {row.text("linecode"): _Conductor(row) for row in tables.rows("linecodes.csv", ("linecode", "r1_ohm_km", "amp_a"))}
    buses: list[Bus] = []
    sources: list[Source] = []
    for row in tables.rows("mv_nodes.csv", ("node", "kv", "is_head")):
        bus = _mv(row.text("node"))
        buses.append(Bus(id=bus, nominal_ln_v=row.number("kv") * 1e3 / math.sqrt(3.0)))
        if row.flag("is_head"):
            sources.append(_head_source(bus))
    lines = [
        _conductor(row, codes, row.text("linecode")).line(
            f"mv_line{row.text('line')}", _mv(row.text("from_node")), _mv(row.text("to_node")), row.number("length_km") * 1e3
        )
        for row in tables.rows("mv_lines.csv", ("line", "from_node", "to_node", "length_km", "linecode"))
    ]
    columns = ("lv", "mv_node", "kva", "kv_mv", "kv_lv", "xhl_pct", "loadloss_pct", "noloadloss_pct", "tap")
    transformers = [_transformer(row) for row in tables.rows("transformers.csv", columns)]
    buses += [Bus(id=item.to_bus, nominal_ln_v=LV_NOMINAL_LN_V) for item in transformers]
    _add_chains(tables, codes, buses, lines)
    connections = _add_customers(tables, codes, buses, lines)
    tables.raise_if_bad(f"{tables.folder} cannot be read")
    return Network(
        name=tables.folder.name,
        kind=NetworkKind.UNBALANCED,
        frequency_hz=FREQUENCY_HZ,
        buses=tuple(buses),
        sources=tuple(sources),
        lines=tuple(lines),
        transformers=tuple(transformers),
        connections=tuple(connections),
        vmin_pu=LV_VMIN_PU,
        vmax_pu=LV_VMAX_PU,
    )


def _mv(node: str) -> str:
    return f"mv{node}"


def _lv_node(lv: str, feeder: str, position: int) -> str:
    return f"lv{lv}_f{feeder}_n{position}"


def _head_source(bus: str) -> Source:
    referred = HEAD_RATIO**2
    return Source(
        bus=bus,
        r1_ohm=HEAD_R1_OHM / referred,
        x1_ohm=HEAD_X1_OHM / referred,
        r0_ohm=HEAD_R0_OHM / referred,
        x0_ohm=HEAD_X0_OHM / referred,
    )


def _conductor(row: Row, codes: dict[str, _Conductor], code: str) -> _Conductor:
    if code in codes:
        return codes[code]
    row.refuse("linecode", "unknown-linecode", f"expected a line code of linecodes.csv, got {code!r}")
    return next(iter(codes.values())) if codes else _Conductor(row)


def _transformer(row: Row) -> Transformer:
    rated_va = row.number("kva") * 1e3
    return Transformer(
        id=f"tx{row.text('lv')}",
        from_bus=_mv(row.text("mv_node")),
        to_bus=f"lv{row.text('lv')}",
        rated_va=rated_va,
        from_ll_v=row.number("kv_mv") * 1e3,
        to_ll_v=row.number("kv_lv") * 1e3,
        r_frac=row.number("loadloss_pct") / 100.0,
        x_frac=row.number("xhl_pct") / 100.0,
        no_load_w=row.number("noloadloss_pct") / 100.0 * rated_va,
        from_tap_frac=row.number("tap"),
    )


def _add_chains(tables: TableFolder, codes: dict[str, _Conductor], buses: list[Bus], lines: list[Line]) -> None:
    for row in tables.rows("lv_feeders.csv", ("lv", "feeder", "customers", "section_m")):
        lv, feeder = row.text("lv"), row.text("feeder")
        main = _conductor(row, codes, MAIN_LINECODE)
        previous = f"lv{lv}"
        for position in range(int(row.number("customers"))):
            node = _lv_node(lv, feeder, position)
            buses.append(Bus(id=node, nominal_ln_v=LV_NOMINAL_LN_V))
            lines.append(main.line(f"{node}_main", previous, node, row.number("section_m")))
            previous = node


def _add_customers(tables: TableFolder, codes: dict[str, _Conductor], buses: list[Bus], lines: list[Line]) -> list[Connection]:
    connections: list[Connection] = []
    for row in tables.rows("customers.csv", ("lv", "feeder", "pos", "phase", "pf")):
        lv, feeder, position = row.text("lv"), row.text("feeder"), int(row.number("pos"))
        service = _conductor(row, codes, SERVICE_LINECODE)
        customer = f"lv{lv}_f{feeder}_c{position}"
        buses.append(Bus(id=customer, nominal_ln_v=LV_NOMINAL_LN_V))
        lines.append(service.line(f"{customer}_service", _lv_node(lv, feeder, position), customer, SERVICE_LENGTH_M))
        connections.append(Connection(id=customer, bus=customer, phases=row.phases("phase"), power_factor=row.number("pf")))
    return connections
