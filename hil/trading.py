"""What members of a market traded with each other, and what that was worth to each, from the meters of a run.

In every metering interval sellers serve buyers in proportion to what each sells and buys (`coordinator.mechanisms.p2p.trades`), at the
price that the market had agreed for that time, held between feed-in and retail. A buyer saves retail less the price, a seller gains the
price less feed-in; both together is what the retailer no longer earns. Where nothing was agreed there is no trade, and none while feed-in
is above retail: who sells then earns more from the retailer than any neighbour would pay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from hil.agreements import AgreedPrices, in_force
from hil.frames import Record
from hil.metering import metered

Floats = npt.NDArray[np.float64]
TRADING = frozenset({"p2p", "dfe", "hierarchical"})
"""Mechanisms held live in which members trade with each other."""


class Trading(Struct, frozen=True, kw_only=True):
    """Energy that changed hands between members, and what each home (in the order of the run) gained by it."""

    traded_kwh: float
    gains: tuple[float, ...]


def settle_trades(record: Record, prices: tuple[Floats, Floats], agreed: Sequence[AgreedPrices]) -> Trading:
    """Settle the trades of a run; `prices` are retail and feed-in at the beginning of every whole interval."""
    times_s, interval_s, net_w = metered(record)
    gains, traded_kwh = np.zeros(len(record.homes)), 0.0
    for item, at in in_force(times_s, agreed):
        offers = [price[: times_s.size] for price in prices]
        held = (at >= 0) & (offers[1] <= offers[0])
        rows = [record.homes.index(home) for home in item.homes] if item.homes else list(range(len(record.homes)))
        retail, feed_in = (price[held] for price in offers)
        market = np.clip(np.array(item.price_per_kwh)[at[held]], feed_in, retail)
        traded_w, gain = _settle(net_w[rows][:, held], market, retail, feed_in)
        traded_kwh += traded_w * interval_s / 3.6e6
        gains[rows] += gain * interval_s / 3.6e6
    return Trading(traded_kwh=traded_kwh, gains=tuple(gains.tolist()))


def _settle(net_w: Floats, market: Floats, retail: Floats, feed_in: Floats) -> tuple[float, Floats]:
    """What homes (homes, T) traded with each other, and what each gained, both summed over intervals."""
    bought_w, sold_w = np.maximum(net_w, 0.0), np.maximum(-net_w, 0.0)
    larger = np.maximum(bought_w.sum(axis=0), sold_w.sum(axis=0))
    share = 1.0 / np.where(larger > 0.0, larger, np.inf)
    bought_w, sold_w = bought_w * sold_w.sum(axis=0) * share, sold_w * bought_w.sum(axis=0) * share
    return float(bought_w.sum()), np.asarray(((retail - market) * bought_w + (market - feed_in) * sold_w).sum(axis=1))
