"""Losses of configurations over a set of periods, each configuration solved once and remembered.

The memory is what makes heuristics cheap that come back to the same configurations, and its counter is how search effort is measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coordinator.errors import PowerFlowError
from coordinator.network.model import Network
from coordinator.reconfiguration.flow import Flows, SwitchedFeeder, switched_feeder
from coordinator.reconfiguration.loops import ComplexArray, FloatArray, IntArray, LoopSpace, loop_space
from coordinator.reconfiguration.values import State

# A broken limit outranks any loss: each per unit beyond a limit counts as this much loss. Loss still orders what breaks limits equally.
BREACH_W_PER_PU = 1e18
LIMIT_TOLERANCE_PU = 1e-6
# No loss is as large as the least charge for a broken limit.
LEAST_CHARGE_W = BREACH_W_PER_PU * LIMIT_TOLERANCE_PU


class SwitchingCosts:
    """Losses of one feeder under `power_va` (connections, periods).

    With `enforce_limits`, a configuration that breaks a voltage limit or an ampacity is charged for it. `solved` counts the
    configurations that were solved so far; each costs one flow for every period.
    """

    def __init__(self, network: Network, power_va: ComplexArray, *, enforce_limits: bool = True) -> None:
        if power_va.ndim != 2 or power_va.shape[0] != len(network.connections):
            raise PowerFlowError(f"{network.name}: power has shape {power_va.shape}, expected ({len(network.connections)}, periods)")
        bad = np.argwhere(~np.isfinite(power_va))
        if bad.size:
            connection = network.connections[int(bad[0, 0])].id
            raise PowerFlowError(f"{network.name}: power of connection {connection} in period {bad[0, 1]} is not a finite number")
        self.space: LoopSpace = loop_space(network)
        self.feeder: SwitchedFeeder = switched_feeder(self.space)
        self.node_power_va = self.feeder.node_power_va(power_va)
        self.enforce_limits = enforce_limits
        self.solved = 0
        self._known: dict[bytes, FloatArray] = {}

    @property
    def periods(self) -> int:
        """How many snapshots there are."""
        return int(self.node_power_va.shape[1])

    def losses_w(self, open_sets: IntArray) -> FloatArray:
        """Losses (B, periods), broken limits charged, infinite without a solution."""
        return np.asarray(self._solved(open_sets).sum(axis=1))

    def of(self, open_sets: IntArray, weights: FloatArray, *, charged: bool = True) -> FloatArray:
        """Weighted sum (B,) of the losses over the periods that have a weight; not `charged`: whatever limits they break."""
        used = np.flatnonzero(weights)
        found = self._solved(open_sets)[:, :, used]
        return np.asarray((found.sum(axis=1) if charged else found[:, 0]) @ weights[used])

    def _solved(self, open_sets: IntArray) -> FloatArray:
        """Losses and charges (B, 2, periods) from memory, after solving what is not in it."""
        keys = [np.sort(row).tobytes() for row in open_sets]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            flows = self._flows(open_sets[list(new.values())])
            charge_w = BREACH_W_PER_PU * self._excess_pu(flows) if self.enforce_limits else np.zeros_like(flows.loss_w)
            both = np.stack((flows.loss_w, charge_w)).reshape(2, len(new), self.periods)
            self._known.update(zip(new, both.transpose(1, 0, 2), strict=True))
            self.solved += len(new)
        return np.array([self._known[key] for key in keys]).reshape(len(keys), 2, self.periods)

    def is_legal(self, open_sets: IntArray) -> NDArray[np.bool_]:
        """Whether each configuration (B, periods) has a solution and, where limits are enforced, keeps them."""
        return np.asarray(self.losses_w(open_sets) < LEAST_CHARGE_W)

    def state(self, open_set: IntArray) -> State:
        """How the feeder stands under one configuration."""
        flows = self._flows(open_set[None])
        solved = bool(np.all(np.isfinite(flows.loss_w)))
        rated = solved and bool(np.any(np.isfinite(self.feeder.ampacity_va)))
        return State(
            open_lines=self.space.names(open_set),
            loss_w=float(np.mean(flows.loss_w)) if solved else None,
            vmin_pu=float(np.min(flows.vmin_pu)) if solved else None,
            vmax_pu=float(np.max(flows.vmax_pu)) if solved else None,
            line_loading_frac=float(np.max(flows.loading_frac)) if rated else None,
            legal=bool(np.all(self._excess_pu(flows) == 0.0)),
        )

    def _flows(self, open_sets: IntArray) -> Flows:
        count = open_sets.shape[0]
        return self.feeder.solve(np.repeat(open_sets, self.periods, axis=0), np.tile(self.node_power_va, (1, count)))

    def _excess_pu(self, flows: Flows) -> FloatArray:
        """How far beyond the limits, summed over kinds; infinite without a solution."""
        network = self.space.network
        beyond = [network.vmin_pu - flows.vmin_pu, flows.vmax_pu - network.vmax_pu, flows.loading_frac - 1.0]
        excess = sum(np.where(item > LIMIT_TOLERANCE_PU, item, 0.0) for item in beyond)
        return np.where(np.isfinite(flows.loss_w), excess, np.inf)
