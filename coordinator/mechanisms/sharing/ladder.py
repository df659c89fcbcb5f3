"""Systems G v = b with G = diag(g) + (L^T D L)^-1 for many households at once, L the running sum over time and D > 0 diagonal.

With e = 1 / D this is the conductance matrix of a resistor ladder: g_t from node t to ground, e_t between nodes t and t + 1, and the last
e from the last node to ground. All its eliminations are sums and parallel connections of positive numbers, so nothing cancels however
differently scaled they are, as they become towards the end of an interior-point method. Arrays are (T, n).
"""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.sharing.households import FloatArray


class Ladder:
    """A factorised ladder: `solve` takes right sides, `entries` gives the inverse diagonal by diagonal."""

    def __init__(self, ground: FloatArray, rung: FloatArray) -> None:
        """Eliminate from the first interval to the last; `ground` is g, `rung` e."""
        self.ground, self.rung = ground, rung
        self.left = np.empty_like(ground)
        self.left[0] = 0.0
        for t in range(1, ground.shape[0]):
            behind = ground[t - 1] + self.left[t - 1]
            np.multiply(rung[t - 1], behind, out=self.left[t])
            behind += rung[t - 1]
            self.left[t] /= behind
        self.inverse_pivot = 1.0 / (ground + self.left + rung)
        self.onward = rung * self.inverse_pivot

    def solve(self, right: FloatArray) -> FloatArray:
        """G^-1 right."""
        periods = right.shape[0]
        found = right.copy()
        scratch = np.empty_like(right[0])
        for t in range(1, periods):
            np.multiply(self.onward[t - 1], found[t - 1], out=scratch)
            found[t] += scratch
        found *= self.inverse_pivot
        for t in range(periods - 2, -1, -1):
            np.multiply(self.onward[t], found[t + 1], out=scratch)
            found[t] += scratch
        return found

    def diagonal(self) -> FloatArray:
        """The diagonal of G^-1: one over what a node sees to the ground, to its left and to its right."""
        right = np.empty_like(self.ground)
        right[-1] = self.rung[-1]
        for t in range(self.ground.shape[0] - 2, -1, -1):
            ahead = self.ground[t + 1] + right[t + 1]
            np.multiply(self.rung[t], ahead, out=right[t])
            ahead += self.rung[t]
            right[t] /= ahead
        return np.asarray(1.0 / (self.ground + self.left + right))
