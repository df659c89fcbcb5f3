"""The optimum that a negotiation is measured against, solved by one who knows everything; and the losses of a radial network."""

from __future__ import annotations

from collections.abc import Sequence

import clarabel
import numpy as np
from scipy import sparse

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.disco.market import FlexibleLoads, FloatArray
from coordinator.mechanisms.disco.negotiated import NegotiatedPricing
from coordinator.network.model import Network
from coordinator.powerflow.balanced import balanced_feeder

W_PER_KW = 1e3


def loss_matrix(network: Network, buses: Sequence[str]) -> FloatArray:
    """Q with losses x^T Q x in watts for net loads x (three-phase totals in watts) at `buses`, at nominal voltage."""
    feeder = balanced_feeder(network)
    tree = feeder.tree
    path = np.zeros((tree.node_count, tree.node_count))
    for node in range(1, tree.node_count):
        path[node] = path[tree.parent[node]]
        path[node, node] = 1.0
    loss_per_w = feeder.z_ohm[:, 0, 0].real / (3.0 * feeder.nominal_v**2)
    at = path[tree.node_of_bus[[network.bus_index[bus] for bus in buses]]]
    return np.asarray((at * loss_per_w) @ at.T)


def central_optimum(negotiation: NegotiatedPricing, loads: FlexibleLoads) -> FloatArray:
    """Net load (buses, T) that minimises the wholesale cost of net load and losses, one row of `loads` for each bus. By Clarabel."""
    room = loads.room_w / W_PER_KW
    buses, periods = room.shape
    price = negotiation.market.wholesale_per_kwh
    quadratic = sparse.block_diag([2.0 * value * W_PER_KW * negotiation.loss_per_w for value in price], format="csc")
    linear = np.repeat(price, buses)
    size = buses * periods
    balance = sparse.kron(np.ones((1, periods)), sparse.eye(buses)) if loads.is_shiftable else sparse.csc_matrix((0, size))
    rows = sparse.vstack([balance, sparse.eye(size), -sparse.eye(size)], format="csc")
    limit = room.T.ravel()
    cones = [clarabel.ZeroConeT(balance.shape[0]), clarabel.NonnegativeConeT(2 * size)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(
        sparse.triu(quadratic, format="csc"), linear, rows, np.concatenate((np.zeros(balance.shape[0]), limit, limit)), cones, settings
    ).solve()
    if solution.status != clarabel.SolverStatus.Solved:
        raise ConversationError(f"the central optimum was not found: {solution.status}")
    return np.asarray(np.array(solution.x).reshape(periods, buses).T * W_PER_KW)
