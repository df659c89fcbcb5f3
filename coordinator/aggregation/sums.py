"""What the community's sums say: the virtual aggregation unit, and the demand of a node that has said nothing of its own. Pure.

The virtual aggregation unit (Li et al. 2026, sections 4.2 and 5.2) is the equivalent net-load curve of the whole community, its adjustable
margin to both sides and the number of households in it; it is all that the operator learns. A node's part of a demand is not known. It
is taken as its share by rating, times a concentration factor, because not everybody uses a lot at the same time and somebody may: the
factor is the price of not asking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from protocols.aggregation.content import flexibility_rows
from protocols.aggregation.operator import Sums
from protocols.messages import AggregateNotice, RoundContent


class Curve(Struct, frozen=True, kw_only=True):
    """A sum over the community, interval by interval from `start_s` [W]."""

    round_name: str
    start_s: float
    step_s: float
    count: int
    values_w: tuple[int, ...]

    def largest_w(self, start_s: float, end_s: float) -> float | None:
        """The largest value of the intervals that overlap [start_s, end_s); None unless they cover it."""
        first = math.floor((start_s - self.start_s) / self.step_s)
        last = math.ceil((end_s - self.start_s) / self.step_s)
        if first < 0 or last > len(self.values_w) or first >= last:
            return None
        return float(max(self.values_w[first:last]))


class VirtualUnit(Struct, frozen=True, kw_only=True):
    """The community as one unit: net load, margins and reaches, each None until its round was opened."""

    plan: Curve | None = None
    increase: Curve | None = None
    decrease: Curve | None = None
    import_reach: Curve | None = None
    export_reach: Curve | None = None


def updated(unit: VirtualUnit, notice: AggregateNotice, sums: Sums) -> VirtualUnit:
    """The unit after a round was opened."""
    values = [int(value) for value in sums.values]

    def curve(row: Sequence[int]) -> Curve:
        return Curve(
            round_name=sums.round_name, start_s=notice.start_s, step_s=notice.step_s, count=sums.count, values_w=tuple(row)
        )

    if notice.content is RoundContent.PLAN:
        return VirtualUnit(
            plan=curve(values),
            increase=unit.increase,
            decrease=unit.decrease,
            import_reach=unit.import_reach,
            export_reach=unit.export_reach,
        )
    if notice.content is RoundContent.FLEXIBILITY:
        rows = flexibility_rows(values)
        return VirtualUnit(
            plan=unit.plan,
            increase=curve(rows.increase_w),
            decrease=curve(rows.decrease_w),
            import_reach=curve(rows.import_reach_w),
            export_reach=curve(rows.export_reach_w),
        )
    return unit


def implausible(notice: AggregateNotice, sums: Sums, import_rating_w: float, export_rating_w: float) -> str | None:
    """Why these sums cannot be what the feeder's connections add up to, or None. Ratings are those of all nodes together."""
    values = [int(value) for value in sums.values]
    if notice.content is RoundContent.FLEXIBILITY:
        rows = flexibility_rows(values)
        if min(min(rows.import_reach_w), min(rows.export_reach_w), min(rows.increase_w), min(rows.decrease_w)) < 0:
            return "a sum of magnitudes is negative"
        values = [*rows.import_reach_w, *(-value for value in rows.export_reach_w)]
    if max(values) > import_rating_w or min(values) < -export_rating_w:
        return f"sums of {min(values)} to {max(values)} W: all connections together carry {import_rating_w:.0f} W"
    return None


def node_demand_w(
    reach: Curve | None, now_s: float, hold_s: float, start_s: float, end_s: float, rating_w: float, ratings_w: float, concentration: float
) -> float:
    """What one node may want of a direction in [start_s, end_s); its rating where no recent sum covers that time.

    `ratings_w` are those of all nodes together.
    """
    if reach is None or now_s - reach.start_s > hold_s or ratings_w <= 0.0:
        return rating_w
    total_w = reach.largest_w(start_s, end_s)
    if total_w is None:
        return rating_w
    return min(rating_w, concentration * max(total_w, 0.0) * rating_w / ratings_w)
