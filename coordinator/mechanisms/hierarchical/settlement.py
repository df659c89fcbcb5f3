"""Who pays what after a hierarchical clearing, level by level; what each party must know for its part is in the arguments.

Inside a community everything is bought and sold at the price inside. Members together pay their operator that price for their net import;
the operator pays the retailer price + fee / 2 for what is missing and gets price - fee / 2 for what is over. At an optimum the two are
equal; what they differ by where the conversation stopped a little earlier is shared by the members equally, so that the operator keeps
nothing. Services are passed on to members by how far each moved, at the price that moved it. Who sold how much to whom follows from net
imports by `coordinator.mechanisms.p2p.trades`: a pair needs each other's figure and the larger of two sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.mechanisms.hierarchical.market import Clearing
from coordinator.mechanisms.hierarchical.members import Fleet
from coordinator.mechanisms.signals import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CommunityBills:
    """What members pay (members,), services already deducted; what they get for services; and what the operator passes to the retailer."""

    bill: FloatArray
    service: FloatArray
    to_retailer: float
    traded_wh: float


def settle_community(
    clearing: Clearing, place: int, fleet: Fleet, nets_w: tuple[FloatArray, FloatArray], end_weight: FloatArray, ends: slice
) -> CommunityBills:
    """Bills of one community; `nets_w` are its members' net imports (members, T) by the contract of the market, and by the secure one."""
    market_w, secure_w = nets_w
    inside, price = clearing.secure.inside_per_kwh[place], clearing.secure.price_per_kwh
    total = secure_w.sum(axis=0)
    half = 0.5 * clearing.fee_per_kwh
    to_retailer = float((np.where(total > 0.0, price + half, price - half) * total).sum() * fleet.kwh_per_w)
    energy = (secure_w @ inside) * fleet.kwh_per_w
    rest = (to_retailer - float(energy.sum())) / fleet.members
    moving = clearing.network_per_kwh[place] + end_weight @ clearing.end_per_kwh[ends]
    service = -(moving * (secure_w - market_w)).sum(axis=1) * fleet.kwh_per_w
    bought, sold = np.maximum(secure_w, 0.0).sum(axis=0), np.maximum(-secure_w, 0.0).sum(axis=0)
    return CommunityBills(
        bill=energy + rest - service,
        service=service,
        to_retailer=to_retailer,
        traded_wh=float(np.minimum(bought, sold).sum()) * fleet.step_s / 3600.0,
    )
