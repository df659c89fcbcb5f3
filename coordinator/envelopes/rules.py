"""Allocation rules over a packing polytope.

Every linearised limit says A x <= b with A >= 0 over the limits x = (export limits, import limits) of the participants, because making any
limit smaller makes the box of possible operating points smaller. Bounds are floor <= x <= demand. Rules other than EQUAL are convex programs
for Clarabel; rows are generated as they are violated, since few of them bind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from coordinator.envelopes.values import AllocationRule
from coordinator.errors import CoordinatorError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BISECTIONS = 60
ROW_ROUNDS = 30
ROWS_PER_ROUND = 40
# Watts are scaled to kilowatts-sized numbers for the interior-point method.
SCALE_W = 1000.0
# A demand smaller than this is not worth a variable: it is fixed at its floor.
NEGLIGIBLE_W = 1e-3


class AllocationError(CoordinatorError):
    """The convex solver did not deliver; the text says its status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Bounds and weights of the limits x (2N,): exports first, then imports."""

    floor_w: FloatArray
    cap_w: FloatArray
    weight: FloatArray


def allocate(rule: AllocationRule, demand: Demand, rows: FloatArray, rhs: FloatArray) -> FloatArray | None:
    """Share out: the x of `rule` under rows @ x <= rhs, or None where even the floors break a row."""
    if np.any(rows @ demand.floor_w > rhs):
        return None
    if rule is AllocationRule.EQUAL:
        return _equal(demand, rows, rhs)
    useful = _free(demand, rows, rhs)
    x = np.where(useful, demand.cap_w, demand.floor_w)
    active = np.zeros(rhs.size, dtype=np.bool_)
    scale = np.maximum(np.max(rows, axis=1, initial=0.0), 1e-300)
    for _ in range(ROW_ROUNDS):
        broken = (rows @ x - rhs) / scale
        broken[active] = -np.inf
        worst = np.argsort(broken)[::-1][:ROWS_PER_ROUND]
        worst = worst[broken[worst] > 1e-3]
        if worst.size == 0:
            break
        active[worst] = True
        x = _solve(rule, demand, rows[active], rhs[active], useful)
    return _pull_inside(demand, rows, rhs, x)


def _free(demand: Demand, rows: FloatArray, rhs: FloatArray) -> NDArray[np.bool_]:
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

    levels = _largest(lambda share: top * share, fits)
    for direction in (0, 1):
        start = levels.copy()
        ahead = np.zeros(2)
        ahead[direction] = top[direction] - start[direction]
        levels = _largest(lambda share, start=start, ahead=ahead: start + ahead * share, fits)
    return at(levels)


def _largest(point: Callable[[float], FloatArray], fits: Callable[[FloatArray], bool]) -> FloatArray:
    """The point of the largest share in [0, 1] that fits; share 0 is known to fit."""
    low, high = 0.0, 1.0
    if fits(point(high)):
        return point(high)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(point(middle)) else (low, middle)
    return point(low)


def _solve(
    rule: AllocationRule, demand: Demand, rows: FloatArray, rhs: FloatArray, useful: NDArray[np.bool_]
) -> FloatArray:
    """Solve the rule's program over the useful limits with the given rows."""
    count = int(useful.sum())
    floor, cap = demand.floor_w[useful] / SCALE_W, demand.cap_w[useful] / SCALE_W
    weight = demand.weight[useful]
    fixed = np.where(useful, 0.0, demand.floor_w)
    norm = np.maximum(np.max(rows, axis=1, initial=0.0), 1e-300)
    row_block = sparse.csc_matrix(rows[:, useful] / norm[:, None])
    row_rhs = (rhs - rows @ fixed) / norm / SCALE_W
    eye = sparse.identity(count, format="csc")
    blocks, sides = [row_block, eye, -eye], [row_rhs, cap, -floor]
    cones: list[object] = [clarabel.NonnegativeConeT(row_rhs.size + 2 * count)]
    quadratic = sparse.csc_matrix((count, count))
    if rule is AllocationRule.MAX_VOLUME:
        linear = -weight
    elif rule is AllocationRule.LEAST_CURTAILMENT:
        quadratic = sparse.diags(2.0 * weight / cap, format="csc")
        linear = -2.0 * weight
    else:
        blocks, sides, quadratic, linear, cones = _with_logs(blocks, sides, weight, count)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_rel = settings.tol_gap_abs = settings.tol_feas = 1e-9
    matrix = sparse.vstack(blocks, format="csc")
    solution = clarabel.DefaultSolver(quadratic, linear, matrix, np.concatenate(sides), cones, settings).solve()
    if str(solution.status) not in ("Solved", "AlmostSolved"):
        raise AllocationError(f"{rule.value}: the convex solver ended with {solution.status} on {count} limits and {rhs.size} rows")
    x = demand.floor_w.copy()
    x[useful] = np.clip(np.array(solution.x)[:count], floor, cap) * SCALE_W
    return x


def _with_logs(
    blocks: list[sparse.csc_matrix], sides: list[FloatArray], weight: FloatArray, count: int
) -> tuple[list[sparse.csc_matrix], list[FloatArray], sparse.csc_matrix, FloatArray, list[object]]:
    """Add t <= log x per limit as exponential cones (t, 1, x) and maximise the weighted sum of t."""
    rows = sum(block.shape[0] for block in blocks)
    wide = [sparse.hstack([block, sparse.csc_matrix((block.shape[0], count))], format="csc") for block in blocks]
    number = np.arange(count)
    cone = sparse.csc_matrix(
        (-np.ones(2 * count), (np.concatenate([3 * number, 3 * number + 2]), np.concatenate([count + number, number]))),
        shape=(3 * count, 2 * count),
    )
    side = np.zeros(3 * count)
    side[1::3] = 1.0
    linear = np.concatenate([np.zeros(count), -weight])
    cones: list[object] = [clarabel.NonnegativeConeT(rows), *([clarabel.ExponentialConeT()] * count)]
    return [*wide, cone], [*sides, side], sparse.csc_matrix((2 * count, 2 * count)), linear, cones


def _pull_inside(demand: Demand, rows: FloatArray, rhs: FloatArray, x: FloatArray) -> FloatArray:
    """Move x towards the floors until every row holds exactly (an interior-point answer may miss by its tolerance)."""
    at_floor = rows @ demand.floor_w
    excess = rows @ x - rhs
    over = excess > 0.0
    if not np.any(over):
        return x
    share = np.min((rhs - at_floor)[over] / (rows @ x - at_floor)[over])
    return np.asarray(demand.floor_w + (x - demand.floor_w) * max(0.0, share * (1.0 - 1e-12)))
