"""A group of households as one member of the first-order market (`coordinator.mechanisms.p2p.market`): it answers price, target and weight.

    minimise  sum of own costs + price X + weight / 2 (X - target)^2,      X the group's net import (T,)

The price inside the group is price + weight (X - target), a fixed point that Newton's method finds while households' barriers fall, just
as in `market.py`; here it takes place within the group, so that nothing but X leaves it.
"""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.sharing.households import Households
from coordinator.mechanisms.sharing.messages import PriceSignal
from coordinator.mechanisms.sharing.responder import RespondingHouseholds
from coordinator.mechanisms.signals import NetResponse, NetSignal

FIRST_BARRIER, LAST_BARRIER, FALL_FRAC = 0.05, 1e-7, 0.2
FOLLOWED_FRAC = 0.5
ARRIVED_FRAC = 1e-6
MAX_STEPS = 60


class AnsweringGroup:
    """The households of a group; every answer begins anew, so it depends on nothing but the signal."""

    def __init__(self, households: Households) -> None:
        """Hold the households."""
        self.households = households

    def respond(self, signal: NetSignal, /) -> NetResponse:
        """The best response."""
        group = RespondingHouseholds(self.households)
        price, barrier = signal.price_per_kwh, FIRST_BARRIER
        size_w = max(float(np.abs(group.fixed_w).max()), 1.0)
        for _ in range(MAX_STEPS):
            told = np.repeat(price[None], self.households.buses, axis=0)
            answer = group.respond(PriceSignal(price_per_kwh=told, barrier=barrier, certify=False))
            net_w, aim_w = answer.net_w.sum(axis=0), answer.aim_w.sum(axis=0)
            own_price = signal.price_per_kwh + signal.weight * (net_w - signal.target_w)
            apart_w = np.abs(net_w - aim_w).max() + np.abs(own_price - price).max() / signal.weight
            if barrier <= LAST_BARRIER and apart_w <= ARRIVED_FRAC * size_w:
                return NetResponse(net_w=net_w, own_cost=answer.own_cost)
            slope_w = answer.slope_w.sum(axis=0)
            missing = signal.price_per_kwh + signal.weight * (aim_w - signal.target_w) - price
            price = price + np.linalg.solve(np.eye(price.size) + signal.weight * slope_w, missing)
            if answer.step_frac > FOLLOWED_FRAC:
                barrier = max(barrier * FALL_FRAC, LAST_BARRIER)
        raise ConversationError(f"a group of {self.households.count} households found no answer within {MAX_STEPS} steps")
