"""Making a region of communities that are there, and letting a community into it. A shell.

The region gets an authority of its own for its broker and its coordinator; households and bridges keep the certificates of their
communities. A region is made of what is public of each community: its authority, who is revoked, and its coordinator's key.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.enrolment.authority import make_authority, pem
from coordinator.enrolment.folder import Folder
from coordinator.enrolment.founding import give_away, issue_for_itself, user_ids
from coordinator.enrolment.members import Members, Role
from coordinator.errors import EnrolmentError
from coordinator.region.broker_files import (
    OWN,
    RegionPlan,
    bridge_text,
    community_access_text,
    coordinator_access_text,
    region_broker_text,
)
from protocols.errors import ProtocolError
from protocols.files import give_folder_to_owner_above, make_private_folder, read_any, write_private, write_public
from protocols.keys import save_private_key, save_public_key
from protocols.topics import node_topic
from protocols.units import Identifier

PUBLIC: Final = ("authority.pem", "revoked.pem", "coordinator.pub")
"""What a region takes of a community, and where its folder has it."""

CONFIGURATION: Final = """\
# The coordinator of region {region}. Run it: commonwatt-coordinator region --config {file}
{communities}
[identity]
region = "{region}"
key_file = "keys/coordinator.key"

[broker]
host = "{host}"
port = {port}
tls = {{ ca_file = "authority/authority.pem", cert_file = "keys/tls.pem", key_file = "keys/tls.key" }}
"""

SECTION: Final = """\
# For each household of {community}: copy this folder to its controller as `region`, and add this to its configuration.

[region]
enabled = true
name = "{region}"
coordinator_keys = ["region/{region}.pub"]
communities = [
{communities}]

[region.broker]
host = "{host}"
port = {port}
tls = {{ ca_file = "region/region.pem", cert_file = "identity/current/tls.pem", key_file = "identity/current/tls.key" }}
"""


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a community finds its region."""

    region: Identifier
    community: Identifier
    host: str
    port: int


