"""Proof that a configuration is optimal, by going through every spanning tree.

Branches in series lie in the same loops, so at most one of each such class is open. For every choice of classes that leaves a tree, all
choices of their members are taken together. Each is excluded by the lossless estimate, where that is a lower bound of the loss
(`coordinator.reconfiguration.estimate`), or else solved by exact power flow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from coordinator.reconfiguration.costs import SwitchingCosts
from coordinator.reconfiguration.estimate import lossless_estimate
from coordinator.reconfiguration.loops import FloatArray, IntArray, LoopSpace
from coordinator.reconfiguration.values import Proof

DEFAULT_TREE_LIMIT = 1_000_000
CHUNK = 4096
PROGRESS_EVERY = 100_000
CHOICES_AT_ONCE = 20000
MAX_CHOICES = 20_000_000
# A tree whose bound comes this close to the best loss is solved: the bound's own rounding must not decide.
BOUND_SLACK_FRAC = 1e-9


def prove(
    costs: SwitchingCosts, best: IntArray, weights: FloatArray, *, tree_limit: int, say: Callable[[str], None]
) -> tuple[IntArray, Proof]:
    """Return the best tree there is and what was proven; where there are too many trees, `best` and a statement of that."""
    space = costs.space
    trees = space.tree_count()
    classes = series_classes(space)
    choices = math.comb(len(classes), space.loop_count)
    if trees > tree_limit or choices > MAX_CHOICES:
        statement = f"not proven: {trees:.4g} radial configurations are more than the {tree_limit} that are enumerated"
        return best, Proof(complete=False, trees=trees, solved=0, bounded_out=0, statement=statement)
    estimate = lossless_estimate(costs, weights)
    value = float(costs.of(best[None], weights)[0])
    seen = solved = told = 0
    for open_sets in _in_chunks(spanning_trees(space, classes)):
        seen += open_sets.shape[0]
        if estimate.is_lower_bound:
            open_sets = open_sets[estimate.of(open_sets) < value * (1.0 + BOUND_SLACK_FRAC)]
        solved += open_sets.shape[0]
        if open_sets.shape[0]:
            values = costs.of(open_sets, weights)
            if np.min(values) < value:
                best, value = open_sets[int(np.argmin(values))], float(np.min(values))
        if seen - told >= PROGRESS_EVERY:
            told = seen
            say(f"enumerated {seen} of {trees:.0f} radial configurations")
    assert seen == round(trees), f"{seen} trees enumerated, {trees} exist"
    statement = f"proven: every one of {seen} radial configurations was solved ({solved}) or bounded out ({seen - solved})"
    return best, Proof(complete=True, trees=trees, solved=solved, bounded_out=seen - solved, statement=statement)


def series_classes(space: LoopSpace) -> list[IntArray]:
    """Switches that lie in the same loops, class by class, in the order of their first members."""
    classes: dict[bytes, list[int]] = {}
    for branch in np.flatnonzero(space.switchable & np.any(space.loop, axis=0)):
        column = space.loop[:, branch]
        column = column * column[np.flatnonzero(column)[0]]
        classes.setdefault((column + 0.0).tobytes(), []).append(int(branch))
    return [np.array(members, dtype=np.int64) for members in classes.values()]


def spanning_trees(space: LoopSpace, classes: list[IntArray]) -> Iterator[IntArray]:
    """Every set of open switches that leaves a tree, (n, loops) at a time, each exactly once."""
    first = np.array([members[0] for members in classes], dtype=np.int64)
    choices = itertools.combinations(range(len(classes)), space.loop_count)
    while chunk := list(itertools.islice(choices, CHOICES_AT_ONCE)):
        chosen = np.array(chunk, dtype=np.int64)
        regular = np.abs(np.linalg.det(space.loop[:, first[chosen]].transpose(1, 0, 2))) > 0.5
        for row in chosen[regular]:
            grid = np.meshgrid(*(classes[place] for place in row), indexing="ij")
            yield np.stack([axis.ravel() for axis in grid], axis=1)


def _in_chunks(parts: Iterator[IntArray]) -> Iterator[IntArray]:
    waiting: list[IntArray] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += part.shape[0]
        if count >= CHUNK:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)
