"""Allocation rules over a packing polytope.

Every linearised limit says A x <= b with A >= 0 over the limits x = (export limits, import limits) of the participants, because making
any limit smaller makes the box of possible operating points smaller. Bounds are floor <= x <= demand. Rules other than EQUAL are convex
programs; rows are written out as they are violated, since few of them bind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coordinator.envelopes.conic import minimise_by_cones
from coordinator.envelopes.interior_point import AllocationError, Objective, minimise
from coordinator.envelopes.packing import DenseRows, Rows
from coordinator.envelopes.values import AllocationRule
from coordinator.envelopes.volume import VolumeProgram

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


@dataclass(slots=True, kw_only=True)
class Memory:
    """What one allocation leaves for the next over similar rows: which rows nearly bound and, while rows and demand stay the very same
    objects, the linear program.
    """

    active: BoolArray
    program: VolumeProgram | None = field(default=None)


def remember_nothing(rows: Rows) -> Memory:
    """A memory to begin with."""
    return Memory(active=np.zeros(rows.count, dtype=np.bool_))


def allocate(
    rule: AllocationRule, demand: Demand, rows: Rows | FloatArray, rhs: FloatArray, memory: Memory | None = None
) -> FloatArray | None:
    """Share out: the x of `rule` under rows x <= rhs, or None where even the floors break a row.

    Passing the same `memory` again for similar rows saves solving anew.
    """
    if isinstance(rows, np.ndarray):
        rows = DenseRows(matrix=rows)
    slack = rhs - rows.dot(demand.floor_w)
    if np.any(slack < 0.0):
        return None
    if rule is AllocationRule.EQUAL:
        return _equal(demand, rows, rhs)
    memory = remember_nothing(rows) if memory is None else memory
    free = _free(demand, rows, slack)
    if not np.any(free):
        return demand.floor_w.copy()
    chosen = memory.active
    x = _solve(rule, demand, rows, slack, chosen, free, memory)
    scale = np.maximum(rows.largest, 1e-300)
    for _ in range(ROW_ROUNDS):
        excess = rows.dot(x) - rhs
        broken = np.where(chosen, -np.inf, excess / scale)
        worth = rows.peaks(excess)
        if np.any(broken[worth] > BROKEN_W):
            broken[~worth] = -np.inf
        worst = np.argsort(broken)[::-1][:ROWS_PER_ROUND]
        worst = worst[broken[worst] > BROKEN_W]
        if worst.size == 0:
            break
        chosen[worst] = True
        x = _solve(rule, demand, rows, slack, chosen, free, memory)
    chosen &= rows.dot(x - demand.floor_w) >= NEARLY_BINDING * slack
    return _pull_inside(demand, rows, rhs, x)


def _free(demand: Demand, rows: Rows, slack: FloatArray) -> BoolArray:
    """Limits that can rise above their floor at all."""
    free = demand.cap_w - demand.floor_w > NEGLIGIBLE_W
    full = np.flatnonzero(slack <= NEGLIGIBLE_W * rows.largest)
    if full.size:
        free &= ~np.any(slack[full, None] <= NEGLIGIBLE_W * rows.take(full), axis=0)
    return np.asarray(free)


def _equal(demand: Demand, rows: Rows, rhs: FloatArray) -> FloatArray:
    half = demand.cap_w.size // 2
    top = np.array([demand.cap_w[:half].max(initial=0.0), demand.cap_w[half:].max(initial=0.0)])

    def at(levels: FloatArray) -> FloatArray:
        level = np.repeat(levels, half)
        return np.asarray(np.clip(level, demand.floor_w, demand.cap_w))

    def fits(levels: FloatArray) -> bool:
        return bool(np.all(rows.dot(at(levels)) <= rhs))

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


def _solve(
    rule: AllocationRule, demand: Demand, rows: Rows, slack: FloatArray, chosen: BoolArray, free: BoolArray, memory: Memory
) -> FloatArray:
    """Solve the rule's program over the free limits with the chosen rows, as y = (x - floor) / (cap - floor)."""
    x = demand.floor_w.copy()
    span = demand.cap_w - demand.floor_w
    if rule is AllocationRule.MAX_VOLUME:
        if memory.program is None or not memory.program.is_of(rows, demand):
            memory.program = VolumeProgram(rows, demand, demand.weight * span, span)
        x += memory.program.solve(slack, chosen, free) * span
        return x
    scaled = rows.take(np.flatnonzero(chosen))[:, free] * span[free]
    binding = np.max(scaled, axis=1, initial=0.0) > 0.0
    packing = scaled[binding] / slack[chosen][binding, None]
    objective = _objective(rule, demand, free)
    try:
        y = minimise(objective, packing)
    except AllocationError:
        y = minimise_by_cones(objective, packing)
    x[free] += y * span[free]
    return x


def _pull_inside(demand: Demand, rows: Rows, rhs: FloatArray, x: FloatArray) -> FloatArray:
    """Move x towards the floors until every row holds exactly (an interior-point answer may miss by its tolerance)."""
    at_floor, reached = rows.dot(demand.floor_w), rows.dot(x)
    over = reached > rhs
    if not np.any(over):
        return x
    share = np.min((rhs - at_floor)[over] / (reached - at_floor)[over])
    return np.asarray(demand.floor_w + (x - demand.floor_w) * max(0.0, share * (1.0 - 1e-12)))
