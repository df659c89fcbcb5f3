"""The plant: three-phase power flow of the feeder, by power-grid-model, once per step.

It is the bench's own call and its own conversion; the coordinator is judged by it. Powers are positive into the household;
results per unit refer to the rated voltage of the bus. The method is the iterative current one (constant topology, 0.2-0.5 ms
for a street), with Newton-Raphson as fallback; each call starts flat, so a step does not depend on the step before it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from power_grid_model import CalculationMethod, ComponentType, WindingType, initialize_array

from hil.errors import PlantError
from hil.feeder import Feeder
from hil.power_flow import RepeatedPowerFlow, power_flow_options

Floats = npt.NDArray[np.float64]
_WINDINGS = {"delta": WindingType.delta, "wye_n": WindingType.wye_n, "wye": WindingType.wye}


class PlantState(NamedTuple):
    """What the wires do at one instant."""

    voltage_v: Floats
    """[connection, phase], line to neutral; NaN for phases that the connection does not have."""

    voltage_pu: Floats
    """[connection, phase], as `voltage_v`."""

    line_loading: Floats
    """[line], highest phase current / rated current; 0 where the line has no rating."""

    transformer_loading: Floats
    """[transformer], apparent power / rated apparent power."""

    transformer_w: Floats
    """[transformer], power from the high-voltage side into the feeder."""

    source_w: float
    losses_w: float


class Plant:
    """Holds the model of one feeder; `solve` is a function of the powers that it is given."""

    def __init__(self, feeder: Feeder) -> None:
        self.feeder = feeder
        ids = {bus.name: number for number, bus in enumerate(feeder.buses)}
        first_branch = len(ids)
        self._bus = np.array([ids[connection.bus] for connection in feeder.connections])
        self._share = np.zeros((len(feeder.connections), 3))
        for row, connection in enumerate(feeder.connections):
            self._share[row, list(connection.phases)] = 1.0 / len(connection.phases)
        self._has_phase = np.where(self._share > 0.0, 1.0, np.nan)
        self._rated_v = np.array([feeder.buses[bus].rated_v for bus in self._bus])
        lines = _lines(feeder, ids, first_branch)
        transformers = _transformers(feeder, ids, first_branch + len(lines))
        source = _source(feeder, ids, first_branch + len(lines) + len(transformers))
        loads = _loads(self._bus, int(source["id"][0]) + 1)
        self._update_load = initialize_array("update", "asym_load", len(loads))
        self._update_load["id"] = loads["id"]
        self._update_source = initialize_array("update", "source", 1)
        self._update_source["id"] = source["id"]
        self._update_source["u_ref"] = source["u_ref"]
        self._flow = RepeatedPowerFlow(
            {
                ComponentType.node: _nodes(feeder),
                ComponentType.line: lines,
                ComponentType.transformer: transformers,
                ComponentType.source: source,
                ComponentType.asym_load: loads,
            },
            update={ComponentType.asym_load: self._update_load, ComponentType.source: self._update_source},
            outputs=(ComponentType.node, ComponentType.line, ComponentType.transformer, ComponentType.source),
        )
        self._methods = [
            power_flow_options(method) for method in (CalculationMethod.iterative_current, CalculationMethod.newton_raphson)
        ]

    def solve(self, net_import_w: Floats, net_import_var: Floats, source_voltage_pu: float | None = None) -> PlantState:
        """State of the feeder for the net import of every connection, in the order of `feeder.connections`.

        Raises `PlantError` where no solution exists: a feeder asked for more than it can carry has collapsed. A power that is no number
        is refused too: to power-grid-model it means that the one before stays.
        """
        finite = np.isfinite(net_import_w + net_import_var)
        if not finite.all():
            where = self.feeder.connections[int(np.argmin(finite))].name
            raise PlantError(f"feeder {self.feeder.name}: expected a finite power at every connection, got another at {where}")
        self._update_load["p_specified"] = net_import_w[:, None] * self._share
        self._update_load["q_specified"] = net_import_var[:, None] * self._share
        if source_voltage_pu is not None:
            self._update_source["u_ref"] = source_voltage_pu
        if not any(self._flow.solve(method) for method in self._methods):
            raise PlantError(
                f"feeder {self.feeder.name}: the power flow has no solution at {float(net_import_w.sum()):.0f} W total net import"
            )
        results = self._flow.results
        voltage_pu = results[ComponentType.node]["u_pu"][self._bus] * self._has_phase
        lines, transformers = results[ComponentType.line], results[ComponentType.transformer]
        source_w = float(results[ComponentType.source]["p"].sum())
        return PlantState(
            voltage_v=voltage_pu * self._rated_v[:, None],
            voltage_pu=voltage_pu,
            line_loading=lines["loading"].copy(),
            transformer_loading=transformers["loading"].copy(),
            transformer_w=transformers["p_from"].sum(axis=1),
            source_w=source_w,
            losses_w=source_w - float(net_import_w.sum()),
        )


def _nodes(feeder: Feeder) -> npt.NDArray[np.void]:
    nodes = initialize_array("input", "node", len(feeder.buses))
    nodes["id"] = np.arange(len(feeder.buses))
    nodes["u_rated"] = [bus.rated_v * math.sqrt(3.0) for bus in feeder.buses]
    return nodes


def _lines(feeder: Feeder, ids: dict[str, int], first: int) -> npt.NDArray[np.void]:
    lines = initialize_array("input", "line", len(feeder.lines))
    lines["id"] = first + np.arange(len(feeder.lines))
    lines["from_node"] = [ids[line.from_bus] for line in feeder.lines]
    lines["to_node"] = [ids[line.to_bus] for line in feeder.lines]
    lines["from_status"] = lines["to_status"] = 1
    for field, attribute in (("r1", "r1_ohm"), ("x1", "x1_ohm"), ("r0", "r0_ohm"), ("x0", "x0_ohm")):
        lines[field] = [getattr(line, attribute) for line in feeder.lines]
    lines["c1"] = [line.c1_f for line in feeder.lines]
    lines["c0"] = [line.c0_f for line in feeder.lines]
    lines["tan1"] = lines["tan0"] = 0.0
    # An infinite rating gives a loading of zero.
    lines["i_n"] = [line.rated_a for line in feeder.lines]
    return lines


def _transformers(feeder: Feeder, ids: dict[str, int], first: int) -> npt.NDArray[np.void]:
    units = initialize_array("input", "transformer", len(feeder.transformers))
    units["id"] = first + np.arange(len(feeder.transformers))
    units["from_node"] = [ids[unit.hv_bus] for unit in feeder.transformers]
    units["to_node"] = [ids[unit.lv_bus] for unit in feeder.transformers]
    units["from_status"] = units["to_status"] = 1
    units["u1"] = [unit.hv_v for unit in feeder.transformers]
    units["u2"] = [unit.lv_v for unit in feeder.transformers]
    units["sn"] = [unit.rated_va for unit in feeder.transformers]
    units["uk"] = [math.hypot(unit.resistance_pu, unit.reactance_pu) for unit in feeder.transformers]
    units["pk"] = [unit.resistance_pu * unit.rated_va for unit in feeder.transformers]
    units["p0"] = [unit.no_load_w for unit in feeder.transformers]
    # The tables give no magnetising current: the no-load current is its active part alone.
    units["i0"] = [unit.no_load_w / unit.rated_va for unit in feeder.transformers]
    units["winding_from"] = [_WINDINGS[unit.hv_winding] for unit in feeder.transformers]
    units["winding_to"] = [_WINDINGS[unit.lv_winding] for unit in feeder.transformers]
    units["clock"] = [unit.clock for unit in feeder.transformers]
    units["tap_side"] = units["tap_pos"] = units["tap_nom"] = units["tap_min"] = units["tap_max"] = 0
    units["tap_size"] = 0.0
    return units


def _source(feeder: Feeder, ids: dict[str, int], number: int) -> npt.NDArray[np.void]:
    given = feeder.source
    z1_ohm, z0_ohm = math.hypot(given.r1_ohm, given.x1_ohm), math.hypot(given.r0_ohm, given.x0_ohm)
    source = initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"] = number, ids[given.bus], 1
    source["u_ref"] = given.voltage_pu
    if z1_ohm > 0.0:
        source["sk"] = given.rated_ll_v**2 / z1_ohm
        source["rx_ratio"] = given.r1_ohm / given.x1_ohm
        source["z01_ratio"] = z0_ohm / z1_ohm
    else:
        source["sk"] = 1e20
    return source


def _loads(buses: npt.NDArray[np.int64], first: int) -> npt.NDArray[np.void]:
    loads = initialize_array("input", "asym_load", len(buses))
    loads["id"] = first + np.arange(len(buses))
    loads["node"] = buses
    loads["status"] = 1
    loads["type"] = 0
    loads["p_specified"] = loads["q_specified"] = 0.0
    return loads
