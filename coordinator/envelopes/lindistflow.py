"""LinDistFlow of a balanced radial feeder, as rows over the envelopes of its connections.

Baran and Wu, IEEE Trans. Power Delivery 4(2), 1989, without the loss terms: the square of a voltage falls along every branch by 2 (r P
+ x Q). Transformers are referred away: every zone is seen from the source by the ratio of turns between them, so that powers pass
unchanged. Powers here are three-phase totals and voltages phase to neutral, so a drop carries a third of the power.

With r, x and r + x q >= 0 everywhere, more export raises every voltage and more import lowers every voltage, so export and import
limits are two separate problems (`Sensitivity.is_monotone`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Movers
from coordinator.powerflow.radial import BoolArray, FloatArray, IntArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Per node n and mover u: `below` says whether the mover is fed through the node's branch, `fall` (n, u) how much the square of the
    voltage, referred to the source, falls per watt that the mover imports. `ratio` (n,) refers voltages: V_referred = ratio * V.
    """

    node_of_mover: IntArray
    r_ohm: FloatArray
    x_ohm: FloatArray
    ratio: FloatArray
    below: BoolArray
    fall: FloatArray

    @property
    def is_monotone(self) -> bool:
        """Whether no mover raises any voltage by importing."""
        return bool(np.all(self.fall >= 0.0) and np.all(self.r_ohm >= 0.0) and np.all(self.x_ohm >= 0.0))


def build_sensitivity(feeder: RadialFeeder, movers: Movers) -> Sensitivity:
    """Walk the tree once up and once down."""
    tree = feeder.tree
    count = tree.node_count
    ratio = np.ones(count)
    for number, zone in enumerate(tree.zones):
        if zone.attach != ROOT:
            ratio[zone.first : zone.last] = ratio[zone.attach] / abs(feeder.transfer[number, 0, 0])
    r_ohm, x_ohm = feeder.z_ohm[:, 0, 0].real * ratio**2, feeder.z_ohm[:, 0, 0].imag * ratio**2
    node_of_mover = np.empty(movers.connection.size, dtype=np.int64)
    node_of_mover[movers.mover_of_point] = feeder.points.slot
    below = np.zeros((count, movers.connection.size), dtype=np.bool_)
    below[node_of_mover, np.arange(movers.connection.size)] = True
    for node in range(count - 1, 0, -1):
        below[tree.parent[node]] |= below[node]
    fall = below * (2.0 / feeder.conductors) * (r_ohm[:, None] + x_ohm[:, None] * movers.q_per_w)
    for node in range(1, count):
        fall[node] += fall[tree.parent[node]]
    return Sensitivity(node_of_mover=node_of_mover, r_ohm=r_ohm, x_ohm=x_ohm, ratio=ratio, below=below, fall=fall)
