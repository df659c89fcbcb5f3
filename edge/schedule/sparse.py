"""Sparse matrices by columns, as PIQP takes them, without scipy.

The controller needs a sparse matrix only to hand it to the solver, and importing scipy.sparse for that costs it 20 MB. PIQP's binding
asks the module `scipy.sparse` for its class `csc_matrix` whenever it is given a matrix. Where scipy is loaded anyway (the bench, the
tests, the OSQP backend), it gets scipy's own; else it finds, for the time of the call, a module that holds the class below.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Csc:
    """Compressed sparse columns, with the attributes of scipy's `csc_matrix` that the binding reads."""

    def __init__(self, data: Array, indices: npt.NDArray[np.int32], indptr: npt.NDArray[np.int32], shape: tuple[int, int]) -> None:
        self.data = data
        self.indices = indices
        self.indptr = indptr
        self.shape = shape

    @property
    def nnz(self) -> int:
        """Stored entries, zeros among them too."""
        return len(self.data)


class Entries:
    """Collects the entries of a matrix block by block."""

    def __init__(self) -> None:
        self._rows: list[npt.NDArray[np.int64]] = []
        self._columns: list[npt.NDArray[np.int64]] = []
        self._values: list[Array] = []

    def diagonal(self, row: int, column: int, count: int, value: float, *, below: int = 0) -> None:
        """`value` on the diagonal of a count x count block at (row, column), or `below` it."""
        along = np.arange(count - below)
        self._rows.append(row + below + along)
        self._columns.append(column + along)
        self._values.append(np.full(count - below, value))

    def matrix(self, shape: tuple[int, int]) -> Csc:
        """The matrix; no two entries may share a place."""
        rows, columns = np.concatenate(self._rows), np.concatenate(self._columns)
        order = np.lexsort((rows, columns))
        indptr = np.concatenate(([0], np.cumsum(np.bincount(columns, minlength=shape[1])))).astype(np.int32)
        return Csc(np.concatenate(self._values)[order], rows[order].astype(np.int32), indptr, shape)


def diagonal_matrix(values: Array) -> Csc:
    """A diagonal matrix that stores its whole diagonal, zeros too."""
    count = len(values)
    return Csc(values, np.arange(count, dtype=np.int32), np.arange(count + 1, dtype=np.int32), (count, count))


@contextlib.contextmanager
def for_piqp(*matrices: Csc) -> Iterator[tuple[Any, ...]]:
    """The matrices in the class that PIQP's binding accepts while the block runs."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    if scipy_sparse is not None:
        yield tuple(scipy_sparse.csc_matrix((m.data, m.indices, m.indptr), shape=m.shape) for m in matrices)
        return
    package, module = ModuleType("scipy"), ModuleType("scipy.sparse")
    module.csc_matrix = Csc  # type: ignore[attr-defined]
    before = sys.modules.get("scipy")
    sys.modules["scipy"], sys.modules["scipy.sparse"] = package, module
    try:
        yield matrices
    finally:
        del sys.modules["scipy.sparse"]
        if before is None:
            del sys.modules["scipy"]
        else:
            sys.modules["scipy"] = before
