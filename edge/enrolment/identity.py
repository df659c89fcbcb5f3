"""The identity of one household on its own disk. A shell: it makes keys, reads and writes; the rules are in `protocols.enrolment`.

| in the folder | content |
|---|---|
| `pending/` | keys and request of an enrolment or renewal that waits for its answer |
| `1/`, `2/`, ... | keys and certificate of each time, the newest last |
| `current` | link to the one in use: what the configuration names, e.g. `identity/current/tls.key` |

An answer is installed by writing a whole new folder and then moving the link, so a power cut leaves the old identity or the new one.
Private keys are made here, have mode 0600 and go nowhere. The token of a bundle is used and not kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from edge.errors import EnrolmentError
from protocols.enrolment import (
    Answer,
    Bundle,
    HostName,
    Pem,
    Port,
    Raw32,
    Request,
    RequestBody,
    check_answer,
    check_authority,
    decode,
    encode,
    make_request,
    read_certificate,
    signing_public_key,
    text_of,
)
from protocols.files import make_private_folder, read_any, read_private, sync_folder, write_private, write_public
from protocols.keys import load_private_key, save_private_key, save_public_key
from protocols.units import Identifier

KEPT_GENERATIONS: Final = 3


class Community(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle said about the community; nothing in it is secret."""

    community: Identifier
    node: Identifier
    host: HostName
    port: Port
    authority_pem: Pem
    coordinator_key: Raw32


class Identity:
    """The folder of an identity. `path` is what the configuration calls it, such as `identity`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = path / "current"
        self.pending = path / "pending"

    @property
    def is_enrolled(self) -> bool:
        """Whether a certificate is installed."""
        return (self.current / "tls.pem").is_file()

    def community(self) -> Community:
        """The community of the installed identity. Raises `EnrolmentError` where there is none."""
        if not self.is_enrolled:
            raise EnrolmentError(f"{self.path}: not enrolled; `commonwatt-edge enrol BUNDLE` begins")
        return _read_community(self.current)

    def certificate(self) -> x509.Certificate:
        """The certificate in use."""
        self.community()
        return read_certificate(read_any(self.current / "tls.pem").decode("ascii", "replace"), str(self.current / "tls.pem"))

    def begin(self, bundle: Bundle, now_s: float, *, replace: bool = False) -> Request:
        """Make keys and the request that a bundle invites to. The same bundle gives the same request again, until it is answered.

        Raises `EnrolmentError` where an identity is installed already (unless it is to be replaced), `EnrolmentRefused` for a bundle
        that is too old or whose authority is none.
        """
        check_authority(bundle.authority_pem, now_s)
        signing_public_key(bundle.coordinator_key)
        if now_s >= bundle.expires_s:
            raise EnrolmentError(f"the bundle of {bundle.node} expired {(now_s - bundle.expires_s) / 3600.0:.1f} h ago; ask for a new one")
        if self.is_enrolled and not replace:
            known = self.community()
            raise EnrolmentError(
                f"{self.path}: enrolled already as {known.node} of {known.community}; `commonwatt-edge renew` renews the certificate,"
                " --replace begins anew"
            )
        community = Community(
            community=bundle.community,
            node=bundle.node,
            host=bundle.host,
            port=bundle.port,
            authority_pem=bundle.authority_pem,
            coordinator_key=bundle.coordinator_key,
        )
        waiting = self._waiting(community, bundle)
        if waiting is not None:
            return waiting
        return self._prepare(community, Ed25519PrivateKey.generate(), token=bundle.token)

    def renew(self, *, new_signing_key: bool = False) -> Request:
        """Make a new key for TLS (and for signing, where it is asked for) and the request that the present key grants."""
        community = self.community()
        present = load_private_key(self.current / "signing.key")
        signing = Ed25519PrivateKey.generate() if new_signing_key else present
        return self._prepare(community, signing, succeeds=f"{self.certificate().serial_number:x}", present=present)

    def install(self, answer: Answer, now_s: float) -> x509.Certificate:
        """Put the answer's certificate and the keys that wait for it to use. Raises `EnrolmentError`, `EnrolmentRefused`."""
        if not (self.pending / "request.json").is_file():
            raise EnrolmentError(f"{self.path}: no request waits for an answer here; `commonwatt-edge enrol BUNDLE` begins")
        community = _read_community(self.pending)
        public_key = _public_bytes(read_private(self.pending / "tls.key"), self.pending / "tls.key")
        certificate = check_answer(
            answer,
            community=community.community,
            node=community.node,
            authority_pem=community.authority_pem,
            public_key=public_key,
            now_s=now_s,
        )
        write_public(self.pending / "tls.pem", answer.certificate_pem.encode("ascii"))
        write_public(self.pending / "authority.pem", community.authority_pem.encode("ascii"))
        save_public_key(signing_public_key(community.coordinator_key), self.pending / "coordinator.pub")
        self._switch()
        return certificate

    def _waiting(self, community: Community, bundle: Bundle) -> Request | None:
        """The request that was made from exactly this bundle before, if it still waits."""
        path = self.pending / "request.json"
        if not path.is_file() or _read_community(self.pending) != community:
            return None
        request = decode(read_private(path), Request)
        again = make_request(request.body, load_private_key(self.pending / "signing.key"), token=bundle.token)
        return request if again == request else None

    def _prepare(
        self,
        community: Community,
        signing: Ed25519PrivateKey,
        *,
        token: str | None = None,
        succeeds: str | None = None,
        present: Ed25519PrivateKey | None = None,
    ) -> Request:
        make_private_folder(self.path)
        shutil.rmtree(self.pending, ignore_errors=True)
        make_private_folder(self.pending)
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_private(self.pending / "tls.key", private)
        save_private_key(signing, self.pending / "signing.key")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, community.node)])
        wanted = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        body = RequestBody(
            community=community.community,
            node=community.node,
            certificate_request_pem=wanted.public_bytes(serialization.Encoding.PEM).decode("ascii"),
            signing_key=text_of(signing.public_key().public_bytes_raw()),
            succeeds=succeeds,
        )
        request = make_request(body, signing, token=token, present_key=present)
        write_private(self.pending / "community.json", msgspec.json.encode(community) + b"\n")
        write_private(self.pending / "request.json", encode(request))
        return request

    def _switch(self) -> None:
        (self.pending / "request.json").unlink()
        numbers = sorted(int(one.name) for one in self.path.iterdir() if one.name.isdecimal())
        number = numbers[-1] + 1 if len(numbers) > 0 else 1
        sync_folder(self.pending)
        self.pending.rename(self.path / str(number))
        link = self.path / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(str(number))
        link.replace(self.current)
        sync_folder(self.path)
        for old in numbers[: -KEPT_GENERATIONS + 1]:
            shutil.rmtree(self.path / str(old), ignore_errors=True)


def _read_community(folder: Path) -> Community:
    path = folder / "community.json"
    try:
        return msgspec.json.decode(read_private(path), type=Community)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EnrolmentError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from error


def _public_bytes(data: bytes, path: Path) -> bytes:
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise EnrolmentError(f"{path}: not an unencrypted PEM private key") from error
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
