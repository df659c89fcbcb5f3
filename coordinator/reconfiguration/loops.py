"""The radial configurations of a feeder, as bases of its loop space.

One *reference tree* is fixed and its nodes are numbered in preorder, so that branch i - 1 feeds node i and the branches left out, the
ties, come last. Every tie closes one fundamental loop; row l of `loop` holds +1 or -1 for the branches of loop l in and against its
direction. A set O of as many branches as there are loops is what a spanning tree leaves open exactly when the square matrix loop[:, O] is
regular, and then its determinant is +1 or -1 (the matrix is totally unimodular), so its inverse turns the reference loops into those of
that tree. The number of spanning trees is det(loop loop^T) by the formula of Cauchy and Binet.

Source: N. Biggs, Algebraic Graph Theory, 2nd ed., chapters 5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.network.model import Network
from coordinator.network.topology import loop_branches
from coordinator.reconfiguration.values import ReconfigurationError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSpace:
    """The branches of a feeder, tree branches first, and its loops.

    `line` is the position in `network.lines` (or -1) and `transformer` that in `network.transformers` (or -1) of every branch; `tail` and
    `head` are its nodes, a tree branch pointing away from the source. `bus_of_node` and `node_of_bus` translate nodes. The subtree of node
    i is the slice `i:last_of_subtree[i]`; `entry` and `leave` are its moments in the Euler tour. `switchable` says which branches may be
    open. `present_open` is the configuration in which the network was given.
    """

    network: Network
    line: IntArray
    transformer: IntArray
    tail: IntArray
    head: IntArray
    bus_of_node: IntArray
    node_of_bus: IntArray
    last_of_subtree: IntArray
    entry: IntArray
    leave: IntArray
    loop: FloatArray
    switchable: BoolArray
    present_open: IntArray

    @property
    def node_count(self) -> int:
        """How many nodes there are, the source included."""
        return int(self.bus_of_node.size)

    @property
    def loop_count(self) -> int:
        """How many branches every radial configuration leaves open."""
        return int(self.loop.shape[0])

    def tree_count(self) -> float:
        """How many radial configurations exist with the switches that there are."""
        free = self.loop[:, self.switchable]
        return float(np.rint(np.linalg.det(free @ free.T)))

    def names(self, branches: Sequence[int] | IntArray) -> tuple[str, ...]:
        """Ids of the lines at these branch positions, in the order of the network."""
        return tuple(self.network.lines[position].id for position in sorted(int(self.line[branch]) for branch in branches))

    def tree_flow(self, drawn: ComplexArray) -> ComplexArray:
        """What every branch (branches, B) of the reference tree carries when the nodes draw `drawn` (nodes, B) and nothing is lost."""
        tree = self.node_count - 1
        cumulative = np.cumsum(drawn, axis=0)
        flow = np.zeros((self.tail.size, drawn.shape[1]), dtype=np.complex128)
        flow[:tree] = cumulative[self.last_of_subtree[1:] - 1] - cumulative[:-1]
        return flow

    def flow(self, open_set: IntArray, drawn: ComplexArray) -> ComplexArray:
        """The same under another configuration, `open_set` (loops,)."""
        flow = self.tree_flow(drawn)
        own_loops = np.rint(np.linalg.inv(self.loop[:, open_set])) @ self.loop
        return np.asarray(flow - np.rint(own_loops).T @ flow[open_set])

    def exchanges(self, open_set: IntArray, place: int) -> IntArray:
        """The configurations (neighbours, loops) that close `open_set[place]` and open another switch of the loop which that closes."""
        row = np.linalg.inv(self.loop[:, open_set])[place] @ self.loop
        partners = np.flatnonzero((np.abs(row) > 0.5) & self.switchable)
        partners = partners[partners != open_set[place]]
        neighbours = np.repeat(open_set[None], partners.size, axis=0)
        neighbours[:, place] = partners
        return neighbours


def loop_space(network: Network) -> LoopSpace:
    """Order the branches of a network that is operated radially; anything else is a ReconfigurationError that names the element."""
    ends, line, transformer = _branches(network)
    index = network.bus_index
    closed = [row for row, position in enumerate(line) if position < 0 or network.lines[position].in_service]
    order, feeder = _reference_tree(network, ends, closed)
    ties = sorted(set(range(len(ends))) - set(feeder))
    loops = loop_branches(network)
    if loops:
        raise ReconfigurationError(
            f"{network.name}: operated meshed: {loops[0][0]} {loops[0][1]} closes a loop ({len(loops)} in all); "
            "expected a present configuration with exactly one path from the source to every bus"
        )
    if not ties:
        raise ReconfigurationError(f"{network.name}: there is no open switch, so there is nothing to reconfigure")
    node_of_bus = np.full(len(network.buses), -1, dtype=np.int64)
    node_of_bus[order] = np.arange(len(order))
    rows = np.array([*feeder, *ties], dtype=np.int64)
    tail, head = node_of_bus[np.array(ends, dtype=np.int64)[rows]].T
    tree = np.arange(len(feeder))
    tail[tree], head[tree] = np.minimum(tail[tree], head[tree]), np.maximum(tail[tree], head[tree])
    line_of_branch = np.array(line, dtype=np.int64)[rows]
    last, entry, leave = _tour(tail[tree])
    assert node_of_bus[index[network.source.bus]] == 0
    return LoopSpace(
        network=network,
        line=line_of_branch,
        transformer=np.array(transformer, dtype=np.int64)[rows],
        tail=tail,
        head=head,
        bus_of_node=np.array(order, dtype=np.int64),
        node_of_bus=node_of_bus,
        last_of_subtree=last,
        entry=entry,
        leave=leave,
        loop=_loops(tail, head, len(feeder)),
        switchable=np.array([position >= 0 and network.lines[position].is_switchable for position in line_of_branch]),
        present_open=np.arange(len(feeder), len(rows), dtype=np.int64),
    )


def _branches(network: Network) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """End buses, line positions and transformer positions of every branch that is or could be closed."""
    index = network.bus_index
    ends: list[tuple[int, int]] = []
    line: list[int] = []
    transformer: list[int] = []
    for position, item in enumerate(network.lines):
        if item.in_service or item.is_switchable:
            ends.append((index[item.from_bus], index[item.to_bus]))
            line.append(position)
            transformer.append(-1)
    for position, winding in enumerate(network.transformers):
        if winding.in_service:
            ends.append((index[winding.from_bus], index[winding.to_bus]))
            line.append(-1)
            transformer.append(position)
    return ends, line, transformer


def _reference_tree(network: Network, ends: list[tuple[int, int]], closed: list[int]) -> tuple[list[int], list[int]]:
    """Buses in preorder, and the branch that feeds each but the first."""
    neighbours: list[list[tuple[int, int]]] = [[] for _ in network.buses]
    for row in closed:
        one, other = ends[row]
        neighbours[one].append((other, row))
        neighbours[other].append((one, row))
    order: list[int] = []
    feeder: list[int] = []
    seen = [False] * len(network.buses)
    stack: list[tuple[int, int]] = [(network.bus_index[network.source.bus], -1)]
    while stack:
        bus, row = stack.pop()
        if seen[bus]:
            continue
        seen[bus] = True
        order.append(bus)
        if row >= 0:
            feeder.append(row)
        stack += [(other, branch) for other, branch in reversed(neighbours[bus]) if not seen[other]]
    missing = [network.buses[bus].id for bus, found in enumerate(seen) if not found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ReconfigurationError(
            f"{network.name}: disconnected: no closed path from source bus {network.source.bus} to {', '.join(missing[:5])}{more}"
        )
    return order, feeder


def _tour(parent: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Ends of subtrees and Euler-tour moments of nodes in preorder; `parent` belongs to nodes 1, 2, ..."""
    count = parent.size + 1
    size = np.ones(count, dtype=np.int64)
    depth = np.zeros(count, dtype=np.int64)
    for node in range(1, count):
        depth[node] = depth[parent[node - 1]] + 1
    for node in range(count - 1, 0, -1):
        size[parent[node - 1]] += size[node]
    position = np.arange(count, dtype=np.int64)
    entry = 2 * position - depth
    return position + size, entry, entry + 2 * size - 1


def _loops(tail: IntArray, head: IntArray, tree_size: int) -> FloatArray:
    """Fundamental loops: a unit through a tie from tail to head relieves the way to its head and loads the way to its tail."""
    loop = np.zeros((tail.size - tree_size, tail.size))
    for row in range(loop.shape[0]):
        loop[row, tree_size + row] = 1.0
        for node, sign in ((int(tail[tree_size + row]), 1.0), (int(head[tree_size + row]), -1.0)):
            while node:
                loop[row, node - 1] += sign
                node = int(tail[node - 1])
    return loop
