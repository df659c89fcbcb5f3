"""Three-phase radial AC power flow: mutual coupling, single-phase laterals, and the transformer at the head as it is wound.

The vector groups that a sweep can carry are those whose low-voltage side is a grounded star: Dyn with any odd clock number (the
high-voltage delta carries no zero sequence; the low-voltage zero sequence closes in it through the leakage impedance) and YNyn with any
even one.
"""

from __future__ import annotations

import cmath

import numpy as np

from coordinator.errors import NetworkError
from coordinator.network.model import Network, Transformer
from coordinator.powerflow.radial import BoolArray, ComplexArray, FlowSolution, Points, RadialFeeder, line_charging_siemens, place
from coordinator.powerflow.radial_tree import ROOT, RadialTree, build_tree

PHASES = 3
# Low-voltage phase a of Dyn1 sits between high-voltage phases A and C and lags A by 30 degrees.
DYN1 = np.array([[1.0, 0.0, -1.0], [-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])


def unbalanced_feeder(network: Network) -> RadialFeeder:
    """Prepare a three-phase network for sweeping; NetworkError where it is not radial, not connected or not representable."""
    if network.is_balanced:
        raise NetworkError(f"{network.name}: a balanced network has no phase matrices; use the balanced power flow")
    tree = build_tree(network)
    has_phase = _phases_present(network, tree)
    z, y = _branch_matrices(network, tree)
    source = network.source
    nominal = network.nominal_ln_v[tree.bus_of_node]
    turns = np.exp(-2j * np.pi / 3 * np.arange(PHASES))
    return RadialFeeder(
        network=network,
        tree=tree,
        points=_points(network, tree, has_phase),
        z_ohm=z,
        y_siemens=y if np.any(y) else None,
        transfer=_transfer(network, tree),
        source_v=source.voltage_pu * nominal[0] * cmath.exp(1j * source.angle_rad) * turns,
        has_phase=has_phase,
        nominal_v=nominal,
        conductors=1,
    )


def solve_unbalanced(network: Network, power_va: ComplexArray | None = None) -> FlowSolution:
    """Solve for connection totals `power_va` (connections, snapshots), or for the network's base load."""
    feeder = unbalanced_feeder(network)
    if power_va is None:
        power_va = (network.base_power_w() + 1j * network.base_reactive_var())[:, None]
    return feeder.solve(power_va)


def vector_group_matrix(transformer: Transformer) -> ComplexArray:
    """Phase-to-neutral low-voltage phasors per high-voltage ones at equal turns (before the ratio of winding voltages)."""
    group = transformer.vector_group.rstrip("0123456789")
    clock = transformer.clock % 12
    if group == "Dyn" and clock % 2 == 1:
        base, start = DYN1, 1
    elif group == "YNyn" and clock % 2 == 0:
        base, start = np.eye(PHASES), 0
    else:
        raise NetworkError(
            f"transformer {transformer.id}: vector group {transformer.vector_group} is not one that the radial sweep models; "
            "expected Dyn with an odd or YNyn with an even clock number"
        )
    behind = (clock - start) % 12
    sign = 1.0
    if behind % 4 == 2:
        sign, behind = -1.0, (behind - 6) % 12
    return np.asarray(sign * np.roll(base, -(behind // 4), axis=0), dtype=np.complex128)


def _phases_present(network: Network, tree: RadialTree) -> BoolArray:
    """Which conductors reach each node; an element that needs a phase its feeding bus lacks is an error."""
    present = np.zeros((tree.node_count, PHASES), dtype=np.bool_)
    for node in range(tree.node_count):
        bus = network.buses[tree.bus_of_node[node]]
        present[node, np.array(bus.phases) - 1] = True
        fed = np.ones(PHASES, dtype=np.bool_)
        if tree.line_of_node[node] != ROOT:
            fed[:] = False
            fed[np.array(network.lines[tree.line_of_node[node]].phases) - 1] = True
            fed &= present[tree.parent[node]]
        if np.any(present[node] & ~fed):
            missing = [phase + 1 for phase in np.flatnonzero(present[node] & ~fed)]
            raise NetworkError(f"{network.name}: bus {bus.id} has phases {bus.phases}, but nothing brings it phase {missing}")
    return present


def _points(network: Network, tree: RadialTree, has_phase: BoolArray) -> Points:
    slots: list[int] = []
    connections: list[int] = []
    shares: list[float] = []
    for position, connection in enumerate(network.connections):
        node = int(tree.node_of_bus[network.bus_index[connection.bus]])
        for phase in connection.phases:
            if not has_phase[node, phase - 1]:
                raise NetworkError(f"{network.name}: connection {connection.id} needs phase {phase}, which bus {connection.bus} lacks")
            slots.append(node * PHASES + phase - 1)
            connections.append(position)
            shares.append(1.0 / len(connection.phases))
    order = np.argsort(np.array(slots, dtype=np.int64), kind="stable")
    return Points(
        slot=np.array(slots, dtype=np.int64)[order],
        connection=np.array(connections, dtype=np.int64)[order],
        share_frac=np.array(shares, dtype=np.float64)[order],
    )


def _branch_matrices(network: Network, tree: RadialTree) -> tuple[ComplexArray, ComplexArray]:
    z = np.zeros((tree.node_count, PHASES, PHASES), dtype=np.complex128)
    y = np.zeros((tree.node_count, PHASES, PHASES), dtype=np.complex128)
    z[0] = _sequence_matrix(network)
    for node in map(int, np.flatnonzero(tree.line_of_node != ROOT)):
        line = network.lines[int(tree.line_of_node[node])]
        z[node] = place(line.impedance_ohm(), line.phases, PHASES)
        if line.c_f != ():
            half = 0.5 * line_charging_siemens(network, int(tree.line_of_node[node]), PHASES)
            y[node] += half
            y[tree.parent[node]] += half
    for zone in tree.zones:
        if zone.transformer != ROOT:
            transformer = network.transformers[zone.transformer]
            z[zone.first] = transformer.impedance_to_side_ohm() * np.eye(PHASES)
            y[zone.first] += transformer.no_load_siemens() * np.eye(PHASES)
    for shunt in network.shunts:
        node = int(tree.node_of_bus[network.bus_index[shunt.bus]])
        index = np.array(shunt.phases) - 1
        y[node, index, index] += complex(shunt.g_siemens, shunt.b_siemens)
    return z, y


def _sequence_matrix(network: Network) -> ComplexArray:
    """Phase matrix of the source impedance from its positive and zero sequence."""
    source = network.source
    z1, z0 = complex(source.r1_ohm, source.x1_ohm), complex(source.r0_ohm, source.x0_ohm)
    return np.asarray(np.full((PHASES, PHASES), (z0 - z1) / 3) + z1 * np.eye(PHASES))


def _transfer(network: Network, tree: RadialTree) -> ComplexArray:
    transfer = np.zeros((len(tree.zones), PHASES, PHASES), dtype=np.complex128)
    transfer[0] = np.eye(PHASES)
    for number, zone in enumerate(tree.zones):
        if zone.transformer != ROOT:
            transformer = network.transformers[zone.transformer]
            matrix = vector_group_matrix(transformer)
            # A delta winding sees a line-to-line voltage, sqrt(3) times the phase-to-neutral one that the turns ratio speaks of.
            winding = np.sqrt(3) if transformer.vector_group.startswith("D") else 1.0
            transfer[number] = matrix / (transformer.turns_ratio * winding)
    return transfer
