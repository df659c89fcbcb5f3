"""Who belongs to the community, with which credentials, and what may happen to them. Pure: values in, values out.

| state | enrol | accept (token) | accept (renewal) | revoke |
|---|---|---|---|---|
| absent | invited | refused | refused | refused |
| invited | invited, older bundles void | enrolled | refused | revoked |
| enrolled | refused | refused: used | enrolled, overlap | revoked |
| revoked | refused: choose another name | refused | refused | refused |

A credential is one certificate, with the signing key of that time where there is one. After a renewal the older one stays good for
`OVERLAP_S`, so that nothing is cut between the answer and its installation; then its key is trusted no longer and its certificate goes
onto the revocation list with the next command that opens the authority.

A revoked name is never given again: the broker's access list works by name, and must silence whatever still carries it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta
from msgspec.structs import replace

from coordinator.errors import EnrolmentError
from protocols.enrolment import (
    RESERVED_NAMES,
    EnrolmentRefused,
    Raw32,
    Request,
    Serial,
    check_possession,
    check_renewal_grant,
    check_token_grant,
    signing_public_key,
)
from protocols.units import Identifier, LimitW, TimeS

OVERLAP_S: Final = 7 * 86400.0
MAX_CREDENTIALS: Final = 64

MemberName = Annotated[str, Meta(pattern=r"^(admin\.)?[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Role(StrEnum):
    """What a certificate is for."""

    NODE = "node"
    COORDINATOR = "coordinator"
    BROKER = "broker"
    PAGE = "page"
    ADMINISTRATOR = "administrator"


class State(StrEnum):
    """Where a member stands; see the table of the module."""

    INVITED = "invited"
    ENROLLED = "enrolled"
    REVOKED = "revoked"


class Credential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One certificate and the signing key of its holder. `overlap_end_s` is set when it was succeeded, `revoked_s` when it was revoked."""

    serial: Serial
    signing_key: Raw32 | None = None
    issued_s: TimeS
    expires_s: TimeS
    overlap_end_s: TimeS | None = None
    revoked_s: TimeS | None = None

    def is_good(self, now_s: float) -> bool:
        """Whether it may be used at this time."""
        ended = self.overlap_end_s is not None and now_s >= self.overlap_end_s
        return self.revoked_s is None and not ended and now_s < self.expires_s


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle that was issued and not used. The key checks a request and does not show the token."""

    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    expires_s: TimeS

    def __repr__(self) -> str:
        return f"Invitation(expires_s={self.expires_s})"


class Connection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a node sits in the network, and what its connection carries."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    import_rating_w: LimitW
    export_rating_w: LimitW


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One name of the community."""

    name: MemberName
    role: Role
    state: State
    connection: Connection | None = None
    invitation: Invitation | None = None
    credentials: Annotated[tuple[Credential, ...], Meta(max_length=MAX_CREDENTIALS)] = ()

    def newest(self) -> Credential | None:
        """The credential that was issued last, if it was not revoked."""
        newest = self.credentials[-1] if len(self.credentials) > 0 else None
        return newest if newest is not None and newest.revoked_s is None else None


