"""What a mechanism asks of one node, and what the node answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.messages.base import MAX_INTERVALS, Message, PowerSeriesW, PriceSeries
from protocols.units import (
    DurationS,
    Identifier,
    LimitW,
    TimeS,
)


class LimitTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of one limit of a node's envelope, interval by interval: the node pays price_per_kwh L + weight / 2 (L - target_w)^2
    for a limit L of at least `least_w` and at most `most_w` that, as far as these let it, is `deviations` standard deviations of what the
    node cannot take back itself beyond its net import. Where envelopes are agreed, the target is the limit that was agreed.
    """

    least_w: LimitW
    most_w: LimitW
    deviations: Annotated[float, Meta(ge=0.0, le=100.0)]
    price_per_kwh: PriceSeries
    target_w: PowerSeriesW
    weight_per_kwh_w: Annotated[tuple[Annotated[float, Meta(gt=0.0, le=1000.0)], ...], Meta(min_length=1, max_length=MAX_INTERVALS)]


class MarketAsk(Message, frozen=True, kw_only=True, tag="market_ask"):
    """What a mechanism asks of one node in a round (`coordinator.mechanisms.signals`): the net import of least own cost
    + price_per_kwh x + weight / 2 (x - target_w)^2, interval by interval from `start_s`. The node answers with its plan of round 0.

    Where the mechanism itself `secures` the network, the answer is bounded by what the connection can carry and not by the limits in
    force, which would leave nothing to negotiate about; where it negotiates envelopes too, both limits have terms of their own. After a
    `final` one nothing more is asked: where the community has `agreed`, the target is this node's part of the agreement, and its plans go
    by the price with a pull towards the target, until the last interval is over.
    """

    node: Identifier
    mechanism: Identifier
    negotiation: Annotated[int, Meta(ge=0, lt=2**53)]
    round: Annotated[int, Meta(ge=0, lt=2**31)]
    final: bool = False
    agreed: bool = False
    secures: bool = False
    start_s: TimeS
    step_s: DurationS
    weight_per_kwh_w: Annotated[float, Meta(ge=0.0, le=1000.0)]
    price_per_kwh: PriceSeries
    target_w: PowerSeriesW
    import_limit: LimitTerms | None = None
    export_limit: LimitTerms | None = None


class MarketAnswer(Message, frozen=True, kw_only=True, tag="market_answer"):
    """A node's answer to the `MarketAsk` of the same negotiation and round; `own_cost` is what the schedule costs the house itself. The
    limits are there where they were asked for.
    """

    negotiation: Annotated[int, Meta(ge=0, lt=2**53)]
    round: Annotated[int, Meta(ge=0, lt=2**31)]
    net_import_w: PowerSeriesW
    import_limit_w: PowerSeriesW | None = None
    export_limit_w: PowerSeriesW | None = None
    own_cost: Annotated[float, Meta(ge=-1e9, le=1e9)]
