"""Everything that is said between edge, coordinator and the members of a community, as frozen values.

Every message names its sender, the time at which it was made and a sequence number that grows with every message of that sender on
that topic, also across restarts. Units and signs: `protocols.units`.
"""

from __future__ import annotations

from protocols.messages.base import MAX_INTERVALS, FractionSeries, Message, Mrid, PowerSeriesW, PriceSeries, Reason, Sequence
from protocols.messages.community import (
    Accusation,
    AdherenceReport,
    AggregateNotice,
    CommunitySignal,
    ElectionNotice,
    EpochNotice,
    Gone,
    HexKeyId,
    HexNumber,
    JoinCard,
    KeyCard,
    LeadName,
    RegionNotice,
    RoundCall,
    RoundContent,
    RoundName,
    RoundNotice,
    SeatCard,
    Verdict,
)
from protocols.messages.controls import ControlResponse, DefaultControl, EnvelopeControl, EnvelopeSchedule, Guarantee, ResponseStatus
from protocols.messages.every import TYPE_OF_KIND, AnyMessage
from protocols.messages.household import FlexibilityDeclaration, Forecast, Plan, SafetyState, Status, Telemetry
from protocols.messages.market import LimitTerms, MarketAnswer, MarketAsk

__all__ = [
    "MAX_INTERVALS",
    "TYPE_OF_KIND",
    "Accusation",
    "AdherenceReport",
    "AggregateNotice",
    "AnyMessage",
    "CommunitySignal",
    "ControlResponse",
    "DefaultControl",
    "ElectionNotice",
    "EnvelopeControl",
    "EnvelopeSchedule",
    "EpochNotice",
    "FlexibilityDeclaration",
    "Forecast",
    "FractionSeries",
    "Gone",
    "Guarantee",
    "HexKeyId",
    "HexNumber",
    "JoinCard",
    "KeyCard",
    "LeadName",
    "LimitTerms",
    "MarketAnswer",
    "MarketAsk",
    "Message",
    "Mrid",
    "Plan",
    "PowerSeriesW",
    "PriceSeries",
    "Reason",
    "RegionNotice",
    "ResponseStatus",
    "RoundCall",
    "RoundContent",
    "RoundName",
    "RoundNotice",
    "SafetyState",
    "SeatCard",
    "Sequence",
    "Status",
    "Telemetry",
    "Verdict",
]
