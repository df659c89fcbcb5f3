"""Which nodes the source feeds, and which branches close loops: union-find over (bus, phase) nodes and over buses."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from coordinator.network.model import THREE_PHASES, Network

Node = tuple[str, int]
Item = TypeVar("Item", bound=Hashable)


class DisjointSets(Generic[Item]):
    """Sets that can only be joined."""

    def __init__(self) -> None:
        self._parent: dict[Item, Item] = {}

    def find(self, item: Item) -> Item:
        """Return the representative of an item's set."""
        root = item
        while (above := self._parent.setdefault(root, root)) != root:
            root = above
        while item != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, one: Item, other: Item) -> bool:
        """Join two sets; False when they were one already."""
        first, second = self.find(one), self.find(other)
        self._parent[first] = second
        return first != second


def branches(network: Network) -> Iterator[tuple[str, str, str, str, tuple[int, ...]]]:
    """Yield (kind, id, from bus, to bus, phases) of every branch in service."""
    for line in network.lines:
        if line.in_service:
            yield "line", line.id, line.from_bus, line.to_bus, line.phases
    for transformer in network.transformers:
        if transformer.in_service:
            yield "transformer", transformer.id, transformer.from_bus, transformer.to_bus, THREE_PHASES


def fed_nodes(network: Network) -> set[Node]:
    """Return the (bus, phase) nodes with a path to a source."""
    sets: DisjointSets[Node] = DisjointSets()
    for _, _, from_bus, to_bus, phases in branches(network):
        for phase in phases:
            sets.join((from_bus, phase), (to_bus, phase))
    live = {sets.find((source.bus, phase)) for source in network.sources for phase in THREE_PHASES}
    return {(bus.id, phase) for bus in network.buses for phase in bus.phases if sets.find((bus.id, phase)) in live}


def loop_branches(network: Network) -> list[tuple[str, str]]:
    """Return (kind, id) of every branch that joins two buses which earlier branches join already."""
    sets: DisjointSets[str] = DisjointSets()
    return [(kind, name) for kind, name, from_bus, to_bus, _ in branches(network) if not sets.join(from_bus, to_bus)]
