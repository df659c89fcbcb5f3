"""Allocation rules over a packing polytope.

Every linearised limit says A x <= b with A >= 0 over the limits x = (export limits, import limits) of the participants, because making
any limit smaller makes the box of possible operating points smaller. Bounds are floor <= x <= demand. Rules other than EQUAL are convex
programs; rows are generated as they are violated, since few of them bind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from coordinator.envelopes.conic import minimise_by_cones
from coordinator.envelopes.interior_point import AllocationError, Objective, minimise
from coordinator.envelopes.values import AllocationRule

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BISECTIONS = 60
ROW_ROUNDS = 30
ROWS_PER_ROUND = 20
# A demand smaller than this is not worth a variable: it is fixed at its floor.
NEGLIGIBLE_W = 1e-3
# A row left out of the optimisation may be broken by this much of its most effective limit; the answer is pulled inside afterwards.
BROKEN_W = 1e-3
# Rows that use less than this share of their room are not remembered.
NEARLY_BINDING = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Bounds and weights of the limits x (2N,): exports first, then imports."""

    floor_w: FloatArray
    cap_w: FloatArray
    weight: FloatArray


def allocate(
    rule: AllocationRule, demand: Demand, rows: FloatArray, rhs: FloatArray, active: BoolArray | None = None
) -> FloatArray | None:
    """Share out: the x of `rule` under rows @ x <= rhs, or None where even the floors break a row.

    `active` (rows,) remembers which rows nearly bound; passing the same array again for similar rows saves solving anew.
    """
    if np.any(rows @ demand.floor_w > rhs):
        return None
    if rule is AllocationRule.EQUAL:
        return _equal(demand, rows, rhs)
    free = _free(demand, rows, rhs)
    if not np.any(free):
        return demand.floor_w.copy()
    chosen = np.zeros(rhs.size, dtype=np.bool_) if active is None else active
    x = _solve(rule, demand, rows[chosen], rhs[chosen], free)
    scale = np.maximum(np.max(rows, axis=1, initial=0.0), 1e-300)
    for _ in range(ROW_ROUNDS):
        broken = (rows @ x - rhs) / scale
        broken[chosen] = -np.inf
        worst = np.argsort(broken)[::-1][:ROWS_PER_ROUND]
        worst = worst[broken[worst] > BROKEN_W]
        if worst.size == 0:
            break
        chosen[worst] = True
        x = _solve(rule, demand, rows[chosen], rhs[chosen], free)
    chosen &= rows @ (x - demand.floor_w) >= NEARLY_BINDING * (rhs - rows @ demand.floor_w)
    return _pull_inside(demand, rows, rhs, x)


def _free(demand: Demand, rows: FloatArray, rhs: FloatArray) -> BoolArray:
    """Limits that can rise above their floor at all."""
    slack = rhs - rows @ demand.floor_w
    room = np.where(rows > 0.0, slack[:, None] / np.maximum(rows, 1e-300), np.inf).min(axis=0, initial=np.inf)
    return np.asarray((demand.cap_w - demand.floor_w > NEGLIGIBLE_W) & (room > NEGLIGIBLE_W))


def _equal(demand: Demand, rows: FloatArray, rhs: FloatArray) -> FloatArray:
    half = demand.cap_w.size // 2
    top = np.array([demand.cap_w[:half].max(initial=0.0), demand.cap_w[half:].max(initial=0.0)])

    def at(levels: FloatArray) -> FloatArray:
        level = np.repeat(levels, half)
        return np.asarray(np.clip(level, demand.floor_w, demand.cap_w))

    def fits(levels: FloatArray) -> bool:
        return bool(np.all(rows @ at(levels) <= rhs))

    levels = _largest(np.zeros(2), top, fits)
    for direction in (0, 1):
        ahead = np.zeros(2)
        ahead[direction] = top[direction] - levels[direction]
        levels = _largest(levels, ahead, fits)
    return at(levels)


def _largest(start: FloatArray, ahead: FloatArray, fits: Callable[[FloatArray], bool]) -> FloatArray:
    """The furthest of start + share * ahead, share in [0, 1], that fits; the start is known to fit."""
    low, high = 0.0, 1.0
    if fits(start + ahead):
        return np.asarray(start + ahead)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(start + middle * ahead) else (low, middle)
    return np.asarray(start + low * ahead)


def _objective(rule: AllocationRule, demand: Demand, free: BoolArray) -> Objective:
    """A curved rule in terms of y = (x - floor) / (cap - floor), scaled to slopes of about one."""
    floor, span = demand.floor_w[free], (demand.cap_w - demand.floor_w)[free]
    weight = demand.weight[free] / np.max(demand.weight[free])
    none = np.zeros_like(span)
    if rule is AllocationRule.PROPORTIONAL_FAIR:
        return Objective(linear=none, quadratic=none, log_gain=weight, log_offset=floor / span)
    steep = 2.0 * weight * span**2 / demand.cap_w[free] / np.max(span)
    return Objective(linear=-steep, quadratic=steep, log_gain=none, log_offset=none)


def _largest_volume(gain: FloatArray, packing: FloatArray) -> FloatArray:
    """The linear program by HiGHS; rows scaled to a largest entry of one, slack ones dropped."""
    size = np.max(packing, axis=1, initial=0.0)
    matters = packing.sum(axis=1) > 1.0
    rows, rhs = packing[matters] / size[matters, None], 1.0 / size[matters]
    answer = linprog(-gain / np.max(gain), rows if rhs.size else None, rhs if rhs.size else None, bounds=(0.0, 1.0), method="highs")
    if answer.status != 0:
        raise AllocationError(f"max-volume: HiGHS ended with: {answer.message}")
    return np.asarray(np.clip(answer.x, 0.0, 1.0))


def _solve(rule: AllocationRule, demand: Demand, rows: FloatArray, rhs: FloatArray, free: BoolArray) -> FloatArray:
    """Solve the rule's program over the free limits with the given rows, as y = (x - floor) / (cap - floor)."""
    span = (demand.cap_w - demand.floor_w)[free]
    slack = rhs - rows @ demand.floor_w
    scaled = rows[:, free] * span
    binding = np.max(scaled, axis=1, initial=0.0) > 0.0
    packing = scaled[binding] / slack[binding, None]
    if rule is AllocationRule.MAX_VOLUME:
        y = _largest_volume(demand.weight[free] * span, packing)
    else:
        objective = _objective(rule, demand, free)
        try:
            y = minimise(objective, packing)
        except AllocationError:
            y = minimise_by_cones(objective, packing)
    x = demand.floor_w.copy()
    x[free] += y * span
    return x


def _pull_inside(demand: Demand, rows: FloatArray, rhs: FloatArray, x: FloatArray) -> FloatArray:
    """Move x towards the floors until every row holds exactly (an interior-point answer may miss by its tolerance)."""
    at_floor = rows @ demand.floor_w
    excess = rows @ x - rhs
    over = excess > 0.0
    if not np.any(over):
        return x
    share = np.min((rhs - at_floor)[over] / (rows @ x - at_floor)[over])
    return np.asarray(demand.floor_w + (x - demand.floor_w) * max(0.0, share * (1.0 - 1e-12)))
