"""One quadratic program in the form that the blocks of a negotiation and their central optimum share, solved by Clarabel."""

from __future__ import annotations

from dataclasses import dataclass

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from coordinator.mechanisms.conversation import ConversationError

FloatArray = NDArray[np.float64]
W_PER_KW = 1e3
"""Programs are in kilowatts, so that their numbers stay near one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadraticProgram:
    """Minimise x^T diag(quadratic) x / 2 + linear^T x with equal x = equal_to and below x <= below_to; matrices are scipy.sparse."""

    quadratic: FloatArray
    linear: FloatArray
    equal: sparse.csc_matrix
    equal_to: FloatArray
    below: sparse.csc_matrix
    below_to: FloatArray

    def solve(self, what: str) -> FloatArray:
        """The optimum; ConversationError, naming `what`, where there is none."""
        return solve(sparse.diags(self.quadratic, format="csc"), self, what)


def stacked(programs: list[QuadraticProgram]) -> QuadraticProgram:
    """Independent programs as one."""
    return QuadraticProgram(
        quadratic=np.concatenate([item.quadratic for item in programs]),
        linear=np.concatenate([item.linear for item in programs]),
        equal=sparse.block_diag([item.equal for item in programs], format="csc"),
        equal_to=np.concatenate([item.equal_to for item in programs]),
        below=sparse.block_diag([item.below for item in programs], format="csc"),
        below_to=np.concatenate([item.below_to for item in programs]),
    )


def solve(upper: sparse.csc_matrix, program: QuadraticProgram, what: str) -> FloatArray:
    """The optimum of a program whose quadratic form is the upper triangle `upper` instead of a diagonal."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    rows = sparse.vstack([program.equal, program.below], format="csc")
    right = np.concatenate([program.equal_to, program.below_to])
    cones = [clarabel.ZeroConeT(program.equal_to.size), clarabel.NonnegativeConeT(program.below_to.size)]
    solution = clarabel.DefaultSolver(upper, program.linear, rows, right, cones, settings).solve()
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        raise ConversationError(f"{what}: no optimum was found, the solver says {solution.status}")
    return np.array(solution.x)


def nearest_below(wish_w: FloatArray, per_kw: FloatArray, room: FloatArray, least_w: FloatArray) -> FloatArray:
    """The point nearest to a wish with per_kw x <= room and x >= least_w; the rows are about kilowatts, the points are in watts."""
    count = wish_w.size
    program = QuadraticProgram(
        quadratic=np.ones(count),
        linear=-wish_w / W_PER_KW,
        equal=sparse.csc_matrix((0, count)),
        equal_to=np.zeros(0),
        below=sparse.vstack([sparse.csc_matrix(per_kw), -sparse.eye(count)], format="csc"),
        below_to=np.concatenate((room, -least_w / W_PER_KW)),
    )
    return np.maximum(program.solve("the operator's limits") * W_PER_KW, least_w)
