"""Networks from pandapower: a `pandapowerNet` object, or the JSON file that `pandapower.to_json` writes.

The JSON file is read here, not by pandapower: its own reader instantiates whatever classes the file names. What the model cannot express
(three-winding transformers, voltage-controlled generators, voltage-dependent loads ...) is refused, never left out. An external grid is
ideal, as in pandapower's power flow. The network is unbalanced where the file has asymmetric loads or generators, else balanced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from coordinator.errors import NetworkError
from coordinator.network.findings import Finding
from coordinator.network.model import Bus, Connection, Line, Matrix, Network, NetworkKind, Shunt, Source, Transformer
from coordinator.network.phasing import sequence_matrix
from coordinator.network.topology import DisjointSets

MAX_FILE_BYTES = 256 * 1024 * 1024
DEFAULT_VMIN_PU, DEFAULT_VMAX_PU = 0.90, 1.10
REFUSED_TABLES = (
    "gen", "trafo3w", "impedance", "ward", "xward", "dcline", "motor", "tcsc", "svc", "ssc", "vsc", "line_dc", "bus_dc", "b2b_vsc",
    "bi_vsc", "source_dc", "load_dc",
)  # fmt: skip
LETTERS = ("a", "b", "c")
Row = dict[str, Any]
Tables = Mapping[str, list[Row]]


def load_pandapower(path: Path) -> Network:
    """Read a JSON file written by `pandapower.to_json`. Raises NetworkError with every finding."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise NetworkError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
        document = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise NetworkError(f"{path}: cannot be read as JSON ({error})") from error
    content = document.get("_object") if isinstance(document, dict) else None
    if not isinstance(content, dict) or document.get("_class") != "pandapowerNet":
        raise NetworkError(f"{path}: expected a file written by pandapower.to_json")
    return _Mapping(path.stem, _json_tables(path, content), _frequency(content.get("f_hz"))).network()


def from_pandapower(net: Any) -> Network:
    """Return the network of a `pandapowerNet` object."""
    tables = {
        name: [{"index": index, **row} for index, row in zip(table.index, table.to_dict("records"), strict=True)]
        for name, table in net.items()
        if hasattr(table, "to_dict") and hasattr(table, "index")
    }
    return _Mapping(str(net.get("name") or "pandapower"), tables, _frequency(net.get("f_hz"))).network()