class Members(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All members, and when the newest revocation list was made."""

    community: Identifier
    members: tuple[Member, ...] = ()
    revocation_list_s: TimeS = 0.0

    def get(self, name: str) -> Member | None:
        """The member of this name."""
        return next((member for member in self.members if member.name == name), None)

    def put(self, member: Member) -> Members:
        """With this member in the place of the one of the same name."""
        others = tuple(other for other in self.members if other.name != member.name)
        return replace(self, members=tuple(sorted((*others, member), key=lambda one: one.name)))


def invite(members: Members, name: str, invitation: Invitation, connection: Connection) -> Members:
    """Begin the enrolment of a node; an older bundle of the same node is void. Raises `EnrolmentError`."""
    if name in RESERVED_NAMES:
        raise EnrolmentError(f"a node must not be called {name!r}")
    known = members.get(name)
    if known is not None and known.state is State.ENROLLED:
        raise EnrolmentError(f"{name} is enrolled; it renews its certificate itself (commonwatt-edge renew), or revoke it first")
    if known is not None and known.state is State.REVOKED:
        raise EnrolmentError(f"{name} was revoked, and a revoked name is never given again; choose another, such as {name}-2")
    for other in members.members:
        at = None if other.connection is None else other.connection.name
        if at == connection.name and other.name != name and other.state is not State.REVOKED:
            raise EnrolmentError(f"connection {connection.name!r} has a node already: {other.name}")
    return members.put(Member(name=name, role=Role.NODE, state=State.INVITED, connection=connection, invitation=invitation))


def check_request(members: Members, request: Request, now_s: float) -> Member:
    """The member that this request is rightly made for. Raises `EnrolmentRefused`, which leaves everything as it is."""
    body = request.body
    if body.community != members.community:
        raise EnrolmentRefused(f"the request is for community {body.community}; this is {members.community}")
    member = members.get(body.node)
    if member is None or member.role is not Role.NODE:
        raise EnrolmentRefused(f"no bundle was issued for {body.node}")
    if body.succeeds is None:
        _check_first(member, request, now_s)
    else:
        _check_renewal(member, request, now_s)
    check_possession(request)
    return member


def admit(members: Members, name: str, credential: Credential) -> Members:
    """With a new credential for a member; the one before it ends after the overlap."""
    member = members.get(name)
    assert member is not None
    end_s = credential.issued_s + OVERLAP_S
    older = tuple(
        one if one.revoked_s is not None or one.overlap_end_s is not None else replace(one, overlap_end_s=end_s)
        for one in member.credentials
    )
    kept = (*older, credential)[-MAX_CREDENTIALS:]
    return members.put(replace(member, state=State.ENROLLED, invitation=None, credentials=kept))


def revoke(members: Members, name: str, now_s: float) -> Members:
    """Without this member: none of its credentials is good any longer. Raises `EnrolmentError`."""
    member = members.get(name)
    if member is None:
        raise EnrolmentError(f"{name} is not a member; `commonwatt-coordinator members` lists them")
    if member.role in (Role.COORDINATOR, Role.BROKER, Role.PAGE):
        raise EnrolmentError(f"{name} cannot be revoked: the community does not work without it; renew it instead")
    if member.state is State.REVOKED:
        raise EnrolmentError(f"{name} is revoked already")
    ended = tuple(one if one.revoked_s is not None else replace(one, revoked_s=now_s) for one in member.credentials)
    return members.put(replace(member, state=State.REVOKED, invitation=None, credentials=ended))


def revoked_serials(members: Members, now_s: float) -> dict[str, float]:
    """Serial number and time of every certificate that has not expired and must not be used: revoked, or past its overlap."""
    found: dict[str, float] = {}
    for member in members.members:
        for one in member.credentials:
            if now_s < one.expires_s and not one.is_good(now_s):
                ended_s = one.revoked_s if one.revoked_s is not None else one.overlap_end_s
                assert ended_s is not None
                found[one.serial] = ended_s
    return found


def trusted_keys(members: Members, now_s: float) -> dict[str, list[Ed25519PublicKey]]:
    """The signing keys with which each node may sign at this time; an empty list for a node that may not."""
    return {
        member.name: [
            signing_public_key(key)
            for key in dict.fromkeys(one.signing_key for one in member.credentials if one.is_good(now_s))
            if key is not None
        ]
        for member in members.members
        if member.role is Role.NODE
    }


def silenced(members: Members) -> list[str]:
    """Names that the broker must not let read or write anything, whatever certificate they still hold a connection with."""
    return [member.name for member in members.members if member.state is State.REVOKED]


def expiries(members: Members) -> dict[str, float]:
    """When the newest certificate of each member that is not revoked ends, in Unix seconds."""
    newest = {member.name: member.newest() for member in members.members if member.state is not State.REVOKED}
    return {name: credential.expires_s for name, credential in newest.items() if credential is not None}


def expiry(members: Members, now_s: float, warn_s: float) -> dict[str, str]:
    """A warning in words for each name whose certificate has expired, or will within `warn_s`."""
    warnings: dict[str, str] = {}
    for member in members.members:
        newest = member.newest()
        if newest is None or member.state is State.REVOKED:
            continue
        left_s = newest.expires_s - now_s
        if left_s <= 0.0:
            warnings[member.name] = f"expired {-left_s / 86400.0:.0f} days ago"
        elif left_s <= warn_s:
            warnings[member.name] = f"expires in {left_s / 86400.0:.0f} days"
    return warnings


def _check_first(member: Member, request: Request, now_s: float) -> None:
    invitation = member.invitation
    if invitation is None:
        why = "was revoked" if member.state is State.REVOKED else "was used already"
        raise EnrolmentRefused(f"request of {member.name}: its bundle {why}; issue one for another name")
    check_token_grant(request, invitation.key)
    if now_s >= invitation.expires_s:
        raise EnrolmentRefused(f"request of {member.name}: its bundle expired {(now_s - invitation.expires_s) / 3600.0:.1f} h ago")


def _check_renewal(member: Member, request: Request, now_s: float) -> None:
    newest = member.newest()
    if member.state is not State.ENROLLED or newest is None or newest.signing_key is None:
        raise EnrolmentRefused(f"request of {member.name}: nothing to renew; the node is {member.state}")
    if request.body.succeeds != newest.serial:
        raise EnrolmentRefused(f"request of {member.name}: it succeeds a certificate that was renewed already")
    check_renewal_grant(request, newest.signing_key)
    if not newest.is_good(now_s):
        raise EnrolmentRefused(f"request of {member.name}: its certificate has expired; enrol the household under another name")