def found_region(root: Path, plan: RegionPlan, communities: Mapping[str, Path], hosts: tuple[str, ...], now_s: float) -> None:
    """Make the region's folder in one step. Raises `EnrolmentError`, `FileRefused`."""
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise EnrolmentError(f"{root}: is there already and not empty; a region is made in a new folder")
    owner = None if plan.user is None else user_ids(plan.user)
    make_private_folder(root.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    give_folder_to_owner_above(temporary)
    try:
        _fill(temporary, root, plan, {name: public_files(folder) for name, folder in communities.items()}, hosts, now_s)
        if owner is not None:
            give_away(temporary / "broker", owner)
            temporary.chmod(0o711)
        temporary.replace(root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def public_files(folder: Path) -> dict[str, bytes]:
    """What is public of a community, from its own folder or from one that holds the three files."""
    found = {}
    for name in PUBLIC:
        places = [folder / name, folder / "broker" / name, folder / "keys" / name]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise EnrolmentError(f"{folder}: no {name}; a region needs {', '.join(PUBLIC)} of each community")
        found[name] = read_any(path)
    return found


def join_region(folder: Folder, invited: Path) -> Invitation:
    """Let the community's broker tell the region who leads. Raises `EnrolmentError`, `FileRefused`."""
    try:
        invitation = msgspec.json.decode(read_any(invited / "invitation.json"), type=Invitation)
    except msgspec.DecodeError as error:
        raise EnrolmentError(f"{invited / 'invitation.json'}: {error}") from error
    community = folder.settings().community
    if invitation.community != community:
        raise EnrolmentError(f"{invited}: is for community {invitation.community!r}, this is {community!r}")
    place = folder.broker / "conf.d"
    if not place.is_dir():
        raise EnrolmentError(f"{place}: is not there; its broker was made before regions were, and takes no further files")
    text = bridge_text(invitation.region, community, invitation.host, invitation.port, folder.broker.resolve())
    write_private(folder.broker / "region.pem", read_any(invited / "region.pem"))
    write_private(place / "region.conf", text.encode("utf-8"))
    for path in (folder.broker / "region.pem", place / "region.conf"):
        owner = folder.broker.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
    return invitation


def check_region(region: str, communities: Mapping[str, Path]) -> None:
    """Raise `EnrolmentError` for names that cannot be used together."""
    if len(communities) < 2 or region in communities:
        raise EnrolmentError("a region has at least two communities, and none of them is called like it")
    for name in (region, *communities):
        try:
            node_topic(name, name, "status")
        except ProtocolError as error:
            raise EnrolmentError(str(error)) from error


def _fill(
    folder: Path, final: Path, plan: RegionPlan, public: Mapping[str, Mapping[str, bytes]], hosts: tuple[str, ...], now_s: float
) -> None:
    broker, keys = folder / "broker", folder / "keys"
    for path in (folder / "authority", broker, broker / "data", keys):
        make_private_folder(path)
    authority = make_authority(plan.region, now_s)
    passphrase = secrets.token_urlsafe(32).encode("ascii")
    write_private(folder / "passphrase", passphrase + b"\n")
    certificate = pem(authority.certificate)
    write_public(folder / "authority" / "authority.pem", certificate)
    write_private(folder / "authority" / "authority.key", authority.encrypted_key(passphrase))
    signing_key = Ed25519PrivateKey.generate()
    save_private_key(signing_key, keys / "coordinator.key")
    save_public_key(signing_key.public_key(), keys / "coordinator.pub")
    members = Members(community=plan.region)
    for name, role, place in (("coordinator", Role.COORDINATOR, keys / "tls"), ("broker", Role.BROKER, broker / "broker")):
        members, issued, key = issue_for_itself(authority, members, name, role, hosts if role is Role.BROKER else (), now_s)
        write_public(place.with_suffix(".pem"), issued)
        write_private(place.with_suffix(".key"), key)
    write_public(broker / f"{OWN}.authority.pem", certificate)
    write_private(broker / f"{OWN}.acl", coordinator_access_text(plan).encode("utf-8"))
    for name, files in public.items():
        write_public(broker / f"{name}.authority.pem", files["authority.pem"])
        write_private(broker / f"{name}.revoked.pem", files["revoked.pem"])
        write_private(broker / f"{name}.acl", community_access_text(plan, name).encode("utf-8"))
        write_public(keys / f"{name}.pub", files["coordinator.pub"])
    write_private(broker / "mosquitto.conf", region_broker_text(plan, final / "broker").encode("utf-8"))
    entries = "".join(f'\n[[communities]]\nname = "{name}"\ncoordinator_keys = ["keys/{name}.pub"]\n' for name in public)
    text = CONFIGURATION.format(
        region=plan.region, file=final / "region.toml", communities=entries, host=json.dumps(plan.host)[1:-1], port=plan.port
    )
    write_private(folder / "region.toml", text.encode("utf-8"))
    for name in public:
        _invite(folder / f"for-{name}", plan, name, public, certificate, (keys / "coordinator.pub").read_bytes())


def _invite(
    folder: Path, plan: RegionPlan, community: str, public: Mapping[str, Mapping[str, bytes]], certificate: bytes, key: bytes
) -> None:
    """What is handed to one community; nothing of it is secret."""
    make_private_folder(folder)
    port = plan.port_of(community)
    invitation = Invitation(region=plan.region, community=community, host=plan.host, port=port)
    write_public(folder / "invitation.json", msgspec.json.encode(invitation) + b"\n")
    write_public(folder / "region.pem", certificate)
    write_public(folder / f"{plan.region}.pub", key)
    for name, files in public.items():
        write_public(folder / f"{name}.pub", files["coordinator.pub"])
    entries = "".join(f'    {{ name = "{name}", coordinator_keys = ["region/{name}.pub"] }},\n' for name in public)
    text = SECTION.format(community=community, region=plan.region, communities=entries, host=json.dumps(plan.host)[1:-1], port=port)
    write_public(folder / "section.toml", text.encode("utf-8"))