def _frequency(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 50.0


def _json_tables(path: Path, content: Mapping[str, Any]) -> Tables:
    tables: dict[str, list[Row]] = {}
    for name, value in content.items():
        if not isinstance(value, dict) or value.get("_class") != "DataFrame" or name.startswith("_"):
            continue
        try:
            frame = value["_object"]
            frame = msgspec.json.decode(frame) if isinstance(frame, str) else frame
            columns = frame["columns"]
            tables[name] = [
                {"index": index, **dict(zip(columns, row, strict=True))} for index, row in zip(frame["index"], frame["data"], strict=True)
            ]
        except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
            raise NetworkError(f"{path}: table {name!r} is not in pandapower's split form ({error})") from error
    return tables


class _Mapping:
    """Maps pandapower's tables, which hold megawatts, kilovolts and per-kilometre values, to the model."""

    def __init__(self, name: str, tables: Tables, frequency_hz: float) -> None:
        self._name = name
        self._tables = tables
        self._frequency_hz = frequency_hz
        self._findings: list[Finding] = []
        self._balanced = not (self._rows("asymmetric_load") or self._rows("asymmetric_sgen"))
        self._fused: DisjointSets[str] = DisjointSets()
        self._opened: set[tuple[str, str]] = set()

    def network(self) -> Network:
        for table in REFUSED_TABLES:
            for row in self._rows(table):
                self._refuse(table, row, "unsupported-element", "this kind of element is not supported")
        self._read_switches()
        buses = self._buses()
        lines = [self._line(row) for row in self._all("line")]
        transformers = [self._transformer(row) for row in self._all("trafo")]
        sources = [self._source(row) for row in self._rows("ext_grid")]
        network = Network(
            name=self._name,
            kind=NetworkKind.BALANCED if self._balanced else NetworkKind.UNBALANCED,
            frequency_hz=self._frequency_hz,
            buses=tuple(buses),
            sources=tuple(sources),
            lines=tuple(lines),
            transformers=tuple(transformers),
            connections=tuple(self._connections()),
            shunts=tuple(self._shunt(row) for row in self._rows("shunt")),
            **self._limits(),
        )
        if self._findings:
            raise NetworkError(f"pandapower network {self._name} cannot be read", self._findings)
        return network

    def _all(self, table: str) -> list[Row]:
        return self._tables.get(table, [])

    def _rows(self, table: str) -> list[Row]:
        return [row for row in self._all(table) if row.get("in_service") is not False and row.get("in_service") != 0]

    def _read_switches(self) -> None:
        for row in self._all("switch"):
            closed = bool(row.get("closed"))
            if row.get("et") == "b" and closed:
                self._fused.join(str(row["bus"]), str(row["element"]))
            elif row.get("et") in ("l", "t") and not closed:
                self._opened.add((str(row["et"]), str(row["element"])))

    def _bus(self, row: Row, column: str) -> str:
        return self._fused.find(str(row[column]))

    def _buses(self) -> list[Bus]:
        """Buses that closed bus-bus switches join are one bus."""
        buses: dict[str, Bus] = {}
        for row in self._rows("bus"):
            bus = self._fused.find(str(row["index"]))
            buses.setdefault(bus, Bus(id=bus, nominal_ln_v=self._number("bus", row, "vn_kv") * 1e3 / math.sqrt(3.0)))
        return list(buses.values())

    def _limits(self) -> dict[str, float]:
        rows = self._rows("bus")
        lows = [value for row in rows if (value := _known(row.get("min_vm_pu"))) is not None and 0.0 < value < 1.0]
        highs = [value for row in rows if (value := _known(row.get("max_vm_pu"))) is not None and 1.0 < value < 2.0]
        return {"vmin_pu": max(lows, default=DEFAULT_VMIN_PU), "vmax_pu": min(highs, default=DEFAULT_VMAX_PU)}

    def _line(self, row: Row) -> Line:
        parallel = _known(row.get("parallel")) or 1.0
        length_km = self._number("line", row, "length_km")
        max_i_ka = _known(row.get("max_i_ka"))
        derating = _known(row.get("df"))
        is_open = ("l", str(row["index"])) in self._opened
        in_service = row.get("in_service") is not False and row.get("in_service") != 0 and not is_open
        return Line(
            id=str(row["index"]),
            from_bus=self._bus(row, "from_bus"),
            to_bus=self._bus(row, "to_bus"),
            r_ohm=self._matrix(row, "r_ohm_per_km", "r0_ohm_per_km", length_km / parallel),
            x_ohm=self._matrix(row, "x_ohm_per_km", "x0_ohm_per_km", length_km / parallel),
            c_f=self._matrix(row, "c_nf_per_km", "c0_nf_per_km", length_km * parallel * 1e-9),
            ampacity_a=None if max_i_ka is None else max_i_ka * 1e3 * parallel * (1.0 if derating is None else derating),
            in_service=in_service,
            is_switchable=is_open or not in_service,
        )

    def _matrix(self, row: Row, positive: str, zero: str, scale: float) -> Matrix:
        one = self._number("line", row, positive) * scale
        if self._balanced:
            return ((one,),)
        return sequence_matrix(one, self._number("line", row, zero) * scale)

    def _transformer(self, row: Row) -> Transformer:
        parallel = _known(row.get("parallel")) or 1.0
        rated_va = self._number("trafo", row, "sn_mva") * 1e6 * parallel
        uk, ukr = self._number("trafo", row, "vk_percent") / 100.0, self._number("trafo", row, "vkr_percent") / 100.0
        if ukr > uk:
            self._refuse("trafo", row, "bad-impedance", f"vkr_percent {ukr * 100:g} exceeds vk_percent {uk * 100:g}")
        no_load_w = self._number("trafo", row, "pfe_kw") * 1e3 * parallel
        no_load_frac = self._number("trafo", row, "i0_percent") / 100.0
        from_tap, to_tap = self._taps(row)
        return Transformer(
            id=str(row["index"]),
            from_bus=self._bus(row, "hv_bus"),
            to_bus=self._bus(row, "lv_bus"),
            rated_va=rated_va,
            from_ll_v=self._number("trafo", row, "vn_hv_kv") * 1e3,
            to_ll_v=self._number("trafo", row, "vn_lv_kv") * 1e3,
            r_frac=ukr,
            x_frac=math.sqrt(max(uk**2 - ukr**2, 0.0)),
            vector_group=self._vector_group(row, uk),
            no_load_w=no_load_w,
            magnetising_frac=math.sqrt(max(no_load_frac**2 - (no_load_w / rated_va) ** 2, 0.0)),
            from_tap_frac=from_tap,
            to_tap_frac=to_tap,
            in_service=row.get("in_service") is not False and row.get("in_service") != 0 and ("t", str(row["index"])) not in self._opened,
        )

    def _taps(self, row: Row) -> tuple[float, float]:
        position, neutral, step = (_known(row.get(name)) for name in ("tap_pos", "tap_neutral", "tap_step_percent"))
        if position is None or step is None or position == (neutral or 0.0):
            return 1.0, 1.0
        if _known(row.get("tap_step_degree")) not in (None, 0.0) or row.get("tap_changer_type") not in (None, "Ratio"):
            self._refuse("trafo", row, "unsupported-transformer", "expected a tap changer of type Ratio without phase shift")
        factor = 1.0 + (position - (neutral or 0.0)) * step / 100.0
        return (factor, 1.0) if row.get("tap_side") == "hv" else (1.0, factor)

    def _vector_group(self, row: Row, uk: float) -> str:
        shift = round(_known(row.get("shift_degree")) or 0.0)
        group = {0: "YNyn0", 30: "Dyn1", 150: "Dyn5", 180: "YNyn6", 210: "Dyn7", 330: "Dyn11"}.get(shift % 360)
        stated = str(row.get("vector_group") or "")
        zero = _known(row.get("vk0_percent"))
        if group is None or (not self._balanced and not group.lower().startswith(stated.lower().rstrip("0123456789"))):
            self._refuse("trafo", row, "unknown-vector-group", f"expected Dyn or YNyn, got {stated or 'none'} with shift {shift}")
        if not self._balanced and zero is not None and abs(zero / 100.0 - uk) > 0.01 * uk:
            self._refuse("trafo", row, "unsupported-transformer", f"vk0_percent {zero:g} differs from vk_percent {uk * 100:g}")
        return group or "YNyn0"

    def _source(self, row: Row) -> Source:
        return Source(
            bus=self._bus(row, "bus"),
            voltage_pu=self._number("ext_grid", row, "vm_pu"),
            angle_rad=math.radians(_known(row.get("va_degree")) or 0.0),
        )

    def _connections(self) -> list[Connection]:
        connections: list[Connection] = []
        for table, sign in (("load", 1.0), ("sgen", -1.0), ("storage", 1.0)):
            for row in self._rows(table):
                connections.append(self._connection(table, row, sign))
        for table, sign in (("asymmetric_load", 1.0), ("asymmetric_sgen", -1.0)):
            for row in self._rows(table):
                connections += self._phase_connections(table, row, sign)
        return connections

    def _connection(self, table: str, row: Row, sign: float) -> Connection:
        self._constant_power(table, row)
        scale = sign * 1e6 * self._scaling(row)
        return Connection(
            id=f"{table}{row['index']}",
            bus=self._bus(row, "bus"),
            p_w=self._number(table, row, "p_mw") * scale,
            q_var=self._number(table, row, "q_mvar") * scale,
        )

    def _phase_connections(self, table: str, row: Row, sign: float) -> list[Connection]:
        """One connection per phase that carries power; one on phase 1 where none does."""
        self._constant_power(table, row)
        scale = sign * 1e6 * self._scaling(row)
        powers = [
            (phase, self._number(table, row, f"p_{letter}_mw") * scale, self._number(table, row, f"q_{letter}_mvar") * scale)
            for phase, letter in enumerate(LETTERS, start=1)
        ]
        used = [power for power in powers if power[1] != 0.0 or power[2] != 0.0] or powers[:1]
        name = f"{table}{row['index']}"
        return [
            Connection(id=name if len(used) == 1 else f"{name}_{phase}", bus=self._bus(row, "bus"), phases=(phase,), p_w=p_w, q_var=q_var)
            for phase, p_w, q_var in used
        ]

    def _constant_power(self, table: str, row: Row) -> None:
        dependent = [name for name in row if name.startswith("const_") and _known(row[name]) not in (None, 0.0)]
        if dependent or str(row.get("type") or "wye").lower() == "delta":
            self._refuse(
                table, row, "unsupported-load", f"expected constant power, phase to neutral, got {', '.join(dependent) or 'delta'}"
            )

    def _shunt(self, row: Row) -> Shunt:
        """p and q are drawn at the shunt's rated voltage by all phases together."""
        square_v = (self._number("shunt", row, "vn_kv") * 1e3) ** 2
        steps = _known(row.get("step"))
        scale = 1e6 * (1.0 if steps is None else steps) / square_v
        return Shunt(
            id=f"shunt{row['index']}",
            bus=self._bus(row, "bus"),
            g_siemens=self._number("shunt", row, "p_mw") * scale,
            b_siemens=-self._number("shunt", row, "q_mvar") * scale,
        )

    def _scaling(self, row: Row) -> float:
        scaling = _known(row.get("scaling"))
        return 1.0 if scaling is None else scaling

    def _number(self, table: str, row: Row, column: str) -> float:
        value = _known(row.get(column))
        if value is None:
            self._refuse(table, row, "not-a-number", f"{column}: expected a finite number, got {row.get(column)!r}")
            return 1.0
        return value

    def _refuse(self, table: str, row: Row, code: str, message: str) -> None:
        self._findings.append(Finding(where=f"{self._name} {table} {row.get('index')}", code=code, message=message))


def _known(value: object) -> float | None:
    """Return a finite number, or None for pandapower's various ways of saying nothing."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
