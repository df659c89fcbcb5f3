"""Phase matrices from the ways files state them, and relabelling of local phase numbers to the system's.

Symmetrical components: for a transposed line the phase matrix has self entries (z0 + 2 z1) / 3 and mutual entries (z0 - z1) / 3
(Kersting, Distribution System Modeling and Analysis, section 4.1.6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from coordinator.network.model import THREE_PHASES, Matrix


def uniform_matrix(self_value: float, mutual_value: float, size: int) -> Matrix:
    """Return a size x size matrix with equal diagonals and equal off-diagonals."""
    return tuple(tuple(self_value if row == column else mutual_value for column in range(size)) for row in range(size))


def sequence_matrix(positive: float, zero: float, size: int = 3) -> Matrix:
    """Return the phase matrix of a transposed line from its positive- and zero-sequence values."""
    return uniform_matrix((zero + 2.0 * positive) / 3.0, (zero - positive) / 3.0, size)


class LocalBranch(msgspec.Struct, frozen=True, kw_only=True):
    """A branch as a file states it, with the phase numbers of each of its ends: position k of one end meets position k of the other."""

    id: str
    from_bus: str
    to_bus: str
    from_phases: tuple[int, ...]
    to_phases: tuple[int, ...]


def system_phases(branches: Iterable[LocalBranch], start_buses: Iterable[str]) -> tuple[dict[str, dict[int, int]], tuple[LocalBranch, ...]]:
    """Return, per bus, the map from local to system phase, walking from the source; and the branches that contradict it.

    A bus that is not reached keeps its own numbers (validation reports it as disconnected).
    """
    listed = tuple(branches)
    at_bus: dict[str, list[LocalBranch]] = {}
    for branch in listed:
        at_bus.setdefault(branch.from_bus, []).append(branch)
        at_bus.setdefault(branch.to_bus, []).append(branch)
    identity = {phase: phase for phase in THREE_PHASES}
    labels: dict[str, dict[int, int]] = {bus: dict(identity) for bus in start_buses}
    queue = deque(labels)
    while queue:
        here = queue.popleft()
        for branch in at_bus.get(here, ()):
            there, mine, theirs = _seen_from(branch, here)
            found = {far: labels[here].get(near, near) for near, far in zip(mine, theirs, strict=True)}
            if there not in labels:
                labels[there] = found
                queue.append(there)
            else:
                for far, system in found.items():
                    labels[there].setdefault(far, system)
    wrong = tuple(branch for branch in listed if _contradicts(branch, labels))
    return labels, wrong


def relabel(phases: tuple[int, ...], labels: Mapping[int, int] | None) -> tuple[int, ...]:
    """Return the system phases of local ones, ascending."""
    return tuple(sorted((labels or {}).get(phase, phase) for phase in phases))


def _seen_from(branch: LocalBranch, bus: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    if branch.from_bus == bus:
        return branch.to_bus, branch.from_phases, branch.to_phases
    return branch.from_bus, branch.to_phases, branch.from_phases


def _contradicts(branch: LocalBranch, labels: Mapping[str, Mapping[int, int]]) -> bool:
    if branch.from_bus not in labels or branch.to_bus not in labels:
        return False
    near, far = labels[branch.from_bus], labels[branch.to_bus]
    return any(near.get(a, a) != far.get(b, b) for a, b in zip(branch.from_phases, branch.to_phases, strict=True))
