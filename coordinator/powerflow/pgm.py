"""Exact AC power flow by power-grid-model, in batches, for the plant's scale of questions and as the reference of every other method.

Reference directions: connection power is positive into the connection; source power is positive into the network; a line current is a
magnitude, the larger of its two ends; the loss is that of lines and transformers, without the source's own impedance.

Arrays: N scenarios first, then the network's own order of buses, lines, transformers or connections, then K phases, where K is 1 in a
balanced network (one phase stands for all, power is the three-phase total) and 3 in an unbalanced one. A phase that a bus or a line does
not have is NaN.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from power_grid_model import CalculationMethod, PowerGridModel, initialize_array
from power_grid_model.errors import PowerGridBatchError, PowerGridError

from coordinator.errors import PowerFlowError
from coordinator.network.model import ComplexArray, Network
from coordinator.network.validate import require_valid
from coordinator.powerflow.pgm_input import build_input, per_phase

FloatArray = NDArray[np.float64]

ERROR_TOLERANCE_PU = 1e-9
MAX_ITERATIONS = 50


class PowerFlowResult(msgspec.Struct, frozen=True, kw_only=True):
    """Solutions of N power flows; see the module for shapes and directions."""

    voltage_ln_v: ComplexArray
    voltage_pu: FloatArray
    line_current_a: FloatArray
    transformer_loading_frac: FloatArray
    loss_w: FloatArray
    source_p_w: FloatArray
    source_q_var: FloatArray

    def line_loading_frac(self, network: Network) -> FloatArray:
        """Return (N, lines) of the worst phase current over ampacity; NaN where a line has no ampacity."""
        ampacity_a = np.array([math.nan if line.ampacity_a is None else line.ampacity_a for line in network.lines])
        return np.fmax.reduce(self.line_current_a, axis=2) / ampacity_a


class PgmEngine:
    """Solves one network for many power vectors; the network's topology and taps are fixed."""

    def __init__(self, network: Network) -> None:
        self.network = require_valid(network)
        self._input = build_input(network)
        self._component = "sym_load" if network.is_balanced else "asym_load"
        self._lines = "line" if network.is_balanced else "asym_line"
        self._model = PowerGridModel(self._input.data, system_frequency=network.frequency_hz)
        self._bus_mask = _phase_mask(network, [bus.phases for bus in network.buses])
        self._line_mask = _phase_mask(network, [line.phases for line in network.lines])
        self._rated_to_a = np.array(
            [item.rated_va / (math.sqrt(3.0) * item.to_ll_v * item.to_tap_frac) for item in network.transformers]
        )

    def solve(
        self,
        p_w: FloatArray | None = None,
        q_var: FloatArray | None = None,
        *,
        source_voltage_pu: FloatArray | None = None,
    ) -> PowerFlowResult:
        """Solve N scenarios; a missing array is the network's base load.

        `p_w` and `q_var` are (connections,), (N, connections) totals, or (N, connections, 3) per phase in an unbalanced network.
        Transformer loading is the worst phase current of the low-voltage side over its rated current. Raises PowerFlowError, whose
        `failed_rows` are the scenarios without a solution; a partial answer is never returned.
        """
        power = self._powers(p_w, self.network.base_power_w())
        reactive = self._powers(q_var, self.network.base_reactive_var())
        voltages = np.ones(1) if source_voltage_pu is None else np.atleast_1d(np.asarray(source_voltage_pu, dtype=np.float64))
        count = max(len(power), len(reactive), len(voltages))
        update = self._update(count, power, reactive, None if source_voltage_pu is None else voltages)
        return self._result(self._calculate(update), count)

    def _powers(self, given: FloatArray | None, base: FloatArray) -> FloatArray:
        values = base if given is None else np.asarray(given, dtype=np.float64)
        if values.ndim == 1:
            values = values[None]
        connections = len(self.network.connections)
        shapes = ((connections,),) if self.network.is_balanced else ((connections,), (connections, 3))
        if values.shape[1:] not in shapes:
            wanted = " or ".join(str(("N", *shape)) for shape in shapes)
            raise PowerFlowError(f"power array of network {self.network.name}: expected shape {wanted}, got {values.shape}")
        if not np.isfinite(values).all():
            raise PowerFlowError(f"power array of network {self.network.name} holds NaN or infinity")
        if self.network.is_balanced or values.ndim == 3:
            return values
        return per_phase(self.network, values)

    def _update(
        self, count: int, power: FloatArray, reactive: FloatArray, voltages: FloatArray | None
    ) -> dict[str, Any]:
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
            source["u_ref"][:, 0] = np.broadcast_to(voltages, count)
            update["source"] = source
        return update

    def _calculate(self, update: dict[str, Any]) -> dict[str, Any]:
        """Iterative current first, cheap for a constant topology; Newton where that does not converge."""
        branch = ["p_from", "p_to", "i_from", "i_to"]
        wanted: dict[str, list[str]] = {"node": ["u_pu", "u_angle"], self._lines: branch, "source": ["p", "q"]}
        if self.network.transformers:
            wanted["transformer"] = ["p_from", "p_to", "i_to"]
        for method in (CalculationMethod.iterative_current, CalculationMethod.newton_raphson):
            try:
                return self._model.calculate_power_flow(  # type: ignore[call-overload, no-any-return]
                    symmetric=self.network.is_balanced,
                    error_tolerance=ERROR_TOLERANCE_PU,
                    max_iterations=MAX_ITERATIONS,
                    calculation_method=method,
                    update_data=update,
                    output_component_types=wanted,
                )
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
        node, line, source = output["node"], output[self._lines], output["source"]
        shape = (count, buses + 1, phases)
        voltage_pu = np.where(self._bus_mask, node["u_pu"].reshape(shape)[:, :buses], np.nan)
        angle = node["u_angle"].reshape(shape)[:, :buses]
        current_a = np.maximum(line["i_from"], line["i_to"]).reshape(count, -1, phases)[:, :lines]
        loss_w = _phase_sum(line["p_from"] + line["p_to"], count, phases)[:, :lines].sum(axis=1)
        loading = np.zeros((count, transformers))
        if transformers:
            windings = output["transformer"]
            loss_w = loss_w + _phase_sum(windings["p_from"] + windings["p_to"], count, phases).sum(axis=1)
            loading = windings["i_to"].reshape(count, transformers, phases).max(axis=2) / self._rated_to_a
        return PowerFlowResult(
            voltage_ln_v=voltage_pu * self.network.nominal_ln_v[:, None] * np.exp(1j * angle),
            voltage_pu=voltage_pu,
            line_current_a=np.where(self._line_mask, current_a, np.nan),
            transformer_loading_frac=loading,
            loss_w=loss_w,
            source_p_w=_phase_sum(source["p"], count, phases)[:, 0],
            source_q_var=_phase_sum(source["q"], count, phases)[:, 0],
        )


def _phase_mask(network: Network, phases: list[tuple[int, ...]]) -> NDArray[np.bool_]:
    if network.is_balanced:
        return np.ones((len(phases), 1), dtype=bool)
    return np.array([[phase in own for phase in (1, 2, 3)] for own in phases], dtype=bool).reshape(-1, 3)


def _phase_sum(power: FloatArray, count: int, phases: int) -> FloatArray:
    total: FloatArray = power.reshape(count, -1, phases).sum(axis=2)
    return total
