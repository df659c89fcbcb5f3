"""The one-line diagram of a feeder: which buses are drawn, what feeds each, and where it stands. Pure.

A bus without a customer that only passes current on is not drawn: its line is one with the next. What remains is a tree. A bus at its
end is a *drop* and hangs below the bus that feeds it; the others are the mains. The longest way from a bus onward continues its row, each
other branch begins a row of its own below. `along` counts buses from the source, `across` rows; the browser turns both into the shape of
its window. Lines that close a loop are not drawn.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from coordinator.network.model import Network

MAX_DRAWN: Final = 3000
DROP_STEP: Final = 0.62
DROPS_IN_A_STEM: Final = 6
ROW_GAP: Final = 1.15


class DrawnBus(Struct, frozen=True, kw_only=True):
    """One mark of the diagram. `bus` and the branches are positions in the network; `homes_below` counts the nodes it feeds."""

    bus: int
    parent: int | None
    lines: tuple[int, ...]
    transformer: int | None
    drop: bool
    along: float
    across: float
    homes_below: int


class Diagram(Struct, frozen=True, kw_only=True):
    """All marks, each after the one that feeds it. Empty where the network has too many to be seen."""

    buses: tuple[DrawnBus, ...]

Beside = dict[int, list[tuple[int, int | None, int | None]]]
"""Of each bus its neighbours, as (bus, line or None, transformer or None)."""


class _Twig:
    """A bus while the tree is made."""

    def __init__(self, bus: int, lines: tuple[int, ...] = (), transformer: int | None = None) -> None:
        self.bus = bus
        self.lines = lines
        self.transformer = transformer
        self.children: list[_Twig] = []
        self.reach = 1
        self.along = self.across = 0.0
        self.drop = False
        self.homes = 0


def make_diagram(network: Network, node_buses: frozenset[int]) -> Diagram:
    """The diagram of a network; `node_buses` are the positions of buses at which nodes connect."""
    keep = node_buses | {network.bus_index[connection.bus] for connection in network.connections}
    order = _contracted(_grown(network), frozenset(keep))
    if len(order) > MAX_DRAWN:
        return Diagram(buses=())
    for twig in reversed(order):
        twig.homes = (twig.bus in node_buses) + sum(child.homes for child in twig.children)
        twig.drop = not twig.children and twig.transformer is None and twig is not order[0]
        twig.reach = 1 + max((child.reach for child in twig.children if not child.drop), default=0)
    _set_places(order[0])
    position = {id(twig): index for index, twig in enumerate(order)}
    parent = {id(child): position[id(twig)] for twig in order for child in twig.children}
    return Diagram(
        buses=tuple(
            DrawnBus(
                bus=twig.bus,
                parent=parent.get(id(twig)),
                lines=twig.lines,
                transformer=twig.transformer,
                drop=twig.drop,
                along=round(twig.along, 3),
                across=round(twig.across, 3),
                homes_below=twig.homes,
            )
            for twig in order
        )
    )


def _grown(network: Network) -> list[_Twig]:
    """Breadth first from the source over what is in service; the root comes first."""
    index = network.bus_index
    beside: Beside = {}
    for position, line in enumerate(network.lines):
        if line.in_service:
            _join(beside, index[line.from_bus], index[line.to_bus], position, None)
    for position, transformer in enumerate(network.transformers):
        if transformer.in_service:
            _join(beside, index[transformer.from_bus], index[transformer.to_bus], None, position)
    root = _Twig(index[network.source.bus])
    order, seen = [root], {root.bus}
    for twig in order:
        for bus, line_at, transformer_at in beside.get(twig.bus, ()):
            if bus not in seen:
                seen.add(bus)
                child = _Twig(bus, () if line_at is None else (line_at,), transformer_at)
                twig.children.append(child)
                order.append(child)
    return order


def _join(beside: Beside, one: int, other: int, line: int | None, transformer: int | None) -> None:
    beside.setdefault(one, []).append((other, line, transformer))
    beside.setdefault(other, []).append((one, line, transformer))


def _contracted(order: list[_Twig], keep: frozenset[int]) -> list[_Twig]:
    """Without the buses that only pass current on."""
    for twig in order:
        twig.children = [_skipped(child, keep) for child in twig.children]
    kept = [order[0]]
    for twig in kept:
        kept.extend(twig.children)
    return kept


def _skipped(twig: _Twig, keep: frozenset[int]) -> _Twig:
    while len(twig.children) == 1 and twig.bus not in keep and twig.transformer is None and twig.children[0].transformer is None:
        child = twig.children[0]
        child.lines = twig.lines + child.lines
        twig = child
    return twig


def _set_places(root: _Twig) -> None:
    """Rows from the top; a row is as high as the longest stem of drops on it. Rows are begun in the order in which they branch off."""
    below = 0.0
    rows: list[tuple[_Twig, float]] = [(root, 0.0)]
    while rows:
        head, along = rows.pop()
        across, height, begun = below, 0.0, []
        twig: _Twig | None = head
        while twig is not None:
            twig.along, twig.across = along, across
            drops = [child for child in twig.children if child.drop]
            for place, drop in enumerate(drops):
                stem, step = divmod(place, DROPS_IN_A_STEM)
                drop.along = along + 0.3 * stem
                drop.across = across + DROP_STEP * (step + 1)
                height = max(height, DROP_STEP * (step + 1))
            onward = sorted((child for child in twig.children if not child.drop), key=lambda child: -child.reach)
            spread = 0.3 * max(0, (len(drops) - 1) // DROPS_IN_A_STEM)
            begun += [(child, along + _length(child)) for child in onward[1:]]
            twig = onward[0] if onward else None
            along += spread + (_length(twig) if twig is not None else 0.0)
        below = across + height + ROW_GAP
        rows += begun


def _length(twig: _Twig) -> float:
    """Room for the branch that feeds it; a transformer's sign needs more."""
    return 1.0 if twig.transformer is None else 1.6
