"""What a community is asked, what it answers, and what the negotiation has to know of a feeder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from coordinator.envelopes.certificate import Check
from coordinator.mechanisms.dfe.quadratic import FloatArray

Bounds = tuple[tuple[float, float], tuple[float, float]]
"""The least and the most that the import limit, and the export limit, may be in watts."""
UNBOUNDED: Bounds = ((0.0, float("inf")), (0.0, float("inf")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a community is asked (3, T): answer with the least cost + price_per_kwh x + weight / 2 (x - target_w)^2.

    The rows of x are net import, import limit and export limit. `weight` (3, T) is in price per kWh for each watt of distance. A limit is
    inside `bounds_w`, and `deviations` standard deviations away from net import where the community has no margins of its own.
    """

    price_per_kwh: FloatArray
    target_w: FloatArray
    weight: FloatArray
    bounds_w: Bounds = UNBOUNDED
    deviations: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a community would do (3, T): net import, import limit, export limit; and what that costs itself, where it tells."""

    wish_w: FloatArray
    own_cost: float = 0.0


class Feeder(Protocol):
    """What the operator knows of its feeder; communities are counted in the order of the negotiation."""

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        ...

    @property
    def loss_form(self) -> tuple[FloatArray, FloatArray]:
        """Q (T, communities, communities) and c (communities, T) with losses net^T Q net + c^T net, apart from a constant."""
        ...

    def bounds_w(self, place: int) -> Bounds:
        """What the limits of one community may be at all."""
        ...

    def nearest_limits_w(self, wish_w: FloatArray, last_w: FloatArray, clearance_pu: float) -> FloatArray:
        """The import and export limits (communities, 2, T) nearest to the wishes at which the network's limits hold.

        What is linear in it is corrected by exact power flow at `last_w`; a limit that is not held back is the wish itself.
        """
        ...

    def check(self, import_limit_w: FloatArray, export_limit_w: FloatArray) -> Check:
        """Exact power flow at the corners of the box of every interval; limits are (communities, T)."""
        ...

    def keeping(self, kept: Sequence[int]) -> Self:
        """The same feeder for some of the communities; the others get no envelope."""
        ...
