"""Communities and network operator agree on net imports and envelopes (source 001), by consensus ADMM.

Each community answers with its net import and both limits; the operator answers with the nearest ones that it would accept:

    minimise  sum_t [ buy (sum of net)+ - sell (sum of net)- + loss price * losses(net) ] + weight / 2 |x - answers - multiplier|^2
    subject to voltages within limits when all communities stand at their import limits, and when all stand at their export limits.

What one community exports while another imports changes hands between them (peer to peer) at the price of net import, which lies between
the feed-in and the retail price because it is the slope of the first term (source 002, eq. 4); trades follow from net imports alone and
need no iteration of their own. The operator corrects its linear voltages by exact power flow at the corners under negotiation, and nothing
is agreed before exact power flow holds at *every* corner of the communities' own answers.

The weight of net import adapts to the residuals, so that a badly chosen first one costs few rounds. Sources: S. Boyd et al., Distributed
optimization and statistical learning via ADMM, 2011, sections 3.4.1, 3.4.3 and 7.1; formulation in the project's grid notes, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coordinator.envelopes.certificate import Check
from coordinator.mechanisms.conversation import ConversationError, Step
from coordinator.mechanisms.dfe.asked import Answer, Asked, Feeder
from coordinator.mechanisms.dfe.quadratic import W_PER_KW, FloatArray
from coordinator.powerflow.radial import BoolArray

RELAXATION = 1.6
# The weight is balanced so that answers are twice as far apart, in their tolerance, as prices move in theirs.
BALANCE = 0.5
EAGER_ROUNDS, LAST_ROUND, SELDOM = 8, 30, 3
EVEN = 1.5
# Limits are pulled more softly than net import until they bind: they have to follow it quickly, and until then cost little.
SOFT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Prices (T,) at which the communities together buy from and sell to the grid."""

    buy_per_kwh: FloatArray
    sell_per_kwh: FloatArray

    def __post_init__(self) -> None:
        if self.buy_per_kwh.shape != self.sell_per_kwh.shape:
            raise ConversationError(f"prices have shapes {self.buy_per_kwh.shape} and {self.sell_per_kwh.shape}")
        if not (np.isfinite(self.buy_per_kwh).all() and np.isfinite(self.sell_per_kwh).all()):
            raise ConversationError("a price is not a finite number")
        wrong = np.flatnonzero(self.sell_per_kwh > self.buy_per_kwh)
        if wrong.size:
            interval = int(wrong[0])
            raise ConversationError(
                f"prices out of order in interval {interval}: feed-in {self.sell_per_kwh[interval]:.4f} per kWh above "
                f"retail {self.buy_per_kwh[interval]:.4f}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiationState:
    """`target_w` and `multiplier_per_kwh` are (communities, 3, T); `has_bound` (3, T) says which limits voltages have held back so far."""

    target_w: FloatArray
    multiplier_per_kwh: FloatArray
    has_bound: BoolArray
    weight: float
    rounds: int

    @property
    def weights(self) -> FloatArray:
        """Weights (3, T) of net import and both limits."""
        return self.weight * np.where(self.has_bound, 1.0, np.array([1.0, SOFT, SOFT])[:, None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was agreed (communities, T), `price_per_kwh` for net import, and the power flow that holds at every corner of the envelopes."""

    names: tuple[str, ...]
    net_w: FloatArray
    import_limit_w: FloatArray
    export_limit_w: FloatArray
    price_per_kwh: FloatArray
    check: Check
    rounds: int
    own_cost: float = 0.0

    @property
    def sold_to_peers_w(self) -> FloatArray:
        """What each community sells to the others (communities, T): whichever side is short is shared in proportion."""
        bought = self.net_w.clip(min=0.0)
        sold = (-self.net_w).clip(min=0.0)
        traded = np.minimum(bought.sum(axis=0), sold.sum(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = [np.nan_to_num(part / part.sum(axis=0)) for part in (sold, bought)]
        return np.asarray((shares[0] - shares[1]) * traded)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeNegotiation:
    """The negotiation. `loss_per_kwh` is what losses cost the operator; `weight` in price per kWh for each watt.

    Settled when answers and targets are `tolerance_w` apart in the mean square, prices move less than `tolerance_per_kwh`, and every
    corner holds. `clearance_pu` is what the operator keeps back from voltage limits so that answers may differ a little from targets.
    `deviations` is how many standard deviations of its own forecast whoever has no margins of its own keeps as margin (`uncertainty`).
    """

    names: tuple[str, ...]
    feeder: Feeder
    tariff: Tariff
    loss_per_kwh: float
    weight: float
    tolerance_w: float
    tolerance_per_kwh: float
    clearance_pu: float
    deviations: float = 0.0

    @property
    def groups(self) -> tuple[str, ...]:
        """The communities."""
        return self.names

    def begin(self) -> Step[NegotiationState, Asked, Agreement]:
        """Start from nothing at the middle of both prices."""
        shape = (len(self.names), 3, self.feeder.periods)
        price = np.zeros(shape)
        price[:, 0] = 0.5 * (self.tariff.buy_per_kwh + self.tariff.sell_per_kwh)
        start = NegotiationState(
            target_w=np.zeros(shape), multiplier_per_kwh=price, has_bound=np.zeros(shape[1:], dtype=np.bool_), weight=self.weight, rounds=0
        )
        return self._step(start)

    def hear(self, state: NegotiationState, responses: Mapping[str, Answer]) -> Step[NegotiationState, Asked, Agreement]:
        """The operator's nearest acceptable point, and the prices that move the answers there."""
        answer = np.array([responses[name].wish_w for name in self.names])
        weight = state.weights
        relaxed = RELAXATION * answer + (1.0 - RELAXATION) * state.target_w
        wish = relaxed + state.multiplier_per_kwh / weight
        target = self._target_w(wish, state)
        multiplier = state.multiplier_per_kwh + weight * (relaxed - target)
        apart_w = _rms(answer - target)
        moved_per_kwh = _rms(weight * (target - state.target_w))
        held_back = np.any(target < wish.clip(min=0.0), axis=0) & (np.arange(3) > 0)[:, None]
        following = NegotiationState(
            target_w=target,
            multiplier_per_kwh=multiplier,
            # What bound only in the first rounds, far from any agreement, says nothing.
            has_bound=held_back | (state.has_bound & (state.rounds >= EAGER_ROUNDS)),
            weight=state.weight,
            rounds=state.rounds + 1,
        )
        if apart_w <= self.tolerance_w and moved_per_kwh <= self.tolerance_per_kwh:
            check = self.feeder.check(answer[:, 1], answer[:, 2])
            if check.holds:
                own_cost = sum(responses[name].own_cost for name in self.names)
                return Step(state=following, signals={}, outcome=self._agreement(following, answer, own_cost, check))
        ratio = BALANCE * (apart_w / self.tolerance_w) / max(moved_per_kwh / self.tolerance_per_kwh, 1e-9)
        return self._step(replace(following, weight=next_weight(following.weight, following.rounds, ratio)))

    def flaw(self, group: str, response: Answer) -> str | None:
        """An answer must be finite, with limits that are magnitudes and contain the net import."""
        wish = response.wish_w
        if wish.shape != (3, self.feeder.periods) or not np.isfinite(wish).all() or not np.isfinite(response.own_cost):
            return f"answered {wish.shape} values, expected {(3, self.feeder.periods)} finite ones"
        if np.any(wish[1:] < 0.0) or np.any(wish[0] > wish[1] + 1.0) or np.any(-wish[0] > wish[2] + 1.0):
            return "answered an envelope that does not contain its own net import"
        for name, row, (least_w, most_w) in zip(("import", "export"), wish[1:], self.feeder.bounds_w(self.names.index(group)), strict=True):
            if row.min() < least_w - 1.0 or row.max() > most_w + 1.0:
                return f"answered {name} limits from {row.min():.0f} to {row.max():.0f} W, asked for {least_w:.0f} to {most_w:.0f} W"
        return None

    def without(self, groups: frozenset[str]) -> Self:
        """What a community that is left out may still do is the feeder's to say (`Feeder.keeping`); it gets no envelope of this."""
        kept = [place for place, name in enumerate(self.names) if name not in groups]
        return replace(self, names=tuple(self.names[place] for place in kept), feeder=self.feeder.keeping(kept))

    def cost(self, agreement: Agreement, step_s: float) -> float:
        """What an agreement costs everybody: what communities tell of their own costs, the exchange with the grid, and losses."""
        net_w = agreement.net_w
        total_w = net_w.sum(axis=0)
        money = np.where(total_w >= 0.0, self.tariff.buy_per_kwh, self.tariff.sell_per_kwh) * total_w
        quadratic, linear = self.feeder.loss_form
        losses_w = np.einsum("it,tij,jt->t", net_w, quadratic, net_w) + (linear * net_w).sum(axis=0)
        return agreement.own_cost + float((money + self.loss_per_kwh * losses_w).sum()) * step_s / 3600.0 / W_PER_KW

    def _agreement(self, state: NegotiationState, answer: FloatArray, own_cost: float, check: Check) -> Agreement:
        return Agreement(
            names=self.names,
            net_w=answer[:, 0],
            import_limit_w=answer[:, 1],
            export_limit_w=answer[:, 2],
            price_per_kwh=state.multiplier_per_kwh[:, 0],
            own_cost=own_cost,
            check=check,
            rounds=state.rounds,
        )

    def _target_w(self, wish_w: FloatArray, state: NegotiationState) -> FloatArray:
        """The operator's block: net import and limits share nothing, since only net import costs and only limits are held back."""
        limits_w = self.feeder.nearest_limits_w(wish_w[:, 1:], state.target_w[:, 1:], self.clearance_pu)
        return np.concatenate((self._best_net_w(wish_w[:, 0], state.weight)[:, None], limits_w), axis=1)

    def _best_net_w(self, wish_w: FloatArray, weight: float) -> FloatArray:
        """Closed form: the communities together buy, or sell, or neither, and the one that agrees with itself is the optimum."""
        quadratic, linear = self.feeder.loss_form
        count = wish_w.shape[0]
        inverse = np.linalg.inv(2.0 * self.loss_per_kwh * quadratic + weight * np.eye(count))
        free = np.einsum("tij,jt->it", inverse, weight * wish_w - self.loss_per_kwh * linear)
        towards = inverse.sum(axis=2).T
        balancing = free.sum(axis=0) / towards.sum(axis=0)
        price = np.clip(balancing, self.tariff.sell_per_kwh, self.tariff.buy_per_kwh)
        return np.asarray(free - towards * price)

    def _step(self, state: NegotiationState) -> Step[NegotiationState, Asked, Agreement]:
        signals = {
            name: Asked(
                price_per_kwh=state.multiplier_per_kwh[place],
                target_w=state.target_w[place],
                weight=state.weights,
                bounds_w=self.feeder.bounds_w(place),
                deviations=self.deviations,
            )
            for place, name in enumerate(self.names)
        }
        return Step(state=state, signals=signals)


def next_weight(weight: float, rounds: int, ratio: float) -> float:
    """Balance both residuals: boldly in the first rounds, then seldom, then never (so that it converges)."""
    eager = rounds <= EAGER_ROUNDS
    if rounds > LAST_ROUND or (not eager and rounds % SELDOM) or 1.0 / EVEN < ratio < EVEN:
        return weight
    bound = 10.0 if eager else 3.0
    return float(weight * min(max(ratio**0.5, 1.0 / bound), bound))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))
