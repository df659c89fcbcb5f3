"""Making a community: authority, broker, coordinator, first administrator, configuration. A shell.

Everything is made in a folder beside the final one, which then takes its name in one step: there is never half a community.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import pkcs12
from msgspec import Struct

from coordinator.enrolment.authority import NODE_DAYS, Authority, make_authority, pem, private_pem, serial_text
from coordinator.enrolment.broker_files import PROJECTOR, VISITOR, BrokerPlan, broker_text, page_text
from coordinator.enrolment.folder import Folder, Settings
from coordinator.enrolment.members import Credential, Member, Members, Role, State
from coordinator.enrolment.page_tokens import token_hash
from coordinator.errors import EnrolmentError
from coordinator.network.cases import CASES
from protocols.enrolment import text_of
from protocols.files import give_folder_to_owner_above, make_private_folder, read_private, write_private, write_public
from protocols.keys import save_private_key, save_public_key

ADMINISTRATOR: Final = "admin."
MAX_SOCKET_PATH_BYTES: Final = 107

CONFIGURATION: Final = """\
# The coordinator of community {community}. Run it: commonwatt-coordinator run --config {file}
# Paths are relative to this file. `commonwatt-coordinator accept` adds a [[nodes]] section at the end for each household.

[identity]
community = "{community}"
key_file = "keys/coordinator.key"

[feeder]
network = {network}

[store]
url = "sqlite:///coordinator.db"

[broker]
host = "{host}"
port = {port}
tls = {{ ca_file = "authority/authority.pem", cert_file = "keys/tls.pem", key_file = "keys/tls.key" }}

