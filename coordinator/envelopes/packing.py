"""Packing rows: many sums of limits with non-negative slopes, of which only few have to be written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Rows(Protocol):
    """`count` rows over limits x; `largest` (count,) bounds each row's slopes from above."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    @property
    def largest(self) -> FloatArray:
        """A bound on the largest slope of each row."""

    def dot(self, x: FloatArray) -> FloatArray:
        """Every row's sum at x."""

    def take(self, index: IntArray) -> FloatArray:
        """Some rows' slopes, dense (k, limits)."""

    def peaks(self, excess: FloatArray) -> BoolArray:
        """Which rows (count,) exceed those that are most alike, so that these need not be written out beside them."""


class SizedRows(Rows, Protocol):
    """Rows that know how many limits they speak of."""

    @property
    def limits(self) -> int:
        """How many limits there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRows:
    """Rows that are written out already."""

    matrix: FloatArray

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.matrix.shape[0])

    @property
    def largest(self) -> FloatArray:
        """The largest slope of each row."""
        return np.asarray(np.max(self.matrix, axis=1, initial=0.0))

    def dot(self, x: FloatArray) -> FloatArray:
        """Every row's sum at x."""
        return np.asarray(self.matrix @ x)

    def take(self, index: IntArray) -> FloatArray:
        """Some rows' slopes."""
        return self.matrix[index]

    def peaks(self, excess: FloatArray) -> BoolArray:
        """All: nothing is known of which rows are alike."""
        return np.ones(excess.size, dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedRows:
    """Rows over the first limits and rows over the rest, as one set of rows over all."""

    first: Rows
    second: Rows
    first_limits: int
    limits: int

    @staticmethod
    def of(parts: tuple[SizedRows, SizedRows]) -> StackedRows:
        """The rows of both."""
        return StackedRows(first=parts[0], second=parts[1], first_limits=parts[0].limits, limits=parts[0].limits + parts[1].limits)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.first.count + self.second.count

    @property
    def largest(self) -> FloatArray:
        """A bound on the largest slope of each row."""
        return np.concatenate([self.first.largest, self.second.largest])

    def dot(self, x: FloatArray) -> FloatArray:
        """Every row's sum at x."""
        return np.concatenate([self.first.dot(x[: self.first_limits]), self.second.dot(x[self.first_limits :])])

    def take(self, index: IntArray) -> FloatArray:
        """Some rows' slopes."""
        taken = np.zeros((index.size, self.limits))
        early = index < self.first.count
        taken[early, : self.first_limits] = self.first.take(index[early])
        taken[~early, self.first_limits :] = self.second.take(index[~early] - self.first.count)
        return taken

    def peaks(self, excess: FloatArray) -> BoolArray:
        """The peaks of both."""
        return np.concatenate([self.first.peaks(excess[: self.first.count]), self.second.peaks(excess[self.first.count :])])
