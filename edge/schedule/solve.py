"""PIQP on the arrays of the schedule: set up once for a household and horizon, updated for each solve.

PIQP (Schwan et al. 2023, proximal interior point) with its `sparse_ldlt` factorisation never failed on this problem in long runs,
needs about 20 iterations (66 was the worst seen) and recovers after bad input; `sparse_multistage` does neither. It has no time limit,
so the time that is left is turned into a number of iterations. There is no warm start.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec
import numpy as np
import piqp

from edge.schedule.arrays import Structure, Vectors
from edge.schedule.model import Array
from edge.schedule.sparse import for_piqp

EPS_ABS = 1e-8
EPS_GAP_ABS = 1e-9
EPS_GAP_REL = 1e-11
"""PIQP measures the gap against terms far larger than the bill; with its own tolerances a bill may be 1e-6 off."""
MAX_ITERATIONS = 100
"""Half as many again as the worst ever seen; a solve that needs more is treated as failed."""


class SolveStatus(enum.StrEnum):
    """How a solve ended; only SOLVED has a usable answer."""

    SOLVED = "solved"
    NOT_CONVERGED = "not_converged"
    NO_TIME = "no_time"
    FAILED = "failed"


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """The variables in the layout of the structure, in kW and kWh."""

    status: SolveStatus
    x: Array
    iterations: int


class PiqpBackend:
    """One solver object for one structure. `vectors` is filled by the caller before each `solve`."""

    def __init__(self, structure: Structure, monotonic_s: Callable[[], float]) -> None:
        self.vectors = Vectors(structure)
        self._monotonic_s = monotonic_s
        self._solver = piqp.SparseSolver()
        self._solver.settings.eps_abs = EPS_ABS
        self._solver.settings.eps_duality_gap_abs = EPS_GAP_ABS
        self._solver.settings.eps_duality_gap_rel = EPS_GAP_REL
        self._solver.settings.max_iter = MAX_ITERATIONS
        self._equality = structure.equality
        self._revision: int | None = None
        self._iteration_s = 0.0

    def solve(self, deadline_s: float) -> Solution:
        """Solve for the vectors as they are, ending before `deadline_s` on the monotonic clock as far as earlier iterations tell.

        The solver is updated from problem to problem and keeps the scaling of the first; where terms of a negotiation have become smaller
        by orders of magnitude it may not converge with that. It is then set up anew, once.
        """
        updated = self._revision is not None
        solution = self._solve(deadline_s)
        stuck = solution.status is SolveStatus.FAILED or solution.iterations >= MAX_ITERATIONS
        if not updated or solution.status is SolveStatus.SOLVED or not stuck:
            return solution
        self._revision = None
        again = self._solve(deadline_s)
        if again.status is not SolveStatus.SOLVED:
            return solution
        return msgspec.structs.replace(again, iterations=solution.iterations + again.iterations)

    def _solve(self, deadline_s: float) -> Solution:
        started_s = self._monotonic_s()
        allowed = self._allowed_iterations(deadline_s - started_s)
        if allowed < 1:
            return Solution(status=SolveStatus.NO_TIME, x=self.vectors.q, iterations=0)
        self._solver.settings.max_iter = allowed
        self._load()
        status = self._solver.solve()
        iterations = int(self._solver.result.info.iter)
        self._iteration_s = 0.5 * (self._iteration_s + (self._monotonic_s() - started_s) / max(iterations, 1))
        x = np.array(self._solver.result.x)
        if status == piqp.PIQP_SOLVED and bool(np.isfinite(x).all()):
            return Solution(status=SolveStatus.SOLVED, x=x, iterations=iterations)
        if status == piqp.PIQP_MAX_ITER_REACHED:
            return Solution(status=SolveStatus.NOT_CONVERGED, x=x, iterations=iterations)
        return Solution(status=SolveStatus.FAILED, x=x, iterations=iterations)

    def _load(self) -> None:
        """Hand the vectors to the solver; the quadratic part only when it changed."""
        vectors = self.vectors
        if self._revision is None:
            with for_piqp(vectors.quadratic(), self._equality) as (quadratic, equality):
                self._solver.setup(quadratic, vectors.q, equality, vectors.b, None, None, None, vectors.l, vectors.u)
        elif self._revision != vectors.revision:
            with for_piqp(vectors.quadratic()) as (quadratic,):
                self._solver.update(P=quadratic, c=vectors.q, b=vectors.b, x_l=vectors.l, x_u=vectors.u)
        else:
            self._solver.update(c=vectors.q, b=vectors.b, x_l=vectors.l, x_u=vectors.u)
        self._revision = vectors.revision

    def _allowed_iterations(self, left_s: float) -> int:
        if left_s <= 0.0:
            return 0
        if self._iteration_s <= 0.0:
            return MAX_ITERATIONS
        return min(MAX_ITERATIONS, int(left_s / self._iteration_s))
