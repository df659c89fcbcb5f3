"""The controller's sparse matrices are scipy's, and PIQP takes them in a process that has never imported scipy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from edge.schedule.sparse import Csc, Entries, diagonal_matrix, for_piqp


def test_collected_blocks_are_what_scipy_builds() -> None:
    entries = Entries()
    entries.diagonal(0, 0, 4, 1.5)
    entries.diagonal(4, 0, 4, -2.0, below=1)
    entries.diagonal(4, 5, 4, 3.0)
    ours = entries.matrix((8, 10))
    block = sp.lil_matrix((8, 10))
    block[0:4, 0:4] = 1.5 * sp.identity(4)
    block[4:8, 0:4] = -2.0 * sp.eye(4, k=-1)
    block[4:8, 5:9] = 3.0 * sp.identity(4)
    theirs = sp.csc_matrix(block)
    assert np.array_equal(sp.csc_matrix((ours.data, ours.indices, ours.indptr), shape=ours.shape).toarray(), theirs.toarray())
    assert np.array_equal(ours.indptr, theirs.indptr)


def test_where_scipy_is_loaded_the_solver_gets_scipys_own() -> None:
    with for_piqp(diagonal_matrix(np.array([1.0, 0.0, 2.0]))) as (matrix,):
        assert isinstance(matrix, sp.csc_matrix)
        assert matrix.nnz == 3


PROGRAM = """
import sys
import numpy as np, piqp
from edge.schedule.sparse import Entries, diagonal_matrix, for_piqp
entries = Entries()
entries.diagonal(0, 0, 1, 1.0)
entries.diagonal(0, 1, 1, 1.0)
solver = piqp.SparseSolver()
low, high = np.zeros(2), np.full(2, 5.0)
with for_piqp(diagonal_matrix(np.array([1.0, 3.0])), entries.matrix((1, 2))) as (p, a):
    solver.setup(p, np.zeros(2), a, np.array([4.0]), None, None, None, low, high)
solver.solve()
first = solver.result.x.tolist()
with for_piqp(diagonal_matrix(np.array([1.0, 1.0]))) as (p,):
    solver.update(P=p)
solver.solve()
assert not any(name.split(".")[0] == "scipy" for name in sys.modules), "scipy is loaded or left behind"
import scipy.sparse
assert scipy.sparse.csc_matrix.__module__.startswith("scipy")
print(*first, *solver.result.x.tolist())
"""


def test_piqp_solves_without_scipy_and_leaves_no_stand_in_behind() -> None:
    """min x^2/2 + 3 y^2/2 with x + y = 4 has x = 3, y = 1; with equal weights x = y = 2."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert [float(word) for word in done.stdout.split()] == pytest.approx([3.0, 1.0, 2.0, 2.0], abs=1e-4)


def test_the_planner_imports_neither_scipy_nor_cvxpy_nor_osqp() -> None:
    program = "import sys, edge.schedule.planner; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert not {"scipy", "cvxpy", "osqp", "phe", "matplotlib"} & set(done.stdout.split())


def test_shape_and_number_of_entries_are_told() -> None:
    matrix = diagonal_matrix(np.zeros(3))
    assert isinstance(matrix, Csc)
    assert (matrix.shape, matrix.nnz) == ((3, 3), 3)
