"""Who sold how much to whom, and what everybody pays, from the net loads of a cleared market.

In every interval all sellers serve all buyers in proportion to what each sells and buys:

    trade_ij = export_i import_j / max(sum of exports, sum of imports),

so the shorter side trades in full with the community and the longer side takes its rest to the retailer. Seller and buyer need only each
other's figure and the larger of the two sums, which the settlement publishes; nobody else's. All trade is at the market price, which lies
between feed-in and retail, so neither would have done better with the retailer (source 002, equation 4).
"""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.p2p.community import W_PER_KW, Tariff
from coordinator.mechanisms.p2p.market import Clearing
from coordinator.mechanisms.signals import FloatArray


def trades_w(net_w: FloatArray) -> FloatArray:
    """What each sells to each (sellers, buyers, T) of net loads (communities, T)."""
    exports, imports = np.maximum(-net_w, 0.0), np.maximum(net_w, 0.0)
    larger = np.maximum(exports.sum(axis=0), imports.sum(axis=0))
    return np.asarray(exports[:, None] * imports[None] / np.where(larger > 0.0, larger, 1.0))


def traded_w(net_w: FloatArray) -> FloatArray:
    """What each bought from all others, less what it sold to them (members, T): row and column sums of `trades_w`, for any number."""
    exports, imports = np.maximum(-net_w, 0.0), np.maximum(net_w, 0.0)
    larger = np.maximum(exports.sum(axis=0), imports.sum(axis=0))
    short = np.where(larger > 0.0, larger, 1.0)
    return np.asarray(imports * (exports.sum(axis=0) / short) - exports * (imports.sum(axis=0) / short))


def payments(net_w: FloatArray, market_per_kwh: FloatArray, tariff: Tariff, step_s: float) -> FloatArray:
    """What each pays (members,) to the others, at the market's price (T,), and to the retailer."""
    traded = traded_w(net_w)
    rest_w = net_w - traded
    to_others = (market_per_kwh * traded).sum(axis=1)
    to_retailer = (np.where(rest_w >= 0.0, tariff.retail_per_kwh, tariff.feed_in_per_kwh) * rest_w).sum(axis=1)
    return np.asarray((to_others + to_retailer) * step_s / 3600.0 / W_PER_KW)


def bills(clearing: Clearing, tariff: Tariff, step_s: float) -> FloatArray:
    """What each community pays (communities,) for trade and to the retailer, its own costs included, its share of losses not."""
    return payments(clearing.net_w, clearing.market_per_kwh, tariff, step_s) + clearing.own_costs
