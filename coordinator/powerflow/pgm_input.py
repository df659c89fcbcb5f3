"""A `Network` as power-grid-model input arrays.

Choices that matter:

* The source is an infinite bus (short-circuit power 1e20 VA) behind a line that carries the source's sequence impedances, because
  power-grid-model's own source knows one X/R ratio for both sequences.
* Lines of unbalanced networks are `asym_line`s by their phase matrices. A line with fewer than three phases is filled up with uncoupled
  phases of the same impedance; nothing draws current there, so the real phases are exact and the filled ones are masked in the results.
* Taps are in the rated voltages (see `Transformer`).
* power-grid-model wants exactly equal rated voltages along lines, so each galvanic island takes the rating of its first bus.
* A constant admittance (shunts, and the no-load branch that `Transformer` puts on the low-voltage terminals) is a constant-impedance
  load, which unlike power-grid-model's shunt may be on one phase only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from power_grid_model import LoadGenType, WindingType, initialize_array

from coordinator.network.model import THREE_PHASES, ComplexArray, Line, Matrix, Network, Transformer
from coordinator.network.topology import DisjointSets
from coordinator.powerflow.result import per_phase

INFINITE_SK_VA = 1e20
WINDINGS = {"D": WindingType.delta, "YN": WindingType.wye_n}

InputData = dict[str, NDArray[Any]]


class PgmInput(msgspec.Struct, frozen=True, kw_only=True):
    """Input arrays and the ids that results and updates are matched by; positions follow the network's tuples."""

    data: InputData
    source_id: int
    source_behind_line: bool
    rated_ln_v: NDArray[np.float64]
    connection_ids: NDArray[np.int32]


def build_input(network: Network) -> PgmInput:
    """Translate a valid network; raises nothing for one that `validate` accepts."""
    buses, lines, transformers = len(network.buses), len(network.lines), len(network.transformers)
    first_line = buses + 1
    first_transformer = first_line + lines
    first_load = first_transformer + transformers
    source_id = first_load + len(network.connections) + len(network.shunts) + transformers
    rated_ln_v = _island_ratings(network)
    data: InputData = {"node": _nodes(network, rated_ln_v), "source": _source(network, source_id, rated_ln_v)}
    source_line = _source_line(network, source_id + 1)
    own = _balanced_lines(network, first_line) if network.is_balanced else _phase_lines(network, first_line)
    if network.is_balanced:
        data["line"] = np.concatenate([own, source_line])
    else:
        data["asym_line"] = own
        data["line"] = source_line
    if transformers:
        data["transformer"] = _transformers(network, first_transformer)
    component = "sym_load" if network.is_balanced else "asym_load"
    if source_id > first_load:
        data[component] = _loads(network, component, first_load, rated_ln_v)
    return PgmInput(
        data=data,
        source_id=source_id,
        source_behind_line=_has_impedance(network),
        rated_ln_v=rated_ln_v,
        connection_ids=np.arange(first_load, first_load + len(network.connections), dtype=np.int32),
    )


def _island_ratings(network: Network) -> NDArray[np.float64]:
    islands: DisjointSets[str] = DisjointSets()
    for line in network.lines:
        islands.join(line.from_bus, line.to_bus)
    ratings: dict[str, float] = {}
    return np.array([ratings.setdefault(islands.find(bus.id), bus.nominal_ln_v) for bus in network.buses], dtype=np.float64)


def _nodes(network: Network, rated_ln_v: NDArray[np.float64]) -> NDArray[Any]:
    nodes = initialize_array("input", "node", len(network.buses) + 1)
    nodes["id"] = np.arange(len(network.buses) + 1)
    source_bus = network.bus_index[network.source.bus]
    nodes["u_rated"][:-1] = rated_ln_v * math.sqrt(3.0)
    nodes["u_rated"][-1] = nodes["u_rated"][source_bus]
    return nodes


def _source(network: Network, source_id: int, rated_ln_v: NDArray[np.float64]) -> NDArray[Any]:
    source = initialize_array("input", "source", 1)
    bus = network.bus_index[network.source.bus]
    behind = _has_impedance(network)
    source["id"] = source_id
    source["node"] = len(network.buses) if behind else bus
    source["status"] = 1
    source["u_ref"] = network.source.voltage_pu * network.nominal_ln_v[bus] / rated_ln_v[bus]
    source["u_ref_angle"] = network.source.angle_rad
    source["sk"] = INFINITE_SK_VA
    return source


def _has_impedance(network: Network) -> bool:
    return network.source.r1_ohm != 0.0 or network.source.x1_ohm != 0.0


def _source_line(network: Network, line_id: int) -> NDArray[Any]:
    """Line from the infinite bus to the source bus; of 1 ohm and to a node that feeds nothing where the source has no impedance."""
    line = initialize_array("input", "line", 1)
    source = network.source
    behind = _has_impedance(network)
    line["id"] = line_id
    line["from_node"] = len(network.buses)
    line["to_node"] = network.bus_index[source.bus]
    line["from_status"], line["to_status"] = 1, 1
    line["r1"], line["x1"] = (source.r1_ohm, source.x1_ohm) if behind else (1.0, 0.0)
    line["r0"], line["x0"] = (source.r0_ohm, source.x0_ohm) if behind else (1.0, 0.0)
    for name in ("c1", "tan1", "c0", "tan0"):
        line[name] = 0.0
    return line


