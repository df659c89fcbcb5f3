"""Networks from MATPOWER case files (version 2), including the distribution cases that convert units in trailing MATLAB code.

Those files hold ohm and kW in tables that nominally hold per unit and MW, and end in statements that convert them; a reader that skips the
code reads a 3.8 MW feeder as 3802 MW. The conversions are recognised by their text; any other statement that could change the data is
refused with its line. MATPOWER User's Manual, appendix B, defines the columns.

A case is positive sequence, so the network is balanced. A case that states one phase's power at a phase-to-neutral base voltage
(case533mt) keeps exactly that scale: voltages in per unit and losses are those of the case.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from coordinator.errors import NetworkError
from coordinator.network.findings import Finding
from coordinator.network.matlab import CaseFile, TableRow, constant, read_case
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Shunt, Source, Transformer

FREQUENCY_HZ = 50.0
DEFAULT_VMIN_PU, DEFAULT_VMAX_PU = 0.90, 1.10
REFERENCE, PV_BUS, ISOLATED = 3, 2, 4
MIN_COLUMNS = {"bus": 13, "gen": 8, "branch": 11}
VECTOR_GROUPS = {0: "YNyn0", 30: "Dyn1", 150: "Dyn5", 180: "YNyn6", 210: "Dyn7", 330: "Dyn11"}

_OHMS = "mpc.branch(:,[BR_RBR_X])=mpc.branch(:,[BR_RBR_X])/(Vbase^2/Sbase)"
_KILOWATTS = "mpc.bus(:,[PD,QD])=mpc.bus(:,[PD,QD])/1e3"
_APPARENT_Q = "mpc.bus(:,QD)=mpc.bus(:,PD)*sin(acos(pf))"
_APPARENT_P = "mpc.bus(:,PD)=mpc.bus(:,PD)*pf"
_HARMLESS = ("functionmpc=", "Vbase=mpc.bus(1,BASE_KV)*1e3", "Sbase=mpc.baseMVA*1e6", "[PQ,PV,REF", "[F_BUS,T_BUS", "end", "return")


class _Units(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit of the tables is worth."""

    base_va: float
    watt: float
    in_ohms: bool
    power_factor: float | None

    def ohm(self, base_ll_v: float, first_ll_v: float) -> float:
        """Ohm per unit of a branch impedance; the trailing code of the cases divides by the *first* bus's base."""
        if self.in_ohms:
            return (base_ll_v / first_ll_v) ** 2
        return base_ll_v**2 / self.base_va


def load_matpower(path: Path) -> Network:
    """Read a case file. Raises NetworkError with every finding."""
    case = read_case(path)
    findings = list(case.findings)
    units = _units(path.name, case, findings)
    tables = {name: _table(path.name, case, name, findings) for name in MIN_COLUMNS}
    if findings:
        raise NetworkError(f"{path} cannot be read", findings)
    buses = {_id(row.values[0]): row for row in tables["bus"] if row.values[1] != ISOLATED}
    if not buses:
        raise NetworkError(f"{path}: mpc.bus lists no bus")
    without_base = [row for row in buses.values() if not row.values[9] > 0.0]
    if without_base:
        message = "mpc.bus: baseKV must be greater than 0"
        where = [Finding(where=f"{path.name} line {row.line}", code="not-positive", message=message) for row in without_base]
        raise NetworkError(f"{path} cannot be read", where)
    return _network(path, buses, tables, units)


def _units(name: str, case: CaseFile, findings: list[Finding]) -> _Units:
    power_factor: float | None = None
    in_ohm, in_kw, scaled = False, False, set()
    for statement in case.statements:
        text = statement.text.replace("...", "")
        if text == _OHMS:
            in_ohm = True
        elif text == _KILOWATTS:
            in_kw = True
        elif text in (_APPARENT_Q, _APPARENT_P):
            scaled.add(text)
        elif text.startswith("pf="):
            power_factor = _scalar(name, "pf", text[3:], findings, statement.line)
        elif not text.startswith(_HARMLESS):
            message = f"statement is not understood and may change the data: {text[:80]!r}"
            findings.append(Finding(where=f"{name} line {statement.line}", code="unknown-statement", message=message))
    if scaled and (len(scaled) != 2 or power_factor is None):
        findings.append(Finding(where=name, code="unknown-statement", message="conversion from kVA is incomplete (pf, PD and QD)"))
    base_va = _scalar(name, "baseMVA", case.scalars.get("baseMVA", ""), findings) * 1e6
    if not base_va > 0.0:
        findings.append(Finding(where=name, code="not-positive", message=f"mpc.baseMVA must be greater than 0, got {base_va / 1e6:g}"))
    return _Units(base_va=base_va, watt=1e3 if in_kw else 1e6, in_ohms=in_ohm, power_factor=power_factor if scaled else None)


