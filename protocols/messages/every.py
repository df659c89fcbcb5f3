"""Every message there is, and which of them a topic carries."""

from __future__ import annotations

from protocols.messages.base import Message
from protocols.messages.community import (
    Accusation,
    AdherenceReport,
    CommunitySignal,
    ElectionNotice,
    EpochNotice,
    Gone,
    JoinCard,
    KeyCard,
    RegionNotice,
    RoundNotice,
    Verdict,
)
from protocols.messages.controls import ControlResponse, DefaultControl, EnvelopeSchedule
from protocols.messages.household import FlexibilityDeclaration, Forecast, Plan, Status, Telemetry
from protocols.messages.market import MarketAnswer, MarketAsk

AnyMessage = (
    Status
    | Telemetry
    | Forecast
    | Plan
    | FlexibilityDeclaration
    | EnvelopeSchedule
    | DefaultControl
    | ControlResponse
    | JoinCard
    | AdherenceReport
    | Accusation
    | Verdict
    | EpochNotice
    | KeyCard
    | ElectionNotice
    | Gone
    | RoundNotice
    | CommunitySignal
    | RegionNotice
    | MarketAsk
    | MarketAnswer
)

TYPE_OF_KIND: dict[str, type[Message]] = {
    "status": Status,
    "telemetry": Telemetry,
    "forecast": Forecast,
    "plan": Plan,
    "flexibility": FlexibilityDeclaration,
    "response": ControlResponse,
    "envelope": EnvelopeSchedule,
    "default": DefaultControl,
    "join": JoinCard,
    "adherence": AdherenceReport,
    "accusation": Accusation,
    "verdict": Verdict,
    "epoch": EpochNotice,
    "key": KeyCard,
    "election": ElectionNotice,
    "gone": Gone,
    "round": RoundNotice,
    "signal": CommunitySignal,
    "region": RegionNotice,
    "ask": MarketAsk,
    "answer": MarketAnswer,
}
"""Which message a topic kind of `protocols.topics` carries."""
