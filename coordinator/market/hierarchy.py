"""The four levels of `hierarchical` for the nodes of a feeder: which community each lives in, and what everybody else takes.

A community is everybody behind one transformer. What a customer takes who does not take part is what it says itself: its newest plan, or
where there is none what its meter showed last; of a customer without a node, and of a node that has never spoken, the network's file.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from coordinator.config import NodeSection
from coordinator.demand import NodeView
from coordinator.envelopes.values import Limits
from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.hierarchical.areas import Area, split
from coordinator.mechanisms.hierarchical.households import HouseholdMarket, sums_of
from coordinator.mechanisms.hierarchical.members import Sums
from coordinator.mechanisms.hierarchical.operator import LEAST_MEMBERS
from coordinator.mechanisms.hierarchical.retailer import Retailer
from coordinator.mechanisms.hierarchical.security import NetworkOperator
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.signals import FloatArray
from coordinator.network.model import Network
from protocols.messages import Plan


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """The intervals that are negotiated about."""

    start_s: float
    step_s: float
    intervals: int


def hierarchy(
    names: tuple[str, ...],
    *,
    network: Network,
    limits: Limits,
    nodes: Mapping[str, NodeSection],
    views: Mapping[str, NodeView],
    ahead: Ahead,
    tariff: Tariff,
    weight: float,
    tolerance_frac: float,
    margin_pu: float,
    q_per_w: float,
) -> HouseholdMarket:
    """The market of some nodes; ConversationError where the network has no transformer with enough of them behind it."""
    limited = msgspec.structs.replace(
        network,
        vmin_pu=network.vmin_pu if limits.vmin_pu is None else limits.vmin_pu,
        vmax_pu=network.vmax_pu if limits.vmax_pu is None else limits.vmax_pu,
    )
    backbone, areas = split(limited)
    node_of = {node.connection: node.name for node in nodes.values()}
    asked = set(names)
    taken = {customer: _taken_w(network, customer, node_of, views, ahead) for area in areas for customer in area.customers}
    counts = [sum(node_of.get(customer) in asked for customer in area.customers) for area in areas]
    if max(counts) < LEAST_MEMBERS:
        raise ConversationError(
            f"{network.name}: at most {max(counts)} households behind a transformer take part, expected at least {LEAST_MEMBERS}: their "
            "sums would give them away"
        )
    communities = [area for area, count in zip(areas, counts, strict=True) if count >= LEAST_MEMBERS]
    rest = [area for area, count in zip(areas, counts, strict=True) if count < LEAST_MEMBERS]
    members = [
        (place, row, node_of[customer])
        for place, area in enumerate(communities)
        for row, customer in enumerate(area.customers)
        if node_of.get(customer) in asked
    ]
    weights = [_end_weight(area, q_per_w) for area in communities]
    return HouseholdMarket(
        names=tuple(name for _, _, name in members),
        community=tuple(place for place, _, _ in members),
        end_weight=tuple(weights[place][row] for place, row, _ in members),
        alone_w=np.array([taken[nodes[name].connection] for _, _, name in members]),
        most_w=np.array([max(nodes[name].import_rating_w, nodes[name].export_rating_w) for _, _, name in members]),
        beside=tuple(
            _beside(
                area,
                table,
                {customer: taken[customer] for customer in area.customers if node_of.get(customer) not in asked},
                q_per_w,
                ahead.intervals,
            )
            for area, table in zip(communities, weights, strict=True)
        ),
        var_per_w=q_per_w,
        retailer=Retailer(tariff=tariff),
        network=NetworkOperator(
            backbone=backbone,
            areas=tuple(communities),
            background_va=_background(backbone.network, rest, taken, q_per_w, ahead.intervals),
            margin_pu=margin_pu,
            rating_frac=min(limits.line_rating_frac, limits.transformer_rating_frac),
        ),
        step_s=ahead.step_s,
        weight=weight,
        tolerance_frac=tolerance_frac,
    )


def _end_weight(area: Area, q_per_w: float) -> FloatArray:
    """How much a watt of each customer moves each end (customers, ends), with the reactive power that comes with it."""
    return np.asarray(area.weight + q_per_w * area.var_weight)


def _beside(area: Area, weights: FloatArray, taken: Mapping[str, FloatArray], q_per_w: float, intervals: int) -> Sums:
    """What those of an area add up to who do not take part."""
    rows = np.array([row for row, customer in enumerate(area.customers) if customer in taken], dtype=np.int64)
    net_w = np.array([taken[area.customers[row]] for row in rows]).reshape(rows.size, intervals)
    none = Sums(net_w=np.zeros(intervals), reactive_var=np.zeros(intervals), end_w=np.zeros((len(area.ends), intervals)), wear=0.0)
    return sums_of(net_w, weights[rows], q_per_w, none)


def _background(
    backbone: Network, rest: list[Area], taken: Mapping[str, FloatArray], q_per_w: float, intervals: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.complex128]]:
    """What transformers take behind which there is no community (transformers, T)."""
    background_va = np.zeros((len(backbone.connections), intervals), dtype=np.complex128)
    for area in rest:
        net_w = np.sum([taken[customer] for customer in area.customers], axis=0) if area.customers else np.zeros(intervals)
        background_va[backbone.connection_index[area.transformer.id]] = net_w * complex(1.0, q_per_w)
    return background_va


def _taken_w(network: Network, customer: str, node_of: Mapping[str, str], views: Mapping[str, NodeView], ahead: Ahead) -> FloatArray:
    """What a customer is taken to take by itself (T,)."""
    view = views.get(node_of.get(customer, ""), NodeView())
    planned_w = None if view.plan is None else planned(view.plan, ahead)
    if planned_w is not None:
        return planned_w
    if view.telemetry is not None and view.telemetry.net_import_w is not None:
        return np.full(ahead.intervals, view.telemetry.net_import_w)
    return np.full(ahead.intervals, network.connections[network.connection_index[customer]].p_w)


def planned(plan: Plan, ahead: Ahead) -> FloatArray | None:
    """A plan's net import in the intervals ahead (T,), its last value where it ends too early; None where it has ended already."""
    middles = ahead.start_s + ahead.step_s * (np.arange(ahead.intervals) + 0.5)
    at = np.floor((middles - plan.start_s) / plan.step_s).astype(np.int64)
    if at[0] >= len(plan.net_import_w):
        return None
    return np.asarray(np.array(plan.net_import_w)[np.clip(at, 0, len(plan.net_import_w) - 1)])
