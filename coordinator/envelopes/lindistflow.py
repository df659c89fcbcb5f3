"""LinDistFlow of a balanced radial feeder, as an operator on the powers of its connections.

Baran and Wu, IEEE Trans. Power Delivery 4(2), 1989, without the loss terms: the square of a voltage falls along every branch by 2 (r P
+ x Q). Transformers are referred away: every zone is seen from the source by the ratio of turns between them, so that powers pass
unchanged. Powers here are three-phase totals and voltages phase to neutral, so a drop carries a third of the power.

With r, x and r + x q >= 0 everywhere, more export raises every voltage and more import lowers every voltage, so export and import
limits are two separate problems (`Sensitivity.is_monotone`). Nothing here is as large as nodes times connections: sums over the tree
take its place, and single rows are written out when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Movers
from coordinator.powerflow.radial import BoolArray, FloatArray, IntArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT
from coordinator.powerflow.tree_sums import TreeSums, build_sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Where each mover (u,) draws and how reactive it is, and the branches (n,) above the nodes with impedances referred to the source.

    `parent` (n,) is each branch's sending node, `ratio` (n,) refers voltages: V_referred = ratio * V.
    """

    sums: TreeSums
    parent: IntArray
    node_of_mover: IntArray
    q_per_w: FloatArray
    r_ohm: FloatArray
    x_ohm: FloatArray
    ratio: FloatArray
    conductors: int

    def is_monotone(self, moves: BoolArray) -> bool:
        """Whether no branch lets a mover of the mask `moves` (u,) raise a voltage by importing."""
        ends = self.q_per_w[moves]
        falls = [self.r_ohm + self.x_ohm * end for end in (np.min(ends, initial=0.0), np.max(ends, initial=0.0))]
        return bool(np.all(self.r_ohm >= 0.0) and np.all(self.x_ohm >= 0.0) and all(np.all(fall >= 0.0) for fall in falls))

    def below(self, p_w: FloatArray) -> FloatArray:
        """What the movers at and below each node (n,) draw together when each draws `p_w` (u,)."""
        return self.sums.below(np.bincount(self.node_of_mover, weights=p_w, minlength=self.r_ohm.size).astype(np.float64))

    def fall(self, p_w: FloatArray) -> FloatArray:
        """How far the squared voltage of every node, referred to the source, falls when the movers import `p_w` (u,)."""
        flow = self.r_ohm * self.below(p_w) + self.x_ohm * self.below(self.q_per_w * p_w)
        return np.asarray((2.0 / self.conductors) * self.sums.above(flow))

    def fall_rows(self, nodes: IntArray) -> FloatArray:
        """`fall` of some nodes written out as slopes over the movers (k, u)."""
        r, x = (self.sums.shared(nodes, part)[:, self.node_of_mover] for part in (self.r_ohm, self.x_ohm))
        return np.asarray((2.0 / self.conductors) * (r + x * self.q_per_w))

    def is_below(self, nodes: IntArray) -> BoolArray:
        """Whether each mover is fed through the branch above each of `nodes` (k, u)."""
        return self.sums.is_below(self.node_of_mover, nodes)


def build_sensitivity(feeder: RadialFeeder, movers: Movers) -> Sensitivity:
    """Refer every branch to the source and find every mover's node."""
    tree = feeder.tree
    ratio = np.ones(tree.node_count)
    for number, zone in enumerate(tree.zones):
        if zone.attach != ROOT:
            ratio[zone.first : zone.last] = ratio[zone.attach] / abs(feeder.transfer[number, 0, 0])
    node_of_mover = np.empty(movers.connection.size, dtype=np.int64)
    node_of_mover[movers.mover_of_point] = feeder.points.slot
    return Sensitivity(
        sums=build_sums(tree.parent),
        parent=tree.parent,
        node_of_mover=node_of_mover,
        q_per_w=movers.q_per_w,
        r_ohm=feeder.z_ohm[:, 0, 0].real * ratio**2,
        x_ohm=feeder.z_ohm[:, 0, 0].imag * ratio**2,
        ratio=ratio,
        conductors=feeder.conductors,
    )
