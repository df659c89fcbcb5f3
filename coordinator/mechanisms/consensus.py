"""Consensus on net loads by ADMM, as far as it is the same for every mechanism: who asks what, and how prices follow answers. Pure.

    x_c  answers     argmin own_cost_c(x) + price_c x + weight / 2 (x - z_c)^2
    z    targets     argmin operator(z) + weight / 2 |z - wish|^2,  wish = relaxed + price / weight
    price <- price + weight (relaxed - z),  relaxed = a x + (1 - a) z,  a = 1.6

The mechanism brings the operator's block. Source: S. Boyd et al., Distributed optimization and statistical learning via ADMM, 2011,
sections 3.4.1 (penalty), 3.4.3 (relaxation) and 7 (consensus).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from coordinator.mechanisms.signals import FloatArray, NetSignal

RELAXATION = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """Where a negotiation stands: `target_w` and `price_per_kwh` are (groups, T), a weight is as in the signal."""

    target_w: FloatArray
    price_per_kwh: FloatArray
    weight: float
    rounds: int = 0

    def wish_w(self, answer_w: FloatArray) -> FloatArray:
        """What the operator's targets should be near to, for these answers (groups, T)."""
        return self._relaxed_w(answer_w) + self.price_per_kwh / self.weight

    def after(self, answer_w: FloatArray, target_w: FloatArray) -> Self:
        """The next round, in which prices have moved by what answers and new targets differ."""
        price = self.price_per_kwh + self.weight * (self._relaxed_w(answer_w) - target_w)
        return replace(self, target_w=target_w, price_per_kwh=price, rounds=self.rounds + 1)

    def signals(self, names: Sequence[str]) -> dict[str, NetSignal]:
        """What is asked of each group."""
        return {
            name: NetSignal(price_per_kwh=self.price_per_kwh[place], target_w=self.target_w[place], weight=self.weight)
            for place, name in enumerate(names)
        }

    def _relaxed_w(self, answer_w: FloatArray) -> FloatArray:
        return RELAXATION * answer_w + (1.0 - RELAXATION) * self.target_w


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """Keeps both residuals alike: every `every` rounds the weight changes by `factor` where one is more than `ratio` times the other, and
    after `last_round` it stays, as the proof of convergence asks.
    """

    ratio: float
    factor: float
    every: int
    last_round: int

    def balanced(self, state: Consensus, apart: float, moved: float) -> Consensus:
        """The state with the weight of the next round; answers and targets are `apart`, and targets have `moved`."""
        if state.rounds % self.every or state.rounds > self.last_round:
            return state
        if apart > self.ratio * moved:
            return replace(state, weight=state.weight * self.factor)
        if moved > self.ratio * apart:
            return replace(state, weight=state.weight / self.factor)
        return state
