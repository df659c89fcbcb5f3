"""Losses of configurations without solving them: what the lossless flows would lose at the source's voltage.

With S0 the lossless flows of the reference tree and B the loop matrix, a configuration with open branches O carries S = S0 + B^T j,
j = -B[:, O]^-T S0[O], and the estimate

    sum of r_k |S_k|^2 / v_source^2 = constant + 2 Re(linear^H j) + j^H square j

is a quadratic form in the loop flows j, with matrices of the number of loops, not of nodes. It ranks candidates for nothing.

It is a *lower bound* of the loss where every connection draws p >= 0 and q >= 0 and nothing else injects: then a branch carries at least
what lies below it without losses, and no voltage is above the source's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.reconfiguration.costs import SwitchingCosts
from coordinator.reconfiguration.flow import CONDUCTORS
from coordinator.reconfiguration.loops import ComplexArray, FloatArray, IntArray, LoopSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class LosslessEstimate:
    """The quadratic form of the module, summed over weighted periods.

    `flow` (branches, periods) are the flows of the reference tree scaled by the square root of the weights, `r` (branches,) what a unit
    of flow squared loses. `is_lower_bound` says whether the estimate never exceeds the loss.
    """

    space: LoopSpace
    flow: ComplexArray
    r: FloatArray
    is_lower_bound: bool

    def of(self, open_sets: IntArray) -> FloatArray:
        """Estimates (B,) of the weighted loss."""
        weighted = self.space.loop * self.r
        constant = float(np.sum(self.r[:, None] * np.abs(self.flow) ** 2))
        inverse = np.linalg.inv(self.space.loop[:, open_sets].transpose(1, 0, 2))
        around = -np.swapaxes(inverse, 1, 2) @ self.flow[open_sets]
        linear = 2.0 * np.einsum("lt,blt->b", np.conj(weighted @ self.flow), around).real
        square = np.einsum("blt,lm,bmt->b", np.conj(around), weighted @ self.space.loop.T, around, optimize=True).real
        return np.asarray(constant + linear + square)

    def of_exchanges(self, open_set: IntArray) -> tuple[IntArray, FloatArray]:
        """Every neighbour (n, loops) of a configuration and its estimate (n,).

        The loops of the configuration itself are used: an exchange drives the flow of the newly opened branch around one of them.
        """
        space = self.space
        inverse = np.rint(np.linalg.inv(space.loop[:, open_set]))
        loop = np.rint(inverse @ space.loop)
        flow = self.flow - loop.T @ self.flow[open_set]
        weighted = loop * self.r
        free = (np.abs(loop) > 0.5) & space.switchable
        free[np.arange(open_set.size), open_set] = False
        place, branch = np.nonzero(free)
        around = -flow[branch] * loop[place, branch][:, None]
        linear = 2.0 * np.sum(np.conj(weighted @ flow)[place] * around, axis=1).real
        square = np.sum(weighted * loop, axis=1)[place] * np.sum(np.abs(around) ** 2, axis=1)
        neighbours = np.repeat(open_set[None], place.size, axis=0)
        neighbours[np.arange(place.size), place] = branch
        return neighbours, float(np.sum(self.r[:, None] * np.abs(flow) ** 2)) + linear + square


def lossless_estimate(costs: SwitchingCosts, weights: FloatArray) -> LosslessEstimate:
    """Prepare the estimate of the weighted loss over the periods of `costs`."""
    feeder, space, power = costs.feeder, costs.space, costs.node_power_va
    passive = bool(np.all(feeder.z.real >= 0.0) and np.all(feeder.z.imag >= 0.0)) and not feeder.has_shunts
    return LosslessEstimate(
        space=space,
        flow=space.tree_flow(power * np.sqrt(weights)),
        r=CONDUCTORS * feeder.z.real / feeder.source_pu**2,
        is_lower_bound=passive and bool(np.all(power.real >= 0.0) and np.all(power.imag >= 0.0)),
    )
