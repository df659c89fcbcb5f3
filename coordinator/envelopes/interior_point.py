"""A small dense interior-point method for one shape of problem: share out a packing polytope.

    minimise sum c_i y_i + h_i y_i^2 / 2 - g_i log(o_i + y_i)   over   A y <= 1,  0 <= y <= 1,   A >= 0.

Predictor-corrector primal-dual steps (Mehrotra, SIAM J. Optimization 2(4), 1992) from a strictly feasible start, which packing always
offers, so primal feasibility is never lost. A logarithm is carried as a constraint o + y >= 0 whose slack times multiplier is to end at
g instead of at zero: everything but these products is then linear or quadratic. The Newton matrix is diagonal plus A^T D A, dense and
as large as the number of limits; a general sparse solver spends ten times longer on such rows (one serves as oracle in the tests).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from coordinator.errors import CoordinatorError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Solver = Callable[[FloatArray], FloatArray]

MAX_STEPS = 100
GAP = 1e-8
RESIDUAL = 1e-7
TO_BOUNDARY = 0.995
START_PRODUCT = 0.1
TOO_SHORT = 0.1
# Relative additions to the diagonal, tried in turn, for when rounding makes the Newton matrix indefinite near the end.
JITTERS = (0.0, 1e-13, 1e-11, 1e-9)


class AllocationError(CoordinatorError):
    """The optimisation of an allocation did not converge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The c, h, g and o above, one entry per limit; scale them so that slopes are about one."""

    linear: FloatArray
    quadratic: FloatArray
    log_gain: FloatArray
    log_offset: FloatArray


def minimise(objective: Objective, rows: FloatArray) -> FloatArray:
    """Return the optimal y; AllocationError where rounding stops the method short of it."""
    with np.errstate(all="ignore"):
        return _minimise(objective, rows)


def _minimise(objective: Objective, rows: FloatArray) -> FloatArray:
    count = rows.shape[1]
    # Each limit starts at half of what its tightest row would leave it if that row were shared equally.
    users = np.count_nonzero(rows, axis=1)[:, None]
    y = 0.5 / np.maximum(1.0, np.max(rows * users, axis=0, initial=0.0))
    # All constraints in one list: rows @ y <= 1, y <= 1, -y <= 0, -y <= offset, each with slack, multiplier and the product to reach.
    has_log = objective.log_gain > 0.0
    slack = np.concatenate([1.0 - rows @ y, 1.0 - y, y, np.where(has_log, objective.log_offset + y, 1.0)])
    goal = np.concatenate([np.zeros(slack.size - count), np.where(has_log, objective.log_gain, 0.0)])
    ordinary = slack.size - count
    multiplier = np.concatenate([START_PRODUCT / slack[:ordinary], goal[ordinary:] / slack[ordinary:]])
    for _ in range(MAX_STEPS):
        dual_residual = objective.linear + objective.quadratic * y + _transposed(rows, multiplier, has_log)
        left = slack * multiplier - goal
        scale = max(1.0, float(np.max(multiplier)))
        if np.sum(np.abs(left)) <= GAP * count and np.max(np.abs(dual_residual)) <= RESIDUAL * scale:
            return np.asarray(y)
        solver = _newton_solver(objective, rows, multiplier / slack, has_log)
        # Predictor: aim at the goals at once; corrector: aim at the mean that the predictor shows to be reachable.
        dy, ds, dm = _direction(rows, solver, dual_residual, left, slack, multiplier, has_log)
        reach = min(_reach(slack, ds), _reach(multiplier, dm))
        mean = float(np.mean(left[:ordinary]))
        ahead = float((slack + reach * ds)[:ordinary] @ (multiplier + reach * dm)[:ordinary]) / ordinary
        centre = np.zeros(slack.size)
        centre[:ordinary] = max((ahead / mean) ** 3 * mean, 0.1 * GAP * count / slack.size)
        dy, ds, dm = _direction(rows, solver, dual_residual, left + reach**2 * ds * dm - centre, slack, multiplier, has_log)
        if min(_reach(slack, ds), _reach(multiplier, dm)) < TOO_SHORT:
            # Some products lag far behind the mean: bring them back to it before going on.
            centre[:ordinary] = mean
            dy, ds, dm = _direction(rows, solver, dual_residual, left - centre, slack, multiplier, has_log)
        reach = TO_BOUNDARY * min(_reach(slack, ds), _reach(multiplier, dm))
        y, slack, multiplier = y + reach * dy, slack + reach * ds, multiplier + reach * dm
        if not (np.isfinite(reach) and np.all(np.isfinite(dm))):
            break
    raise AllocationError(f"no optimum after {MAX_STEPS} steps on {count} limits and {rows.shape[0]} rows")


def _newton_solver(objective: Objective, rows: FloatArray, weight: FloatArray, has_log: BoolArray) -> Solver:
    """Factorise diagonal + A^T D A, whichever way is smaller: itself, or by Woodbury's identity D^-1 + A diagonal^-1 A^T."""
    upper, lower, logs = np.split(weight[rows.shape[0] :], 3)
    diagonal = objective.quadratic + upper + lower + np.where(has_log, logs, 0.0)
    if 2 * rows.shape[0] >= rows.shape[1]:
        factor = _factor((rows.T * weight[: rows.shape[0]]) @ rows + np.diag(diagonal))
        return lambda side: np.asarray(cho_solve(factor, side, check_finite=False))
    spread = rows / diagonal
    small = _factor(spread @ rows.T + np.diag(1.0 / weight[: rows.shape[0]]))
    return lambda side: np.asarray(side / diagonal - spread.T @ cho_solve(small, spread @ side, check_finite=False))


def _factor(matrix: FloatArray) -> tuple[FloatArray, bool]:
    diagonal = matrix.diagonal().copy()
    for jitter in JITTERS:
        np.fill_diagonal(matrix, diagonal * (1.0 + jitter))
        try:
            factor: tuple[FloatArray, bool] = cho_factor(matrix, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        return factor
    raise AllocationError(f"a Newton matrix of size {diagonal.size} is not definite")


def _transposed(rows: FloatArray, multiplier: FloatArray, has_log: BoolArray) -> FloatArray:
    upper, lower, logs = np.split(multiplier[rows.shape[0] :], 3)
    return np.asarray(rows.T @ multiplier[: rows.shape[0]] + upper - lower - np.where(has_log, logs, 0.0))


def _direction(
    rows: FloatArray,
    solver: Solver,
    dual_residual: FloatArray,
    left: FloatArray,
    slack: FloatArray,
    multiplier: FloatArray,
    has_log: BoolArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Newton step of y, slack and multiplier that removes `left` from slack * multiplier."""
    dy = solver(-dual_residual + _transposed(rows, left / slack, has_log))
    ds = np.concatenate([-(rows @ dy), -dy, dy, np.where(has_log, dy, 0.0)])
    dm = -(left + multiplier * ds) / slack
    return dy, ds, dm


def _reach(value: FloatArray, step: FloatArray) -> float:
    """Largest step length at most 1 that keeps a positive vector non-negative."""
    falling = step < 0.0
    return min(1.0, float(np.min(-value[falling] / step[falling], initial=np.inf)))
