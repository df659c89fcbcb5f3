"""Balanced radial AC power flow: the positive sequence of a feeder.

Powers are three-phase totals, voltages phase to neutral, currents per conductor (the conventions of `coordinator.network.model`).
"""

from __future__ import annotations

import cmath

import numpy as np

from coordinator.errors import NetworkError
from coordinator.network.model import Network
from coordinator.powerflow.radial import ComplexArray, FlowSolution, Points, RadialFeeder, line_charging_siemens
from coordinator.powerflow.radial_tree import ROOT, RadialTree, build_tree

CONDUCTORS = 3


def balanced_feeder(network: Network) -> RadialFeeder:
    """Prepare a balanced network for sweeping; NetworkError where it is not radial, not connected or not balanced."""
    if not network.is_balanced:
        raise NetworkError(f"{network.name}: an unbalanced network needs the three-phase power flow")
    tree = build_tree(network)
    z, y = _branch_matrices(network, tree)
    slot = tree.node_of_bus[[network.bus_index[connection.bus] for connection in network.connections]].astype(np.int64)
    order = np.argsort(slot, kind="stable")
    source = network.source
    nominal = network.nominal_ln_v[tree.bus_of_node]
    return RadialFeeder(
        network=network,
        tree=tree,
        points=Points(slot=slot[order], connection=order, share_frac=np.full(slot.size, 1 / CONDUCTORS)),
        z_ohm=z,
        y_siemens=y if np.any(y) else None,
        transfer=_transfer(network, tree),
        source_v=np.array([source.voltage_pu * nominal[0] * cmath.exp(1j * source.angle_rad)]),
        has_phase=np.ones((tree.node_count, 1), dtype=np.bool_),
        nominal_v=nominal,
        conductors=CONDUCTORS,
    )


def solve_balanced(network: Network, power_va: ComplexArray | None = None) -> FlowSolution:
    """Solve for three-phase totals `power_va` (connections, snapshots), or for the network's base load."""
    feeder = balanced_feeder(network)
    if power_va is None:
        power_va = (network.base_power_w() + 1j * network.base_reactive_var())[:, None]
    return feeder.solve(power_va)


def _branch_matrices(network: Network, tree: RadialTree) -> tuple[ComplexArray, ComplexArray]:
    z = np.zeros((tree.node_count, 1, 1), dtype=np.complex128)
    y = np.zeros((tree.node_count, 1, 1), dtype=np.complex128)
    z[0] = complex(network.source.r1_ohm, network.source.x1_ohm)
    for node in map(int, np.flatnonzero(tree.line_of_node != ROOT)):
        line = network.lines[int(tree.line_of_node[node])]
        z[node] = line.impedance_ohm()
        if line.c_f != ():
            half = 0.5 * line_charging_siemens(network, int(tree.line_of_node[node]), 1)
            y[node] += half
            y[tree.parent[node]] += half
    for zone in tree.zones:
        if zone.transformer != ROOT:
            transformer = network.transformers[zone.transformer]
            z[zone.first] = transformer.impedance_to_side_ohm()
            y[zone.first] += transformer.no_load_siemens()
    for shunt in network.shunts:
        node = int(tree.node_of_bus[network.bus_index[shunt.bus]])
        y[node] += complex(shunt.g_siemens, shunt.b_siemens)
    return z, y


def _transfer(network: Network, tree: RadialTree) -> ComplexArray:
    transfer = np.ones((len(tree.zones), 1, 1), dtype=np.complex128)
    for number, zone in enumerate(tree.zones):
        if zone.transformer != ROOT:
            transformer = network.transformers[zone.transformer]
            transfer[number] = cmath.exp(-1j * np.pi / 6 * transformer.clock) / transformer.turns_ratio
    return transfer
