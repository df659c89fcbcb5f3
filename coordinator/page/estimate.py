"""What the feeder's voltages and loadings are, from what the homes say that they draw: one exact AC power flow. Pure.

The voltage of the grid above is not measured; the meters of the homes are. The source is therefore scaled by the median of measured over
estimated voltage, and the power flow is solved once more (Kersting, Distribution System Modeling and Analysis, on allocation by
measurement, goes further). Connections without a report are taken in the middle of what the operator allows for passive ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from coordinator.config import CoordinatorConfig
from coordinator.errors import PowerFlowError
from coordinator.network.model import Network
from coordinator.powerflow.pgm import PgmEngine
from coordinator.powerflow.result import FloatArray, PowerFlowResult, line_loading_frac

PLAUSIBLE: Final = (0.85, 1.15)
"""Measured over estimated voltage; what lies outside is a meter at fault and not the grid."""


class Report(Struct, frozen=True, kw_only=True):
    """What one node said of its connection point."""

    net_import_w: float
    voltage_v: tuple[float, ...] = ()


class Estimate(Struct, frozen=True, kw_only=True):
    """Of each bus the lowest and highest phase voltage, line to neutral [V]; of each line and transformer the share of its rating."""

    low_v: FloatArray
    high_v: FloatArray
    line_frac: FloatArray
    transformer_frac: FloatArray


class Estimator:
    """One network with its nodes."""

    def __init__(self, config: CoordinatorConfig, network: Network) -> None:
        self.network = network
        self._engine = PgmEngine(network)
        self._row = {node.name: network.connection_index[node.connection] for node in config.nodes}
        self._bus = {name: network.bus_index[network.connections[row].bus] for name, row in self._row.items()}
        self._phases = {name: network.connections[row].phases for name, row in self._row.items()}
        self._q_per_w = config.envelopes.q_per_w
        middle_frac = (config.passive.low_frac + config.passive.high_frac) / 2.0
        self._base_w, self._base_var = network.base_power_w() * middle_frac, network.base_reactive_var() * middle_frac

    def bus_of(self, node: str) -> int:
        """Position of the bus at which a node connects."""
        return self._bus[node]

    def knows(self, node: str) -> bool:
        """Whether a node of this name belongs to the feeder."""
        return node in self._row

    @property
    def node_buses(self) -> frozenset[int]:
        """Positions of all buses with a node."""
        return frozenset(self._bus.values())

    def at(self, reports: Sequence[Mapping[str, Report]]) -> list[Estimate] | None:
        """One estimate for each moment, or None where the power flow of one has no solution."""
        power_w = np.tile(self._base_w, (len(reports), 1))
        power_var = np.tile(self._base_var, (len(reports), 1))
        for moment, said in enumerate(reports):
            for node, report in said.items():
                power_w[moment, self._row[node]] = report.net_import_w
                power_var[moment, self._row[node]] = report.net_import_w * self._q_per_w
        source_pu = np.full(len(reports), self.network.source.voltage_pu)
        try:
            first = self._engine.solve(power_w, power_var, source_voltage_pu=source_pu)
            source_pu = source_pu * np.array([self._ratio(said, first, moment) for moment, said in enumerate(reports)])
            result = self._engine.solve(power_w, power_var, source_voltage_pu=source_pu)
        except PowerFlowError:
            return None
        volts = result.voltage_pu * self.network.nominal_ln_v[:, None]
        loading = line_loading_frac(self.network, result.line_current_a)
        return [
            Estimate(
                low_v=np.fmin.reduce(volts[moment], axis=1),
                high_v=np.fmax.reduce(volts[moment], axis=1),
                line_frac=loading[moment],
                transformer_frac=result.transformer_loading_frac[moment],
            )
            for moment in range(len(reports))
        ]

    def _ratio(self, said: Mapping[str, Report], result: PowerFlowResult, moment: int) -> float:
        """Median of measured over estimated voltage; 1 where nothing plausible was measured."""
        ratios = []
        for node, report in said.items():
            phases = self._phases[node]
            if len(report.voltage_v) != len(phases):
                continue
            columns = [0] * len(phases) if self.network.is_balanced else [phase - 1 for phase in phases]
            estimated_v = result.voltage_pu[moment, self._bus[node], columns] * self.network.nominal_ln_v[self._bus[node]]
            ratios += [measured / float(estimated) for measured, estimated in zip(report.voltage_v, estimated_v, strict=True)]
        plausible = [ratio for ratio in ratios if PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1]]
        return float(np.median(plausible)) if plausible else 1.0
