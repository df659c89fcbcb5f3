"""The operator's Paillier keys: made here, held by `phe`, encrypted wherever they rest. A shell: randomness and disk.

Primes are 3 mod 4 with gcd(p - 1, q - 1) = 2, which the short-exponent randomisers of the members rely on (Damgard, Jurik and Nielsen 2010,
section 4.2) and which `phe`'s own generation does not give. At rest: scrypt (RFC 7914, N = 2^15, r = 8, p = 1) makes a key from the
passphrase, AES-256-GCM encrypts. Nothing of a private key appears in a representation, a pickle or an error.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import gmpy2
import msgspec
import phe
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Struct

from coordinator.errors import CoordinatorError
from protocols.aggregation.paillier import PublicKey, public_key

_MAGIC: Final = b"commonwatt-paillier 1\n"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_SCRYPT_N: Final = 1 << 15
PASSPHRASE_MIN: Final = 12

RandBits = Callable[[int], int]


class KeyStoreError(CoordinatorError):
    """The file of private keys cannot be used: absent, readable by others, damaged, or another passphrase. Shows nothing of its content."""


class _Secret(Struct, frozen=True):
    p: str
    q: str
    x: str
    expires_s: float

    def __repr__(self) -> str:
        return "_Secret(...)"


class OperatorKey:
    """One private key with its public half and the end of its life. `decrypt` is all that it does."""

    def __init__(self, p: int, q: int, x: int, expires_s: float, *, min_bits: int) -> None:
        self.public: PublicKey = public_key(p * q, x, min_bits=min_bits)
        self.expires_s = expires_s
        self._secret = _Secret(format(p, "x"), format(q, "x"), format(x, "x"), expires_s)
        self._private = phe.PaillierPrivateKey(phe.PaillierPublicKey(p * q), p, q)

    def __repr__(self) -> str:
        return f"OperatorKey({self.public.key_id})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not serialised")

    @property
    def key_id(self) -> str:
        """What rounds name it by."""
        return self.public.key_id

    def decrypt(self, ciphertext: int) -> int:
        """The plaintext of a ciphertext that was checked to be a unit."""
        return int(self._private.raw_decrypt(ciphertext))


def generate_key(bits: int, expires_s: float, *, randbits: RandBits = secrets.randbits) -> OperatorKey:
    """A fresh key of exactly `bits` bits (about a second for 3200)."""
    while True:
        p, q = _prime(bits // 2, randbits), _prime(bits - bits // 2, randbits)
        if p != q and gmpy2.gcd(p - 1, q - 1) == 2 and (p * q).bit_length() == bits:
            break
    while True:
        x = randbits(bits) % (p * q)
        if x > 1 and gmpy2.gcd(x, p * q) == 1:
            return OperatorKey(p, q, x, expires_s, min_bits=bits)


def save_keys(path: Path, keys: Sequence[OperatorKey], passphrase: bytes) -> None:
    """Write all keys, encrypted, in place of the old file; mode 0600."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    plain = msgspec.json.encode([key._secret for key in keys])
    sealed = AESGCM(_derived(passphrase, salt)).encrypt(nonce, plain, _MAGIC)
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + salt + nonce + sealed)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be written: {error.strerror}") from error


def load_keys(path: Path, passphrase: bytes, *, min_bits: int) -> list[OperatorKey]:
    """The keys in the file, none where there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be read: {error.strerror}") from error
    if path.stat().st_mode & 0o077:
        raise KeyStoreError(f"{path}: a private key must not be accessible to group or others (chmod 600)")
    if not data.startswith(_MAGIC):
        raise KeyStoreError(f"{path}: not a key file of this version")
    start = len(_MAGIC)
    salt, nonce = data[start : start + _SALT_BYTES], data[start + _SALT_BYTES : start + _SALT_BYTES + _NONCE_BYTES]
    try:
        plain = AESGCM(_derived(passphrase, salt)).decrypt(nonce, data[start + _SALT_BYTES + _NONCE_BYTES :], _MAGIC)
        found = msgspec.json.decode(plain, type=list[_Secret])
    except (InvalidTag, ValueError, msgspec.DecodeError):
        raise KeyStoreError(f"{path}: damaged, or encrypted under another passphrase") from None
    return [OperatorKey(int(key.p, 16), int(key.q, 16), int(key.x, 16), key.expires_s, min_bits=min_bits) for key in found]


def read_passphrase(path: Path) -> bytes:
    """The first line of the file, which only its owner may read."""
    try:
        text = path.read_bytes().split(b"\n", 1)[0].strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyStoreError(f"{path}: a passphrase must not be accessible to group or others (chmod 600)")
    if len(text) < PASSPHRASE_MIN:
        raise KeyStoreError(f"{path}: a passphrase of {len(text)} characters, at least {PASSPHRASE_MIN} are expected")
    return text


def _prime(bits: int, randbits: RandBits) -> int:
    """A prime of exactly `bits` bits that is 3 mod 4, its two highest bits set so that products keep their length."""
    while True:
        candidate = gmpy2.mpz(randbits(bits) | (3 << (bits - 2)) | 3)
        if gmpy2.gcd(candidate, gmpy2.primorial(2000)) == 1 and gmpy2.is_prime(candidate, 40):
            return int(candidate)


def _derived(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=8, p=1).derive(passphrase)
