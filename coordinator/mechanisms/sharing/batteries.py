"""The batteries of many households, each a step of a primal-dual interior-point method at a time.

A battery minimises price (c - d) + wear (c + d) + smooth / 2 (c^2 + d^2) within its power and its capacity; the barrier method replaces
bounds by -barrier log(slack) (Nocedal and Wright, Numerical Optimization, 2nd ed., section 16.6). Its Newton system is diagonal but for
the stored energy, and the elimination of that is a ladder (`ladder.py`): O(T) for a step and O(T^2) for the slope of net import by price.
Powers are in kilowatts, energies in kilowatt hours, prices per kWh, the barrier in price per kWh times kW. Arrays are (T, n).
"""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.sharing.households import FULLEST_END_FRAC, W_PER_KW, FloatArray, Households, IntArray
from coordinator.mechanisms.sharing.ladder import Ladder

KEPT_FRAC = 0.99
NEVER = 1e-12
# Nothing is nearer to its bound than this, however sums are rounded: a microwatt.
NEAREST_KW = 1e-9


class Batteries:
    """The batteries of `owners`, sorted by bus; `net_kw`, `aim_kw` (where the next step leads) and the slope are what others may know."""

    def __init__(self, households: Households, owners: IntArray) -> None:
        """Begin strictly inside all limits, with a gentle rise of what is stored."""
        self.owners, self.bus = owners, households.bus[owners]
        self.wear, self.smooth = households.wear_per_kwh, households.smooth_per_kwh_kw
        self.into = households.efficiency_frac * households.hours
        self.out_of = households.hours / households.efficiency_frac
        periods = households.periods
        capacity = households.battery_wh[owners] / W_PER_KW
        first = households.initial_frac[owners] * capacity
        self.highest = np.tile(households.battery_w[owners] / W_PER_KW, (periods, 1))
        self.most = np.tile(capacity - first, (periods, 1))
        self.least = np.tile(-first, (periods, 1))
        self.least[-1] = np.minimum(0.0, FULLEST_END_FRAC * capacity - first)
        self.discharge = 0.25 * self.highest
        middle = 0.5 * (self.least[-1] + self.most[-1]) / periods
        rise = np.clip(middle, -0.25 * self.into * self.highest[0], 0.25 * self.into * self.highest[0])
        self.charge = np.minimum((self.out_of * self.discharge + rise) / self.into, 0.95 * self.highest)
        self._settle()
        self.multipliers: tuple[FloatArray, ...] = ()

    @property
    def slack_count(self) -> int:
        """How many bounds there are."""
        return 6 * int(self.charge.size)

    @property
    def net_kw(self) -> FloatArray:
        """Net import as it is."""
        return np.asarray(self.charge - self.discharge)

    def cost_per_h(self) -> float:
        """Wear and the quadratic cost of what is scheduled."""
        moved = float((self.charge + self.discharge).sum())
        return self.wear * moved + 0.5 * self.smooth * float((self.charge**2 + self.discharge**2).sum())

    def aim(self, price: FloatArray, barrier: float) -> None:
        """Find the Newton step at a price (T, n) and prepare the slope."""
        if not self.multipliers:
            self.multipliers = tuple(barrier / slack for slack in self.slacks)
        self.barrier = barrier
        away = [barrier / slack for slack in self.slacks]
        stiff = [multiplier / slack for multiplier, slack in zip(self.multipliers, self.slacks, strict=True)]
        self.by_charge = 1.0 / (self.smooth + stiff[0] + stiff[1])
        self.by_discharge = 1.0 / (self.smooth + stiff[2] + stiff[3])
        value = _from_the_end(away[5] - away[4])
        charging = price + (self.wear + self.smooth * self.charge) - away[0] + away[1] + self.into * value
        discharging = (self.wear + self.smooth * self.discharge) - price - away[2] + away[3] - self.out_of * value
        stored_by_charge, stored_by_discharge = self.into * self.by_charge, self.out_of * self.by_discharge
        self.ladder = Ladder(self.into * stored_by_charge + self.out_of * stored_by_discharge, 1.0 / (stiff[4] + stiff[5]))
        self.coupling = stored_by_charge + stored_by_discharge
        inner = self.ladder.solve(stored_by_charge * charging - stored_by_discharge * discharging)
        self.step_charge = stored_by_charge * inner - self.by_charge * charging
        self.step_discharge = -stored_by_discharge * inner - self.by_discharge * discharging

    @property
    def aim_kw(self) -> FloatArray:
        """Net import where the whole step would lead at the price of the last `aim`."""
        return np.asarray(self.net_kw + self.step_charge - self.step_discharge)

    def slope(self, starts: IntArray) -> FloatArray:
        """-(d aim / d price), summed over the owners from each of `starts` to the next: (len(starts), T, T)."""
        periods = self.charge.shape[0]
        found = np.zeros((starts.size, periods, periods))
        reach = self.coupling.copy()
        seen = self.coupling * self.ladder.diagonal()
        straight = self.by_charge + self.by_discharge - reach * seen
        every = np.arange(periods)
        found[:, every, every] = np.add.reduceat(straight, starts, axis=1).T
        for lag in range(1, periods):
            reach = reach[:-1] * self.ladder.onward[lag - 1 : -1]
            summed = np.add.reduceat(reach * seen[lag:], starts, axis=1).T
            found[:, every[:-lag], every[lag:]] = -summed
            found[:, every[lag:], every[:-lag]] = -summed
        return found

    def move(self, by: FloatArray) -> FloatArray:
        """Take the step, with the price changed by `by` (T, n) since; the share (n,) of it that bounds allowed."""
        inner = self.ladder.solve(self.coupling * by)
        charge = self.step_charge - self.by_charge * (by - self.into * inner)
        discharge = self.step_discharge + self.by_discharge * (by - self.out_of * inner)
        stored = np.cumsum(self.into * charge - self.out_of * discharge, axis=0)
        steps = (charge, -charge, discharge, -discharge, stored, -stored)
        primal, dual = np.zeros(by.shape[1]), np.zeros(by.shape[1])
        multiplier_steps = []
        for multiplier, slack, step in zip(self.multipliers, self.slacks, steps, strict=True):
            relative = step / slack
            multiplier_step = self.barrier / slack - multiplier - multiplier * relative
            multiplier_steps.append(multiplier_step)
            np.maximum(primal, -relative.min(axis=0), out=primal)
            np.maximum(dual, -(multiplier_step / multiplier).min(axis=0), out=dual)
        taken = np.minimum(1.0, KEPT_FRAC / np.maximum(primal, NEVER))
        dual_taken = np.minimum(1.0, KEPT_FRAC / np.maximum(dual, NEVER))
        self.charge = self.charge + taken * charge
        self.discharge = self.discharge + taken * discharge
        self.multipliers = tuple(old + dual_taken * step for old, step in zip(self.multipliers, multiplier_steps, strict=True))
        self._settle()
        return np.minimum(taken, dual_taken)

    def gap_per_h(self, price: FloatArray) -> float:
        """No schedules of these batteries cost less by more than this at a price (T, n): complementarity, and what is not stationary."""
        value = _from_the_end(self.multipliers[5] - self.multipliers[4])
        m = self.multipliers
        charging = price + self.wear + self.smooth * self.charge - m[0] + m[1] + self.into * value
        discharging = self.wear - price + self.smooth * self.discharge - m[2] + m[3] - self.out_of * value
        loose = sum(float((multiplier * slack).sum()) for multiplier, slack in zip(m, self.slacks, strict=True))
        return loose + _lost(charging, self.charge, self.highest) + _lost(discharging, self.discharge, self.highest)

    def _settle(self) -> None:
        stored = np.cumsum(self.into * self.charge - self.out_of * self.discharge, axis=0)
        distances = (
            self.charge, self.highest - self.charge, self.discharge, self.highest - self.discharge, stored - self.least, self.most - stored
        )  # fmt: skip
        self.slacks = tuple(np.maximum(distance, NEAREST_KW) for distance in distances)


def _from_the_end(values: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(values[::-1], axis=0)[::-1])


def _lost(gradient: FloatArray, at: FloatArray, highest: FloatArray) -> float:
    """How much a linear function could fall from `at` within 0 and `highest`."""
    return float(np.where(gradient > 0.0, gradient * at, gradient * (at - highest)).sum())
