"""Level 2: the operator of one community, between its members and everybody above.

Upwards it is one connection: it hears the retailer's price and fee and the network operator's prices, and answers with sums. Inwards it
sets the price at which members trade with each other, between what the community gets for a surplus (price - fee / 2) and what it pays for
what is missing (price + fee / 2): at the upper end while its members are short together, at the lower while they are long, in between where
they serve each other. That is the dynamic price of the peer-to-peer trade in level 1; the operator needs the members' sum for it and
nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.hierarchical.members import Looked, Sums
from coordinator.mechanisms.signals import FloatArray

LEAST_MEMBERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSignal:
    """What levels 3 and 4 send to a community: prices per kWh of its net import (T,) and of its feeders' ends (ends, T).

    `is_first` begins a conversation anew; `is_contract` says that what was answered last is what was contracted, from which services are
    counted. `step_w` is how far answers may move for a unit of price, divided by how many prices look at them:
    `common` for the net import, `end_scale` times its weights for each end.
    """

    is_first: bool
    is_contract: bool
    price_per_kwh: FloatArray
    fee_per_kwh: FloatArray
    network_per_kwh: FloatArray
    end_per_kwh: FloatArray
    step_w: float
    common: float
    end_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketResponse:
    """What a community answers: sums over its members, the price inside, and `reach`, how many devices answer (sum, and each end)."""

    net_w: FloatArray
    reactive_var: FloatArray
    end_w: FloatArray
    inside_per_kwh: FloatArray
    wear: float
    reach: float
    end_reach: FloatArray


class Crowd(Protocol):
    """Whoever stands for the members of a community: they themselves (`members`), or what they wish for (`households`)."""

    @property
    def name(self) -> str:
        """The community."""

    @property
    def count(self) -> int:
        """How many members there are."""

    @property
    def periods(self) -> int:
        """How many intervals there are."""

    @property
    def reach(self) -> tuple[float, FloatArray]:
        """How many answer a price of the sum, and of each end."""

    def restart(self) -> None:
        """Back to where nobody has heard a price."""

    def contract(self) -> None:
        """What was answered last is what was contracted."""

    def answer(self, price_per_kwh: FloatArray, end_price_per_kwh: FloatArray, step_w: float, looked: Looked) -> Sums:
        """One step for prices of the sum (T,) and of the ends (ends, T)."""

    def sums(self) -> Sums:
        """What the present schedules add up to."""


@dataclass(slots=True)
class CommunityOperator:
    """The operator; it refuses a community so small that a sum would say something of a member. `opening_per_kwh` (T,) is how far the
    price inside lies from the retailer's in the beginning: not at all, where it is None.
    """

    members: Crowd
    least_members: int = LEAST_MEMBERS
    opening_per_kwh: FloatArray | None = None
    inside_per_kwh: FloatArray = field(init=False)
    _spread_per_kwh: FloatArray = field(init=False)
    _last: Sums = field(init=False)

    def __post_init__(self) -> None:
        members = self.members
        if members.count < self.least_members:
            raise ConversationError(
                f"community {members.name} has {members.count} members, expected at least {self.least_members}: its sums would give them "
                "away"
            )
        self._restart()

    def respond(self, signal: MarketSignal, /) -> MarketResponse:
        """Ask the members once, and move the price inside by what they answer together."""
        if signal.is_first:
            self._restart()
        if signal.is_contract:
            self.members.contract()
        self.inside_per_kwh = signal.price_per_kwh + self._spread_per_kwh
        price = self.inside_per_kwh + signal.network_per_kwh
        sums = self.members.answer(price, signal.end_per_kwh, signal.step_w, Looked(common=signal.common, end_scale=signal.end_scale))
        reach, end_reach = self.members.reach
        step = 1.0 / (signal.step_w * max(reach, 1.0))
        half = 0.5 * signal.fee_per_kwh
        ahead = 2.0 * sums.net_w - self._last.net_w
        self._spread_per_kwh = np.clip(self._spread_per_kwh + step * ahead, -half, half)
        self._last = sums
        return MarketResponse(
            net_w=sums.net_w,
            reactive_var=sums.reactive_var,
            end_w=sums.end_w,
            inside_per_kwh=self.inside_per_kwh,
            wear=sums.wear,
            reach=reach,
            end_reach=end_reach,
        )

    @property
    def spread_per_kwh(self) -> FloatArray:
        """How far the price inside lies from the retailer's now (T,)."""
        return self._spread_per_kwh

    def _restart(self) -> None:
        periods = self.members.periods
        self.members.restart()
        self._last = self.members.sums()
        self._spread_per_kwh = np.zeros(periods) if self.opening_per_kwh is None else self.opening_per_kwh
        self.inside_per_kwh = np.zeros(periods)
