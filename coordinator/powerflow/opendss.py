"""The same power flow by OpenDSS, an engine that shares no code with ours: for cross-checks, not for speed.

Needs the extra `coordinator-import`. Results have the shapes and directions of `coordinator.powerflow.result`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coordinator.errors import PowerFlowError
from coordinator.network.model import ComplexArray, Network
from coordinator.network.opendss_export import export_opendss, load_name
from coordinator.network.opendss_session import new_session
from coordinator.powerflow.result import (
    FloatArray,
    PowerFlowResult,
    per_phase,
    phase_mask,
    power_array,
)


class OpenDssEngine:
    """Solves one network for many power vectors, one after the other."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._dss: Any = new_session()
        for command in export_opendss(network):
            self._dss.Text.Command(command)
        self._solve_once(0)
        self._nodes = self._node_positions()
        self._loads = [
            (row, phase, load_name(row, phase)) for row, connection in enumerate(network.connections) for phase in connection.phases
        ]
        self._line_mask = phase_mask(network, [line.phases for line in network.lines])

    def solve(self, p_w: FloatArray | None = None, q_var: FloatArray | None = None) -> PowerFlowResult:
        """Solve N scenarios; arguments as `PgmEngine.solve`. Raises PowerFlowError at the first without a solution."""
        network = self.network
        power = power_array(network, p_w, network.base_power_w())
        reactive = power_array(network, q_var, network.base_reactive_var())
        if network.is_balanced:
            power, reactive = per_phase(network, power), per_phase(network, reactive)
        count, phases = max(len(power), len(reactive)), 1 if network.is_balanced else 3
        power = np.broadcast_to(power, (count, *power.shape[1:]))
        reactive = np.broadcast_to(reactive, (count, *reactive.shape[1:]))
        voltage_ln_v = np.full((count, len(network.buses), phases), np.nan, dtype=np.complex128)
        current_a = np.zeros((count, len(network.lines), phases))
        loading = np.zeros((count, len(network.transformers)))
        totals = np.zeros((count, 3))
        for scenario in range(count):
            self._set_loads(power[scenario], reactive[scenario])
            self._solve_once(scenario)
            voltage_ln_v[scenario] = self._voltages(phases)
            current_a[scenario] = self._line_currents(phases)
            loading[scenario] = self._transformer_loading()
            loss_w = float(self._dss.Circuit.Losses()[0])
            supplied = self._dss.Circuit.TotalPower()
            totals[scenario] = loss_w, -1e3 * float(supplied[0]), -1e3 * float(supplied[1])
        return PowerFlowResult(
            voltage_ln_v=voltage_ln_v,
            voltage_pu=np.abs(voltage_ln_v) / network.nominal_ln_v[:, None],
            line_current_a=np.where(self._line_mask, current_a, np.nan),
            transformer_loading_frac=loading,
            loss_w=totals[:, 0],
            source_p_w=totals[:, 1],
            source_q_var=totals[:, 2],
        )

    def _set_loads(self, power: FloatArray, reactive: FloatArray) -> None:
        loads = self._dss.Loads
        for row, phase, name in self._loads:
            loads.Name(name)
            loads.kW(float(power[row, phase - 1]) / 1e3)
            loads.kvar(float(reactive[row, phase - 1]) / 1e3)

    def _solve_once(self, scenario: int) -> None:
        """Solve and refuse the answer that OpenDSS calls converged while every voltage is zero."""
        self._dss.Solution.Solve()
        magnitudes = np.asarray(self._dss.Circuit.AllBusVMag())
        if not self._dss.Solution.Converged() or not magnitudes.max(initial=0.0) > 0.0:
            raise PowerFlowError(f"OpenDSS found no solution for network {self.network.name}, scenario {scenario}", failed_rows=(scenario,))

    def _node_positions(self) -> list[tuple[int, int]]:
        positions = []
        for name in self._dss.Circuit.AllNodeNames():
            bus, phase = name.lower().rsplit(".", 1)
            positions.append((int(bus.removeprefix("b")), int(phase)))
        return positions

    def _voltages(self, phases: int) -> ComplexArray:
        flat = np.asarray(self._dss.Circuit.AllBusVolts(), dtype=np.float64)
        values = flat[0::2] + 1j * flat[1::2]
        table = np.full((len(self.network.buses), 3), np.nan, dtype=np.complex128)
        for value, (bus, phase) in zip(values, self._nodes, strict=True):
            table[bus, phase - 1] = value
        return table[:, :phases]

    def _line_currents(self, phases: int) -> FloatArray:
        table = np.zeros((len(self.network.lines), 3))
        for row, line in enumerate(self.network.lines):
            if line.in_service:
                self._dss.Circuit.SetActiveElement(f"Line.l{row}")
                ends = np.asarray(self._dss.CktElement.CurrentsMagAng())[0::2].reshape(2, -1)
                table[row, [phase - 1 for phase in line.phases]] = ends.max(axis=0)
        return table[:, :phases]

    def _transformer_loading(self) -> FloatArray:
        loading = np.zeros(len(self.network.transformers))
        for row, item in enumerate(self.network.transformers):
            if item.in_service:
                self._dss.Circuit.SetActiveElement(f"Transformer.t{row}")
                powers = np.asarray(self._dss.CktElement.Powers()).reshape(-1, 2)
                apparent_va = 1e3 * np.hypot(powers[:, 0], powers[:, 1]).reshape(2, -1).sum(axis=1)
                loading[row] = apparent_va.max() / item.rated_va
        return loading
