"""Ranking and certificates: what every member computes alike from the epoch and the term."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.election.values import Ballot, Certificate, Epoch, Seat, Timing, Vote
from protocols.errors import ProtocolError

BACKUPS: Final = 3
INCUMBENT_FACTOR: Final = 0.7
"""Each term in a row multiplies the incumbent's chance by this, so that nobody holds the seat for ever."""


TERM_LEAP: Final = 1 << 24
"""No honest member is so far ahead: it would have stood in vain for a year. Without a bound, one request could use all terms up."""


class CertificateRefused(ProtocolError):
    """A certificate does not prove its leader; the message says why."""


def draw(epoch: Epoch, term: int, name: str) -> float:
    """A number in (0, 1) that anyone can compute again from the epoch's seed, other in every term."""
    text = f"commonwatt/1 rank\0{epoch.seed}\0{epoch.number}\0{term}\0{name}"
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") + 0.5) / 2.0**56


def ranking(epoch: Epoch, term: int, *, incumbent: str | None = None, held: int = 0) -> tuple[str, ...]:
    """Eligible members in the order in which they should stand in `term`.

    Key of member i: -ln(u_i) / (R_i^2 0.7^held_i), lowest first: member i is first with a probability in proportion to
    R_i^2 0.7^held_i (Efraimidis and Spirakis 2006), so reputation is preferred and chance still moves the seat on.
    """

    def key(name: str, reputation: float) -> float:
        weight = max(reputation, 1e-9) ** 2
        if name == incumbent:
            weight *= INCUMBENT_FACTOR ** min(held, 60)
        return -math.log(draw(epoch, term, name)) / weight

    return tuple(name for _, name in sorted((key(seat.name, seat.reputation), seat.name) for seat in epoch.eligible()))


@lru_cache(maxsize=16)
def epoch_digest(epoch: Epoch) -> str:
    """What votes are bound to: all of the registered membership, so that they count in no other community, region or epoch."""
    return hashlib.sha256(b"commonwatt/1 epoch\0" + msgspec.json.encode(epoch)).hexdigest()


def vote_bytes(digest: str, term: int, candidate: str, voter: str) -> bytes:
    """What a vote's signature covers; `digest` is the epoch's."""
    return f"commonwatt/1 vote\0{digest}\0{term}\0{candidate}\0{voter}".encode()


def sign_vote(key: Ed25519PrivateKey, epoch: Epoch, term: int, candidate: str, voter: str) -> Vote:
    """The member's vote. It must be durable before this leaves the member."""
    signature = key.sign(vote_bytes(epoch_digest(epoch), term, candidate, voter)).hex()
    return Vote(epoch=epoch.number, term=term, candidate=candidate, voter=voter, signature=signature)


def within_reach(term: int, ballot: Ballot) -> bool:
    """Whether a member that has this ballot believes that somebody stands in this term."""
    return term <= max(ballot.term, ballot.fence) + TERM_LEAP


def reported_term(terms: Collection[int]) -> int:
    """The highest term that others report, but for what no honest member can be at."""
    return max(term for term in terms if term <= min(terms) + TERM_LEAP)


def may_still_lead(epoch: Epoch, timing: Timing, followed_s: float, now_s: float) -> bool:
    """Whether a leader that was followed since `followed_s` is within its tenure: members hold it to what it should keep by itself."""
    return len(epoch.eligible()) < 2 or now_s < followed_s + timing.tenure_s * (1.0 + timing.drift_frac) + timing.promise_s


def double_voters(epoch: Epoch, first: Certificate, second: Certificate) -> tuple[str, ...]:
    """Who has signed votes for two leaders of one term: what the two certificates prove against them."""
    if (first.epoch, first.term) != (second.epoch, second.term) or first.leader == second.leader or first.epoch != epoch.number:
        return ()
    return tuple(sorted(_voters(epoch, first) & _voters(epoch, second)))


def vote_is_valid(epoch: Epoch, vote: Vote) -> bool:
    """Whether a registered member signed this vote in this epoch."""
    key = next((seat.public_key for seat in epoch.seats if seat.name == vote.voter), None)
    signed = vote_bytes(epoch_digest(epoch), vote.term, vote.candidate, vote.voter)
    return vote.epoch == epoch.number and key is not None and _verifies(key, vote.signature, signed)


def check_certificate(epoch: Epoch, certificate: Certificate) -> None:
    """Raise `CertificateRefused` unless valid votes of a quorum of the registered members name this leader in this term."""
    if certificate.epoch != epoch.number:
        raise CertificateRefused(f"certificate of epoch {certificate.epoch}: this is epoch {epoch.number}")
    if certificate.leader not in {seat.name for seat in epoch.eligible()}:
        raise CertificateRefused(f"{certificate.leader!r} may not lead: not registered, or reputation below {epoch.reputation_min}")
    valid = _voters(epoch, certificate)
    invalid = next((voter for voter, _ in certificate.votes if voter not in valid), None)
    if invalid is not None:
        raise CertificateRefused(f"vote of {invalid!r} in term {certificate.term} does not verify")
    weight = epoch.weight(valid)
    if weight < epoch.quorum_weight:
        raise CertificateRefused(f"votes of weight {weight}: {epoch.quorum_weight} are a quorum")


def backups(epoch: Epoch, term: int, leader: str, held: int) -> tuple[str, ...]:
    """Who takes over from the leader of `term`: first in the ranking of the next term."""
    order = ranking(epoch, term + 1, incumbent=leader, held=held)
    return tuple(name for name in order if name != leader)[:BACKUPS]


def public_key_of(seat: Seat) -> Ed25519PublicKey:
    """The key that this seat signs with."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(seat.public_key))


def carried(ballot: Ballot, epoch: Epoch) -> Ballot:
    """What a member that remembers an earlier epoch begins a later one with: no vote in it yet, and terms that go on growing.

    It voted in no term of the new epoch, so it has nothing to forget; and since terms never begin again, one number fences them all.
    """
    if ballot.epoch >= epoch.number:
        return ballot
    return Ballot(epoch=epoch.number, term=max(ballot.term, ballot.fence), candidate=None, fence=ballot.fence)


def _voters(epoch: Epoch, certificate: Certificate) -> frozenset[str]:
    """Registered members of whom the certificate holds no vote that does not verify, and at least one that does."""
    keys, digest = {seat.name: seat.public_key for seat in epoch.seats}, epoch_digest(epoch)
    good: set[str] = set()
    bad: set[str] = set()
    for voter, signature in certificate.votes:
        signed = vote_bytes(digest, certificate.term, certificate.leader, voter)
        (good if voter in keys and _verifies(keys[voter], signature, signed) else bad).add(voter)
    return frozenset(good - bad)


@lru_cache(maxsize=8192)
def _verifies(public_key: str, signature: str, signed: bytes) -> bool:
    """Certificates come again and again with the same votes; the answer for the same bytes never changes."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
