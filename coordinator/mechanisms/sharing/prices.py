"""The market's side of a round: prices that maximise the quadratic model of the dual over their box, and the voltage rows that take part.

A row is one node, interval and direction in which the squared voltage has no room left. Its surcharge is in price per kWh where the fall of
voltage by net import is greatest, and less in proportion elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import piqp

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.sharing.households import FloatArray, IntArray
from coordinator.powerflow.radial import BoolArray

TOUCHED_FRAC = 1e-6
PAID_FRAC = 1e-6
# Prices stay near those told where nobody reacts to them (watts per price), and where rows of neighbouring nodes are nearly the same.
STEADY_W, STEADY_FRAC = 1e-6, 1e-10
ACCURACY = 1e-9
POLISHINGS, POLISHED = 8, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Of each row: node, interval and sign (1 for a voltage that falls, -1 for one that rises), what a watt at each bus uses up (rows,
    buses) and the room there is, both relative to the greatest fall, and the surcharge.
    """

    node: IntArray
    interval: IntArray
    sign: FloatArray
    use: FloatArray
    room_w: FloatArray
    price_per_kwh: FloatArray

    @classmethod
    def none(cls, buses: int) -> Self:
        """No row has mattered yet."""
        place, number = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(node=place, interval=place, sign=number, use=np.zeros((0, buses)), room_w=number, price_per_kwh=number)

    def with_room(self, fall: FloatArray, rooms: tuple[FloatArray, FloatArray]) -> Self:
        """The same rows with the room (nodes, T) that there is now downwards and upwards."""
        down, up = (room[self.node, self.interval] for room in rooms)
        return replace(self, room_w=np.where(self.sign > 0.0, down, up) / fall.max())

    def with_broken(self, fall: FloatArray, rooms: tuple[FloatArray, FloatArray], net_w: FloatArray) -> Self:
        """With one more row for each interval and direction in which net imports (buses, T) would break a voltage; itself if none."""
        fallen = fall @ net_w
        found = []
        for side, room in ((1.0, rooms[0]), (-1.0, rooms[1])):
            excess = side * fallen - room
            worst = excess.argmax(axis=0)
            over = np.flatnonzero(excess.max(axis=0) > TOUCHED_FRAC * np.abs(room).max())
            known = set(zip(self.node[self.sign == side].tolist(), self.interval[self.sign == side].tolist(), strict=True))
            found += [(int(worst[t]), int(t), side) for t in over if (int(worst[t]), int(t)) not in known]
        if not found:
            return self
        node, interval = np.array([item[0] for item in found]), np.array([item[1] for item in found])
        sign = np.array([item[2] for item in found])
        new = replace(
            self,
            node=np.concatenate((self.node, node)),
            interval=np.concatenate((self.interval, interval)),
            sign=np.concatenate((self.sign, sign)),
            use=np.concatenate((self.use, sign[:, None] * fall[node] / fall.max())),
            price_per_kwh=np.concatenate((self.price_per_kwh, np.zeros(sign.size))),
        )
        return new.with_room(fall, rooms)

    def surcharge(self, periods: int) -> FloatArray:
        """What the rows add to the price of each bus (buses, T)."""
        added = np.zeros((self.use.shape[1], periods))
        np.add.at(added.T, self.interval, self.price_per_kwh[:, None] * self.use)
        return added

    def unused(self, net_w: FloatArray) -> float:
        """What surcharges pay for room that net imports (buses, T) do not use."""
        return float(self.price_per_kwh @ (self.room_w - (self.use * net_w[:, self.interval].T).sum(axis=1)))

    def bound(self, periods: int) -> BoolArray:
        """In which intervals a surcharge is paid."""
        paid = np.zeros(periods, dtype=np.bool_)
        paid[self.interval[self.price_per_kwh > PAID_FRAC]] = True
        return paid


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The prices to which households answered: that of each bus (buses, T), and the market's (T,) without surcharges."""

    price_per_kwh: FloatArray
    market_per_kwh: FloatArray


def best_prices(rows: Rows, told: Told, tariff: Tariff, aim_w: FloatArray, slope_w: FloatArray) -> tuple[FloatArray, Rows]:
    """The market's price (T,) and the rows with their surcharges, given where households head at the prices told."""
    at, use = rows.interval, rows.use
    periods = told.market_per_kwh.size
    at_nothing = aim_w + np.matmul(slope_w, told.price_per_kwh[:, :, None])[:, :, 0]
    by_bus = slope_w[:, :, at] * use.T[:, None, :]
    by_row = by_bus.sum(axis=0)
    among = (by_bus[:, at] * use.T[:, :, None]).sum(axis=0)
    hessian = np.block([[slope_w.sum(axis=0), by_row], [by_row.T, among]])
    steady_w = STEADY_W + STEADY_FRAC * np.diag(hessian)
    hessian[np.diag_indices_from(hessian)] += steady_w
    linear = np.concatenate((at_nothing.sum(axis=0), (use * at_nothing[:, at].T).sum(axis=1) - rows.room_w))
    linear += steady_w * np.concatenate((told.market_per_kwh, rows.price_per_kwh))
    prices = _within(hessian, linear, tariff.feed_in_per_kwh, tariff.retail_per_kwh)
    return prices[:periods], replace(rows, price_per_kwh=prices[periods:].clip(min=0.0))


def _within(hessian: FloatArray, linear: FloatArray, lowest: FloatArray, highest: FloatArray) -> FloatArray:
    """argmin x^T hessian x / 2 - linear^T x with the first of x between lowest and highest, and the others at least zero."""
    size, first = linear.size, lowest.size
    scale = 1.0 / np.sqrt(np.diag(hessian))
    matrix, target = hessian * scale * scale[:, None], linear * scale
    least, most = np.zeros(size), np.full(size, np.inf)
    least[:first], most[:first] = lowest, highest
    low, high = least / scale, most / scale
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = ACCURACY
    solver.setup(matrix, -target, x_l=low, x_u=high)
    status = solver.solve()
    if status != piqp.PIQP_SOLVED:
        raise ConversationError(f"no prices were found within feed-in and retail, the solver says {status}")
    return np.asarray(np.clip(_exact(matrix, target, low, high, np.array(solver.result.x)) * scale, least, most))


def _exact(matrix: FloatArray, target: FloatArray, least: FloatArray, most: FloatArray, near: FloatArray) -> FloatArray:
    """The solution itself, by solving for what is free of its bounds near a solution (the diagonal is one)."""
    found = np.clip(near, least, most)
    for _ in range(POLISHINGS):
        wish = found - (matrix @ found - target)
        free = (wish > least) & (wish < most)
        following = np.where(wish >= most, most, least)
        following[free] = np.linalg.solve(matrix[np.ix_(free, free)], target[free] - matrix[np.ix_(free, ~free)] @ following[~free])
        following = np.clip(following, least, most)
        if np.allclose(following, found, rtol=0.0, atol=POLISHED):
            return following
        found = following
    return np.clip(near, least, most)
