"""How a household joins: three small documents between its controller and the coordinator, and every rule of trust about them.

    coordinator  --  Bundle   -->  edge      who the community is, where its broker is, and a token that works once
    coordinator  <--  Request  --  edge      public keys that were made on the edge, granted by the token
    coordinator  --  Answer   -->  edge      a certificate for them

The documents travel as files, or through a pipe over ssh: no port is open for enrolment, the authority's key is used only while a
person runs a command, and private keys stay where they were made. The rules:

1. A document is at most `MAX_BYTES` long and the one canonical JSON encoding of its content.
2. A request names its node and community, and its signing key signs it (possession). A certificate request inside is signed by its own
   key, which is on curve P-256.
3. A first request carries an HMAC-SHA-256 of its exact body under the bundle's token, which it does not show; a renewal carries a
   signature by the signing key that the node has now. Nothing of X.509 is parsed before that was checked.
4. A token grants one request, before its time is over. A renewal names the certificate that it succeeds, so it works once as well.
5. The coordinator takes nothing but public keys from a request: the name in the certificate is the one that the token was made for.
6. An answer is believed if the authority of the bundle signed it, for this node's name and for the key that waits on its disk.

Everything here is pure: no clock, file or random source.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from msgspec import Meta

from protocols.errors import ProtocolError, one_line
from protocols.units import MAX_TIME_S, Identifier

MAX_BYTES: Final = 32 * 1024
RESERVED_NAMES: Final = ("coordinator", "broker", "page", "visitor", "projector")
TOKEN_BYTES: Final = 32
_CONTEXT: Final = b"commonwatt/1 enrolment request\0"
_TOKEN_CONTEXT: Final = b"commonwatt/1 enrolment token\0"
UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)

Raw32 = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}$")]
Raw64 = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{86}$")]
Pem = Annotated[str, Meta(min_length=1, max_length=8192)]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$")]
UnixS = Annotated[int, Meta(ge=0, le=MAX_TIME_S)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Serial = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,40}$")]


class EnrolmentRefused(ProtocolError):
    """A document of enrolment is not accepted; the message is one line and shows no secret."""


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="commonwatt"):
    """What the three have in common: their type in the field `commonwatt`, and nothing that is not known."""

    version: Literal[1] = 1


class Bundle(Document, frozen=True, kw_only=True, tag="bundle"):
    """The invitation of one node. Whoever holds it can ask for this node's certificate, once, until `expires_s`: it is a secret."""

    community: Identifier
    node: Identifier
    host: HostName
    port: Port
    authority_pem: Pem
    coordinator_key: Raw32
    token: Raw32
    expires_s: UnixS

    def __repr__(self) -> str:
        return f"Bundle(node={self.node!r}, community={self.community!r})"

    def __rich_repr__(self) -> Any:
        yield "node", self.node
        yield "community", self.community


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for; `succeeds` is the serial number of the certificate that a renewal follows, None with a token."""

    community: Identifier
    node: Identifier
    certificate_request_pem: Pem
    signing_key: Raw32
    succeeds: Serial | None = None


class Request(Document, frozen=True, kw_only=True, tag="request"):
    """A body, signed by the key that it names. `grant` is the HMAC under the token, or the signature by the present key."""

    body: RequestBody
    possession: Raw64
    grant: Annotated[str, Meta(pattern=r"^([A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{86})$")]


class Answer(Document, frozen=True, kw_only=True, tag="answer"):
    """The certificate. Nothing in it is secret, and the authority's signature is all that it needs."""

    community: Identifier
    node: Identifier
    certificate_pem: Pem


Content = TypeVar("Content", bound=Document)


def encode(document: Document) -> bytes:
    """Canonical bytes, one line. Raises `EnrolmentRefused` for a document that breaks its own type."""
    data = msgspec.json.encode(document) + b"\n"
    decode(data, type(document))
    return data


