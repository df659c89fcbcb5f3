"""OSQP on the same arrays, where it converges: houses without flexible loads, and the repeated solves of a negotiation.

OSQP (Stellato et al. 2020) is a first-order method. A store with a distant deadline and an exact linear penalty, which every flexible
load is, makes it stall: with its defaults it ran into its iteration limit in 37 of 48 full-model instances and was 13 % off at the median,
so a household with vehicles, tanks or appliances is refused by name. For batteries, PV, priority 2 load and generators it converges on
about 29 of 30 days with the settings here (eps 1e-5, polish, at most 20000 iterations, duality gap checked), to 1e-6 relative in the
objective at the median and 1e-3 at worst, in several times PIQP's time from a cold start; a day on which it does not is told as
NOT_CONVERGED. It starts warm, so it gains where only q changes, as between the rounds of a negotiation.

Trap: osqp 1.1.3 reads a strided array as if it were contiguous and silently solves another problem; everything goes through
`np.ascontiguousarray`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import osqp
import scipy.sparse as sp

from edge.schedule.arrays import Structure, Vectors
from edge.schedule.errors import BackendUnsuitable
from edge.schedule.solve import Solution, SolveStatus
from edge.schedule.sparse import Csc

EPS = 1e-5
MAX_ITERATIONS = 20000
INFINITY = 1e30


class OsqpBackend:
    """The same face as `PiqpBackend`. Raises BackendUnsuitable for a household with flexible loads."""

    def __init__(self, structure: Structure, monotonic_s: Callable[[], float]) -> None:
        flexible = structure.household.flexible_names
        if flexible:
            raise BackendUnsuitable(f"OSQP does not converge on flexible loads, this household has {', '.join(flexible)}; use PIQP")
        self.vectors = Vectors(structure)
        self._monotonic_s = monotonic_s
        self._rows = sp.csc_matrix(sp.vstack([_scipy(structure.equality), sp.identity(structure.variables)]))
        self._solver: osqp.OSQP | None = None
        self._revision = 0

    def solve(self, deadline_s: float) -> Solution:
        """Solve for the vectors as they are, from the last solution; OSQP enforces the time limit itself."""
        left_s = deadline_s - self._monotonic_s()
        if left_s <= 0.0:
            return Solution(status=SolveStatus.NO_TIME, x=self.vectors.q, iterations=0)
        vectors = self.vectors
        q = np.ascontiguousarray(vectors.q)
        lower = np.ascontiguousarray(np.maximum(np.concatenate((vectors.b, vectors.l)), -INFINITY))
        upper = np.ascontiguousarray(np.minimum(np.concatenate((vectors.b, vectors.u)), INFINITY))
        if self._solver is None or self._revision != vectors.revision:
            self._solver = osqp.OSQP()
            self._solver.setup(
                _scipy(vectors.quadratic()),
                q,
                self._rows,
                lower,
                upper,
                eps_abs=EPS,
                eps_rel=EPS,
                max_iter=MAX_ITERATIONS,
                polishing=True,
                check_dualgap=True,
                verbose=False,
            )
            self._revision = vectors.revision
        else:
            self._solver.update(q=q, l=lower, u=upper)
        self._solver.update_settings(time_limit=left_s)
        result = self._solver.solve(raise_error=False)
        x, iterations = np.array(result.x), int(result.info.iter)
        if result.info.status_val == osqp.SolverStatus.OSQP_SOLVED and bool(np.isfinite(x).all()):
            return Solution(status=SolveStatus.SOLVED, x=x, iterations=iterations)
        return Solution(status=SolveStatus.NOT_CONVERGED, x=x, iterations=iterations)


def _scipy(matrix: Csc) -> sp.csc_matrix:
    return sp.csc_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
