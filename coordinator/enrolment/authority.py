"""The community's certificate authority: X.509 (RFC 5280) on curve P-256, which Mosquitto, OpenSSL and browsers all take.

One authority signs everything and nothing below it may sign. A certificate is either a server's or a client's (extended key usage), so
that no member can stand in for the broker. Names are given by the caller, never taken from a request. Everything here is pure but for the
key generation and serial numbers, whose randomness is the library's.

The revocation list lives beside the broker and is made anew by every command that changes it, so its `nextUpdate` is the authority's
own end: an OpenSSL verifier refuses *every* certificate once a list is past that date, which would cut the whole community off.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.errors import EnrolmentError

DAY_S: Final = 86400
BACKDATED_S: Final = DAY_S
"""Certificates begin a day early: a controller without a battery-backed clock may be behind when it first connects."""

AUTHORITY_DAYS: Final = 3652
BROKER_DAYS: Final = 825
"""The longest life that browsers accept of a server's certificate from an authority that a person installed."""

NODE_DAYS: Final = 397


class Authority:
    """The authority's certificate and private key, in memory while a command runs. The representation shows the name only."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()})"

    def __reduce__(self) -> str:
        raise TypeError("an authority holds a private key and is not serialised")

    @property
    def end_s(self) -> float:
        """When its own certificate ends."""
        return self.certificate.not_valid_after_utc.timestamp()

    def issue_client(self, name: str, public_key: ec.EllipticCurvePublicKey, *, now_s: float, days: int) -> x509.Certificate:
        """A certificate with which `name` connects to the broker."""
        builder = self._builder(name, public_key, now_s, days).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True
        )
        return builder.sign(self._key, hashes.SHA256())

    def issue_broker(
        self, hosts: Sequence[str], public_key: ec.EllipticCurvePublicKey, *, now_s: float, days: int = BROKER_DAYS
    ) -> x509.Certificate:
        """A certificate of the broker under all the names and addresses by which clients know it."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = self._builder("broker", public_key, now_s, days).add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def revocation_list(self, revoked_s: Mapping[str, float], *, now_s: float, previous_s: float) -> tuple[bytes, float]:
        """The signed list (PEM) of revoked serial numbers, and its time. It is later than the previous one by a second at least.

        OpenSSL keeps lists that were loaded before and goes by the latest of one issuer, to the second.
        """
        time_s = max(int(now_s) - BACKDATED_S, int(previous_s) + 1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(_utc(time_s)).next_update(self.certificate.not_valid_after_utc)
        for serial, when_s in sorted(revoked_s.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(_utc(when_s))
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM), float(time_s)

    def encrypted_key(self, passphrase: bytes) -> bytes:
        """The private key as PKCS #8 PEM under the passphrase."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(passphrase)
        )

    def _builder(self, name: str, public_key: ec.EllipticCurvePublicKey, now_s: float, days: int) -> x509.CertificateBuilder:
        end_s = min(now_s + days * DAY_S, self.end_s)
        builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(self.certificate.subject).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(_utc(now_s - BACKDATED_S)).not_valid_after(_utc(end_s))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        key_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(key_identifier, critical=False)


def make_authority(community: str, now_s: float) -> Authority:
    """A new authority with a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Commonwatt community {community}")
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(_utc(now_s - BACKDATED_S)).not_valid_after(_utc(now_s + AUTHORITY_DAYS * DAY_S))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def open_authority(certificate_pem: bytes, encrypted_key: bytes, passphrase: bytes) -> Authority:
    """The authority from its files. Raises `EnrolmentError` for a wrong passphrase or a key that is not the certificate's."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(encrypted_key, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EnrolmentError("the authority's key cannot be opened: wrong passphrase, or a damaged file") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise EnrolmentError("the authority's key does not belong to its certificate")
    return Authority(certificate, key)


def serial_text(certificate: x509.Certificate) -> str:
    """The serial number in hexadecimal digits."""
    return f"{certificate.serial_number:x}"


def pem(certificate: x509.Certificate) -> bytes:
    """PEM of a certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8 PEM of a key that stays on the machine where it was made."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _utc(time_s: float) -> datetime:
    return datetime.fromtimestamp(int(time_s), UTC)
