"""What members of a community, their leader and the operator say in public: elections, rounds of sums, keys and negotiations."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocols.aggregation.messages import Acknowledgement, Aggregate, Drops, Sampling
from protocols.election.values import ElectionMessage, Epoch, Hex32
from protocols.messages.base import MAX_INTERVALS, Message, PowerSeriesW, PriceSeries, Reason
from protocols.units import (
    DurationS,
    Identifier,
    TimeS,
)

HexKeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
HexNumber = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,4096}$")]
RoundName = Annotated[str, Meta(pattern=r"^[0-9]{1,12}:[0-9]{1,12}$")]


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
