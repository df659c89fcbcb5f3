"""Enrolling, admitting, renewing and revoking on the disk of a community. A shell: the rules are in `members` and `protocols.enrolment`.

The order of writing is the order of safety: an answer leaves only after the members that name it are on the disk, and a revocation is on
the disk before the broker hears of it. `broker_control` tells the broker.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from coordinator.config import decode_config
from coordinator.enrolment import members as rules
from coordinator.enrolment.authority import NODE_DAYS, pem, serial_text
from coordinator.enrolment.folder import Folder
from coordinator.enrolment.founding import ADMINISTRATOR, issue_for_itself, write_administrator
from coordinator.enrolment.members import Connection, Credential, Invitation, Member, Members, Role, State
from coordinator.enrolment.page_tokens import read_page_tokens, token_hash
from coordinator.errors import EnrolmentError
from coordinator.network.cases import CASES, load
from protocols.documents import DocumentRefused, decode_toml
from protocols.enrolment import (
    RESERVED_NAMES,
    TOKEN_BYTES,
    Answer,
    Bundle,
    Request,
    requested_key,
    signing_public_key,
    text_of,
    token_key,
)
from protocols.files import read_any, write_private, write_public
from protocols.keys import load_public_key, save_public_key

NODE_SECTION: Final = """
[[nodes]]
name = "{name}"
connection = {connection}
import_rating_w = {import_w!r}
export_rating_w = {export_w!r}
key_files = ["keys/{name}.pub"]
"""


def issue_bundle(folder: Folder, node: str, connection: Connection, *, now_s: float, valid_s: float) -> Bundle:
    """Invite a node: a bundle whose token works once. Raises `EnrolmentError` for a connection that the network does not have."""
    _check_connection(folder, connection)
    with folder.locked():
        settings = folder.settings()
        token = text_of(secrets.token_bytes(TOKEN_BYTES))
        expires_s = int(now_s + valid_s)
        invitation = Invitation(key=token_key(token), expires_s=float(expires_s))
        folder.save_members(rules.invite(folder.members(), node, invitation, connection))
    coordinator_key = load_public_key(folder.keys / "coordinator.pub")
    return Bundle(
        community=settings.community,
        node=node,
        host=settings.hosts[0],
        port=settings.port,
        authority_pem=read_any(folder.authority_certificate).decode("ascii"),
        coordinator_key=text_of(coordinator_key.public_bytes_raw()),
        token=token,
        expires_s=expires_s,
    )


def accept(
    folder: Folder,
    request: Request,
    *,
    now_s: float,
    passphrase_file: Path | None,
    days: int = NODE_DAYS,
) -> Answer:
    """Sign what a rightful request asks for.

    Raises `EnrolmentRefused` or `EnrolmentError`, and then nothing has changed: the bundle can still be used.
    """
    with folder.locked():
        members = folder.members()
        member = rules.check_request(members, request, now_s)
        public_key = requested_key(request)
        configuration = _with_node(folder, member)
        authority = folder.open_authority(passphrase_file)
        certificate = authority.issue_client(member.name, public_key, now_s=now_s, days=days)
        credential = _credential(certificate, request.body.signing_key, now_s)
        members = rules.admit(members, member.name, credential)
        members = folder.write_revocations(authority, members, now_s)
        folder.save_members(members)
        folder.write_access(members)
        save_public_key(signing_public_key(request.body.signing_key), folder.keys / f"{member.name}.pub")
        if configuration is not None:
            write_private(folder.configuration, configuration)
    return Answer(community=members.community, node=member.name, certificate_pem=pem(certificate).decode("ascii"))


def revoke(folder: Folder, name: str, *, now_s: float, passphrase_file: Path | None) -> Members:
    """Take a member out: its keys leave the trust, the broker's lists name it. Telling the broker is the caller's."""
    with folder.locked():
        members = rules.revoke(folder.members(), name, now_s)
        authority = folder.open_authority(passphrase_file)
        members = folder.write_revocations(authority, members, now_s)
        folder.save_members(members)
        folder.write_access(members)
        tokens = read_page_tokens(folder.page_tokens)
        if tokens.pop(name, None) is not None:
            folder.save_page_tokens(tokens)
    return members


def issue_page_token(folder: Folder, name: str) -> str:
    """A new token for the page, which only its hash remembers here. Raises `EnrolmentError` for who is not enrolled."""
    with folder.locked():
        member = folder.members().get(name)
        if member is None or member.role not in (Role.NODE, Role.ADMINISTRATOR) or member.state is not State.ENROLLED:
            raise EnrolmentError(f"{name}: expected an enrolled node or administrator; `commonwatt-coordinator members` lists them")
        token = text_of(secrets.token_bytes(TOKEN_BYTES))
        folder.save_page_tokens({**read_page_tokens(folder.page_tokens), name: token_hash(token)})
    return token


def take_page_token(folder: Folder, name: str) -> None:
    """Void a member's token for the page. Raises `EnrolmentError` where it has none."""
    with folder.locked():
        tokens = read_page_tokens(folder.page_tokens)
        if name in RESERVED_NAMES or tokens.pop(name, None) is None:
            raise EnrolmentError(f"{name} has no token for the page")
        folder.save_page_tokens(tokens)


