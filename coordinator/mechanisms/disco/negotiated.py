"""The market of `coordinator.mechanisms.disco.market` with a negotiation that is one.

What is changed against the published algorithm, and why:

* Whoever pays decides. P_D2L is the end-users' choice, so nobody is sold what it did not order; as long as the negotiated price stays
  below the retail price nobody orders any.
* Each price depends on the answers. DisCo and end-users negotiate the net load itself (`coordinator.mechanisms.consensus`): the signal is
  a price for each bus and interval, a target and a weight; the answer is the net load nearest to what the price makes of the target. The
  DisCo keeps lambda_M and its network to itself, the end-users keep their limits.
* The network is there. The paper names a 33-bus network and writes no equation of it; here the DisCo buys its losses at the wholesale
  price, loss_t = sum_k r_k (sum of net load below k)^2 / V^2, so the price of a bus rises with its distance.

At the end the multiplier is the marginal cost of net load, lambda_M (1 + d loss / d net), and end-users would choose the same if all
their prices were scaled by one factor, since (3) and (5) hold for quantities alone. That factor divides the money: `settle` chooses it
such that end-users on one side, aggregators and DisCo on the other, gain the same against the market without interplay (case 1). The
aggregators keep the margin that (7) gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coordinator.mechanisms.consensus import Balancing, Consensus
from coordinator.mechanisms.conversation import ConversationError, Step
from coordinator.mechanisms.disco.market import Accounts, DiscoMarket, FlexibleLoads, FloatArray, IntArray, Trade, accounts
from coordinator.mechanisms.signals import NetResponse, NetSignal, flaw_of

BALANCING = Balancing(ratio=5.0, factor=2.0, every=5, last_round=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class BusOfUsers:
    """The end-users at one bus as one load, `loads` with a single row, answering within its own limits."""

    loads: FlexibleLoads

    def respond(self, signal: NetSignal, /) -> NetResponse:
        """The allowed net load nearest to what the price makes of the target."""
        wish_w = signal.target_w - signal.price_per_kwh / signal.weight
        return NetResponse(net_w=self.loads.nearest(wish_w[None])[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was agreed: net load and price of every bus (buses, T), and the rounds that it took."""

    net_w: FloatArray
    price_per_kwh: FloatArray
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedPricing:
    """The negotiation.

    `region_of_bus` (buses,) indexes the regions of `market`; `loss_per_w` (buses, buses) makes losses from net load, loss = x^T Q x.
    Settled when answers and targets differ by at most `tolerance_w` at every bus and interval, and targets move no more than that.
    """

    market: DiscoMarket
    buses: tuple[str, ...]
    region_of_bus: IntArray
    loss_per_w: FloatArray
    weight: float
    tolerance_w: float

    @property
    def groups(self) -> tuple[str, ...]:
        """The buses."""
        return self.buses

    def begin(self) -> Step[Consensus, NetSignal, Agreement]:
        """Start from nothing traded at the prices of the market without interplay."""
        price = self.market.regional_per_kwh[self.region_of_bus]
        return self._step(Consensus(target_w=np.zeros_like(price), price_per_kwh=price, weight=self.weight))

    def hear(self, state: Consensus, responses: Mapping[str, NetResponse]) -> Step[Consensus, NetSignal, Agreement]:
        """The DisCo's best target for these answers, and the multiplier that moves towards it."""
        answer_w = np.array([responses[bus].net_w for bus in self.buses])
        target_w = self._target_w(state.wish_w(answer_w), state.weight)
        moved = float(np.max(np.abs(target_w - state.target_w)))
        apart = float(np.max(np.abs(answer_w - target_w)))
        following = state.after(answer_w, target_w)
        if max(moved, apart) <= self.tolerance_w:
            outcome = Agreement(net_w=answer_w, price_per_kwh=following.price_per_kwh, rounds=following.rounds)
            return Step(state=following, signals={}, outcome=outcome)
        return self._step(BALANCING.balanced(following, apart, moved))

    def flaw(self, group: str, response: NetResponse) -> str | None:
        """A response must be a finite number for every interval."""
        return flaw_of(response, self.market.wholesale_per_kwh.size)

    def without(self, groups: frozenset[str]) -> Self:
        """A bus that is left out trades nothing."""
        kept = [place for place, bus in enumerate(self.buses) if bus not in groups]
        return replace(
            self,
            buses=tuple(self.buses[place] for place in kept),
            region_of_bus=self.region_of_bus[kept],
            loss_per_w=self.loss_per_w[np.ix_(kept, kept)],
        )

    def loss_w(self, net_w: FloatArray) -> FloatArray:
        """Losses (T,) of net load (buses, T)."""
        return np.asarray(np.einsum("it,ij,jt->t", net_w, self.loss_per_w, net_w))

    def _target_w(self, wish_w: FloatArray, weight: float) -> FloatArray:
        """The DisCo's argmin of lambda_M (1^T z + z^T Q z) + weight / 2 |z - wish|^2, in the eigenvectors of Q."""
        values, vectors = np.linalg.eigh(self.loss_per_w)
        wholesale = self.market.wholesale_per_kwh
        right = vectors.T @ (weight * wish_w - wholesale)
        return np.asarray(vectors @ (right / (weight + 2.0 * wholesale * values[:, None])))

    def _step(self, state: Consensus) -> Step[Consensus, NetSignal, Agreement]:
        return Step(state=state, signals=state.signals(self.buses))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The money of an agreement. `factor` scales the agreed prices, `gain` is what each of both sides has more than without interplay."""

    accounts: Accounts
    trade: Trade
    factor: float
    gain: float


def settle(negotiation: NegotiatedPricing, agreement: Agreement, alone: Accounts) -> Settlement:
    """Divide the gain of an agreement against `alone`, the accounts of the market without interplay, losses included.

    ConversationError where no price does so that keeps (7) and stays below the retail price: then there is nothing to agree on.
    """
    market = negotiation.market
    loss_w = negotiation.loss_w(agreement.net_w)
    kwh = market.kwh_per_w
    total = float((market.wholesale_per_kwh * (agreement.net_w.sum(axis=0) + loss_w)).sum() * kwh)
    gain = (alone.total - total) / 2.0
    worth = float((agreement.price_per_kwh * agreement.net_w).sum() * kwh)
    factor = (alone.users - gain) / worth if worth != 0.0 else float("nan")
    price = factor * agreement.price_per_kwh
    if not (factor > 0.0 and np.all(price <= market.retail_per_kwh) and np.all(market.margin_frac * price <= market.wholesale_per_kwh)):
        raise ConversationError(
            f"the agreement is worth {worth:.3f} to the end-users, who need {alone.users - gain:.3f}: no price factor (found {factor:.4f}) "
            "keeps prices above zero, below retail, and with the margin below wholesale"
        )
    trade = Trade(
        net_w=agreement.net_w,
        purchase_w=np.zeros_like(price),
        regional_per_kwh=price,
        a2d_per_kwh=market.margin_frac * price,
        loss_w=loss_w,
    )
    return Settlement(accounts=accounts(market, trade), trade=trade, factor=factor, gain=gain)
