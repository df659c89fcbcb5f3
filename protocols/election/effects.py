"""What a step of the election asks its caller to do, in this order: the caller owns disk and network."""

from __future__ import annotations

from msgspec import Struct

from protocols.election.values import Ballot, Certificate, ElectionMessage


class Persist(Struct, frozen=True):
    """Write the ballot durably before any later effect is carried out."""

    ballot: Ballot


class Send(Struct, frozen=True):
    """Send to one member, or to all where `to` is None."""

    message: ElectionMessage
    to: str | None = None


class Follow(Struct, frozen=True):
    """A certificate was accepted: this is the leader now, under this term."""

    certificate: Certificate


class StepDown(Struct, frozen=True):
    """This member no longer acts as leader."""

    term: int
    reason: str


class Expose(Struct, frozen=True):
    """These members voted twice in one term; the two certificates prove it to anybody."""

    voters: tuple[str, ...]
    first: Certificate
    second: Certificate


Effect = Persist | Send | Follow | StepDown | Expose
