"""Level 3: the retailer, who trades what communities do not trade among each other, and decides what it keeps of what they do.

Standing offers bound everything: a household that is in no community pays `retail` and gets `feed_in`. Communities buy from and sell to
each other through the retailer, who keeps a `fee` of every kWh that changes hands in that way: it sells at price + fee / 2 and buys at
price - fee / 2. The price lies where the fee leaves both sides no worse than the standing offers,

    feed_in + fee / 2 <= price <= retail - fee / 2,

at the upper end while the communities together are short, at the lower end while they are long, and in between where they balance each
other (source 002, equation 4, for communities). Only sums of communities are heard.

The strategy is the fee. What the retailer and the communities gain together by dealing with each other is (retail - feed_in) for every kWh
that is exchanged among communities, whatever the fee; of such a transferable gain the Nash bargaining solution gives half to each side
(J. F. Nash, The bargaining problem, 1950), so the fee is half of the margin between the standing offers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.signals import FloatArray

NASH_SHARE_FRAC = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Retailer:
    """The standing offers, and which share of the margin between them the retailer keeps of what communities exchange."""

    tariff: Tariff
    share_frac: float = NASH_SHARE_FRAC

    def __post_init__(self) -> None:
        if not 0.0 <= self.share_frac <= 1.0:
            raise ConversationError(f"the retailer keeps {self.share_frac} of the margin, expected 0 to 1")

    @property
    def fee_per_kwh(self) -> FloatArray:
        """What the retailer keeps of every kWh that communities exchange (T,)."""
        return self.share_frac * (self.tariff.retail_per_kwh - self.tariff.feed_in_per_kwh)

    @property
    def first_price_per_kwh(self) -> FloatArray:
        """The middle of both offers (T,)."""
        return 0.5 * (self.tariff.retail_per_kwh + self.tariff.feed_in_per_kwh)

    def price_after(self, price_per_kwh: FloatArray, net_w: FloatArray, step: float) -> FloatArray:
        """The price (T,) after communities have asked for a sum `net_w` (T,): up while they are short, within what the offers allow."""
        half = 0.5 * self.fee_per_kwh
        moved = price_per_kwh + step * net_w
        return np.clip(moved, self.tariff.feed_in_per_kwh + half, self.tariff.retail_per_kwh - half)

    def cost(self, net_w: FloatArray, kwh_per_w: float) -> float:
        """What communities with net imports (communities, T) pay the retailer altogether at the prices of an optimum."""
        half = 0.5 * self.fee_per_kwh
        total = net_w.sum(axis=0)
        rest = np.where(total > 0.0, self.tariff.retail_per_kwh - half, self.tariff.feed_in_per_kwh + half) * total
        return float((rest + half * np.abs(net_w).sum(axis=0)).sum() * kwh_per_w)
