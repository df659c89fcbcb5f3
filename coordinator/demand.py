"""What each node could use in an interval, from what it said last. Pure.

A plan was made inside an envelope, so a demand read from the plan alone would never grow again; the declared flexibility around the plan,
and the forecast of load and PV, say what the node would do if it were let.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from coordinator.config import CoordinatorConfig, NodeSection
from coordinator.envelopes.values import Limits, Participant, PassiveLoad
from coordinator.network.model import Network
from protocols.messages import FlexibilityDeclaration, Forecast, Plan, Status, Telemetry


class LimitPair(msgspec.Struct, frozen=True, kw_only=True):
    """Magnitudes of one connection."""

    import_w: float
    export_w: float

    def covering(self, other: LimitPair) -> LimitPair:
        """The smallest pair that contains both."""
        return LimitPair(import_w=max(self.import_w, other.import_w), export_w=max(self.export_w, other.export_w))


class NodeView(msgspec.Struct, kw_only=True):
    """The newest message of each kind from one node."""

    status: Status | None = None
    telemetry: Telemetry | None = None
    load: Forecast | None = None
    pv: Forecast | None = None
    plan: Plan | None = None
    flexibility: FlexibilityDeclaration | None = None


def network_limits(config: CoordinatorConfig) -> Limits:
    """The limits that envelopes are computed for."""
    feeder = config.feeder
    return Limits(
        vmin_pu=feeder.vmin_pu,
        vmax_pu=feeder.vmax_pu,
        line_rating_frac=feeder.line_rating_frac,
        transformer_rating_frac=feeder.transformer_rating_frac,
    )


def passive_loads(config: CoordinatorConfig, network: Network) -> tuple[PassiveLoad, ...]:
    """The band of every connection that has no node."""
    taken = {node.connection for node in config.nodes}
    loads = []
    for connection in network.connections:
        if connection.id in taken:
            continue
        ends_w = sorted((config.passive.low_frac * connection.p_w, config.passive.high_frac * connection.p_w))
        q_per_w = connection.q_var / connection.p_w if connection.p_w != 0.0 else 0.0
        q_var = connection.q_var if connection.p_w == 0.0 else 0.0
        loads.append(PassiveLoad(connection=connection.id, low_w=ends_w[0], high_w=ends_w[1], q_per_w=q_per_w, q_var=q_var))
    return tuple(loads)


def participant(config: CoordinatorConfig, node: NodeSection, floor: LimitPair, wanted: LimitPair) -> Participant:
    """One node as the envelope computation sees it: it may want up to `wanted` and must be given `floor`."""
    return Participant(
        connection=node.connection,
        max_import_w=max(wanted.import_w, floor.import_w),
        max_export_w=max(wanted.export_w, floor.export_w),
        import_floor_w=floor.import_w,
        export_floor_w=floor.export_w,
        background_import_w=min(config.envelopes.background_w, node.import_rating_w),
        weight=node.weight,
        q_per_w=config.envelopes.q_per_w,
    )


def wanted(config: CoordinatorConfig, node: NodeSection, view: NodeView, start_s: float, end_s: float) -> LimitPair:
    """What a node could use in [start_s, end_s); its ratings where it has said nothing about that time."""
    rating = LimitPair(import_w=node.import_rating_w, export_w=node.export_rating_w)
    if config.envelopes.demand == "rating":
        return rating
    import_w = _known_largest(_forecast_import(view, start_s, end_s), _plan_import(view, start_s, end_s))
    export_w = _known_largest(_forecast_export(view, start_s, end_s), _plan_export(view, start_s, end_s))
    step_w = config.envelopes.demand_step_w
    return LimitPair(
        import_w=rating.import_w if import_w is None else min(_rounded_up(import_w, step_w), rating.import_w),
        export_w=rating.export_w if export_w is None else min(_rounded_up(export_w, step_w), rating.export_w),
    )


def _known_largest(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return max(0.0, *known) if known else None


def _rounded_up(power_w: float, step_w: float) -> float:
    return math.ceil(power_w / step_w) * step_w


def _forecast_import(view: NodeView, start_s: float, end_s: float) -> float | None:
    if view.load is None:
        return None
    return _largest(view.load, view.load.values_w[-1], start_s, end_s)


def _forecast_export(view: NodeView, start_s: float, end_s: float) -> float | None:
    """Most PV (its lowest quantile, PV being negative) over least load."""
    if view.pv is None or view.load is None:
        return None
    pv_w = _largest(view.pv, tuple(-value for value in view.pv.values_w[0]), start_s, end_s)
    load_w = _largest(view.load, tuple(-value for value in view.load.values_w[0]), start_s, end_s)
    return None if pv_w is None or load_w is None else pv_w + load_w


def _plan_import(view: NodeView, start_s: float, end_s: float) -> float | None:
    if view.plan is None or view.flexibility is None:
        return None
    planned_w = _largest(view.plan, view.plan.net_import_w, start_s, end_s)
    return None if planned_w is None else planned_w + view.flexibility.increase_w


def _plan_export(view: NodeView, start_s: float, end_s: float) -> float | None:
    if view.plan is None or view.flexibility is None:
        return None
    planned_w = _largest(view.plan, tuple(-value for value in view.plan.net_import_w), start_s, end_s)
    return None if planned_w is None else planned_w + view.flexibility.decrease_w


def _largest(series: Forecast | Plan, values: tuple[float, ...], start_s: float, end_s: float) -> float | None:
    """Largest value of the steps that overlap [start_s, end_s); None unless they cover it."""
    first = math.floor((start_s - series.start_s) / series.step_s)
    last = math.ceil((end_s - series.start_s) / series.step_s)
    if first < 0 or last > len(values) or first >= last:
        return None
    return max(values[first:last])


def demand_grew(old: Mapping[str, LimitPair], new: Mapping[str, LimitPair]) -> bool:
    """Whether some node wants more than was considered before."""
    return any(node not in old or pair.import_w > old[node].import_w or pair.export_w > old[node].export_w for node, pair in new.items())
