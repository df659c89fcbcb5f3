"""The local market of A. Shokri Gazafroudi, J. Prieto and J. M. Corchado, Virtual organization structure for agent-based local electricity
trading, Energies 12(8), 2019: end-users sell to regional aggregators, those to the distribution company (DisCo), that to the market.

Equation numbers are the paper's. Symbols: j end-user, k aggregator of region A_k, t interval; L_net net load (positive into the end-user),
P_D2L purchase from the DisCo, P_L2A sale to the aggregator, P_A2D sale of the aggregator to the DisCo, P_M purchase from the market;
lambda_D2L, lambda_L2A, lambda_A2D, lambda_M their prices, delta the aggregators' margin, gamma the flexible fraction of the load.

Arrays are (regions, intervals) or (users, intervals) in watts and prices per kWh; costs are over the whole horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.mechanisms.conversation import ConversationError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoMarket:
    """Prices of the market: `regional_per_kwh` (regions, T) is lambda_L2A, `wholesale_per_kwh` (T,) lambda_M, `retail_per_kwh` lambda_D2L
    and `margin_frac` delta.
    """

    regions: tuple[str, ...]
    regional_per_kwh: FloatArray
    wholesale_per_kwh: FloatArray
    retail_per_kwh: float
    margin_frac: float
    step_s: float

    def __post_init__(self) -> None:
        shape = (len(self.regions), self.wholesale_per_kwh.size)
        if self.regional_per_kwh.shape != shape:
            raise ConversationError(f"regional prices have shape {self.regional_per_kwh.shape}, expected {shape}")
        for name, values in (("regional", self.regional_per_kwh), ("wholesale", self.wholesale_per_kwh)):
            if not np.isfinite(values).all():
                raise ConversationError(f"a {name} price is not a finite number")
        if not (self.margin_frac >= 1.0 and math.isfinite(self.retail_per_kwh)):
            raise ConversationError(f"expected a margin of at least 1 and a retail price, got {self.margin_frac} and {self.retail_per_kwh}")
        self._require_order(self.regional_per_kwh, self.retail_per_kwh, "regional price", "the retail price")
        wholesale = np.broadcast_to(self.wholesale_per_kwh, shape)
        self._require_order(self.margin_frac * self.regional_per_kwh, wholesale, "regional price with margin", "the wholesale price (7)")

    def _require_order(self, low: FloatArray, high: FloatArray | float, name: str, limit: str) -> None:
        wrong = np.argwhere(low > np.asarray(high) + 1e-12)
        if wrong.size:
            region, interval = wrong[0]
            raise ConversationError(
                f"prices out of order: the {name} of {self.regions[region]} in interval {interval} is {low[region, interval]:.4f} per kWh, "
                f"above {limit}"
            )

    @property
    def kwh_per_w(self) -> float:
        """Energy of one watt over one interval."""
        return self.step_s / 3600.0 / 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """What is traded, by region, or by bus where every bus has prices of its own: (rows, T). `loss_w` (T,) is bought with the rest.

    `regional_per_kwh` is the price between end-users and aggregators, `a2d_per_kwh` that between aggregators and DisCo.
    """

    net_w: FloatArray
    purchase_w: FloatArray
    regional_per_kwh: FloatArray
    a2d_per_kwh: FloatArray
    loss_w: FloatArray

    @property
    def a2d_w(self) -> FloatArray:
        """P_A2D, the sum of P_L2A = P_D2L - L_net over a row; equations (1), (2) and (6)."""
        return self.purchase_w - self.net_w

    @property
    def market_w(self) -> FloatArray:
        """P_M, equation (8), with the losses of the network, which the paper leaves out."""
        return np.asarray((self.purchase_w - self.a2d_w).sum(axis=0) + self.loss_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Expected costs of all end-users, all aggregators and the DisCo: EC^e, EC^a, EC^d."""

    users: float
    aggregators: float
    disco: float

    @property
    def total(self) -> float:
        """What the three pay together."""
        return self.users + self.aggregators + self.disco


def accounts(market: DiscoMarket, trade: Trade) -> Accounts:
    """Equations (9), (10) and (11) summed over their agents."""
    kwh = market.kwh_per_w
    bought = market.retail_per_kwh * trade.purchase_w.sum() * kwh
    to_aggregators = (trade.regional_per_kwh * trade.a2d_w).sum() * kwh
    to_disco = (trade.a2d_per_kwh * trade.a2d_w).sum() * kwh
    wholesale = (market.wholesale_per_kwh * trade.market_w).sum() * kwh
    return Accounts(
        users=float(bought - to_aggregators),
        aggregators=float(to_aggregators - to_disco),
        disco=float(to_disco + wholesale - bought),
    )


def money_identity(market: DiscoMarket, trade: Trade) -> float:
    """What the three parties pay together must be: the wholesale price of the net load and the losses. All other prices cancel.

    From (1), (6) and (8), P_M = sum of L_net; added up, (9), (10) and (11) leave sum_t lambda_M (sum_j L_net + losses).
    """
    return float((market.wholesale_per_kwh * (trade.net_w.sum(axis=0) + trade.loss_w)).sum() * market.kwh_per_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexibleLoads:
    """End-users whose net load may be anywhere within a fraction of their load, equation (3).

    Scenario 1 of the paper is *interruptible* load; in scenario 2 it is *shiftable*: net load sums to zero over the horizon, (5).
    """

    load_w: FloatArray
    flexibility_frac: float
    is_shiftable: bool

    def __post_init__(self) -> None:
        if not np.isfinite(self.load_w).all() or np.any(self.load_w < 0.0):
            raise ConversationError("a load is negative or not a finite number")

    @property
    def room_w(self) -> FloatArray:
        """How far net load may be from zero (users, T)."""
        return self.flexibility_frac * self.load_w

    def cheapest(self, price_per_kwh: FloatArray) -> FloatArray:
        """Net load (users, T) of least cost at prices (T,): problem E. A continuous knapsack, so filled in the order of prices."""
        room = self.room_w
        if not self.is_shiftable:
            return np.asarray(np.where(price_per_kwh >= 0.0, -room, room))
        order = np.argsort(price_per_kwh, kind="stable")
        sorted_room = room[:, order]
        before = 2.0 * (np.cumsum(sorted_room, axis=1) - sorted_room)
        lifted = np.clip(sorted_room.sum(axis=1, keepdims=True) - before, 0.0, 2.0 * sorted_room)
        net = np.empty_like(room)
        net[:, order] = lifted - sorted_room
        return net

    def nearest(self, wish_w: FloatArray) -> FloatArray:
        """The allowed net load (users, T) with the least squared distance to a wish (users, T)."""
        room = self.room_w
        if not self.is_shiftable:
            return np.asarray(np.clip(wish_w, -room, room))
        low = np.min(wish_w - room, axis=1, keepdims=True)
        high = np.max(wish_w + room, axis=1, keepdims=True)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            above = np.clip(wish_w - middle, -room, room).sum(axis=1, keepdims=True) > 0.0
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.asarray(np.clip(wish_w - 0.5 * (low + high), -room, room))
