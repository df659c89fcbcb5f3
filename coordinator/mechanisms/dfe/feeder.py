"""What the network operator knows: the losses and voltages of its feeder as functions of the communities' net imports.

Losses are the quadratic function loss = sum_k r_k / V_k^2 ((P_k + sum of net below k)^2 + Q_k^2) around the power flow without the
communities. Squared voltages are linear in net import (LinDistFlow slopes) and are corrected by the exact power flow at the very corners
that are negotiated: all communities at their import limits, and all at their export limits. On a radial feeder these are the worst corners
wherever voltages are monotone (`coordinator.envelopes.monotone`); `check` tries all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import msgspec
import numpy as np

from coordinator.envelopes.certificate import Check
from coordinator.envelopes.checking import check_corners
from coordinator.envelopes.values import Limits
from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.dfe.asked import UNBOUNDED, Bounds
from coordinator.mechanisms.dfe.quadratic import W_PER_KW, FloatArray, nearest_below
from coordinator.network.model import Connection, Network
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.radial import ComplexArray, FlowSolution, RadialFeeder

METHOD = "every corner of every interval"


def with_communities(network: Network, names: Sequence[str], buses: Sequence[str]) -> Network:
    """The network with one more connection for each community, named after it, behind those that it had."""
    unknown = [bus for bus in buses if bus not in network.bus_index]
    if unknown:
        raise ConversationError(f"{network.name} has no bus {unknown[0]}")
    added = tuple(Connection(id=name, bus=bus) for name, bus in zip(names, buses, strict=True))
    return msgspec.structs.replace(network, connections=network.connections + added)


@dataclass(frozen=True, kw_only=True)
class OperatedFeeder:
    """`network` ends with the communities' connections; `load_va` (other connections, T) is everything else that is connected."""

    network: Network
    load_va: ComplexArray
    limits: Limits

    def __post_init__(self) -> None:
        if not np.isfinite(self.load_va).all():
            raise ConversationError(f"{self.network.name}: a load is not a finite number")
        if not self.base.converged.all():
            interval = int(np.flatnonzero(~self.base.converged)[0])
            raise ConversationError(f"{self.network.name}: no power-flow solution in interval {interval}, communities left out")

    @property
    def communities(self) -> int:
        """How many communities there are."""
        return len(self.network.connections) - int(self.load_va.shape[0])

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.load_va.shape[1])

    @cached_property
    def feeder(self) -> RadialFeeder:
        """The feeder ready for power flow."""
        return balanced_feeder(self.network)

    @cached_property
    def base(self) -> FlowSolution:
        """Power flow with communities that take nothing."""
        return self.flow(np.zeros((self.communities, self.periods)))

    def flow(self, net_w: FloatArray) -> FlowSolution:
        """Exact power flow for net imports (communities, T), at unity power factor."""
        return self.feeder.solve(np.concatenate((self.load_va, net_w.astype(np.complex128))))

    def losses_va(self, net_w: FloatArray) -> ComplexArray:
        """Active and reactive losses (T,) by exact power flow."""
        flow = self.flow(net_w)
        if not flow.converged.all():
            raise ConversationError(f"{self.network.name}: no power-flow solution for what was cleared")
        return np.asarray(flow.source_power_va() - self.load_va.sum(axis=0) - net_w.sum(axis=0))

    @cached_property
    def base_losses_w(self) -> FloatArray:
        """Losses (T,) with communities that take nothing."""
        return np.asarray((self.base.source_power_va() - self.load_va.sum(axis=0)).real)

    @cached_property
    def path(self) -> FloatArray:
        """(nodes, communities): 1 where a community is fed through the branch above a node."""
        tree = self.feeder.tree
        below = np.zeros((tree.node_count, self.communities))
        for place, connection in enumerate(self.network.connections[-self.communities :]):
            node = int(tree.node_of_bus[self.network.bus_index[connection.bus]])
            while node >= 0:
                below[node, place] = 1.0
                node = int(tree.parent[node])
        return below

    @cached_property
    def loss_form(self) -> tuple[FloatArray, FloatArray]:
        """Q (T, communities, communities) and c (communities, T) with losses net^T Q net + c^T net, less those without the communities."""
        voltage, current = self.base.node_voltage_v[:, 0], self.base.feed_current_a[:, 0]
        flow_w = 3.0 * (voltage * np.conj(current)).real
        per_w = self.feeder.z_ohm[:, 0, 0].real[:, None] / (3.0 * np.abs(voltage) ** 2)
        quadratic = np.einsum("ki,kt,kj->tij", self.path, per_w, self.path)
        return quadratic, np.asarray(2.0 * self.path.T @ (per_w * flow_w))

    @cached_property
    def fall(self) -> FloatArray:
        """(nodes, communities): how much the square of a voltage falls for each watt that a community takes, in per unit."""
        shared = (self.path * self.feeder.z_ohm[:, 0, 0].real[:, None]).copy()
        parent = self.feeder.tree.parent
        for node in range(1, self.feeder.tree.node_count):
            shared[node] += shared[parent[node]]
        return np.asarray(2.0 / 3.0 * shared / self.feeder.nominal_v[:, None] ** 2)

    def room(self, corner_net_w: FloatArray, *, upward: bool) -> FloatArray:
        """How far the squared voltage may still rise (or fall) from where it is without the communities (nodes, T), corrected at a corner.

        Where the corner has no power-flow solution there is no correction, and it is refused later.
        """
        down, up = self.rooms(corner_net_w)
        return up if upward else down

    def rooms(self, corner_net_w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`room` downwards and upwards, for one power flow."""
        flow = self.flow(corner_net_w)
        base = self.square_pu(self.base)
        fallen = base - self.fall @ corner_net_w
        exact = np.where(flow.converged, self.square_pu(flow), fallen)
        error = exact - fallen
        return np.asarray(base + error - self.vmin_pu**2), np.asarray(self.vmax_pu**2 - base - error)

    def check(self, import_limit_w: FloatArray, export_limit_w: FloatArray) -> Check:
        """Exact power flow at all 2^n corners of the box of every interval; limits are (communities, T)."""
        corners = np.array(list(itertools.product((False, True), repeat=self.communities)))
        net = np.where(corners.T[:, :, None], import_limit_w[:, None], -export_limit_w[:, None]).reshape(self.communities, -1)
        load = np.tile(self.load_va, (1, len(corners)))
        return check_corners(self.feeder, self.limits, np.concatenate((load, net.astype(np.complex128))), METHOD)

    def bounds_w(self, place: int) -> Bounds:
        """Communities know their connections themselves."""
        assert 0 <= place < self.communities, place
        return UNBOUNDED

    def keeping(self, kept: Sequence[int]) -> Self:
        """A community that is left out takes nothing."""
        others = int(self.load_va.shape[0])
        connections = self.network.connections[:others] + tuple(self.network.connections[others + place] for place in kept)
        return replace(self, network=msgspec.structs.replace(self.network, connections=connections))

    def nearest_limits_w(self, wish_w: FloatArray, last_w: FloatArray, clearance_pu: float) -> FloatArray:
        """The limits nearest to the wishes at which voltages hold when all stand at them: each direction has voltages of its own."""
        imports = self._nearest_limit_w(wish_w[:, 0], last_w[:, 0], clearance_pu, upward=False)
        exports = self._nearest_limit_w(wish_w[:, 1], last_w[:, 1], clearance_pu, upward=True)
        return np.stack((imports, exports), axis=1)

    def _nearest_limit_w(self, wish_w: FloatArray, last_w: FloatArray, clearance_pu: float, *, upward: bool) -> FloatArray:
        sign = -1.0 if upward else 1.0
        wish = wish_w.clip(min=0.0)
        room = self.room(sign * last_w, upward=upward) - 2.0 * clearance_pu
        broken = np.any(self.fall @ wish > room, axis=0)
        nearest = wish.copy()
        for interval in np.flatnonzero(broken):
            nearest[:, interval] = self._project_w(wish[:, interval], room[:, interval])
        return nearest

    def _project_w(self, wish_w: FloatArray, room: FloatArray) -> FloatArray:
        fall = self.fall * W_PER_KW
        rows = np.flatnonzero(np.any(fall > 0.0, axis=1))
        return nearest_below(wish_w, fall[rows], room[rows].clip(min=0.0), np.zeros(wish_w.size))

    @property
    def vmin_pu(self) -> float:
        """Lowest voltage allowed."""
        return self.network.vmin_pu if self.limits.vmin_pu is None else self.limits.vmin_pu

    @property
    def vmax_pu(self) -> float:
        """Highest voltage allowed."""
        return self.network.vmax_pu if self.limits.vmax_pu is None else self.limits.vmax_pu

    def square_pu(self, flow: FlowSolution) -> FloatArray:
        """Squares of node voltages (nodes, T)."""
        return np.asarray((np.abs(flow.node_voltage_v[:, 0]) / self.feeder.nominal_v[:, None]) ** 2)
