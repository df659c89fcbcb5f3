"""The community market: communities trade with each other first, and with the retailer what is left.

    minimise  sum_c own_cost_c(x_c) + tariff(sum_c x_c) + loss_price * loss(x)

over net loads x (communities, T). tariff(P) is retail P for P > 0 and feed_in P for P < 0, so the price at which communities trade, the
multiplier of sum_c x_c = P, lies between feed-in and retail: at retail where the market is short, at feed-in where it is long, and
anywhere between where it balances itself (source 002, equation 4). A community pays that price and its own marginal losses.

Iterated by consensus (`coordinator.mechanisms.consensus`) with a penalty that is balanced for some rounds.
A response is locally feasible, so the outcome is made of responses; what the last targets differ from them goes to the retailer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coordinator.mechanisms.consensus import Balancing, Consensus
from coordinator.mechanisms.conversation import Step
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.p2p.losses import LossModel
from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal, flaw_of

BALANCING = Balancing(ratio=3.0, factor=2.0, every=3, last_round=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearing:
    """The outcome: net loads (communities, T), the price of trade (T,), that with losses (communities, T), and own costs (communities,)."""

    net_w: FloatArray
    market_per_kwh: FloatArray
    price_per_kwh: FloatArray
    own_costs: FloatArray
    rounds: int

    @property
    def own_cost(self) -> float:
        """What all schedules cost together, apart from any price."""
        return float(self.own_costs.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class CommunityMarket:
    """The market of some communities on a network; settled when answers and targets differ, and targets move, by less than `tolerance_frac`
    of the answers (root mean square).
    """

    names: tuple[str, ...]
    tariff: Tariff
    losses: LossModel
    loss_per_kwh: float
    weight: float
    tolerance_frac: float = 1e-3

    @property
    def groups(self) -> tuple[str, ...]:
        """The communities."""
        return self.names

    def begin(self) -> Step[Consensus, NetSignal, Clearing]:
        """Nothing traded, at the middle of feed-in and retail."""
        periods = self.tariff.retail_per_kwh.size
        middle = 0.5 * (self.tariff.retail_per_kwh + self.tariff.feed_in_per_kwh)
        price = np.tile(middle, (len(self.names), 1))
        zero = np.zeros((len(self.names), periods))
        return self._step(Consensus(target_w=zero, price_per_kwh=price, weight=self.weight))

    def hear(self, state: Consensus, responses: Mapping[str, NetResponse]) -> Step[Consensus, NetSignal, Clearing]:
        """Clear the market for these answers, and move prices towards the clearing."""
        answer_w = np.array([responses[name].net_w for name in self.names])
        target_w, market = self._clear(state.wish_w(answer_w), state.weight)
        apart, moved = _rms(answer_w - target_w), _rms(target_w - state.target_w)
        following = state.after(answer_w, target_w)
        if max(apart, moved) <= self.tolerance_frac * max(_rms(answer_w), 1.0):
            costs = np.array([responses[name].own_cost for name in self.names])
            price, rounds = following.price_per_kwh, following.rounds
            clearing = Clearing(net_w=answer_w, market_per_kwh=market, price_per_kwh=price, own_costs=costs, rounds=rounds)
            return Step(state=following, signals={}, outcome=clearing)
        return self._step(BALANCING.balanced(following, apart, moved))

    def flaw(self, group: str, response: NetResponse) -> str | None:
        """A response must be a finite number for every interval."""
        return flaw_of(response, self.tariff.retail_per_kwh.size)

    def without(self, groups: frozenset[str]) -> Self:
        """A community that is left out trades with its retailer alone; what it does on the network is then part of the background."""
        kept = [place for place, name in enumerate(self.names) if name not in groups]
        losses = LossModel(
            square=self.losses.square[:, kept][:, :, kept], linear=self.losses.linear[:, kept], constant_w=self.losses.constant_w
        )
        return replace(self, names=tuple(self.names[place] for place in kept), losses=losses)

    def cost(self, clearing: Clearing, step_s: float) -> float:
        """The value of the objective at an outcome."""
        loss_kwh = float(self.losses.loss_w(clearing.net_w).sum()) * step_s / 3600.0 / 1e3
        return clearing.own_cost + self.tariff.cost(clearing.net_w.sum(axis=0), step_s) + self.loss_per_kwh * loss_kwh

    def _clear(self, wish_w: FloatArray, weight: float) -> tuple[FloatArray, FloatArray]:
        """argmin tariff(sum z) + loss_price loss(z) + weight / 2 |z - wish|^2, and the price of the sum.

        For a price m of the sum, z = A^-1 (weight wish - loss_price linear - m) with A = weight I + 2 loss_price square, so the sum falls
        linearly in m: retail if it is still positive there, feed-in if it is negative there, else where it is zero.
        """
        communities = wish_w.shape[0]
        matrix = weight * np.eye(communities) + 2.0 * self.loss_per_kwh * self.losses.square
        right = np.stack((weight * wish_w.T - self.loss_per_kwh * self.losses.linear, np.ones_like(wish_w.T)), axis=2)
        free, per_price = np.moveaxis(np.linalg.solve(matrix, right), 2, 0)
        balanced = free.sum(axis=1) / per_price.sum(axis=1)
        market = np.clip(balanced, self.tariff.feed_in_per_kwh, self.tariff.retail_per_kwh)
        return np.asarray((free - market[:, None] * per_price).T), market

    def _step(self, state: Consensus) -> Step[Consensus, NetSignal, Clearing]:
        return Step(state=state, signals=state.signals(self.names))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))
