"""The folder of one community on the coordinator's disk. A shell: it reads and writes it, and decides nothing.

| file | content | secret |
|---|---|---|
| `coordinator.toml` | configuration of the service; people edit it | no |
| `community.json` | hosts, ports, where the passphrase is | no |
| `members.json` | names, credentials, open invitations | yes |
| `passphrase` | opens the authority's key; better kept elsewhere | yes |
| `authority/` | certificate, encrypted private key | yes |
| `broker/` | everything that Mosquitto reads and writes | yes |
| `keys/` | the coordinator's keys, the nodes' public signing keys | yes |
| `page.tokens` | who may log in to the page, and hashes of their tokens; Mosquitto has a copy in `broker/` | no |
| `administrators/` | PKCS #12 of those who watch, each with its passphrase beside it until it is handed over | yes |

Commands take a lock on the folder, so that two of them never use one token twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from coordinator.enrolment import members as rules
from coordinator.enrolment import page_tokens
from coordinator.enrolment.authority import Authority, open_authority
from coordinator.enrolment.broker_files import access_text, page_access_text
from coordinator.enrolment.members import Members, Role, State
from coordinator.errors import EnrolmentError
from protocols.enrolment import HostName, Port
from protocols.files import FileRefused, read_any, read_private, write_private
from protocols.units import Identifier

MEMBERS_FILE: Final = "members.json"
MAX_MEMBERS_BYTES: Final = 64 * 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was chosen when the community was made. The first host is what nodes connect to."""

    community: Identifier
    hosts: Annotated[tuple[HostName, ...], Meta(min_length=1, max_length=32)]
    port: Port
    websockets_port: Port
    passphrase_file: Annotated[str, Meta(min_length=1, max_length=1000)]


Decoded = TypeVar("Decoded", bound=msgspec.Struct)


class Folder:
    """Paths of a community, and its values on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.configuration = root / "coordinator.toml"
        self.authority_certificate = root / "authority" / "authority.pem"
        self.authority_key = root / "authority" / "authority.key"
        self.broker = root / "broker"
        self.keys = root / "keys"
        self.administrators = root / "administrators"
        self.page_tokens = root / "page.tokens"
        self.projector_password = root / "keys" / "projector.password"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the folder meanwhile."""
        try:
            descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnrolmentError(f"{self.root}: not a community: {error.strerror}; `commonwatt-coordinator init` makes one") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def settings(self) -> Settings:
        """What was chosen at `init`. Raises `EnrolmentError`."""
        path = self.root / "community.json"
        if not path.is_file():
            raise EnrolmentError(f"{self.root}: no community's folder (no community.json); `commonwatt-coordinator init` makes one")
        return _decoded(read_any(path), Settings, path)

    def members(self) -> Members:
        """Who belongs to the community. Raises `EnrolmentError`, `FileRefused`."""
        return read_members(self.root / MEMBERS_FILE)

    def save_settings(self, settings: Settings) -> None:
        """Keep what was chosen."""
        write_private(self.root / "community.json", msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")

    def save_members(self, members: Members) -> None:
        """Keep who belongs to the community."""
        write_private(self.root / MEMBERS_FILE, msgspec.json.format(msgspec.json.encode(members), indent=1) + b"\n")

    def open_authority(self, passphrase_file: Path | None) -> Authority:
        """The authority, with the passphrase from the given file or from where `init` left it. Raises `EnrolmentError`."""
        path = self.root / self.settings().passphrase_file if passphrase_file is None else passphrase_file
        try:
            passphrase = read_private(path).strip()
        except FileRefused as error:
            raise EnrolmentError(f"the authority's passphrase: {error}; give its file with --passphrase-file") from error
        return open_authority(read_any(self.authority_certificate), read_private(self.authority_key), passphrase)

    def write_revocations(self, authority: Authority, members: Members, now_s: float) -> Members:
        """The broker's revocation list, made anew; returns the members with its time."""
        revoked = rules.revoked_serials(members, now_s)
        data, time_s = authority.revocation_list(revoked, now_s=now_s, previous_s=members.revocation_list_s)
        write_private(self.broker / "revoked.pem", data)
        return msgspec.structs.replace(members, revocation_list_s=time_s)

    def save_page_tokens(self, tokens: Mapping[str, str]) -> None:
        """Keep who may log in to the page, for its server and for its broker."""
        data = page_tokens.tokens_text(tokens).encode("ascii")
        write_private(self.page_tokens, data)
        write_private(self.broker / "page_passwords", data)

    def write_access(self, members: Members) -> None:
        """The broker's access list, made anew."""
        watching = [one.name for one in members.members if one.role is Role.ADMINISTRATOR and one.state is State.ENROLLED]
        text = access_text(members.community, silenced=rules.silenced(members), administrators=watching)
        write_private(self.broker / "acl", text.encode("utf-8"))
        text = page_access_text(members.community, silenced=rules.silenced(members), administrators=watching)
        write_private(self.broker / "page_acl", text.encode("utf-8"))


def read_members(path: Path) -> Members:
    """The members that a file lists. Raises `EnrolmentError`, `FileRefused`."""
    return _decoded(read_private(path, MAX_MEMBERS_BYTES), Members, path)


def _decoded(data: bytes, kind: type[Decoded], path: Path) -> Decoded:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EnrolmentError(f"{path}: {' '.join(str(error).split())[:200]}") from error