# `commonwatt-coordinator page` shows the community to browsers. Beyond this machine it needs tls_cert_file and tls_key_file.
[page]
address = "127.0.0.1"
port = 8080
broker_port = {page_port}
"""


class Plan(Struct, frozen=True, kw_only=True):
    """What a community is made of. `broker_user` is who Mosquitto becomes when root starts it; None where it runs as the caller."""

    community: str
    network: str
    hosts: tuple[str, ...]
    port: int
    websockets_port: int
    page_port: int
    administrator: str
    address: str | None = None
    broker_user: str | None = None
    passphrase_file: Path | None = None


def found(root: Path, plan: Plan, now_s: float) -> Folder:
    """Make the community's folder. Raises `EnrolmentError` where something is there already, `FileRefused` where it cannot be written."""
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise EnrolmentError(f"{root}: is there already and not empty; a community is made in a new folder")
    if len(os.fsencode(root / "broker" / "page.sock")) > MAX_SOCKET_PATH_BYTES:
        raise EnrolmentError(f"{root}: too long a path for the broker's socket in it; choose a shorter one")
    owner = None if plan.broker_user is None else user_ids(plan.broker_user)
    make_private_folder(root.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        give_folder_to_owner_above(temporary)
    except OSError as error:
        raise EnrolmentError(f"{root}: cannot be made: {error.strerror}") from error
    try:
        _fill(Folder(temporary), root, plan, now_s)
        _keep_authority(temporary)
        if owner is not None:
            give_away(temporary / "broker", owner)
            temporary.chmod(0o711)
        temporary.replace(root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Folder(root)


def issue_for_itself(
    authority: Authority, members: Members, name: str, role: Role, hosts: Sequence[str], now_s: float, signing_key: str | None = None
) -> tuple[Members, bytes, bytes]:
    """A key made on this machine and a certificate for it: (members with it, certificate PEM, private key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    if role is Role.BROKER:
        certificate = authority.issue_broker(hosts, key.public_key(), now_s=now_s)
    else:
        certificate = authority.issue_client(name, key.public_key(), now_s=now_s, days=NODE_DAYS)
    credential = Credential(
        serial=serial_text(certificate), signing_key=signing_key, issued_s=now_s, expires_s=certificate.not_valid_after_utc.timestamp()
    )
    known = members.get(name)
    before = () if known is None else known.credentials
    member = Member(name=name, role=role, state=State.ENROLLED, credentials=(*before[-8:], credential))
    return members.put(member), pem(certificate), private_pem(key)


def write_administrator(folder: Folder, authority: Authority, members: Members, name: str, now_s: float) -> Members:
    """An identity that watches, as PKCS #12 for a browser, and its passphrase in a file beside it."""
    members, certificate_pem, key_pem = issue_for_itself(authority, members, f"{ADMINISTRATOR}{name}", Role.ADMINISTRATOR, (), now_s)
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    passphrase = secrets.token_urlsafe(18)
    data = pkcs12.serialize_key_and_certificates(
        f"{members.community} {name}".encode(),
        key,
        x509.load_pem_x509_certificate(certificate_pem),
        [authority.certificate],
        serialization.BestAvailableEncryption(passphrase.encode("ascii")),
    )
    make_private_folder(folder.administrators)
    write_private(folder.administrators / f"{name}.p12", data)
    write_private(folder.administrators / f"{name}.passphrase", passphrase.encode("ascii") + b"\n")
    return members


def broker_user_here() -> str | None:
    """Who Mosquitto becomes when root starts it: the distribution's user for it, if there is one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("mosquitto").pw_name
    except KeyError:
        return pwd.getpwuid(0).pw_name


def _fill(folder: Folder, final: Path, plan: Plan, now_s: float) -> None:
    for path in (folder.authority_key.parent, folder.broker, folder.broker / "data", folder.broker / "conf.d", folder.keys):
        make_private_folder(path)
    passphrase, kept = _passphrase(folder, plan.passphrase_file)
    authority = make_authority(plan.community, now_s)
    write_public(folder.authority_certificate, pem(authority.certificate))
    write_private(folder.authority_key, authority.encrypted_key(passphrase))
    signing_key = Ed25519PrivateKey.generate()
    save_private_key(signing_key, folder.keys / "coordinator.key")
    save_public_key(signing_key.public_key(), folder.keys / "coordinator.pub")
    members = Members(community=plan.community)
    public = text_of(signing_key.public_key().public_bytes_raw())
    members, certificate, key = issue_for_itself(authority, members, "coordinator", Role.COORDINATOR, (), now_s, public)
    write_public(folder.keys / "tls.pem", certificate)
    write_private(folder.keys / "tls.key", key)
    members, certificate, key = issue_for_itself(authority, members, "broker", Role.BROKER, plan.hosts, now_s)
    write_public(folder.broker / "broker.pem", certificate)
    write_private(folder.broker / "broker.key", key)
    members, certificate, key = issue_for_itself(authority, members, "page", Role.PAGE, (), now_s)
    write_public(folder.broker / "page.pem", certificate)
    write_private(folder.broker / "page.key", key)
    write_public(folder.broker / "authority.pem", pem(authority.certificate))
    members = write_administrator(folder, authority, members, plan.administrator, now_s)
    members = folder.write_revocations(authority, members, now_s)
    folder.write_access(members)
    host = "localhost" if plan.address is None else plan.hosts[0]
    brokers = BrokerPlan(
        community=plan.community,
        host=host,
        port=plan.port,
        websockets_port=plan.websockets_port,
        page_port=plan.page_port,
        address=plan.address,
        user=plan.broker_user,
    )
    write_private(folder.broker / "mosquitto.conf", broker_text(brokers, final / "broker").encode("utf-8"))
    write_private(folder.broker / "page.conf", page_text(brokers, final / "broker").encode("utf-8"))
    password = secrets.token_urlsafe(24)
    write_private(folder.projector_password, password.encode("ascii") + b"\n")
    folder.save_page_tokens({PROJECTOR: token_hash(password), VISITOR: token_hash(VISITOR)})
    folder.save_members(members)
    folder.save_settings(
        Settings(
            community=plan.community, hosts=plan.hosts, port=plan.port, websockets_port=plan.websockets_port, passphrase_file=kept
        )
    )
    network = plan.network if plan.network in CASES else str(Path(plan.network).resolve())
    text = CONFIGURATION.format(
        community=plan.community,
        file=final / "coordinator.toml",
        network=_quoted(network),
        host=host,
        port=plan.port,
        page_port=plan.page_port,
    )
    write_private(folder.configuration, text.encode("utf-8"))


def _passphrase(folder: Folder, given: Path | None) -> tuple[bytes, str]:
    """The passphrase, from the given file or made new; and where it is kept, as later commands look for it."""
    if given is not None and given.exists():
        passphrase = read_private(given).strip()
        if len(passphrase) < 16:
            raise EnrolmentError(f"{given}: expected a passphrase of at least 16 characters, got {len(passphrase)}")
        return passphrase, str(given.resolve())
    passphrase = secrets.token_urlsafe(32).encode("ascii")
    write_private(folder.root / "passphrase" if given is None else given, passphrase + b"\n")
    return passphrase, "passphrase" if given is None else str(given.resolve())


def user_ids(name: str) -> tuple[int, int]:
    """User and group of a name. Raises `EnrolmentError`."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise EnrolmentError(f"--broker-user {name}: no such user on this machine") from error
    return entry.pw_uid, entry.pw_gid


def _keep_authority(folder: Path) -> None:
    """The service that the folder belongs to needs the authority's certificate alone: its key stays with whoever founds the community."""
    for name in ("passphrase", "authority/authority.key"):
        if (folder / name).exists():
            os.chown(folder / name, os.geteuid(), os.getegid())


def give_away(folder: Path, owner: tuple[int, int]) -> None:
    """Let somebody own a folder and all in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *owner)


def _quoted(text: str) -> str:
    """A TOML basic string, which a JSON string is."""
    return json.dumps(text, ensure_ascii=False)
