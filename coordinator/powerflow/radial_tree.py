"""The order in which a radial feeder is swept.

A feeder is a tree rooted at its source bus. Nodes are numbered *zone by zone*: a zone is what lies between two transformers, and inside a
zone nodes are in depth-first preorder, so that a subtree is a contiguous slice. The sum over a subtree is then a difference of two
cumulative sums, and the sum along the path from the zone's root is a cumulative sum over the Euler tour (plus on entering a node, minus
on leaving it), both without a loop over the depth of the tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.errors import NetworkError
from coordinator.network.model import Line, Network, Transformer

IntArray = NDArray[np.int64]
Branch = Line | Transformer

ROOT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """The nodes `first:last` between two transformers, in preorder.

    `transformer` is the position in `network.transformers` of the one that feeds `first` from node `attach` of an earlier zone; both are
    ROOT in the zone of the source. `last_of_subtree`, `entry` and `leave` are local: the subtree of local node i is the slice
    `i:last_of_subtree[i]`, and `entry[i]`, `leave[i]` are the moments of node i in the Euler tour.
    """

    first: int
    last: int
    attach: int
    transformer: int
    last_of_subtree: IntArray
    entry: IntArray
    leave: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RadialTree:
    """Nodes in sweep order.

    `bus_of_node` and `node_of_bus` translate to positions in `network.buses`; `parent` is the feeding node (ROOT for the source bus);
    `line_of_node` is the line that feeds a node, or ROOT where a transformer or the source does; `node_of_line` is the reverse, ROOT for
    a line that is out of service.
    """

    bus_of_node: IntArray
    node_of_bus: IntArray
    parent: IntArray
    line_of_node: IntArray
    node_of_line: IntArray
    zones: tuple[Zone, ...]

    @property
    def node_count(self) -> int:
        """How many nodes there are."""
        return int(self.parent.size)


def build_tree(network: Network) -> RadialTree:
    """Order the feeder; a loop, an island or a transformer fed from its low-voltage side is a NetworkError that names it."""
    adjacency = _adjacency(network)
    root = network.bus_index[network.source.bus]
    order: list[int] = []
    parent_bus: dict[int, int] = {root: ROOT}
    line_of_bus: dict[int, int] = {root: ROOT}
    zones: list[Zone] = []
    node_of_bus = np.full(len(network.buses), ROOT, dtype=np.int64)
    pending: list[tuple[int, int]] = [(root, ROOT)]
    while pending:
        head, transformer = pending.pop(0)
        first = len(order)
        depths = _walk_zone(network, adjacency, (head, transformer), parent_bus, line_of_bus, order, pending)
        node_of_bus[order[first:]] = np.arange(first, len(order))
        attach = ROOT if head == root else int(node_of_bus[parent_bus[head]])
        zones.append(_zone(first, np.array(depths, dtype=np.int64), attach, transformer))
    _refuse_islands(network, node_of_bus)
    line_of_node = np.array([line_of_bus[bus] for bus in order], dtype=np.int64)
    node_of_line = np.full(len(network.lines), ROOT, dtype=np.int64)
    fed = np.flatnonzero(line_of_node != ROOT)
    node_of_line[line_of_node[fed]] = fed
    parent = np.array([ROOT if parent_bus[bus] == ROOT else node_of_bus[parent_bus[bus]] for bus in order], dtype=np.int64)
    return RadialTree(
        bus_of_node=np.array(order, dtype=np.int64),
        node_of_bus=node_of_bus,
        parent=parent,
        line_of_node=line_of_node,
        node_of_line=node_of_line,
        zones=tuple(zones),
    )


def _adjacency(network: Network) -> list[list[tuple[int, int, bool]]]:
    """Per bus, its neighbours as (bus, branch position, whether the branch is a transformer)."""
    index = network.bus_index
    adjacency: list[list[tuple[int, int, bool]]] = [[] for _ in network.buses]
    kinds: tuple[tuple[bool, tuple[Branch, ...]], ...] = ((False, network.lines), (True, network.transformers))
    for is_transformer, branches in kinds:
        for position, branch in enumerate(branches):
            if branch.in_service:
                a, b = index[branch.from_bus], index[branch.to_bus]
                adjacency[a].append((b, position, is_transformer))
                adjacency[b].append((a, position, is_transformer))
    return adjacency


def _walk_zone(
    network: Network,
    adjacency: list[list[tuple[int, int, bool]]],
    fed_by: tuple[int, int],
    parent_bus: dict[int, int],
    line_of_bus: dict[int, int],
    order: list[int],
    pending: list[tuple[int, int]],
) -> list[int]:
    """Append one zone's buses to `order` in preorder and its transformers' low-voltage buses to `pending`; return the depths."""
    head, transformer = fed_by
    depths: list[int] = []
    stack: list[tuple[int, int, tuple[int, bool]]] = [(head, 0, (transformer, True))]
    while stack:
        bus, depth, came_by = stack.pop()
        order.append(bus)
        depths.append(depth)
        for neighbour, position, is_transformer in reversed(adjacency[bus]):
            if (position, is_transformer) == came_by:
                continue
            branch: Branch = network.transformers[position] if is_transformer else network.lines[position]
            if neighbour in parent_bus:
                raise NetworkError(
                    f"{network.name}: not radial: {branch.id} between {branch.from_bus} and {branch.to_bus} closes a loop; "
                    "a radial sweep needs exactly one path from the source to every bus"
                )
            parent_bus[neighbour] = bus
            if is_transformer:
                if branch.to_bus != network.buses[neighbour].id:
                    raise NetworkError(f"{network.name}: transformer {branch.id} is fed from its low-voltage bus {branch.to_bus}")
                line_of_bus[neighbour] = ROOT
                pending.append((neighbour, position))
            else:
                line_of_bus[neighbour] = position
                stack.append((neighbour, depth + 1, (position, False)))
    return depths


def _zone(first: int, depth: IntArray, attach: int, transformer: int) -> Zone:
    """Euler-tour moments from preorder depths: entry(i) = 2 i - depth(i), leave = entry + 2 size - 1."""
    count = depth.size
    last = np.full(count, count, dtype=np.int64)
    open_nodes: list[int] = []
    for node in range(count):
        while open_nodes and depth[open_nodes[-1]] >= depth[node]:
            last[open_nodes.pop()] = node
        open_nodes.append(node)
    position = np.arange(count, dtype=np.int64)
    entry = 2 * position - depth
    leave = entry + 2 * (last - position) - 1
    return Zone(
        first=first, last=first + count, attach=attach, transformer=transformer, last_of_subtree=last, entry=entry, leave=leave
    )


def _refuse_islands(network: Network, node_of_bus: IntArray) -> None:
    missing = [network.buses[bus].id for bus in np.flatnonzero(node_of_bus == ROOT)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise NetworkError(f"{network.name}: no path from source bus {network.source.bus} to {', '.join(missing[:5])}{more}")
