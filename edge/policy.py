"""What the household would like now, inside whatever the guard allows: the plan of the hours ahead, else self-consumption. Pure.

A plan knows means over a quarter of an hour; between two plans the load is what it is. So a battery that was planned to serve the load
serves the load that is there and does not export the rest, one that was planned to take the surplus takes the surplus that is there,
and only where the plan itself buys or sells with the battery is the planned power held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

TRACKED_W = 50.0
"""A planned net import below this is self-consumption: the battery follows the meter."""


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a schedule that the control cycle needs, as plain numbers: means over intervals of `step_s` from `start_s`.

    `battery_w` is the sum of all batteries; `draw_w` has one row for each vehicle charger and shiftable load by name; `pv_limit_w` is
    the generation that the plan allows where it gives generation away on purpose, else None.
    """

    start_s: float
    step_s: float
    net_import_w: Sequence[float]
    battery_w: Sequence[float]
    draw_w: Mapping[str, Sequence[float]]
    pv_limit_w: Sequence[float | None]

    def index(self, now_s: float) -> int | None:
        """The interval that holds now, None outside the plan."""
        index = int((now_s - self.start_s) // self.step_s)
        return index if 0 <= index < len(self.net_import_w) else None


class FlexibleNeed(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy must know of a charger or shiftable load: below `min_w` it switches off."""

    name: str
    min_w: float


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """Wishes to the guard: all batteries together, all PV together, and a limit for each priority 3 load by name (absent: no limit)."""

    battery_w: float
    pv_limit_w: float | None = None
    flexible_limit_w: Mapping[str, float] = {}


def wishes(plan: PlanView | None, now_s: float, rest_w: float, needs: Sequence[FlexibleNeed]) -> Wishes:
    """`rest_w` is the net import as it would be with all batteries idle: load, vehicles and PV as measured."""
    index = None if plan is None else plan.index(now_s)
    if plan is None or index is None:
        return Wishes(battery_w=-rest_w)
    planned_w = plan.battery_w[index]
    limits: dict[str, float] = {}
    for need in needs:
        row = plan.draw_w.get(need.name)
        if row is not None:
            limits[need.name] = _pulsed(row[index], need.min_w, now_s, plan.start_s, plan.step_s)
    return Wishes(
        battery_w=_battery_wish_w(planned_w, plan.net_import_w[index], rest_w),
        pv_limit_w=plan.pv_limit_w[index],
        flexible_limit_w=limits,
    )


def _battery_wish_w(planned_w: float, planned_net_w: float, rest_w: float) -> float:
    if abs(planned_net_w) <= TRACKED_W:
        return -rest_w
    if planned_w < 0.0 and planned_net_w > 0.0:
        return min(max(planned_w, -rest_w), 0.0)
    if planned_w > 0.0 and planned_net_w < 0.0:
        return max(min(planned_w, -rest_w), 0.0)
    return planned_w


def _pulsed(planned_w: float, min_w: float, now_s: float, start_s: float, step_s: float) -> float:
    """A power below what the device can do becomes that power for a part of the interval, so that the energy is the planned one."""
    if planned_w <= 0.0 or planned_w >= min_w:
        return max(planned_w, 0.0)
    elapsed_frac = ((now_s - start_s) % step_s) / step_s
    return min_w if elapsed_frac < planned_w / min_w else 0.0
