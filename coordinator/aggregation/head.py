"""What a community may draw or give together at the head of its feeder, from the network. Pure."""

from __future__ import annotations

import math

from coordinator.config import CoordinatorConfig
from coordinator.demand import passive_loads
from coordinator.network.model import Network


def head_limits_w(config: CoordinatorConfig, network: Network) -> tuple[float, float]:
    """(import, export) of all nodes together: what the transformers at the source carry at the configured share of their rating and the
    power factor that is assumed of nodes, less what connections without a node may take; the nodes' own ratings where that is less, or
    where the feeder begins without a transformer."""
    import_w = sum(node.import_rating_w for node in config.nodes)
    export_w = sum(node.export_rating_w for node in config.nodes)
    rated_va = sum(
        transformer.rated_va
        for transformer in network.transformers
        if transformer.in_service and network.source.bus in (transformer.from_bus, transformer.to_bus)
    )
    if rated_va <= 0.0:
        return import_w, export_w
    carried_w = rated_va * config.feeder.transformer_rating_frac / math.hypot(1.0, config.envelopes.q_per_w)
    passive = passive_loads(config, network)
    taken_w = sum(max(load.high_w, 0.0) for load in passive)
    given_w = sum(max(-load.low_w, 0.0) for load in passive)
    return max(min(import_w, carried_w - taken_w), 0.0), max(min(export_w, carried_w - given_w), 0.0)
