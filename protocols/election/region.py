"""The election above the communities: their leaders elect one of themselves, by the same code (Li et al. 2026, sections 4.3 and 4.4).

A seat of the region is a community. Its key, for one regional epoch, is that of the community's leader, looked up through the certificate
that the community's members voted for; so anyone who has the communities' epochs and certificates checks a regional epoch, and a regional
certificate through it. When a community has another leader, a new regional epoch begins. Three rules keep the promise of the election:

1. A leader speaks for its community only while it may act there (its lease), so no two speak for one seat in one regional epoch.
2. A regional epoch names the one key with which its seat votes, so a household that has just taken its community's seat has nothing to
   remember: in this epoch, nobody voted for the seat before it. Terms of an epoch begin above all terms of the epochs before it
   (`first_term`), so one number fences the whole region, also when all seats change at once. A household whose own disk is lost abstains
   like any member of an election.
3. Within a regional epoch everything is frozen: keys, reputations, weights. Its number is used once; who gives the numbers out writes
   the last one down before it says it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from protocols.election.rules import CertificateRefused, carried, check_certificate
from protocols.election.values import Ballot, Certificate, Epoch, Seat

TERMS_PER_EPOCH: Final = 1 << 20
"""Elections that one regional epoch may need; with epochs numbered by the clock, terms stay below 2^53 until the year 2242."""


class CommunityLead(Struct, frozen=True):
    """What proves who leads one community: its epoch, as its coordinator signed it, and a certificate."""

    epoch: Epoch
    certificate: Certificate


def leader_seat(lead: CommunityLead) -> Seat:
    """The seat of the community's proven leader in its own epoch; raises `CertificateRefused`."""
    check_certificate(lead.epoch, lead.certificate)
    return next(seat for seat in lead.epoch.seats if seat.name == lead.certificate.leader)


def regional_epoch(number: int, leads: Mapping[str, CommunityLead], *, reputation_min: float) -> Epoch:
    """The regional epoch over the communities' proven leaders. Its seed follows from the certificates, so nobody chooses it.

    Raises `CertificateRefused` where a community's leader is not proven.
    """
    if not leads:
        raise CertificateRefused("a region without a community")
    seats, proofs = [], hashlib.sha256(f"commonwatt/1 region\0{number}".encode())
    for community in sorted(leads):
        lead = leads[community]
        seat = leader_seat(lead)
        seats.append(Seat(name=community, public_key=seat.public_key, reputation=seat.reputation))
        certificate = lead.certificate
        proofs.update(f"\0{community}\0{certificate.epoch}\0{certificate.term}\0{certificate.leader}".encode())
    return Epoch(number=number, seats=tuple(seats), reputation_min=reputation_min, seed=proofs.hexdigest())


def check_regional_epoch(epoch: Epoch, leads: Mapping[str, CommunityLead]) -> None:
    """Raise `CertificateRefused` unless this is the regional epoch that the communities' certificates imply."""
    if epoch != regional_epoch(epoch.number, leads, reputation_min=epoch.reputation_min):
        raise CertificateRefused(f"regional epoch {epoch.number} is not what the certificates of its communities imply")


def first_term(epoch: Epoch) -> int:
    """The number above which the terms of a regional epoch lie, and below which those of all earlier epochs do."""
    return epoch.number * TERMS_PER_EPOCH


def regional_ballot(ballot: Ballot | None, epoch: Epoch) -> Ballot | None:
    """What a community's leader begins a regional epoch with; None where its disk was lost, and it has to abstain."""
    if ballot is None:
        return None
    kept = carried(ballot, epoch)
    if kept.epoch != epoch.number or ballot.epoch == epoch.number:
        return kept
    return Ballot(epoch=epoch.number, term=max(kept.term, first_term(epoch)), candidate=None, fence=kept.fence)