def _scalar(name: str, key: str, text: str, findings: list[Finding], line: int | None = None) -> float:
    try:
        return constant(text)
    except ValueError:
        where = name if line is None else f"{name} line {line}"
        findings.append(Finding(where=where, code="not-a-number", message=f"{key}: expected a number, got {text[:40]!r}"))
        return 1.0


def _table(name: str, case: CaseFile, table: str, findings: list[Finding]) -> tuple[TableRow, ...]:
    rows = case.tables.get(table)
    if rows is None:
        findings.append(Finding(where=name, code="missing-table", message=f"has no mpc.{table}"))
        return ()
    for row in rows:
        if len(row.values) < MIN_COLUMNS[table]:
            message = f"mpc.{table}: expected at least {MIN_COLUMNS[table]} columns, got {len(row.values)}"
            findings.append(Finding(where=f"{name} line {row.line}", code="wrong-cell-count", message=message))
    return rows


def _network(path: Path, rows: dict[str, TableRow], tables: dict[str, tuple[TableRow, ...]], units: _Units) -> Network:
    findings: list[Finding] = []
    first_ll_v = next(iter(rows.values())).values[9] * 1e3
    bounded = [row for row in rows.values() if row.values[12] < row.values[11]]
    lines, transformers = _branches(path.name, rows, tables["branch"], units, first_ll_v, findings)
    sources, generators = _generators(path.name, rows, tables["gen"], findings)
    connections = [*_loads(rows, units), *generators]
    if findings:
        raise NetworkError(f"{path} cannot be read", findings)
    return Network(
        name=path.stem,
        kind=NetworkKind.BALANCED,
        frequency_hz=FREQUENCY_HZ,
        buses=tuple(Bus(id=bus, nominal_ln_v=row.values[9] * 1e3 / math.sqrt(3.0)) for bus, row in rows.items()),
        sources=tuple(sources),
        lines=tuple(lines),
        transformers=tuple(transformers),
        connections=tuple(connections),
        shunts=tuple(_shunts(rows)),
        vmin_pu=max((row.values[12] for row in bounded), default=DEFAULT_VMIN_PU),
        vmax_pu=min((row.values[11] for row in bounded), default=DEFAULT_VMAX_PU),
    )


def _branches(
    name: str, buses: dict[str, TableRow], rows: tuple[TableRow, ...], units: _Units, first_ll_v: float, findings: list[Finding]
) -> tuple[list[Line], list[Transformer]]:
    lines: list[Line] = []
    transformers: list[Transformer] = []
    for number, row in enumerate(rows, start=1):
        ends = _id(row.values[0]), _id(row.values[1])
        unknown = [bus for bus in ends if bus not in buses]
        if unknown:
            if row.values[10] != 0.0:
                message = f"mpc.branch: bus {', '.join(unknown)} does not exist or is isolated"
                findings.append(Finding(where=f"{name} line {row.line}", code="unknown-bus", message=message))
            continue
        from_v, to_v = (buses[bus].values[9] * 1e3 for bus in ends)
        if row.values[8] == 0.0 and row.values[9] == 0.0 and abs(from_v - to_v) <= 1e-3 * max(from_v, to_v):
            lines.append(_line(number, row, ends, to_v, units.ohm(to_v, first_ll_v)))
        else:
            transformers.append(_transformer(name, number, row, ends, (from_v, to_v), units, first_ll_v, findings))
    return lines, transformers


def _line(number: int, row: TableRow, ends: tuple[str, str], base_ll_v: float, ohm: float) -> Line:
    r, x, b, rate_mva = row.values[2:6]
    farad = b / (ohm * 2.0 * math.pi * FREQUENCY_HZ)
    return Line(
        id=str(number),
        from_bus=ends[0],
        to_bus=ends[1],
        r_ohm=((r * ohm,),),
        x_ohm=((x * ohm,),),
        c_f=((farad,),) if b != 0.0 else (),
        ampacity_a=rate_mva * 1e6 / (math.sqrt(3.0) * base_ll_v) if rate_mva > 0.0 else None,
        in_service=row.values[10] != 0.0,
        is_switchable=True,
    )


