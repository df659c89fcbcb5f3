"""What a household says of itself: its state, what it measured, expects and plans, and what it could do differently."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from protocols.messages.base import FractionSeries, Message, PowerSeriesW, Reason
from protocols.units import (
    DurationS,
    EnergyWh,
    Fraction,
    LimitW,
    PowerW,
    TimeS,
    VoltageV,
)


class SafetyState(StrEnum):
    """What an edge's safety machine allows at present. A coordinator, which has none, is ONLINE or OFFLINE."""

    FAILSAFE = "failsafe"
    DEFAULT = "default"
    CONTROLLED = "controlled"
    ONLINE = "online"
    OFFLINE = "offline"


class Status(Message, frozen=True, kw_only=True, tag="status"):
    """Retained; the last will of its sender says `offline`. `reasons` are words for people."""

    state: SafetyState
    software: Annotated[str, Meta(max_length=40)]
    reasons: Annotated[tuple[Reason, ...], Meta(max_length=16)] = ()


class Telemetry(Message, frozen=True, kw_only=True, tag="telemetry"):
    """Means over [start_s, start_s + duration_s) at the connection point and of the parts behind it.

    A part that could not be measured in the interval is null, never zero. `voltage_v` has one entry for each phase of the
    connection. `exceeded_s` counts the seconds in which the meter was outside the envelope in force.
    """

    start_s: TimeS
    duration_s: DurationS
    net_import_w: PowerW | None
    load_w: PowerW | None
    pv_w: PowerW | None
    battery_w: PowerW | None
    ev_w: PowerW | None
    soc_frac: Fraction | None
    voltage_v: Annotated[tuple[VoltageV, ...], Meta(max_length=3)]
    energy_import_wh: EnergyWh | None
    energy_export_wh: EnergyWh | None
    import_limit_w: LimitW | None
    export_limit_w: LimitW | None
    exceeded_s: DurationS
    state: SafetyState


class Forecast(Message, frozen=True, kw_only=True, tag="forecast"):
    """Quantile forecast of one uncontrolled quantity, with the coverage that was measured for its central interval.

    `values_w[k][t]` is the quantile `levels[k]` of the mean power in interval t; quantiles do not cross.
    `measured_coverage` is the share of recent observations that fell between the outermost levels, null before there are any.
    """

    quantity: Literal["load", "pv"]
    start_s: TimeS
    step_s: DurationS
    levels: Annotated[tuple[Fraction, ...], Meta(min_length=1, max_length=11)]
    values_w: Annotated[tuple[PowerSeriesW, ...], Meta(min_length=1, max_length=11)]
    measured_coverage: Fraction | None


class Plan(Message, frozen=True, kw_only=True, tag="plan"):
    """The planned net import of the connection point, interval by interval from `start_s`, and who made it."""

    start_s: TimeS
    step_s: DurationS
    net_import_w: PowerSeriesW
    soc_frac: FractionSeries | None
    made_by: Literal["solver", "shifted", "rule"]


class FlexibilityDeclaration(Message, frozen=True, kw_only=True, tag="flexibility"):
    """What the household could do differently (Li et al. 2026, section 3.2).

    The adjustable power interval is [-decrease_w, +increase_w] around the planned net import, each side for its adjustable
    duration; `availability_frac` is the availability factor rho in [0, 1]. Priority 1 load is never part of it.
    """

    start_s: TimeS
    increase_w: LimitW
    decrease_w: LimitW
    increase_duration_s: DurationS
    decrease_duration_s: DurationS
    availability_frac: Fraction