def renew_own(folder: Folder, name: str, *, now_s: float, passphrase_file: Path | None) -> list[Path]:
    """New key and certificate for `broker`, `page`, `coordinator` or an administrator (`admin.NAME`, made if new); returns the files."""
    with folder.locked():
        settings, members = folder.settings(), folder.members()
        authority = folder.open_authority(passphrase_file)
        if name.startswith(ADMINISTRATOR):
            short = name.removeprefix(ADMINISTRATOR)
            members = write_administrator(folder, authority, members, short, now_s)
            written = [folder.administrators / f"{short}.p12", folder.administrators / f"{short}.passphrase"]
        else:
            role, stem = {
                "broker": (Role.BROKER, folder.broker / "broker"),
                "page": (Role.PAGE, folder.broker / "page"),
                "coordinator": (Role.COORDINATOR, folder.keys / "tls"),
            }[name]
            known = members.get(name)
            newest = None if known is None else known.newest()
            signing_key = None if newest is None else newest.signing_key
            members, certificate, key = issue_for_itself(authority, members, name, role, settings.hosts, now_s, signing_key)
            written = [stem.with_suffix(".pem"), stem.with_suffix(".key")]
            write_private(written[1], key)
            write_public(written[0], certificate)
        members = folder.write_revocations(authority, members, now_s)
        folder.save_members(members)
        folder.write_access(members)
    return written


def _credential(certificate: x509.Certificate, signing_key: str, now_s: float) -> Credential:
    return Credential(
        serial=serial_text(certificate),
        signing_key=signing_key,
        issued_s=now_s,
        expires_s=certificate.not_valid_after_utc.timestamp(),
    )


def _check_connection(folder: Folder, connection: Connection) -> None:
    document = _document(folder)
    feeder = document.get("feeder")
    name = feeder.get("network") if isinstance(feeder, dict) else None
    if not isinstance(name, str):
        raise EnrolmentError(f"{folder.configuration}: no network - at $.feeder.network")
    network = load(name if name in CASES else str(folder.root / name))
    if connection.name not in network.connection_index:
        some = ", ".join(list(network.connection_index)[:5])
        raise EnrolmentError(f"connection {connection.name!r} does not exist in network {network.name}; it has {some}, ...")


def _with_node(folder: Folder, member: Member) -> bytes | None:
    """The configuration with a section for this node; None where it has one. Raises where the result could not be used."""
    nodes = _document(folder).get("nodes", [])
    if any(isinstance(node, dict) and node.get("name") == member.name for node in nodes):
        return None
    assert member.connection is not None
    section = NODE_SECTION.format(
        name=member.name,
        connection=json.dumps(member.connection.name, ensure_ascii=False),
        import_w=float(member.connection.import_rating_w),
        export_w=float(member.connection.export_rating_w),
    )
    data = read_any(folder.configuration).rstrip() + b"\n" + section.encode("utf-8")
    decode_config(data, str(folder.configuration))
    return data


def _document(folder: Folder) -> dict[str, Any]:
    try:
        return decode_toml(read_any(folder.configuration), dict[str, Any])
    except DocumentRefused as refusal:
        raise EnrolmentError(f"{folder.configuration}: {refusal}") from refusal