def decode(data: bytes, kind: type[Content]) -> Content:
    """The document of this kind that the bytes are the canonical encoding of. Raises `EnrolmentRefused`."""
    name = str(kind.__struct_config__.tag)
    if len(data) > MAX_BYTES:
        raise EnrolmentRefused(f"{name}: {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        document = msgspec.json.decode(data, type=kind)
        canonical = msgspec.json.encode(document)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EnrolmentRefused(f"not a {name}: {_one_line(error)}") from error
    if canonical != data.rstrip(b"\r\n"):
        raise EnrolmentRefused(f"not a {name}: not the canonical encoding of its content")
    return document


def kind_of(data: bytes) -> type[Document]:
    """Which document this is, by its first field. Raises `EnrolmentRefused`."""
    for kind in (Bundle, Request, Answer):
        if data.startswith(b'{"commonwatt":"%s",' % str(kind.__struct_config__.tag).encode("ascii")):
            return kind
    raise EnrolmentRefused("neither a bundle nor an answer of the coordinator")


def token_key(token: str) -> str:
    """What the coordinator keeps of a token: enough to check a request, not to show the token."""
    return hashlib.sha256(_TOKEN_CONTEXT + raw_bytes(token)).hexdigest()


def make_request(
    body: RequestBody, signing_key: Ed25519PrivateKey, *, token: str | None = None, present_key: Ed25519PrivateKey | None = None
) -> Request:
    """Sign and grant a request: with the bundle's token, or with the key that the node has until now."""
    signed = signed_bytes(body)
    if present_key is not None:
        grant = text_of(present_key.sign(signed))
    else:
        assert token is not None
        grant = text_of(_token_mac(token_key(token), signed))
    return Request(body=body, possession=text_of(signing_key.sign(signed)), grant=grant)


def check_possession(request: Request) -> None:
    """Rule 2 for the signing key. Raises `EnrolmentRefused`."""
    if not _verifies(request.body.signing_key, request.possession, signed_bytes(request.body)):
        raise EnrolmentRefused(f"request of {request.body.node}: not signed by the signing key that it names")


def check_token_grant(request: Request, key: str) -> None:
    """Rule 3 for a first request; `key` is what `token_key` gave. Raises `EnrolmentRefused`."""
    expected = text_of(_token_mac(key, signed_bytes(request.body)))
    if not hmac.compare_digest(expected, request.grant):
        raise EnrolmentRefused(f"request of {request.body.node}: not made with the bundle that was issued last for this node")


def check_renewal_grant(request: Request, present_key: str) -> None:
    """Rule 3 for a renewal. Raises `EnrolmentRefused`."""
    if len(request.grant) != 86 or not _verifies(present_key, request.grant, signed_bytes(request.body)):
        raise EnrolmentRefused(f"request of {request.body.node}: not signed by the signing key that this node has now")


def requested_key(request: Request) -> ec.EllipticCurvePublicKey:
    """The public key of the certificate request inside, once it signed itself and names this node. Raises `EnrolmentRefused`."""
    where = f"request of {request.body.node}"
    try:
        wanted = x509.load_pem_x509_csr(request.body.certificate_request_pem.encode("ascii"))
        key, names, signed = wanted.public_key(), _common_names(wanted.subject), wanted.is_signature_valid
    except UNREADABLE as error:
        raise EnrolmentRefused(f"{where}: no readable certificate request: {_one_line(error)}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EnrolmentRefused(f"{where}: expected a key on curve P-256")
    if not signed:
        raise EnrolmentRefused(f"{where}: the certificate request is not signed by its own key")
    if names != [request.body.node]:
        raise EnrolmentRefused(f"{where}: the certificate request is for {', '.join(names)[:80] or 'nobody'}")
    return key


def check_authority(pem: str, now_s: float) -> x509.Certificate:
    """The authority's certificate of a bundle: self-signed, an authority, valid now. Raises `EnrolmentRefused`."""
    authority = read_certificate(pem, "authority")
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        authority.verify_directly_issued_by(authority)
    except (*UNREADABLE, InvalidSignature, x509.ExtensionNotFound, x509.UnsupportedGeneralNameType) as error:
        raise EnrolmentRefused(f"the bundle's authority is no certificate authority: {_one_line(error)}") from error
    if not constraints.ca:
        raise EnrolmentRefused("the bundle's authority is no certificate authority: basicConstraints says CA:FALSE")
    _check_times(authority, now_s, "the authority's certificate")
    return authority


def check_answer(answer: Answer, *, community: str, node: str, authority_pem: str, public_key: bytes, now_s: float) -> x509.Certificate:
    """Rule 6; `public_key` is the DER of the key that waits. Raises `EnrolmentRefused`."""
    if (answer.community, answer.node) != (community, node):
        raise EnrolmentRefused(f"the answer is for {answer.node} of {answer.community}; this is {node} of {community}")
    certificate = read_certificate(answer.certificate_pem, "answer")
    try:
        certificate.verify_directly_issued_by(read_certificate(authority_pem, "authority"))
        names = _common_names(certificate.subject)
        held = certificate.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except InvalidSignature as error:
        raise EnrolmentRefused("the answer's certificate is not signed by the authority of the bundle") from error
    except UNREADABLE as error:
        raise EnrolmentRefused(f"the answer's certificate is not one of this authority: {_one_line(error)}") from error
    if names != [node]:
        raise EnrolmentRefused(f"the answer's certificate names {', '.join(names)[:80] or 'nobody'}, expected {node}")
    if held != public_key:
        raise EnrolmentRefused("the answer's certificate is for another key than the one that waits here")
    _check_times(certificate, now_s, "the answer's certificate")
    return certificate


def read_certificate(pem: str, what: str) -> x509.Certificate:
    """One PEM certificate. Raises `EnrolmentRefused`, which says `what` it was to be."""
    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii"))
    except UNREADABLE as error:
        raise EnrolmentRefused(f"{what}: not a PEM certificate: {_one_line(error)}") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in groups of four, for two people to compare."""
    text = certificate.fingerprint(hashes.SHA256()).hex()
    return " ".join(text[index : index + 4] for index in range(0, 32, 4))


def signed_bytes(body: RequestBody) -> bytes:
    """What possession and grant are made over."""
    return _CONTEXT + msgspec.json.encode(body)


def text_of(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def raw_bytes(text: str) -> bytes:
    """The bytes of a base64url text without padding. Raises `EnrolmentRefused`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnrolmentRefused("not base64url") from error
    return data


def signing_public_key(text: str) -> Ed25519PublicKey:
    """The Ed25519 key of its 43 characters. Raises `EnrolmentRefused`."""
    try:
        return Ed25519PublicKey.from_public_bytes(raw_bytes(text))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnrolmentRefused("not an Ed25519 public key") from error


def _token_mac(key: str, signed: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(key), signed, "sha256")


def _verifies(public_key: str, signature: str, signed: bytes) -> bool:
    try:
        signing_public_key(public_key).verify(raw_bytes(signature), signed)
    except InvalidSignature:
        return False
    return True


def _common_names(name: x509.Name) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _check_times(certificate: x509.Certificate, now_s: float, what: str) -> None:
    now = datetime.fromtimestamp(now_s, UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        raise EnrolmentRefused(
            f"{what} is valid from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC; the clock says {now:%Y-%m-%d %H:%M}"
        )


def _one_line(error: Exception) -> str:
    return one_line(" ".join(str(error).split()), 200) or type(error).__name__
