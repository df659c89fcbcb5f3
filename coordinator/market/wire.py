"""Signals and responses of a mechanism as the messages that carry them: one form for each type of signal.

A mechanism knows nothing of messages, and the desk nothing of what a mechanism's signals say; both meet here. Whoever answers in this
process (`hil.market_ledger`) goes through the same messages.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct

from coordinator.mechanisms.dfe.asked import Answer, Asked
from coordinator.mechanisms.dfe.negotiation import Agreement
from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal
from protocols.messages import LimitTerms, MarketAnswer, MarketAsk

SENDER = "coordinator"
SECURING = frozenset({"dfe", "hierarchical"})
"""Mechanisms that keep the network within its limits themselves."""

Signal = NetSignal | Asked
"""Whatever a mechanism that is held live may ask of a node."""
Response = NetResponse | Answer
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
    if isinstance(signal, NetSignal):
        return _ask(heading, node, sequence, signal)
    net = NetSignal(price_per_kwh=signal.price_per_kwh[0], target_w=signal.target_w[0], weight=float(signal.weight[0, 0]))
    imports, exports = (_limit_terms(signal, row) for row in (1, 2))
    return msgspec.structs.replace(_ask(heading, node, sequence, net), import_limit=imports, export_limit=exports)


def closing_ask(heading: Heading, node: str, sequence: int, outcome: Outcome | None, place: int, weight: float) -> MarketAsk:
    """How the negotiation ended for the group at a place: its part of the outcome, or that nothing was agreed."""
    if outcome is None:
        return _ask(heading, node, sequence, NOTHING, final=True)
    part = NetSignal(price_per_kwh=outcome.price_per_kwh[place], target_w=outcome.net_w[place], weight=weight)
    ask = _ask(heading, node, sequence, part, final=True, agreed=True)
    if not isinstance(outcome, Agreement):
        return ask
    imports, exports = (_agreed_terms(limits[place]) for limits in (outcome.import_limit_w, outcome.export_limit_w))
    return msgspec.structs.replace(ask, import_limit=imports, export_limit=exports)


def response_of(answer: MarketAnswer, signal: Signal) -> Response:
    """What a node has answered to a signal; whether it makes sense is the mechanism's to say."""
    if isinstance(signal, Asked):
        limits = (answer.import_limit_w, answer.export_limit_w)
        rows = [answer.net_import_w, *(() if limit_w is None else limit_w for limit_w in limits)]
        whole = len({len(row) for row in rows}) == 1
        return Answer(wish_w=np.array(rows if whole else rows[:1], dtype=np.float64), own_cost=answer.own_cost)
    return NetResponse(net_w=np.array(answer.net_import_w), own_cost=answer.own_cost)


NOTHING = NetSignal(price_per_kwh=np.zeros(1), target_w=np.zeros(1), weight=0.0)


def _limit_terms(signal: Asked, row: int) -> LimitTerms:
    """What is asked of the limit in one row of a signal."""
    least_w, most_w = signal.bounds_w[row - 1]
    return LimitTerms(
        least_w=least_w,
        most_w=most_w,
        deviations=signal.deviations,
        price_per_kwh=tuple(signal.price_per_kwh[row].tolist()),
        target_w=tuple(signal.target_w[row].tolist()),
        weight_per_kwh_w=tuple(signal.weight[row].tolist()),
    )


def _agreed_terms(limit_w: FloatArray) -> LimitTerms:
    """A limit that was agreed; nothing is asked of it any more."""
    return LimitTerms(
        least_w=float(limit_w.min()),
        most_w=float(limit_w.max()),
        deviations=0.0,
        price_per_kwh=(0.0,) * limit_w.size,
        target_w=tuple(limit_w.tolist()),
        weight_per_kwh_w=(1.0,) * limit_w.size,
    )


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
