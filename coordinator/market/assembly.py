"""Which mechanism is held with which nodes, from the configuration and the network.

`MAKERS` is the register of what can be held live: one entry for each name of `settings.HeldName`. A mechanism also has a case in
`outcome_cost`, and in `coordinator.market.wire` where it speaks of more than net loads.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from coordinator.config import CoordinatorConfig, NodeSection
from coordinator.demand import LimitPair, NodeView, participant, passive_loads
from coordinator.envelopes.compute import PreparedFeeder
from coordinator.envelopes.values import Limits, Participant, PassiveLoad
from coordinator.market.hierarchy import Ahead, hierarchy
from coordinator.market.settings import HeldName, MarketSection
from coordinator.market.wire import Outcome
from coordinator.mechanisms.conversation import Mechanism
from coordinator.mechanisms.dfe.negotiation import Agreement, EnvelopeNegotiation
from coordinator.mechanisms.dfe.negotiation import Tariff as OperatorTariff
from coordinator.mechanisms.dfe.searched import SearchedFeeder
from coordinator.mechanisms.dfe.uncertainty import Uncertainty, deviations
from coordinator.mechanisms.disco.market import DiscoMarket
from coordinator.mechanisms.disco.negotiated import NegotiatedPricing
from coordinator.mechanisms.hierarchical.households import HouseholdClearing, HouseholdMarket
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.p2p.losses import LossModel
from coordinator.mechanisms.p2p.market import Clearing, CommunityMarket
from coordinator.mechanisms.signals import FloatArray
from coordinator.network.model import Network
from coordinator.powerflow.radial import RadialFeeder
from protocols.messages import Guarantee
from protocols.tariff import prices_per_kwh


class State(Protocol):
    """What every mechanism that is held live carries from round to round."""

    @property
    def weight(self) -> float:
        """The weight of the present round."""


HeldMechanism = Mechanism[Any, Any, Any, Any]
"""A mechanism whose state is a `State` and whose outcome is an `Outcome`."""


class LimitedSite(Struct, frozen=True, kw_only=True, eq=False):
    """The limits of a feeder and what is connected to it: each node with its default as floor and its rating as maximum, by name."""

    prepared: PreparedFeeder
    participants: Mapping[str, Participant]
    passive: tuple[PassiveLoad, ...]
    guarantee: Guarantee


class Site(Struct, frozen=True, kw_only=True, eq=False):
    """What is known of a feeder and the nodes on it: the place of each node's connection among those of the network, and what the feeder
    loses for active powers x of all its connections, x' losses_per_w2 x. `views` are what nodes have said last, at any time; `q_per_w` is
    the reactive power assumed for each watt of a node. `limited` tells of the envelopes that hold, where a mechanism negotiates them.
    """

    connections: Mapping[str, int]
    losses_per_w2: FloatArray
    network: Network
    limits: Limits
    nodes: Mapping[str, NodeSection]
    views: Mapping[str, NodeView]
    q_per_w: float
    limited: Callable[[], LimitedSite] | None = None


def limited_site(config: CoordinatorConfig, prepared: PreparedFeeder, defaults: Mapping[str, LimitPair]) -> LimitedSite:
    """What envelopes are negotiated about: each node between its default, which holds in any case, and its rating."""
    return LimitedSite(
        prepared=prepared,
        participants={
            node.name: participant(
                config, node, defaults[node.name], LimitPair(import_w=node.import_rating_w, export_w=node.export_rating_w)
            )
            for node in config.nodes
        },
        passive=passive_loads(config, prepared.network),
        guarantee=config.envelopes.guarantee,
    )


def tariff_of(section: MarketSection, start_s: float) -> Tariff:
    """The retailer's prices of the intervals from a time on; selling is taken to earn no more than buying costs (source 002, eq. 4)."""
    zone = zoneinfo.ZoneInfo(section.timezone)
    middles_s = [start_s + section.step_s * (index + 0.5) for index in range(section.intervals)]
    buy = np.array(prices_per_kwh(section.buy, middles_s, zone))
    return Tariff(retail_per_kwh=buy, feed_in_per_kwh=np.minimum(np.array(prices_per_kwh(section.sell, middles_s, zone)), buy))


Making = Callable[[MarketSection, Site, tuple[str, ...], float], HeldMechanism]
"""Makes the mechanism of a section for some nodes of a site, from a time on."""


def make_mechanism(section: MarketSection, site: Site, names: tuple[str, ...], start_s: float) -> HeldMechanism:
    """The mechanism that a section names, for some nodes of a site, from a time on."""
    assert section.mechanism != "none", "there is no mechanism to hold"
    return MAKERS[section.mechanism](section, site, names, start_s)


def _of_net_loads(section: MarketSection, site: Site, names: tuple[str, ...], start_s: float) -> HeldMechanism:
    places = [site.connections[name] for name in names]
    return build_mechanism(
        section.mechanism,
        names,
        tariff_of(section, start_s),
        section.step_s,
        site.losses_per_w2[np.ix_(places, places)],
        loss_per_kwh=section.loss_per_kwh,
        weight=section.weight_per_kwh_w,
        tolerance_frac=section.tolerance_frac,
        tolerance_w=TOLERANCE_W,
    )


