"""LinDistFlow's packing rows of one direction on a balanced radial feeder, written as sums over the tree.

Row j < n: how far the square of node j's voltage, in per unit, moves towards its limit. After them, for every branch with a limit, how
far its loading, as a share of the limit, rises: along the direction of the power that it carries when everybody is at full demand. The
slopes are the same in every round, so that a linear program can be kept; what is exact is the excess that they start from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.lindistflow import Sensitivity
from coordinator.powerflow.radial import BoolArray, FloatArray, IntArray
from coordinator.powerflow.radial_tree import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRows:
    """Implements `coordinator.envelopes.packing.Rows` over the limits of the first `limits` movers.

    `square_v2` (n,) is the squared nominal voltage referred to the source; `branch` (k,) are the nodes below the limited branches, whose
    loading rises by `per_w` + `per_var` q per watt of a mover below with q var per watt.
    """

    sensitivity: Sensitivity
    limits: int
    square_v2: FloatArray
    branch: IntArray
    per_w: FloatArray
    per_var: FloatArray
    largest: FloatArray

    @property
    def count(self) -> int:
        """One row per node and one per limited branch."""
        return self.square_v2.size + self.branch.size

    def dot(self, x: FloatArray) -> FloatArray:
        """Every row's sum at limits x."""
        p_w = np.zeros(self.sensitivity.node_of_mover.size)
        p_w[: self.limits] = x
        active, reactive = self.sensitivity.below(p_w), self.sensitivity.below(self.sensitivity.q_per_w * p_w)
        return np.concatenate([
            self.sensitivity.fall(p_w) / self.square_v2,
            self.per_w * active[self.branch] + self.per_var * reactive[self.branch],
        ])

    def take(self, index: IntArray) -> FloatArray:
        """Some rows' slopes, dense."""
        nodes = self.square_v2.size
        rows = np.zeros((index.size, self.limits))
        volts = index < nodes
        rows[volts] = self.sensitivity.fall_rows(index[volts])[:, : self.limits] / self.square_v2[index[volts], None]
        which = index[~volts] - nodes
        slope = self.per_w[which, None] + self.per_var[which, None] * self.sensitivity.q_per_w[: self.limits]
        rows[~volts] = self.sensitivity.is_below(self.branch[which])[:, : self.limits] * slope
        return rows

    def peaks(self, excess: FloatArray) -> BoolArray:
        """Voltages beyond those of the node before and of all nodes after; and every branch."""
        volts = self.square_v2.size
        parent = self.sensitivity.parent
        fed = np.flatnonzero(parent != ROOT)
        after = np.full(volts, -np.inf)
        np.maximum.at(after, parent[fed], excess[fed])
        peaks = np.ones(excess.size, dtype=np.bool_)
        peaks[:volts] = excess[:volts] >= after
        peaks[fed] &= excess[fed] > excess[parent[fed]]
        return peaks


def build_rows(
    sensitivity: Sensitivity, limits: int, square_v2: FloatArray, branch: IntArray, full: tuple[FloatArray, FloatArray, FloatArray]
) -> TreeRows:
    """Build the rows; `full` are the active and reactive power that every limited branch carries towards this direction when everybody is
    at full demand, and what a watt along it adds to the loading.
    """
    active, reactive, share_per_va = full
    ends = sensitivity.q_per_w[:limits]
    q_ends = np.array([np.min(ends, initial=0.0), np.max(ends, initial=0.0)])
    apparent = np.maximum(np.hypot(active, reactive), 1e-9)
    # No limit may relieve a row of its own direction, or the rows would not be a packing.
    per_w = np.maximum(active, 0.0) / apparent
    steepest = np.max(np.maximum(-reactive[:, None] * q_ends, 0.0), axis=1) / apparent
    per_var = np.where(steepest > 0.9 * per_w, 0.0, reactive / apparent)
    paths = sensitivity.sums.above(sensitivity.r_ohm + sensitivity.x_ohm * q_ends[1])
    per_w, per_var = per_w * share_per_va, per_var * share_per_va
    return TreeRows(
        sensitivity=sensitivity,
        limits=limits,
        square_v2=square_v2,
        branch=branch,
        per_w=per_w,
        per_var=per_var,
        largest=np.concatenate([
            2.0 / sensitivity.conductors * paths / square_v2,
            np.max(per_w[:, None] + per_var[:, None] * q_ends, axis=1),
        ]),
    )
