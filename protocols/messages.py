"""Everything that is said between edge, coordinator and the members of a community, as frozen values.

Every message names its sender, the time at which it was made and a sequence number that grows with every message of that sender on
that topic, also across restarts. Units and signs: `protocols.units`. Envelope and default controls carry the names and semantics of
CSIP-AUS (Common Smart Inverter Profile Australia, namespace `https://csipaus.org/ns`) and IEEE 2030.5:

- `opModExpLimW` / `opModImpLimW` bound the connection point, `opModGenLimW` / `opModLoadLimW` bound controllable devices;
- for each control type the lower `primacy` wins, then the newer `creationTime`;
- a control that is no longer mentioned is not cancelled: cancellation is explicit, or by a superseding control;
- past its end a control is ignored; when none is active the default control holds, and it stays until it is changed.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from protocols.aggregation.messages import Acknowledgement, Aggregate, Drops, Sampling
from protocols.election.values import ElectionMessage, Epoch, Hex32
from protocols.units import (
    DurationS,
    EnergyWh,
    Fraction,
    GradHundredthsPercentPerS,
    Identifier,
    LimitW,
    PowerW,
    TimeS,
    VoltageV,
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


HexKeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
HexNumber = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,4096}$")]
RoundName = Annotated[str, Meta(pattern=r"^[0-9]{1,12}:[0-9]{1,12}$")]
PriceSeries = Annotated[tuple[Annotated[float, Meta(ge=-1000.0, le=1000.0)], ...], Meta(min_length=1, max_length=MAX_INTERVALS)]


class JoinCard(Message, frozen=True, kw_only=True, tag="join"):
    """A member's public keys for pads and envelopes, signed by the key that its seat in the epoch names. Retained."""

    pad_key: Hex32
    envelope_key: Hex32


class AdherenceReport(Message, frozen=True, kw_only=True, tag="adherence"):
    """How many of the intervals in [from_s, from_s + duration_s) a member reported a plan for, and how many of these it kept to."""

    from_s: TimeS
    duration_s: DurationS
    intervals: Annotated[int, Meta(ge=1, le=MAX_INTERVALS)]
    kept: Annotated[int, Meta(ge=0, le=MAX_INTERVALS)]


class Accusation(Message, frozen=True, kw_only=True, tag="accusation"):
    """A member shows all the others a proof (`protocols.aggregation.charges`), in `parts` of which this is one; `digest` is SHA-256 over
    all of it. The others judge for themselves. The operator does not read it: drop lists and calls would tell it whose a sum is."""

    digest: Hex32
    part: Annotated[int, Meta(ge=0, lt=64)]
    parts: Annotated[int, Meta(ge=1, le=64)]
    body: Annotated[bytes, Meta(min_length=1, max_length=64 * 1024)]


class Verdict(Message, frozen=True, kw_only=True, tag="verdict"):
    """A member has verified a proof that `accused` broke the protocol in a round; number 0 stands for the votes of a term. `evidence`
    names what was verified. Verdicts of a quorum of the registered members convict (`protocols.reputation.strike`)."""

    accused: Identifier
    round_name: RoundName
    words: Reason
    evidence: Hex32


class SeatCard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one member as the epoch freezes them, in the order of the epoch's seats."""

    name: Identifier
    pad_key: Hex32
    envelope_key: Hex32


class EpochNotice(Message, frozen=True, kw_only=True, tag="epoch"):
    """The registered membership with all public keys, signed by the coordinator. Retained; a higher number replaces a lower one."""

    epoch: Epoch
    cards: Annotated[tuple[SeatCard, ...], Meta(max_length=4096)]
    members_min: Annotated[int, Meta(ge=2, le=4096)]
    settlement: Sampling | None = None


class KeyCard(Message, frozen=True, kw_only=True, tag="key_card"):
    """The operator's public Paillier key and how reports are laid out under it. Retained. Every member checks the key itself.

    Rounds under this key are announced until `expires_s`; a new card replaces it before, and rounds in flight end under the old one.
    """

    n: HexNumber
    x: HexNumber
    values: Annotated[int, Meta(ge=1, le=4096)]
    pad_bits: Annotated[int, Meta(ge=8, le=31)]
    members_max: Annotated[int, Meta(ge=1, le=4096)]
    expires_s: TimeS


class ElectionNotice(Message, frozen=True, kw_only=True, tag="election"):
    """One message of the election, authenticated by the signature of its sender."""

    body: ElectionMessage


class Gone(Message, frozen=True, kw_only=True, tag="gone"):
    """The last will of a member's connection: the broker has cut it off. Made and signed when the connection is made."""


class LeadName(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names the certificate that proves who leads a community."""

    community: Identifier
    epoch: Annotated[int, Meta(ge=0, lt=2**53)]
    term: Annotated[int, Meta(ge=0, lt=2**53)]


class RegionNotice(Message, frozen=True, kw_only=True, tag="region"):
    """The regional epoch, whose seats are communities, and the certificates that it follows from. Retained; a higher number replaces a
    lower one. Whoever has the communities' certificates checks it (`protocols.election.region.check_regional_epoch`)."""

    epoch: Epoch
    leads: Annotated[tuple[LeadName, ...], Meta(min_length=1, max_length=4096)]


class RoundContent(StrEnum):
    """What the values of a round mean; each takes the same number of slots (`protocols.aggregation.content`)."""

    PLAN = "plan"
    FLEXIBILITY = "flexibility"
    NEGOTIATION = "negotiation"


class RoundCall(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="call"):
    """An announcement as it is sent: the roster is a bit mask over the seats of the epoch, lowest bit first, in hexadecimal.

    `previous` names the newest acknowledgement that the leader knows; the beacon is derived from it, so the leader does not choose it.
    """

    round_name: RoundName
    epoch: Annotated[int, Meta(ge=0, lt=2**53)]
    key_id: HexKeyId
    seats: HexNumber
    previous: Hex32
    content: RoundContent
    start_s: TimeS
    step_s: DurationS
    iteration: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    closes_s: TimeS


class AggregateNotice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="aggregate_notice"):
    """An aggregate and what its values mean, for the coordinator."""

    aggregate: Aggregate
    previous: Hex32
    content: RoundContent
    start_s: TimeS
    step_s: DurationS
    iteration: Annotated[int, Meta(ge=0, lt=2**31)] = 0


class RoundNotice(Message, frozen=True, kw_only=True, tag="round"):
    """One public message of an aggregation round: a leader's call, drop list or aggregate, or the coordinator's acknowledgement."""

    body: RoundCall | Drops | AggregateNotice | Acknowledgement


class CommunitySignal(Message, frozen=True, kw_only=True, tag="community_signal"):
    """What a negotiation asks of every member next (`protocols.negotiation`): the community price, and by how much the mean answer has
    to move. `term` is the term of the leader whose rounds carry the negotiation; a member refuses one below its fence. After a `final` one
    nothing more is asked; members plan by its price only where the community has `agreed`."""

    negotiation: Annotated[int, Meta(ge=0, lt=2**53)]
    term: Annotated[int, Meta(ge=0, lt=2**53)]
    iteration: Annotated[int, Meta(ge=0, lt=2**31)]
    final: bool
    agreed: bool = False
    start_s: TimeS
    step_s: DurationS
    rho_per_kwh_w: Annotated[float, Meta(ge=0.0, le=1000.0)]
    price_per_kwh: PriceSeries
    excess_w: PowerSeriesW


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