def build_mechanism(
    mechanism: str,
    names: tuple[str, ...],
    tariff: Tariff,
    step_s: float,
    square: FloatArray,
    *,
    loss_per_kwh: float,
    weight: float,
    tolerance_frac: float,
    tolerance_w: float,
) -> HeldMechanism:
    """A mechanism of net loads by name, for participants whose losses are x' square x; `disco` takes retail for the wholesale price."""
    count, intervals = len(names), tariff.retail_per_kwh.size
    if mechanism == "p2p":
        losses = LossModel(
            square=np.broadcast_to(square, (intervals, count, count)), linear=np.zeros((intervals, count)), constant_w=np.zeros(intervals)
        )
        return CommunityMarket(
            names=names, tariff=tariff, losses=losses, loss_per_kwh=loss_per_kwh, weight=weight, tolerance_frac=tolerance_frac
        )
    assert mechanism == "disco", f"there is no mechanism to hold: {mechanism}"
    wholesale = tariff.retail_per_kwh
    market = DiscoMarket(
        regions=("feeder",),
        regional_per_kwh=wholesale[None],
        wholesale_per_kwh=wholesale,
        retail_per_kwh=float(wholesale.max()),
        margin_frac=1.0,
        step_s=step_s,
    )
    return NegotiatedPricing(
        market=market,
        buses=names,
        region_of_bus=np.zeros(count, dtype=np.int64),
        loss_per_w=square,
        weight=weight,
        tolerance_w=tolerance_w,
    )


def _of_levels(section: MarketSection, site: Site, names: tuple[str, ...], start_s: float) -> HeldMechanism:
    return hierarchy(
        names,
        network=site.network,
        limits=site.limits,
        nodes=site.nodes,
        views=site.views,
        ahead=Ahead(start_s=start_s, step_s=section.step_s, intervals=section.intervals),
        tariff=tariff_of(section, start_s),
        weight=section.weight_per_kwh_w,
        tolerance_frac=section.tolerance_frac,
        margin_pu=section.margin_pu,
        q_per_w=site.q_per_w,
    )


def _of_envelopes(section: MarketSection, site: Site, names: tuple[str, ...], start_s: float) -> HeldMechanism:
    assert site.limited is not None, "envelopes are negotiated where it is known which hold"
    limited = site.limited()
    everybody = tuple(limited.participants)
    places = [site.connections[name] for name in everybody]
    feeder = SearchedFeeder(
        prepared=limited.prepared,
        participants=tuple(limited.participants.values()),
        passive=limited.passive,
        guarantee=limited.guarantee,
        losses_per_w2=site.losses_per_w2[np.ix_(places, places)],
        periods=section.intervals,
    )
    feeder.require_safe_floors()
    tariff = tariff_of(section, start_s)
    return EnvelopeNegotiation(
        names=names,
        feeder=feeder.keeping([everybody.index(name) for name in names]),
        tariff=OperatorTariff(buy_per_kwh=tariff.retail_per_kwh, sell_per_kwh=tariff.feed_in_per_kwh),
        loss_per_kwh=section.loss_per_kwh,
        weight=section.weight_per_kwh_w,
        tolerance_w=ENVELOPE_TOLERANCE_W,
        tolerance_per_kwh=TOLERANCE_PER_KWH,
        clearance_pu=CLEARANCE_PU,
        deviations=deviations(Uncertainty(section.errors), section.confidence_frac),
    )


MAKERS: Mapping[HeldName, Making] = {
    "p2p": _of_net_loads,
    "disco": _of_net_loads,
    "dfe": _of_envelopes,
    "hierarchical": _of_levels,
}


def outcome_cost(mechanism: HeldMechanism, outcome: Outcome, step_s: float) -> float:
    """What a mechanism minimises, at one of its outcomes."""
    match mechanism, outcome:
        case CommunityMarket(), Clearing():
            return mechanism.cost(outcome, step_s)
        case HouseholdMarket(), HouseholdClearing():
            return mechanism.cost(outcome)
        case EnvelopeNegotiation(), Agreement():
            return mechanism.cost(outcome, step_s)
        case NegotiatedPricing(), _:
            bought_w = outcome.net_w.sum(axis=0) + mechanism.loss_w(outcome.net_w)
            return float((mechanism.market.wholesale_per_kwh * bought_w).sum() * mechanism.market.kwh_per_w)
        case _:
            raise TypeError(f"{type(mechanism).__name__} does not end in {type(outcome).__name__}")


TOLERANCE_W = 50.0
"""How far answers and targets of `disco` may differ, as in a negotiation that sums in secret."""
ENVELOPE_TOLERANCE_W = 20.0
"""How far answers and targets of `dfe` may differ."""
TOLERANCE_PER_KWH = 3e-4
"""How far prices of `dfe` may still move."""
CLEARANCE_PU = 5e-4
"""What `dfe` keeps back from the network's limits, so that answers may differ a little from targets."""


def loss_form(feeder: RadialFeeder) -> FloatArray:
    """Q (connections, connections) with losses x' Q x of active powers x at no-load voltages, phases included."""
    points, phases = feeder.points, feeder.phase_count
    none = np.zeros((points.slot.size, 1), dtype=np.complex128)
    flat = feeder.linear_response(none, feeder.source_v)[0].reshape(-1)[points.slot]
    per_w = np.diag(points.share_frac / np.conj(flat)).astype(np.complex128)
    current = feeder.linear_response(per_w, np.zeros(phases, dtype=np.complex128))[1]
    by_point = feeder.conductors * np.einsum("kap,kab,kbq->pq", np.conj(current), feeder.z_ohm.real, current).real
    place = np.zeros((points.slot.size, len(feeder.network.connections)))
    place[np.arange(points.slot.size), points.connection] = 1.0
    return np.asarray(place.T @ by_point @ place)
