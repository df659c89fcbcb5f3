"""Sums and maxima over the subtrees and paths of a radial feeder, each in linear time and without a loop over its depth.

Nodes are renumbered once in depth-first preorder over the whole tree, across transformers, so that every subtree is a slice. A sum over a
subtree is a difference of two cumulative sums; a sum along the path from the root is one cumulative sum in which every node's value
enters at its own place and leaves where its subtree ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.powerflow.radial_tree import ROOT

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSums:
    """`place` (n,) is a node's position in preorder, `node` its inverse, and the subtree of place k is the slice k:last[k]."""

    place: IntArray
    node: IntArray
    last: IntArray

    def below(self, value: FloatArray) -> FloatArray:
        """Sum of `value` (n,) over each node's subtree, the node included."""
        total = np.concatenate([[0.0], np.cumsum(value[self.node])])
        return np.asarray((total[self.last] - total[:-1])[self.place])

    def above(self, value: FloatArray) -> FloatArray:
        """Sum of `value` (n,) along each node's path from the root, both included."""
        return self._paths(value[self.node])[self.place]

    def longest(self, value: FloatArray) -> FloatArray:
        """For each node the largest sum of a non-negative `value` (n,) along a path that starts there and leads away from the root."""
        ordered = value[self.node]
        path = self._paths(ordered)
        ends = np.stack([np.arange(path.size), self.last], axis=1).ravel()
        furthest = np.maximum.reduceat(np.append(path, 0.0), ends)[::2]
        return np.asarray((furthest - path + ordered)[self.place])

    def shared(self, nodes: IntArray, value: FloatArray) -> FloatArray:
        """Sum of `value` (n,) along the part of every node's path from the root that it shares with the path of each of `nodes`: (k, n)."""
        at, count = self.place[nodes][:, None], self.place.size
        row, on_path = np.nonzero((np.arange(count) <= at) & (self.last > at))
        steps = np.zeros((nodes.size, count + 1))
        steps[row, on_path] = value[self.node[on_path]]
        leaving = np.bincount(row * (count + 1) + self.last[on_path], weights=steps[row, on_path], minlength=steps.size)
        return np.asarray(np.cumsum(steps - leaving.reshape(steps.shape), axis=1)[:, self.place])

    def is_below(self, nodes: IntArray, heads: IntArray) -> BoolArray:
        """Whether each of `nodes` (k,) is in the subtree of each of `heads` (h,): (h, k)."""
        place, first = self.place[nodes], self.place[heads]
        return np.asarray((place >= first[:, None]) & (place < self.last[first][:, None]))

    def _paths(self, ordered: FloatArray) -> FloatArray:
        """Path sums of values in preorder, in preorder."""
        leaving = np.bincount(self.last, weights=ordered, minlength=ordered.size + 1)
        return np.asarray(np.cumsum(ordered - leaving[:-1]))


def build_sums(parent: IntArray) -> TreeSums:
    """Number the nodes of a tree, given as the parent of each (ROOT for the first), whose parents come before their children."""
    count = parent.size
    above = parent.tolist()
    size = [1] * count
    for node in range(count - 1, 0, -1):
        size[above[node]] += size[node]
    place, free = [0] * count, [1] * count
    for node in range(count):
        if above[node] != ROOT:
            place[node] = free[above[node]]
            free[above[node]] += size[node]
        free[node] = place[node] + 1
    position = np.array(place, dtype=np.int64)
    order = np.argsort(position)
    return TreeSums(place=position, node=order, last=np.arange(count) + np.array(size, dtype=np.int64)[order])