def _ends(lines: NDArray[Any], network: Network, items: tuple[Line, ...] | tuple[Transformer, ...], first_id: int) -> None:
    index = network.bus_index
    lines["id"] = np.arange(first_id, first_id + len(items))
    lines["from_node"] = [index[item.from_bus] for item in items]
    lines["to_node"] = [index[item.to_bus] for item in items]
    status = np.array([item.in_service for item in items], dtype=np.int8)
    lines["from_status"], lines["to_status"] = status, status


def _balanced_lines(network: Network, first_id: int) -> NDArray[Any]:
    lines = initialize_array("input", "line", len(network.lines))
    _ends(lines, network, network.lines, first_id)
    lines["r1"] = [line.r_ohm[0][0] for line in network.lines]
    lines["x1"] = [line.x_ohm[0][0] for line in network.lines]
    lines["c1"] = [line.c_f[0][0] if len(line.c_f) > 0 else 0.0 for line in network.lines]
    lines["tan1"] = 0.0
    return lines


def _phase_lines(network: Network, first_id: int) -> NDArray[Any]:
    lines = initialize_array("input", "asym_line", len(network.lines))
    _ends(lines, network, network.lines, first_id)
    pairs = (("aa", 0, 0), ("ba", 1, 0), ("bb", 1, 1), ("ca", 2, 0), ("cb", 2, 1), ("cc", 2, 2))
    for name, attribute in (("r", "r_ohm"), ("x", "x_ohm"), ("c", "c_f")):
        matrices = np.array([_filled(line, getattr(line, attribute), idle=name != "c") for line in network.lines]).reshape(-1, 3, 3)
        for pair, row, column in pairs:
            lines[f"{name}_{pair}"] = matrices[:, row, column]
    return lines


def _filled(line: Line, matrix: Matrix, *, idle: bool) -> NDArray[np.float64]:
    full = np.zeros((3, 3))
    if matrix:
        at = [phase - 1 for phase in line.phases]
        full[np.ix_(at, at)] = matrix
        if idle:
            for phase in set(range(3)) - set(at):
                full[phase, phase] = matrix[0][0]
    return full


def _transformers(network: Network, first_id: int) -> NDArray[Any]:
    items = network.transformers
    table = initialize_array("input", "transformer", len(items))
    _ends(table, network, items, first_id)
    table["u1"] = [item.from_ll_v * item.from_tap_frac for item in items]
    table["u2"] = [item.to_ll_v * item.to_tap_frac for item in items]
    table["sn"] = [item.rated_va for item in items]
    table["uk"] = [math.hypot(item.r_frac, item.x_frac) for item in items]
    table["pk"] = [item.r_frac * item.rated_va for item in items]
    table["p0"], table["i0"] = 0.0, 0.0
    table["winding_from"] = [WINDINGS["D" if item.vector_group.startswith("D") else "YN"] for item in items]
    table["winding_to"] = WindingType.wye_n
    table["clock"] = [item.clock for item in items]
    table["tap_side"] = 0
    for name in ("tap_pos", "tap_min", "tap_max", "tap_nom"):
        table[name] = 0
    table["tap_size"] = 0.0
    return table


def _loads(network: Network, component: str, first_id: int, rated_ln_v: NDArray[np.float64]) -> NDArray[Any]:
    admittances = [*_shunt_admittances(network), *_no_load_admittances(network)]
    count = len(network.connections)
    loads = initialize_array("input", component, count + len(admittances))
    loads["id"] = np.arange(first_id, first_id + len(loads))
    loads["node"] = [*(network.bus_index[item.bus] for item in network.connections), *(bus for bus, _ in admittances)]
    loads["status"] = 1
    loads["type"][:count] = LoadGenType.const_power
    loads["type"][count:] = LoadGenType.const_impedance
    p_w, q_var = network.base_power_w(), network.base_reactive_var()
    if not network.is_balanced:
        p_w, q_var = per_phase(network, p_w), per_phase(network, q_var)
    loads["p_specified"][:count], loads["q_specified"][:count] = p_w, q_var
    for row, (bus, phase_siemens) in enumerate(admittances, start=count):
        power = np.conj(phase_siemens) * rated_ln_v[bus] ** 2
        loads["p_specified"][row] = power.real.sum() if network.is_balanced else power.real
        loads["q_specified"][row] = power.imag.sum() if network.is_balanced else power.imag
    return loads


def _shunt_admittances(network: Network) -> Iterator[tuple[int, ComplexArray]]:
    for shunt in network.shunts:
        here = np.isin(THREE_PHASES, shunt.phases)
        yield network.bus_index[shunt.bus], np.where(here, complex(shunt.g_siemens, shunt.b_siemens), 0.0)


def _no_load_admittances(network: Network) -> Iterator[tuple[int, ComplexArray]]:
    """One per transformer, also where it is zero, so that positions stay those of the network."""
    for item in network.transformers:
        yield network.bus_index[item.to_bus], np.full(3, item.no_load_siemens() if item.in_service else 0j)
