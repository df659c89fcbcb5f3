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


def bills(clearing: Clearing, tariff: Tariff, step_s: float) -> FloatArray:
    """What each community pays (communities,) for trade and to the retailer, its own costs included, its share of losses not."""
    sold = trades_w(clearing.net_w)
    traded_w = sold.sum(axis=0) - sold.sum(axis=1)
    rest_w = clearing.net_w - traded_w
    to_community = (clearing.market_per_kwh * traded_w).sum(axis=1) * step_s / 3600.0 / W_PER_KW
    to_retailer = np.array([tariff.cost(row, step_s) for row in rest_w])
    return np.asarray(to_retailer + to_community + clearing.own_costs)
