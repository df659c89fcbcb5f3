"""A `Network` as OpenDSS commands, so that an independent engine can check what was computed here.

Names in the commands are positions (`b0`, `l0`, `t0`, `c0p1`), so no identifier of a file ever reaches the OpenDSS parser. A balanced
network becomes three uncoupled identical phases. Constant power stays constant power between 0.3 and 2 per unit (OpenDSS would turn it into
an impedance outside 0.95..1.05 by default).
"""

from __future__ import annotations

import math

import numpy as np

from coordinator.errors import NetworkError
from coordinator.network.model import Connection, Line, Matrix, Network, Shunt, Transformer
from coordinator.network.validate import require_valid

MIN_SOURCE_OHM = 1e-9
LEADS = {"Dyn1": "lag", "Dyn11": "lead", "YNyn0": "lag"}


def export_opendss(network: Network) -> list[str]:
    """Return the commands that build the circuit, from `Clear` to the solution settings; solving is the caller's."""
    require_valid(network)
    commands = ["Clear", f"Set DefaultBaseFrequency={network.frequency_hz!r}", _source(network)]
    commands += [_line(row, line, network) for row, line in enumerate(network.lines)]
    commands += [_transformer(row, item, network) for row, item in enumerate(network.transformers)]
    for row, connection in enumerate(network.connections):
        commands += _loads(
            f"c{row}", connection, connection.p_w / len(connection.phases), connection.q_var / len(connection.phases), 1, network
        )
    for row, shunt in enumerate(network.shunts):
        square_v = network.nominal_ln_v[network.bus_index[shunt.bus]] ** 2
        commands += _loads(f"s{row}", shunt, shunt.g_siemens * square_v, -shunt.b_siemens * square_v, 2, network)
    bases_kv = sorted({round(float(bus.nominal_ln_v) * math.sqrt(3.0) / 1e3, 9) for bus in network.buses})
    commands += [f"Set VoltageBases=({' '.join(map(repr, bases_kv))})", "CalcVoltageBases"]
    commands.append("Set ControlMode=off Mode=snap Tolerance=1e-10 MaxIterations=500")
    return commands


def load_name(row: int, phase: int) -> str:
    """Name of the single-phase OpenDSS load of one phase of a connection."""
    return f"c{row}p{phase}"


def _source(network: Network) -> str:
    source = network.source
    ohms = (source.r1_ohm, source.x1_ohm, source.r0_ohm, source.x0_ohm)
    if network.is_balanced:
        ohms = (*ohms[:2], *ohms[:2])
    r1, x1, r0, x0 = ohms if any(ohms) else (MIN_SOURCE_OHM,) * 4
    row = network.bus_index[source.bus]
    kv = float(network.nominal_ln_v[row]) * math.sqrt(3.0) / 1e3
    return (
        f"New Circuit.feeder bus1=b{row}.1.2.3 phases=3 basekv={kv!r} pu={source.voltage_pu!r} "
        f"angle={math.degrees(source.angle_rad)!r} r1={r1!r} x1={x1!r} r0={r0!r} x0={x0!r}"
    )


def _line(row: int, line: Line, network: Network) -> str:
    dots = "." + ".".join(str(phase) for phase in line.phases)
    near, far = network.bus_index[line.from_bus], network.bus_index[line.to_bus]
    size = len(line.phases)
    return (
        f"New Line.l{row} bus1=b{near}{dots} bus2=b{far}{dots} phases={size} units=none length=1"
        f" rmatrix={_matrix(line.r_ohm, size)} xmatrix={_matrix(line.x_ohm, size)} cmatrix={_matrix(line.c_f, size, 1e9)}"
        f" enabled={'yes' if line.in_service else 'no'}"
    )


def _matrix(matrix: Matrix, size: int, scale: float = 1.0) -> str:
    full = np.zeros((size, size))
    if matrix and len(matrix) == size:
        full = np.array(matrix) * scale
    elif matrix:
        full = np.eye(size) * matrix[0][0] * scale
    return "(" + " | ".join(" ".join(repr(float(cell)) for cell in cells) for cells in full) + ")"


def _transformer(row: int, item: Transformer, network: Network) -> str:
    if item.vector_group not in LEADS:
        raise NetworkError(f"transformer {item.id}: OpenDSS export knows {', '.join(sorted(LEADS))}, got {item.vector_group}")
    near, far = network.bus_index[item.from_bus], network.bus_index[item.to_bus]
    high = "delta" if item.vector_group.startswith("D") else "wye"
    half_r_pct = item.r_frac * 50.0
    return (
        f"New Transformer.t{row} phases=3 windings=2 leadlag={LEADS[item.vector_group]} ppm_antifloat=0"
        f" buses=(b{near}.1.2.3 b{far}.1.2.3.0) conns=({high} wye)"
        f" kvs=({item.from_ll_v / 1e3!r} {item.to_ll_v / 1e3!r}) kvas=({item.rated_va / 1e3!r} {item.rated_va / 1e3!r})"
        f" %rs=({half_r_pct!r} {half_r_pct!r}) xhl={item.x_frac * 100.0!r}"
        f" taps=({item.from_tap_frac!r} {item.to_tap_frac!r}) maxtap=1.5 mintap=0.5"
        f" %noloadloss={item.no_load_w / item.rated_va * 100.0!r} %imag={item.magnetising_frac * 100.0!r}"
        f" enabled={'yes' if item.in_service else 'no'}"
    )


def _loads(name: str, item: Connection | Shunt, p_w: float, q_var: float, model: int, network: Network) -> list[str]:
    row = network.bus_index[item.bus]
    kv = float(network.nominal_ln_v[row]) / 1e3
    return [
        f"New Load.{name}p{phase} bus1=b{row}.{phase}.0 phases=1 conn=wye model={model} kv={kv!r}"
        f" kw={float(p_w) / 1e3!r} kvar={float(q_var) / 1e3!r} vminpu=0.3 vmaxpu=2"
        for phase in item.phases
    ]
