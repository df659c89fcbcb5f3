"""What members of a market traded with each other, and what that was worth to each, from the meters of a run.

In every metering interval sellers serve buyers in proportion to what each sells and buys (`coordinator.mechanisms.p2p.trades`), at the
price that the market had agreed for that time, held between feed-in and retail. A buyer saves retail less the price, a seller gains the
price less feed-in; both together is what the retailer no longer earns. Where nothing was agreed there is no trade.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hil.frames import Record
from hil.market_ledger import AgreedPrices, Trading

Floats = npt.NDArray[np.float64]
INTERVAL_S = 300.0
TRADING = frozenset({"p2p"})
"""Mechanisms held live in which members trade with each other."""


def settle_trades(record: Record, prices: tuple[Floats, Floats], agreed: Sequence[AgreedPrices]) -> Trading:
    """Settle the trades of a run; `prices` are retail and feed-in at the beginning of every whole interval."""
    each = max(round(INTERVAL_S / record.sample_s), 1)
    count = record.samples // each
    net_w = record.home["net_import_w"][: count * each].astype(np.float64).reshape(count, each, -1).mean(axis=1).T
    times_s = record.start_s + each * record.sample_s * np.arange(count, dtype=np.float64)
    retail, feed_in = prices[0][:count], prices[1][:count]
    market = np.clip(agreed_price(times_s, agreed), feed_in, retail)
    held = np.isfinite(market)
    bought_w, sold_w = np.maximum(net_w, 0.0), np.maximum(-net_w, 0.0)
    larger = np.maximum(bought_w.sum(axis=0), sold_w.sum(axis=0))
    share = held / np.where(larger > 0.0, larger, 1.0)
    bought_w, sold_w = bought_w * sold_w.sum(axis=0) * share, sold_w * bought_w.sum(axis=0) * share
    kwh = each * record.sample_s / 3.6e6
    price = np.where(held, market, 0.0)
    gains = ((retail - price) * bought_w + (price - feed_in) * sold_w).sum(axis=1) * kwh
    return Trading(traded_kwh=float(bought_w.sum()) * kwh, gains=tuple(gains.tolist()))


def agreed_price(times_s: Floats, agreed: Sequence[AgreedPrices]) -> Floats:
    """The price of the newest agreement that had begun by each time and not run out; NaN where there is none."""
    found = np.full(times_s.size, np.nan)
    for agreement in sorted(agreed, key=lambda item: item.start_s):
        at = np.floor((times_s - agreement.start_s) / agreement.step_s).astype(np.int64)
        inside = (at >= 0) & (at < len(agreement.price_per_kwh))
        found[inside] = np.array(agreement.price_per_kwh)[at[inside]]
    return found
