"""What households may draw, spill or leave unserved, each between zero and its highest, some with a sum over the horizon to be reached.

min (price + cost) x + smooth / 2 x^2 by the same interior-point steps as for batteries. A sum ties a column's Newton system together by
one dual number, which eliminates in closed form; columns without one are independent in every interval. Arrays are (T, n), of tied columns
(T + 1, n) inside.
"""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.sharing.batteries import KEPT_FRAC, NEAREST_KW, NEVER
from coordinator.mechanisms.sharing.households import FloatArray, IntArray

SMALLEST_KW = 1e-9
# Tied columns begin with this share of what they need missing.
MISSING_FRAC = 1e-3


class Loads:
    """Columns sorted by bus. `needed_kw` (n,) is the sum over intervals that a tied column must reach, or pay `lost_per_kwh` for what is
    missing: that is one more row, which is not part of net import. None where nothing is tied.
    """

    def __init__(
        self,
        *,
        bus: IntArray,
        highest_kw: FloatArray,
        cost_per_kwh: float,
        smooth_per_kwh_kw: float,
        needed_kw: FloatArray | None = None,
        lost_per_kwh: float = 0.0,
        first_frac: float = 0.5,
    ) -> None:
        """Begin at `first_frac` of the highest, or wherever the same share everywhere gives nearly the sum that is needed."""
        self.bus, self.tied, self.periods = bus, needed_kw is not None, highest_kw.shape[0]
        cost, smooth = np.full((self.periods, 1), cost_per_kwh), np.full((self.periods, 1), smooth_per_kwh_kw)
        share = np.full(bus.size, first_frac)
        if needed_kw is not None:
            share = (1.0 - MISSING_FRAC) * needed_kw / highest_kw.sum(axis=0)
            highest_kw = np.vstack((highest_kw, needed_kw))
            cost, smooth = np.vstack((cost, [[lost_per_kwh]])), np.vstack((smooth, [[0.0]]))
        self.cost, self.smooth = cost, smooth
        self.there = highest_kw > SMALLEST_KW
        self.highest = np.where(self.there, highest_kw, 1.0)
        self.drawn = self.highest * share
        if needed_kw is not None:
            self.drawn[-1] = MISSING_FRAC * needed_kw
        self.multipliers: tuple[FloatArray, ...] = ()

    @property
    def slack_count(self) -> int:
        """How many bounds there are."""
        return 2 * int(self.there.sum())

    @property
    def net_kw(self) -> FloatArray:
        """What is drawn."""
        return np.where(self.there, self.drawn, 0.0)[: self.periods]

    @property
    def missing_kw(self) -> FloatArray:
        """By how much tied columns (n,) miss the sum that they need."""
        return np.asarray(self.drawn[-1])

    @property
    def aim_kw(self) -> FloatArray:
        """What would be drawn after the whole step."""
        return np.where(self.there, self.drawn + self.step, 0.0)[: self.periods]

    def cost_per_h(self) -> float:
        """Cost of what is drawn."""
        drawn = np.where(self.there, self.drawn, 0.0)
        return float((self.cost * drawn + 0.5 * self.smooth * drawn**2).sum())

    def aim(self, price: FloatArray, barrier: float) -> None:
        """Find the Newton step at a price (T, n)."""
        slacks = self.slacks
        if not self.multipliers:
            self.multipliers = tuple(barrier / slack for slack in slacks)
        self.barrier = barrier
        stiff = self.smooth + self.multipliers[0] / slacks[0] + self.multipliers[1] / slacks[1]
        self.by_price = np.where(self.there, 1.0 / stiff, 0.0)
        self.total = self.by_price.sum(axis=0)
        gradient = self.cost + self.smooth * self.drawn - barrier / slacks[0] + barrier / slacks[1]
        gradient[: self.periods] += price
        self.step = -self._held(gradient)

    def slope(self, starts: IntArray) -> FloatArray:
        """-(d aim / d price), summed over the columns from each of `starts` to the next: (len(starts), T, T)."""
        by_price = self.by_price[: self.periods]
        found = np.zeros((starts.size, self.periods, self.periods))
        every = np.arange(self.periods)
        found[:, every, every] = np.add.reduceat(by_price, starts, axis=1).T
        if self.tied:
            part = by_price / np.sqrt(self.total)
            for place, (start, end) in enumerate(zip(starts, [*starts[1:], part.shape[1]], strict=True)):
                found[place] -= part[:, start:end] @ part[:, start:end].T
        return found

    def move(self, by: FloatArray) -> FloatArray:
        """Take the step, with the price changed by `by` (T, n) since; the share (n,) of it that bounds allowed."""
        moved = np.zeros_like(self.drawn)
        moved[: self.periods] = by
        step = self.step - self._held(moved)
        slacks = self.slacks
        steps = (step, -step)
        primal, dual = np.zeros_like(step), np.zeros_like(step)
        multiplier_steps = []
        for multiplier, slack, change in zip(self.multipliers, slacks, steps, strict=True):
            relative = change / slack
            multiplier_step = self.barrier / slack - multiplier - multiplier * relative
            multiplier_steps.append(multiplier_step)
            np.maximum(primal, -relative, out=primal)
            np.maximum(dual, -multiplier_step / multiplier, out=dual)
        if self.tied:
            primal, dual = primal.max(axis=0), dual.max(axis=0)
        taken = np.minimum(1.0, KEPT_FRAC / np.maximum(primal, NEVER))
        dual_taken = np.minimum(1.0, KEPT_FRAC / np.maximum(dual, NEVER))
        self.drawn = self.drawn + taken * step
        self.multipliers = tuple(old + dual_taken * change for old, change in zip(self.multipliers, multiplier_steps, strict=True))
        return np.asarray(np.atleast_2d(np.minimum(taken, dual_taken)).min(axis=0))

    def gap_per_h(self, price: FloatArray) -> float:
        """Nothing else that these columns could draw costs less by more than this at a price (T, n)."""
        slacks = self.slacks
        gradient = self.cost + self.smooth * self.drawn - self.multipliers[0] + self.multipliers[1]
        gradient[: self.periods] += price
        if self.tied:
            gradient = gradient - (self.by_price * gradient).sum(axis=0) / self.total
        lost = np.where(gradient > 0.0, gradient * slacks[0], -gradient * slacks[1])
        loose = self.multipliers[0] * slacks[0] + self.multipliers[1] * slacks[1]
        return float(((lost + loose) * self.there).sum())

    @property
    def slacks(self) -> tuple[FloatArray, FloatArray]:
        """Distance from both bounds."""
        return np.maximum(self.drawn, NEAREST_KW), np.maximum(self.highest - self.drawn, NEAREST_KW)

    def _held(self, gradient: FloatArray) -> FloatArray:
        """by_price gradient, less what would change the sum."""
        moved = self.by_price * gradient
        if self.tied:
            moved -= self.by_price * (moved.sum(axis=0) / self.total)
        return np.asarray(moved)
