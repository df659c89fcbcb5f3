"""The iterative algorithm as published (section 3.2 and figure 5), with the one bound that it needs.

Problem E: the end-users minimise (9) over their net load, the purchase P_D2L and the price lambda_A2D fixed. Problem D: the DisCo
minimises (11) over P_D2L >= 0 (4) and lambda_A2D within (7), the sale P_A2D fixed. They alternate until neither changes.

Two flaws show once it is written down:

* Problem D is *unbounded*: its objective falls by lambda_D2L - lambda_M for each unit of P_D2L wherever the wholesale price is below the
  retail price, and (4) only bounds P_D2L from below. Here nobody can be sold more than the load that it has, P_D2L <= L.
* There is *no negotiation*: with P_D2L fixed, (9) is (lambda_D2L - lambda_L2A) P_D2L + lambda_L2A L_net, so neither P_D2L nor lambda_A2D
  enters the choice of L_net. The end-users answer the same to every signal, and the loop ends when the DisCo has seen its own purchase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from coordinator.mechanisms.conversation import Step
from coordinator.mechanisms.disco.market import DiscoMarket, FlexibleLoads, FloatArray, Trade

UNCHANGED_W = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSignal:
    """What problem D passes to problem E for one region (T,): the price towards the aggregator is public and fixed."""

    regional_per_kwh: FloatArray
    purchase_w: FloatArray
    a2d_per_kwh: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedResponse:
    """What problem E passes to problem D for one region: P_A2D (T,)."""

    a2d_w: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOfUsers:
    """The end-users of a region with their aggregator, answering problem E."""

    loads: FlexibleLoads

    def respond(self, signal: PublishedSignal, /) -> PublishedResponse:
        """Choose the net load of least cost; (1) and (6) make the rest."""
        net = self.loads.cheapest(signal.regional_per_kwh).sum(axis=0)
        return PublishedResponse(a2d_w=signal.purchase_w - net)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedState:
    """What D decided last."""

    purchase_w: FloatArray
    a2d_per_kwh: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPricing:
    """The published conversation. `load_w` (regions, T) is the cap of P_D2L; zero makes it case 1, in which D decides only prices."""

    market: DiscoMarket
    load_w: FloatArray

    @property
    def groups(self) -> tuple[str, ...]:
        """The regions."""
        return self.market.regions

    def begin(self) -> Step[PublishedState, PublishedSignal, Trade]:
        """No purchase, and the price that (7) asks for where aggregators sell."""
        price = self.market.margin_frac * self.market.regional_per_kwh
        return self._step(PublishedState(purchase_w=np.zeros_like(self.load_w), a2d_per_kwh=price))

    def hear(
        self, state: PublishedState, responses: Mapping[str, PublishedResponse]
    ) -> Step[PublishedState, PublishedSignal, Trade]:
        """Solve problem D; settled once it decides what it decided before."""
        a2d_w = np.array([responses[region].a2d_w for region in self.groups])
        decided = self._problem_d(a2d_w)
        same_purchase = np.allclose(decided.purchase_w, state.purchase_w, rtol=0.0, atol=UNCHANGED_W)
        if same_purchase and np.array_equal(decided.a2d_per_kwh, state.a2d_per_kwh):
            trade = Trade(
                net_w=state.purchase_w - a2d_w,
                purchase_w=state.purchase_w,
                regional_per_kwh=self.market.regional_per_kwh,
                a2d_per_kwh=state.a2d_per_kwh,
                loss_w=np.zeros(a2d_w.shape[1]),
            )
            return Step(state=decided, signals={}, outcome=trade)
        return self._step(decided)

    def flaw(self, group: str, response: PublishedResponse) -> str | None:
        """A response must be a finite number for every interval."""
        if response.a2d_w.shape != self.market.wholesale_per_kwh.shape or not np.isfinite(response.a2d_w).all():
            return f"answered {response.a2d_w.shape} values, expected {self.market.wholesale_per_kwh.size} finite ones"
        return None

    def without(self, groups: frozenset[str]) -> Self:
        """A region that is left out trades nothing."""
        kept = [place for place, region in enumerate(self.groups) if region not in groups]
        market = DiscoMarket(
            regions=tuple(self.groups[place] for place in kept),
            regional_per_kwh=self.market.regional_per_kwh[kept],
            wholesale_per_kwh=self.market.wholesale_per_kwh,
            retail_per_kwh=self.market.retail_per_kwh,
            margin_frac=self.market.margin_frac,
            step_s=self.market.step_s,
        )
        return type(self)(market=market, load_w=self.load_w[kept])

    def _problem_d(self, a2d_w: FloatArray) -> PublishedState:
        """Both decisions are linear and separate: a price at one of its bounds, a purchase at zero or at the cap."""
        market = self.market
        low = market.margin_frac * market.regional_per_kwh
        price = np.where(a2d_w >= 0.0, low, market.wholesale_per_kwh)
        purchase = np.where(market.wholesale_per_kwh < market.retail_per_kwh, self.load_w, 0.0)
        return PublishedState(purchase_w=purchase, a2d_per_kwh=price)

    def _step(self, state: PublishedState) -> Step[PublishedState, PublishedSignal, Trade]:
        signals = {
            region: PublishedSignal(
                regional_per_kwh=self.market.regional_per_kwh[place],
                purchase_w=state.purchase_w[place],
                a2d_per_kwh=state.a2d_per_kwh[place],
            )
            for place, region in enumerate(self.groups)
        }
        return Step(state=state, signals=signals)
