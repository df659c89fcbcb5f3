"""Limits for one connection point, and what became of them.

Envelope and default controls carry the names and semantics of CSIP-AUS (Common Smart Inverter Profile Australia, namespace
`https://csipaus.org/ns`) and IEEE 2030.5:

- `opModExpLimW` / `opModImpLimW` bound the connection point, `opModGenLimW` / `opModLoadLimW` bound controllable devices;
- for each control type the lower `primacy` wins, then the newer `creationTime`;
- a control that is no longer mentioned is not cancelled: cancellation is explicit, or by a superseding control;
- past its end a control is ignored; when none is active the default control holds, and it stays until it is changed.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from protocols.messages.base import MAX_INTERVALS, Message, Mrid, Reason
from protocols.units import (
    GradHundredthsPercentPerS,
    Identifier,
    LimitW,
    TimeS,
)


class Guarantee(StrEnum):
    """What was proved of an envelope before it was published.

    ROBUST: every point of the joint box of all envelopes was covered by exact AC power flow at its worst corners.
    COINCIDENT: only points at which connections move together, as `coordinator.envelopes` defines it, are covered.
    UNVERIFIED: nothing was proved. An operator may still send such a limit by hand; it is never called anything else.
    """

    ROBUST = "robust"
    COINCIDENT = "coincident"
    UNVERIFIED = "unverified"


class EnvelopeControl(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One DERControl: limits that hold in [start_s, start_s + duration_s).

    A limit that is absent is not touched by this control. `rampTms` is in hundredths of a second; absent means `setGradW` of the
    default control. The randomize windows shift start and duration by up to their signed value, drawn once by the receiver.
    """

    mrid: Mrid = field(name="mRID")
    creation_time_s: TimeS = field(name="creationTime")
    start_s: TimeS = field(name="start")
    duration_s: Annotated[float, Meta(gt=0.0, le=366 * 86400.0)] = field(name="duration")
    primacy: Annotated[int, Meta(ge=0, le=255)] = 1
    export_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModExpLimW")
    import_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModImpLimW")
    generation_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModGenLimW")
    load_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModLoadLimW")
    ramp_tms: Annotated[int, Meta(ge=0, le=360000)] | UnsetType = field(default=UNSET, name="rampTms")
    randomize_start_s: Annotated[int, Meta(ge=-3600, le=3600)] = field(default=0, name="randomizeStart")
    randomize_duration_s: Annotated[int, Meta(ge=-3600, le=3600)] = field(default=0, name="randomizeDuration")
    guarantee: Guarantee = Guarantee.UNVERIFIED


class EnvelopeSchedule(Message, frozen=True, kw_only=True, tag="envelope_schedule"):
    """Controls for one node, some ahead of time, and the mRIDs that are cancelled by name.

    What an earlier schedule said and this one does not mention stays in force: a vanished control is not a cancelled one.
    `term` is the leader's term where a leader relays it; the receiver rejects a lower one than it has seen.
    """

    node: Identifier
    controls: Annotated[tuple[EnvelopeControl, ...], Meta(max_length=MAX_INTERVALS)]
    cancelled: Annotated[tuple[Mrid, ...], Meta(max_length=MAX_INTERVALS)] = ()
    term: Annotated[int, Meta(ge=0, le=2**62)] | None = None


class DefaultControl(Message, frozen=True, kw_only=True, tag="default_control"):
    """DefaultDERControl: holds whenever no control is active, until it is changed. Kept on disk by its receiver."""

    node: Identifier
    mrid: Mrid = field(name="mRID")
    export_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModExpLimW")
    import_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModImpLimW")
    generation_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModGenLimW")
    load_limit_w: LimitW | UnsetType = field(default=UNSET, name="opModLoadLimW")
    set_grad_w: GradHundredthsPercentPerS = field(default=27, name="setGradW")
    guarantee: Guarantee = Guarantee.UNVERIFIED


class ResponseStatus(IntEnum):
    """Response.status of IEEE 2030.5, table 27, as far as CSIP-AUS uses it."""

    RECEIVED = 1
    STARTED = 2
    COMPLETED = 3
    CANCELLED = 6
    SUPERSEDED = 7
    INVALID = 253
    EXPIRED = 254


class ControlResponse(Message, frozen=True, kw_only=True, tag="control_response"):
    """What became of one control at its receiver."""

    mrid: Mrid = field(name="mRID")
    status: ResponseStatus
    reason: Reason = ""
