"""Exact AC power flow by power-grid-model, in batches: the reference of every other method. Shapes and directions: `result`."""

from __future__ import annotations

from typing import Any

import numpy as np
from power_grid_model import CalculationMethod, PowerGridModel, initialize_array
from power_grid_model.errors import PowerGridBatchError, PowerGridError  # type: ignore[attr-defined]

from coordinator.errors import PowerFlowError
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.powerflow.pgm_input import build_input
from coordinator.powerflow.result import FloatArray, PowerFlowResult, no_load_loss_w, phase_mask, power_array

ERROR_TOLERANCE_PU = 1e-9
MAX_ITERATIONS = 50


class PgmEngine:
    """Solves one network for many power vectors; the network's topology and taps are fixed."""

    def __init__(self, network: Network) -> None:
        self.network = require_valid(network)
        self._input = build_input(network)
        self._component = "sym_load" if network.is_balanced else "asym_load"
        self._lines = "line" if network.is_balanced else "asym_line"
        self._model = PowerGridModel(self._input.data, system_frequency=network.frequency_hz)
        self._bus_mask = phase_mask(network, [bus.phases for bus in network.buses])
        self._line_mask = phase_mask(network, [line.phases for line in network.lines])

    def solve(
        self,
        p_w: FloatArray | None = None,
        q_var: FloatArray | None = None,
        *,
        source_voltage_pu: FloatArray | None = None,
    ) -> PowerFlowResult:
        """Solve N scenarios; a missing array is the network's base load.

        `p_w` and `q_var` are (connections,), (N, connections) totals, or (N, connections, 3) per phase in an unbalanced network.
        Raises PowerFlowError, whose `failed_rows` are the scenarios without a solution; a partial answer is never returned.
        """
        power = power_array(self.network, p_w, self.network.base_power_w())
        reactive = power_array(self.network, q_var, self.network.base_reactive_var())
        voltages = np.ones(1) if source_voltage_pu is None else np.atleast_1d(np.asarray(source_voltage_pu, dtype=np.float64))
        count = max(len(power), len(reactive), len(voltages))
        update = self._update(count, power, reactive, None if source_voltage_pu is None else voltages)
        return self._result(self._calculate(update), count)

    def _update(self, count: int, power: FloatArray, reactive: FloatArray, voltages: FloatArray | None) -> dict[str, Any]:
        update: dict[str, Any] = {}
        ids = self._input.connection_ids
        if len(ids):
            shape = (count, *power.shape[1:])
            update[self._component] = {
                "id": np.tile(ids, (count, 1)),
                "p_specified": np.ascontiguousarray(np.broadcast_to(power, shape)),
                "q_specified": np.ascontiguousarray(np.broadcast_to(reactive, shape)),
            }
        if voltages is not None:
            source = initialize_array("update", "source", (count, 1))
            source["id"] = self._input.source_id
            bus = self.network.bus_index[self.network.source.bus]
            to_rated = self.network.nominal_ln_v[bus] / self._input.rated_ln_v[bus]
            source["u_ref"][:, 0] = np.broadcast_to(voltages * to_rated, count)
            update["source"] = source
        return update

    def _calculate(self, update: dict[str, Any]) -> dict[str, Any]:
        """Iterative current first, cheap for a constant topology; Newton where that does not converge."""
        branch = ["p_from", "p_to", "i_from", "i_to"]
        wanted: dict[Any, Any] = {"node": ["u_pu", "u_angle"], "source": ["p", "q"], "line": [*branch, "q_to"]}
        wanted[self._lines] = [*branch, "q_to"]
        if self.network.transformers:
            wanted["transformer"] = ["p_from", "p_to", "loading"]
        for method in (CalculationMethod.iterative_current, CalculationMethod.newton_raphson):
            try:
                solution: dict[str, Any] = dict(
                    self._model.calculate_power_flow(  # type: ignore[arg-type]
                        symmetric=self.network.is_balanced,
                        error_tolerance=ERROR_TOLERANCE_PU,
                        max_iterations=MAX_ITERATIONS,
                        calculation_method=method,
                        update_data=update,
                        output_component_types=wanted,
                    )
                )
                return solution
            except PowerGridBatchError as error:
                failed = tuple(int(row) for row in error.failed_scenarios)
            except PowerGridError as error:
                raise PowerFlowError(f"power flow of network {self.network.name} failed: {error}") from error
        raise PowerFlowError(
            f"power flow of network {self.network.name} has no solution in {len(failed)} scenario(s), first {failed[0]}: the load"
            " is likely beyond what the feeder can carry",
            failed_rows=failed,
        )

    def _result(self, output: dict[str, Any], count: int) -> PowerFlowResult:
        buses, lines, transformers = len(self.network.buses), len(self.network.lines), len(self.network.transformers)
        phases = 1 if self.network.is_balanced else 3
        node, line = output["node"], output[self._lines]
        shape = (count, buses + 1, phases)
        rated = self._input.rated_ln_v[:, None]
        voltage_v = np.where(self._bus_mask, node["u_pu"].reshape(shape)[:, :buses] * rated, np.nan)
        angle = node["u_angle"].reshape(shape)[:, :buses]
        current_a = np.maximum(line["i_from"], line["i_to"]).reshape(count, -1, phases)[:, :lines]
        loss_w = _phase_sum(line["p_from"] + line["p_to"], count, phases)[:, :lines].sum(axis=1)
        loading = np.zeros((count, transformers))
        if transformers:
            windings = output["transformer"]
            loss_w = loss_w + _phase_sum(windings["p_from"] + windings["p_to"], count, phases).sum(axis=1)
            loss_w = loss_w + no_load_loss_w(self.network, voltage_v)
            loading = windings["loading"].reshape(count, transformers)
        return PowerFlowResult(
            voltage_ln_v=voltage_v * np.exp(1j * angle),
            voltage_pu=voltage_v / self.network.nominal_ln_v[:, None],
            line_current_a=np.where(self._line_mask, current_a, np.nan),
            transformer_loading_frac=loading,
            loss_w=loss_w,
            source_p_w=self._supplied(output, "p", count, phases),
            source_q_var=self._supplied(output, "q", count, phases),
        )

    def _supplied(self, output: dict[str, Any], part: str, count: int, phases: int) -> FloatArray:
        """Power that enters the source bus, behind the source's own impedance."""
        if self._input.source_behind_line:
            return -_phase_sum(output["line"][f"{part}_to"], count, phases)[:, -1]
        return _phase_sum(output["source"][part], count, phases)[:, 0]


def _phase_sum(power: FloatArray, count: int, phases: int) -> FloatArray:
    total: FloatArray = power.reshape(count, -1, phases).sum(axis=2)
    return total
