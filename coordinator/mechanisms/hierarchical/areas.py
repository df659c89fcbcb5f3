"""What the network operator derives from its network once: a medium-voltage backbone, and for every transformer the area that it feeds.

An area is linear around its state without load: drawing power s at a point draws the current conj(s / W) with W the voltage there without
load, and every voltage moves in proportion. Watched are, of each phase of a low-voltage feeder, the connection that is electrically
farthest out, and up to two on the way (where vehicles at the end charge from panels on the way, the voltage is highest between); all are
called ends. How strongly each customer moves an end is the operator's knowledge of its network (`weight`, told to the customer); how much
power a customer takes never reaches the operator, only the weighted sum over the area does. There is at most one figure for every five
customers on a phase, and none for a feeder of fewer than ten: three figures of four customers told one of them to a fraction of a watt.
What voltages do between the watched points is left to the operator's margin.

The current is smaller than that where voltages are above those without load, and larger where they are below. So the model overstates a
rise; a fall is scaled by W / vmin, which overstates it as well: the error is on the safe side at both limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.signals import FloatArray
from coordinator.network.model import Bus, Connection, Line, Matrix, Network, NetworkKind, Source, Transformer
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.radial import ComplexArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT, IntArray, RadialTree, build_tree
from coordinator.powerflow.unbalanced import unbalanced_feeder

LEAST_OF_FEEDER = 10
LEAST_OF_PHASE = 5
# How far out the watched connections are, by how many figures the customers on a phase are enough for.
WATCHED_FRACS: tuple[tuple[float, ...], ...] = ((), (1.0,), (0.65, 1.0), (0.5, 0.75, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """The customers of one transformer and the ends of its feeders; `behind` (ends,) is how many customers the feeder of each has.

    `weight` (customers, ends) is how much a watt of each customer moves an end, relative to the watt that moves it most; `var_weight` the
    same for reactive power. A watt of weight one lowers the voltage of an end by `fall_pu_per_w` (ends,) from `no_load_pu` (ends,), which
    holds for 1 pu at the transformer's high side.
    """

    transformer: Transformer
    customers: tuple[str, ...]
    ends: tuple[str, ...]
    behind: IntArray
    weight: FloatArray
    var_weight: FloatArray
    fall_pu_per_w: FloatArray
    no_load_pu: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """The medium-voltage network by its positive sequence, with one connection for each transformer, in the order of the transformers.

    `fall_pu_per_w` (transformers, transformers) is how much the voltage at one falls for a watt at another.
    """

    feeder: RadialFeeder
    fall_pu_per_w: FloatArray

    @property
    def network(self) -> Network:
        """The backbone as a network."""
        return self.feeder.network


def split(network: Network, *, least_of_phase: int = LEAST_OF_PHASE) -> tuple[Backbone, tuple[Area, ...]]:
    """Cut an unbalanced network at its transformers; `least_of_phase` customers on a phase are enough for one figure."""
    if network.is_balanced or not network.transformers:
        raise ConversationError(f"{network.name}: expected a three-phase network with transformers whose low-voltage sides are modelled")
    tree = build_tree(network)
    areas = {zone.transformer: _area(network, tree, number, least_of_phase) for number, zone in enumerate(tree.zones) if number}
    nested = [network.transformers[tree.zones[number].transformer].id for number in range(len(tree.zones)) if _is_nested(tree, number)]
    if nested:
        raise ConversationError(
            f"{network.name}: transformer {nested[0]} is fed by another one; expected one voltage level below the source's"
        )
    return _backbone(network, tree), tuple(areas[position] for position in range(len(network.transformers)))


def _is_nested(tree: RadialTree, number: int) -> bool:
    return tree.zones[number].attach >= tree.zones[0].last


def _backbone(network: Network, tree: RadialTree) -> Backbone:
    inside = {network.buses[bus].id for bus in tree.bus_of_node[: tree.zones[0].last]}
    lines = tuple(_positive_sequence(line) for line in network.lines if line.in_service and line.from_bus in inside)
    other = [item.id for item in network.connections if item.bus in inside]
    if other or network.shunts:
        raise ConversationError(f"{network.name}: {(other or ['a shunt'])[0]} is connected to the backbone, expected transformers alone")
    backbone = Network(
        name=f"{network.name} backbone",
        kind=NetworkKind.BALANCED,
        frequency_hz=network.frequency_hz,
        buses=tuple(bus for bus in network.buses if bus.id in inside),
        sources=network.sources,
        lines=lines,
        connections=tuple(Connection(id=item.id, bus=item.from_bus) for item in network.transformers),
        vmin_pu=network.vmin_pu,
        vmax_pu=network.vmax_pu,
    )
    feeder = balanced_feeder(backbone)
    points = _point_currents(feeder, 1.0)
    base, moved = _responses(feeder, points)
    at = feeder.tree.node_of_bus[[backbone.bus_index[item.bus] for item in backbone.connections]]
    change = (np.conj(base[at, 0]) / np.abs(base[at, 0]) * moved[at, 0].T).real.T / feeder.nominal_v[at][:, None]
    order = np.argsort(feeder.points.connection)
    return Backbone(feeder=feeder, fall_pu_per_w=-change[:, order])


def _positive_sequence(line: Line) -> Line:
    """The positive-sequence impedance of a transposed line is self less mutual."""

    def reduced(matrix: Matrix) -> Matrix:
        size = len(matrix)
        own = sum(matrix[k][k] for k in range(size)) / size
        mutual = sum(matrix[j][k] for j in range(size) for k in range(size) if j != k) / (size * (size - 1))
        return ((own - mutual,),)

    if len(line.phases) < 3:
        raise ConversationError(f"line {line.id} of the backbone has phases {line.phases}, expected three")
    return msgspec.structs.replace(
        line, r_ohm=reduced(line.r_ohm), x_ohm=reduced(line.x_ohm), c_f=reduced(line.c_f) if line.c_f != () else ()
    )


def _area(network: Network, tree: RadialTree, number: int, least_of_phase: int) -> Area:
    zone = tree.zones[number]
    transformer = network.transformers[zone.transformer]
    inside = {network.buses[bus].id for bus in tree.bus_of_node[zone.first : zone.last]}
    high = network.buses[network.bus_index[transformer.from_bus]]
    customers = tuple(item for item in network.connections if item.bus in inside)
    part = Network(
        name=f"area of {transformer.id}",
        kind=NetworkKind.UNBALANCED,
        frequency_hz=network.frequency_hz,
        buses=(Bus(id=high.id, nominal_ln_v=high.nominal_ln_v), *(bus for bus in network.buses if bus.id in inside)),
        sources=(Source(bus=high.id),),
        lines=tuple(line for line in network.lines if line.in_service and line.from_bus in inside),
        transformers=(transformer,),
        connections=customers,
        vmin_pu=network.vmin_pu,
        vmax_pu=network.vmax_pu,
    )
    feeder = unbalanced_feeder(part)
    nodes, phases, behind, names = _ends(feeder, least_of_phase)
    base, per_w = _responses(feeder, _point_currents(feeder, 1.0))
    _, per_var = _responses(feeder, _point_currents(feeder, 1.0j))
    at = base[nodes, phases]
    towards = np.conj(at) / np.abs(at)
    weight = np.zeros((len(customers), nodes.size))
    var_weight = np.zeros_like(weight)
    for table, moved in ((weight, per_w), (var_weight, per_var)):
        np.add.at(table, feeder.points.connection, -(towards[:, None] * moved[nodes, phases]).real.T)
    largest = np.max(np.abs(weight), axis=0, initial=0.0)
    nominal = feeder.nominal_v[nodes]
    return Area(
        transformer=transformer,
        customers=tuple(item.id for item in customers),
        ends=names,
        behind=behind,
        weight=weight / largest,
        var_weight=var_weight / largest,
        fall_pu_per_w=largest / nominal,
        no_load_pu=np.abs(at) / nominal,
    )


def _point_currents(feeder: RadialFeeder, power_va: complex) -> ComplexArray:
    """Currents (points, points) when one connection point after the other draws its share of `power_va` at the voltage without load."""
    base, _ = feeder.linear_response(np.zeros((feeder.points.slot.size, 1), dtype=np.complex128), feeder.source_v)
    volts = base.reshape(-1)[feeder.points.slot]
    return np.diag(np.conj(power_va * feeder.points.share_frac / volts))


def _responses(feeder: RadialFeeder, currents_a: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    """Voltages without load (nodes, phases), and what the currents change (nodes, phases, points)."""
    none = np.zeros((feeder.points.slot.size, 1), dtype=np.complex128)
    base, _ = feeder.linear_response(none, feeder.source_v)
    moved, _ = feeder.linear_response(currents_a, feeder.source_v)
    return base[:, :, 0], moved - base


def _ends(feeder: RadialFeeder, least_of_phase: int) -> tuple[IntArray, IntArray, IntArray, tuple[str, ...]]:
    """Node, phase, customers of the feeder and name of what is watched on every phase of every feeder that leaves the transformer."""
    tree, phases = feeder.tree, feeder.phase_count
    head = tree.zones[1].first
    resistance = np.zeros(tree.node_count)
    feeder_of = np.full(tree.node_count, ROOT, dtype=np.int64)
    for node in range(head + 1, tree.node_count):
        parent = int(tree.parent[node])
        resistance[node] = resistance[parent] + feeder.z_ohm[node].real.trace()
        feeder_of[node] = node if parent == head else feeder_of[parent]
    node_of_point, phase_of_point = feeder.points.slot // phases, feeder.points.slot % phases
    chosen: list[tuple[int, int, int]] = []
    for start in np.unique(feeder_of[node_of_point]):
        mine = np.flatnonzero(feeder_of[node_of_point] == start)
        customers = np.unique(feeder.points.connection[mine]).size
        for phase in np.unique(phase_of_point[mine]) if start != ROOT and customers >= LEAST_OF_FEEDER else ():
            nodes = node_of_point[mine[phase_of_point[mine] == phase]]
            far = resistance[nodes].max()
            parts = WATCHED_FRACS[min(nodes.size // least_of_phase, len(WATCHED_FRACS) - 1)]
            watched = dict.fromkeys(int(nodes[np.argmin(np.abs(resistance[nodes] - part * far))]) for part in parts)
            chosen += [(node, int(phase), customers) for node in watched]
    names = tuple(f"{feeder.network.buses[int(tree.bus_of_node[node])].id} phase {phase + 1}" for node, phase, _ in chosen)
    table = np.array(chosen, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2], names
