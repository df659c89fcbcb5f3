"""What every message has, and the kinds of value that several are made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.units import (
    Fraction,
    Identifier,
    PowerW,
    TimeS,
)

MAX_INTERVALS = 576
"""48 hours of 5-minute intervals: the longest horizon that a message may carry."""

Sequence = Annotated[int, Meta(ge=0, le=2**62)]
Mrid = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,79}$")]
"""Identifier of a control (IEEE 2030.5 mRID)."""

Reason = Annotated[str, Meta(max_length=200)]
PowerSeriesW = Annotated[tuple[PowerW, ...], Meta(min_length=1, max_length=MAX_INTERVALS)]
FractionSeries = Annotated[tuple[Fraction, ...], Meta(min_length=1, max_length=MAX_INTERVALS)]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every message has."""

    sender: Identifier
    time_s: TimeS
    sequence: Sequence


PriceSeries = Annotated[tuple[Annotated[float, Meta(ge=-1000.0, le=1000.0)], ...], Meta(min_length=1, max_length=MAX_INTERVALS)]
