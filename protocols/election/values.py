"""What is said and kept in an election.

Every message but the vote is authenticated by whoever carries it (`protocols.signing`); a vote carries its own signature as well,
because it becomes part of a certificate that anyone can check.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.units import Fraction, Identifier

Term = Annotated[int, Meta(ge=0, lt=2**53)]
Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$")]


class Seat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One registered member: its public key, and its reputation and voting weight as they were frozen for the epoch."""

    name: Identifier
    public_key: Hex32
    reputation: Fraction
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1


class Epoch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The registered membership. Weights and reputations never change within an epoch: locally computed ones elect two leaders."""

    number: Annotated[int, Meta(ge=0, lt=2**53)]
    seats: Annotated[tuple[Seat, ...], Meta(min_length=1, max_length=4096)]
    reputation_min: Fraction
    seed: Hex32

    @property
    def names(self) -> tuple[str, ...]:
        """All registered members."""
        return tuple(seat.name for seat in self.seats)

    @property
    def quorum_weight(self) -> int:
        """The least weight of votes that elects: more than half of what is registered, not of what is seen."""
        return sum(seat.weight for seat in self.seats) // 2 + 1

    def weight(self, names: frozenset[str]) -> int:
        """Weight of these members together."""
        return sum(seat.weight for seat in self.seats if seat.name in names)

    def eligible(self) -> tuple[Seat, ...]:
        """Members whose reputation lets them lead."""
        return tuple(seat for seat in self.seats if seat.reputation >= self.reputation_min)


class _Said(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    epoch: Annotated[int, Meta(ge=0, lt=2**53)]
    term: Term


class VoteRequest(_Said, frozen=True, kw_only=True, tag="vote_request"):
    """A candidate asks every member for its vote in this term."""

    candidate: Identifier


class Vote(_Said, frozen=True, kw_only=True, tag="vote"):
    """A member's only vote in this term, signed; sent to its candidate after it is on disk."""

    candidate: Identifier
    voter: Identifier
    signature: Hex64


class Certificate(_Said, frozen=True, kw_only=True, tag="certificate"):
    """Votes of a quorum for one leader: what makes it the leader, for everybody who checks it. Retained.

    `held` counts the terms that this leader has held without a break; `backups` are named in the order in which they take over.
    """

    leader: Identifier
    held: Annotated[int, Meta(ge=1, lt=2**31)]
    backups: tuple[Identifier, ...]
    votes: tuple[tuple[Identifier, Hex64], ...]


class Heartbeat(_Said, frozen=True, kw_only=True, tag="heartbeat"):
    """The leader is alive; with `renew`, members answer, and the answers of a quorum extend its lease."""

    leader: Identifier
    number: Annotated[int, Meta(ge=0, lt=2**53)]
    renew: bool


class HeartbeatAck(_Said, frozen=True, kw_only=True, tag="heartbeat_ack"):
    """A member promises not to vote for anybody else for one lease from now."""

    member: Identifier
    number: Annotated[int, Meta(ge=0, lt=2**53)]


class Resignation(_Said, frozen=True, kw_only=True, tag="resignation"):
    """The leader gives its seat up: members need not wait for its lease to end."""

    leader: Identifier


class CertificateQuery(_Said, frozen=True, kw_only=True, tag="certificate_query"):
    """A member has heard of this term and has not seen its certificate."""

    member: Identifier


class TermQuery(_Said, frozen=True, kw_only=True, tag="term_query"):
    """A member that has lost its memory asks for the highest term that others have voted in."""

    member: Identifier
    nonce: Hex32


class TermReport(_Said, frozen=True, kw_only=True, tag="term_report"):
    """Answer to a `TermQuery` by a member that has its memory: `term` is the highest it voted in or followed."""

    member: Identifier
    nonce: Hex32


ElectionMessage = (
    VoteRequest
    | Vote
    | Certificate
    | Heartbeat
    | HeartbeatAck
    | Resignation
    | CertificateQuery
    | TermQuery
    | TermReport
)


class Ballot(Struct, frozen=True, kw_only=True):
    """What must survive a crash: the highest term voted in, for whom, and the highest term whose certificate was followed.

    `candidate` is None where only the term is known (memory was lost and the term was learnt from others): no vote in it any more.
    """

    epoch: int
    term: int
    candidate: str | None
    fence: int


class Timing(Struct, frozen=True, kw_only=True):
    """Durations of the protocol, all on the monotonic clock of each member [s].

    `drift_frac` bounds how much faster one clock runs than another; a member's promise is longer than the leader's lease by it.
    A candidate counts votes for `candidacy_s` after its request, then gives the term up.
    """

    heartbeat_s: float = 0.5
    renew_every: int = 1
    lease_s: float = 1.6
    stagger_s: float = 0.15
    candidacy_s: float = 1.0
    tenure_s: float = 3600.0
    drift_frac: float = 0.05

    @property
    def promise_s(self) -> float:
        """How long a member that acknowledged a heartbeat votes for nobody else."""
        return self.lease_s * (1.0 + self.drift_frac)

    @property
    def amnesia_s(self) -> float:
        """How long a member without memory abstains before it asks: no candidacy that had its lost vote is still counted."""
        return (self.candidacy_s + self.lease_s) * (1.0 + self.drift_frac)
