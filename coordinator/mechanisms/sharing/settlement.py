"""Who pays what after the market is settled: trade at its price, the rest with the retailer, and the network's surcharges.

Trades are those of `coordinator.mechanisms.p2p.trades`: a pair knows its own from its two figures and the larger of the sums of exports and
imports, which is published; nobody needs another member's. Where voltages bind, a member also pays what its net import does to them, at the
surcharge of its bus. These surcharges do not go to the retailer: they are the rent of the congested network, and what becomes of it is for
the operator and the community to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.p2p.trades import payments, traded_w
from coordinator.mechanisms.sharing.households import W_PER_KW, FloatArray, IntArray
from coordinator.mechanisms.sharing.market import SharingOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Of each member: what it bought from others less what it sold them (N, T), what it pays for energy, and in surcharges (N,)."""

    traded_w: FloatArray
    energy: FloatArray
    surcharge: FloatArray

    @property
    def rent(self) -> float:
        """What surcharges bring in."""
        return float(self.surcharge.sum())

    def sold_wh(self, step_s: float) -> float:
        """Energy that changed hands between members."""
        return float(np.maximum(self.traded_w, 0.0).sum()) * step_s / 3600.0


def settle(net_w: FloatArray, bus: IntArray, outcome: SharingOutcome, tariff: Tariff, step_s: float) -> Settlement:
    """Settle net imports (N, T) of members at buses (N,)."""
    extra = (outcome.price_per_kwh - outcome.market_per_kwh)[bus]
    return Settlement(
        traded_w=traded_w(net_w),
        energy=payments(net_w, outcome.market_per_kwh, tariff, step_s),
        surcharge=np.asarray((extra * net_w).sum(axis=1) * step_s / 3600.0 / W_PER_KW),
    )
