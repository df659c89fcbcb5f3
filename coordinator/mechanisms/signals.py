"""The signal and the response of every mechanism that negotiates net load by consensus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetSignal:
    """Answer with the net load x (T,) of least own cost + price_per_kwh x + weight / 2 (x - target_w)^2, x in watts into the group.

    `weight` is in price per kWh for each watt of distance; all terms are per kWh of an interval's energy.
    """

    price_per_kwh: FloatArray
    target_w: FloatArray
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NetResponse:
    """The net load (T,) that a group would take, and what that costs the group itself, apart from any price."""

    net_w: FloatArray
    own_cost: float = 0.0


def flaw_of(response: NetResponse, periods: int) -> str | None:
    """What is wrong with a response, or None."""
    if response.net_w.shape != (periods,) or not np.isfinite(response.net_w).all() or not np.isfinite(response.own_cost):
        return f"answered an array of shape {response.net_w.shape}, expected {periods} finite values and a finite cost"
    return None
