"""The allocation problem of `coordinator.envelopes.interior_point`, handed to Clarabel: slower, and it also ends where ours gives up.

Rows whose slack is a millionth of the others (floors that nearly fill the network) make the small method creep along the boundary.
A logarithm o + y = e^t is an exponential cone (t, 1, o + y); everything else is linear or quadratic.
"""

from __future__ import annotations

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from coordinator.envelopes.interior_point import AllocationError, Objective

FloatArray = NDArray[np.float64]


def minimise_by_cones(objective: Objective, rows: FloatArray) -> FloatArray:
    """Return the optimal y, as `interior_point.minimise` does. Raises `AllocationError` where Clarabel finds none either."""
    count = rows.shape[1]
    logs = np.flatnonzero(objective.log_gain > 0.0)
    scale = np.maximum(np.max(rows, axis=1, initial=0.0), 1.0)
    quadratic = sparse.block_diag([sparse.diags(objective.quadratic), sparse.csc_matrix((logs.size, logs.size))], format="csc")
    linear = np.concatenate([objective.linear, -objective.log_gain[logs]])
    box = sparse.vstack([sparse.csc_matrix(rows / scale[:, None]), sparse.identity(count), -sparse.identity(count)])
    linear_rows = sparse.hstack([box, sparse.csc_matrix((box.shape[0], logs.size))])
    bounds = np.concatenate([1.0 / scale, np.ones(count), np.zeros(count)])
    cone_rows, cone_bounds = _exponential_cones(objective, logs, count)
    cones = [clarabel.NonnegativeConeT(bounds.size), *(clarabel.ExponentialConeT() for _ in logs)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    solver = clarabel.DefaultSolver(
        quadratic,
        linear,
        sparse.vstack([linear_rows, cone_rows], format="csc"),
        np.concatenate([bounds, cone_bounds]),
        cones,
        settings,
    )
    solution = solver.solve()
    y = np.asarray(solution.x[:count])
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved) or not np.all(np.isfinite(y)):
        raise AllocationError(f"no optimum on {count} limits and {rows.shape[0]} rows: Clarabel ended {solution.status}")
    return np.asarray(np.clip(y, 0.0, 1.0))


def _exponential_cones(objective: Objective, logs: NDArray[np.intp], count: int) -> tuple[sparse.csc_matrix, FloatArray]:
    """Rows and bounds of (t_k, 1, o_k + y_k) in the cone of exponentials, as Clarabel takes them: bound - row x is in the cone."""
    number = logs.size
    index = np.arange(number)
    ones = -np.ones(2 * number)
    rows = np.concatenate([3 * index, 3 * index + 2])
    columns = np.concatenate([count + index, logs])
    bounds = np.zeros(3 * number)
    bounds[1::3] = 1.0
    bounds[2::3] = objective.log_offset[logs]
    return sparse.csc_matrix((ones, (rows, columns)), shape=(3 * number, count + number)), bounds