def _transformer(
    name: str, number: int, row: TableRow, ends: tuple[str, str], base_v: tuple[float, float], units: _Units, first_ll_v: float,
    findings: list[Finding],
) -> Transformer:  # fmt: skip
    """The series impedance of a branch is on the to side's base, its tap at the from side; both hold on either orientation.

    Where the case has no rating (rateA 0), the rated power is baseMVA and loading says nothing.
    """
    r, x, b, rate_mva = row.values[2:6]
    tap, shift_deg = row.values[8] or 1.0, row.values[9]
    rated_va = rate_mva * 1e6 if rate_mva > 0.0 else units.base_va
    frac = units.ohm(base_v[1], first_ll_v) * rated_va / base_v[1] ** 2
    step_down = base_v[0] >= base_v[1]
    group = VECTOR_GROUPS.get(round(shift_deg if step_down else -shift_deg) % 360)
    if group is None or shift_deg != round(shift_deg) or b != 0.0:
        message = (
            f"mpc.branch: expected a transformer of shift 0, 30, 150, 180, 210 or 330 degrees and no charging, got {shift_deg:g}, b {b:g}"
        )
        findings.append(Finding(where=f"{name} line {row.line}", code="unsupported-transformer", message=message))
    return Transformer(
        id=str(number),
        from_bus=ends[0] if step_down else ends[1],
        to_bus=ends[1] if step_down else ends[0],
        rated_va=rated_va,
        from_ll_v=max(base_v),
        to_ll_v=min(base_v),
        r_frac=r * frac,
        x_frac=x * frac,
        vector_group=group or "YNyn0",
        from_tap_frac=tap if step_down else 1.0,
        to_tap_frac=1.0 if step_down else tap,
        in_service=row.values[10] != 0.0,
    )


def _generators(
    name: str, buses: dict[str, TableRow], rows: tuple[TableRow, ...], findings: list[Finding]
) -> tuple[list[Source], list[Connection]]:
    setpoint_pu: dict[str, float] = {}
    generators: list[Connection] = []
    for number, row in enumerate(rows, start=1):
        bus = _id(row.values[0])
        if row.values[7] <= 0.0 or bus not in buses:
            continue
        bus_type = buses[bus].values[1]
        if bus_type == REFERENCE:
            setpoint_pu.setdefault(bus, row.values[5])
        elif bus_type == PV_BUS:
            message = f"mpc.gen: bus {bus} holds its voltage (type 2); feeders have constant power generators (type 1)"
            findings.append(Finding(where=f"{name} line {row.line}", code="voltage-controlled", message=message))
        else:
            generators.append(Connection(id=f"gen{number}", bus=bus, p_w=-row.values[1] * 1e6, q_var=-row.values[2] * 1e6))
    sources = [
        Source(bus=bus, voltage_pu=setpoint_pu.get(bus, row.values[7]), angle_rad=math.radians(row.values[8]))
        for bus, row in buses.items()
        if row.values[1] == REFERENCE
    ]
    return sources, generators


def _loads(buses: dict[str, TableRow], units: _Units) -> list[Connection]:
    loads = []
    for bus, row in buses.items():
        p_w, q_var = row.values[2] * units.watt, row.values[3] * units.watt
        if units.power_factor is not None:
            p_w, q_var = p_w * units.power_factor, p_w * math.sin(math.acos(units.power_factor))
        if p_w != 0.0 or q_var != 0.0:
            loads.append(Connection(id=f"load{bus}", bus=bus, p_w=p_w, q_var=q_var))
    return loads


def _shunts(buses: dict[str, TableRow]) -> list[Shunt]:
    """Gs and Bs are MW and Mvar of the three phases at nominal voltage."""
    shunts = []
    for bus, row in buses.items():
        if row.values[4] != 0.0 or row.values[5] != 0.0:
            per_siemens = 1e6 / (row.values[9] * 1e3) ** 2
            shunts.append(Shunt(id=f"shunt{bus}", bus=bus, g_siemens=row.values[4] * per_siemens, b_siemens=row.values[5] * per_siemens))
    return shunts


def _id(number: float) -> str:
    return str(int(number)) if math.isfinite(number) else str(number)
