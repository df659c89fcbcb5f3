"""Signals and responses of a mechanism as the messages that carry them: one form for each type of signal.

A mechanism knows nothing of messages, and the desk nothing of what a mechanism's signals say; both meet here. Whoever answers in this
process (`hil.market_ledger`) goes through the same messages.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from msgspec import Struct

from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal
from protocols.messages import MarketAnswer, MarketAsk

SENDER = "coordinator"
SECURING = frozenset({"hierarchical"})
"""Mechanisms that keep the network within its limits themselves."""

Signal = NetSignal
"""Whatever a mechanism that is held live may ask of a node."""
Response = NetResponse
"""Whatever such a mechanism may hear."""


class Outcome(Protocol):
    """What every mechanism that is held live ends with, group by group (groups, T)."""

    @property
    def net_w(self) -> FloatArray:
        """The agreed net imports."""

    @property
    def price_per_kwh(self) -> FloatArray:
        """The agreed prices."""


class Heading(Struct, frozen=True, kw_only=True):
    """Which round of which negotiation a message belongs to."""

    mechanism: str
    negotiation: int
    round: int
    start_s: float
    step_s: float
    time_s: float


def ask_of(heading: Heading, node: str, sequence: int, signal: Signal) -> MarketAsk:
    """What a node is asked in a round."""
    return _ask(heading, node, sequence, signal)


def closing_ask(heading: Heading, node: str, sequence: int, outcome: Outcome | None, place: int, weight: float) -> MarketAsk:
    """How the negotiation ended for the group at a place: its part of the outcome, or that nothing was agreed."""
    if outcome is None:
        return _ask(heading, node, sequence, NOTHING, final=True)
    part = NetSignal(price_per_kwh=outcome.price_per_kwh[place], target_w=outcome.net_w[place], weight=weight)
    return _ask(heading, node, sequence, part, final=True, agreed=True)


def response_of(answer: MarketAnswer) -> Response:
    """What a node has answered; whether it makes sense is the mechanism's to say."""
    return NetResponse(net_w=np.array(answer.net_import_w), own_cost=answer.own_cost)


NOTHING = NetSignal(price_per_kwh=np.zeros(1), target_w=np.zeros(1), weight=0.0)


def _ask(heading: Heading, node: str, sequence: int, signal: NetSignal, *, final: bool = False, agreed: bool = False) -> MarketAsk:
    return MarketAsk(
        sender=SENDER,
        time_s=heading.time_s,
        sequence=sequence,
        node=node,
        mechanism=heading.mechanism,
        negotiation=heading.negotiation,
        round=heading.round,
        final=final,
        agreed=agreed,
        secures=heading.mechanism in SECURING,
        start_s=heading.start_s,
        step_s=heading.step_s,
        weight_per_kwh_w=signal.weight,
        price_per_kwh=tuple(signal.price_per_kwh.tolist()),
        target_w=tuple(signal.target_w.tolist()),
    )
