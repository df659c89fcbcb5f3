"""The member's side of Paillier encryption: a checked public key, and encryption by a fixed-base comb.

Paillier (EUROCRYPT 1999): a ciphertext of m under the modulus n is (1 + m n) r^n mod n^2, and the product of ciphertexts encrypts the
sum. The randomiser is drawn as Damgard, Jurik and Nielsen (2010, section 4.2) do: with p = q = 3 (mod 4), gcd(p-1, q-1) = 2 and
h = -x^2 mod n, the value h^(n s) mod n^2 for a uniform s of |n|/2 bits is indistinguishable from r^n under their assumption. The base
H = h^n mod n^2 is fixed for the life of the key, so H^s is computed by Lim and Lee's comb (CRYPTO 1994): a public table of
v * 2^k products, and about |s| / (k v) squarings instead of |n|.

Inside the comb a number modulo n^2 is a pair (a, b) that stands for a + b n. A product of two, (a c mod n, a d + b c + floor(a c / n)
mod n), takes three products and two divisions of half the width, about three quarters of the time of one product modulo n^2.

Ciphertexts are what `phe` reads; the private key lives with the coordinator alone. Python integers and gmpy2 are not constant-time;
the exponent s is fresh for every ciphertext, and nothing here handles a long-lived secret.
"""

from __future__ import annotations

import hashlib
from typing import Final

import gmpy2
from gmpy2 import mpz
from msgspec import Struct

from protocols.errors import ProtocolError

MIN_MODULUS_BITS: Final = 3072
"""About 128-bit security (NIST SP 800-57, table 2)."""

SMALL_FACTOR_BOUND: Final = 10_000
COMB_TEETH: Final = 11
COMB_TABLES: Final = 4

Pair = tuple[mpz, mpz]
"""(a, b) with 0 <= a, b < n: the number a + b n modulo n^2."""


class KeyRefused(ProtocolError):
    """A public key does not have the form that encryption relies on; the message says which check failed."""


class CiphertextRefused(ProtocolError):
    """A ciphertext is not a unit modulo n^2 of the fixed width."""


class PublicKey(Struct, frozen=True):
    """A modulus and the base of its randomisers, both public. Build it with `public_key`, which checks them."""

    n: int
    x: int

    @property
    def key_id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of modulus and base."""
        width = self.plaintext_bytes
        return hashlib.sha256(self.n.to_bytes(width, "big") + self.x.to_bytes(width, "big")).hexdigest()[:16]

    @property
    def plaintext_bytes(self) -> int:
        """Bytes of the modulus."""
        return (self.n.bit_length() + 7) // 8

    @property
    def ciphertext_bytes(self) -> int:
        """Fixed width of a ciphertext on the wire."""
        return (2 * self.n.bit_length() + 7) // 8

    @property
    def exponent_bits(self) -> int:
        """Length of the short exponent: half of the modulus."""
        return (self.n.bit_length() + 1) // 2


def public_key(n: int, x: int, *, min_bits: int = MIN_MODULUS_BITS) -> PublicKey:
    """A checked key. `x` is what the base h = -x^2 mod n is made of, so that everybody can compute H without trust.

    Raises `KeyRefused` for a modulus that is too short, even, prime, a perfect power or has a factor below 10,000, and for an x that
    shares a factor with n. That n has exactly two large factors of the right form cannot be seen from outside; its owner would only
    harm its own sums by choosing otherwise, and members are protected by pads against the owner itself.
    """
    modulus = mpz(n)
    if modulus.bit_length() < min_bits:
        raise KeyRefused(f"modulus of {modulus.bit_length()} bits: at least {min_bits} are required")
    if modulus % 4 != 1:
        raise KeyRefused("modulus is not 1 mod 4, as a product of two primes that are 3 mod 4 is")
    if gmpy2.is_power(modulus):
        raise KeyRefused("modulus is a perfect power")
    if gmpy2.is_prime(modulus, 25):
        raise KeyRefused("modulus is prime")
    if gmpy2.gcd(modulus, gmpy2.primorial(SMALL_FACTOR_BOUND)) != 1:
        raise KeyRefused(f"modulus has a factor below {SMALL_FACTOR_BOUND}")
    if not 1 < x < n or gmpy2.gcd(x, modulus) != 1:
        raise KeyRefused("x must lie between 1 and n and be coprime to n")
    return PublicKey(n, x)


class Encryptor:
    """Encrypts under one key. Making it computes the comb's table once (about 8 MB, 0.1 s); it holds nothing secret."""

    def __init__(self, key: PublicKey, *, teeth: int = COMB_TEETH, tables: int = COMB_TABLES) -> None:
        self.key = key
        self.modulus = mpz(key.n)
        self.modulus_squared = self.modulus**2
        base = gmpy2.powmod(-mpz(key.x) ** 2 % self.modulus, self.modulus, self.modulus_squared)
        self._teeth = teeth
        self._tables_count = tables
        self._spacing = -(-key.exponent_bits // teeth)
        self._rows = -(-self._spacing // tables)
        self._tables = self._precompute(base)

    def encrypt(self, plaintext: int, exponent: int) -> int:
        """The ciphertext of 0 <= plaintext < n with the randomiser H^exponent.

        `exponent` must be drawn uniformly from `exponent_bits` bits, for this ciphertext alone: two ciphertexts with one exponent
        reveal the difference of their plaintexts.
        """
        return self.combine(plaintext, self.randomiser(exponent))

    def combine(self, plaintext: int, randomiser: int) -> int:
        """The ciphertext of 0 <= plaintext < n from a randomiser that was computed before."""
        if not 0 <= plaintext < self.key.n:
            raise ValueError("plaintext must lie in [0, n)")
        return int((1 + plaintext * self.modulus) * randomiser % self.modulus_squared)

    def randomiser(self, exponent: int) -> int:
        """H^exponent mod n^2 for 0 <= exponent < 2^exponent_bits."""
        if not 0 <= exponent < 1 << self.key.exponent_bits:
            raise ValueError(f"exponent must have at most {self.key.exponent_bits} bits")
        columns = self._columns(exponent)
        modulus = self.modulus
        low, high = mpz(1), mpz(0)
        for row in range(self._rows - 1, -1, -1):
            carry, square = gmpy2.f_divmod(low * low, modulus)
            high = ((low * high << 1) + carry) % modulus
            low = square
            for table_index, table in enumerate(self._tables):
                position = table_index * self._rows + row
                if position < self._spacing:
                    factor_low, factor_high = table[columns[position]]
                    high = low * factor_high + high * factor_low
                    carry, low = gmpy2.f_divmod(low * factor_low, modulus)
                    high = (high + carry) % modulus
        return int(low + high * modulus)

    def _columns(self, exponent: int) -> list[int]:
        """Column j of the exponent's bits, laid out in `teeth` rows of `spacing` bits: the comb's index at position j."""
        spacing = self._spacing
        text = format(exponent, f"0{self._teeth * spacing}b")
        rows = [text[start : start + spacing] for start in range(0, len(text), spacing)]
        columns = [int("".join(bits), 2) for bits in zip(*rows, strict=True)]
        columns.reverse()
        return columns

    def _precompute(self, base: mpz) -> list[list[Pair]]:
        """tables[t][index]: the product of base^(2^(i spacing + t rows)) over the set bits i of index."""
        modulus_squared = self.modulus_squared
        teeth_powers = [base]
        for _ in range(self._teeth - 1):
            teeth_powers.append(gmpy2.powmod(teeth_powers[-1], 1 << self._spacing, modulus_squared))
        tables = []
        for _ in range(self._tables_count):
            table: list[Pair] = [(mpz(1), mpz(0))]
            for power in teeth_powers:
                high, low = gmpy2.f_divmod(power, self.modulus)
                table += [self._times(entry, (low, high)) for entry in table]
            tables.append(table)
            teeth_powers = [gmpy2.powmod(power, 1 << self._rows, modulus_squared) for power in teeth_powers]
        return tables

    def _times(self, left: Pair, right: Pair) -> Pair:
        carry, low = gmpy2.f_divmod(left[0] * right[0], self.modulus)
        return low, (left[0] * right[1] + left[1] * right[0] + carry) % self.modulus


def exponent_from_seed(key: PublicKey, seed: bytes) -> int:
    """The exponent that a 32-byte random seed stands for. Who keeps the seed can later open the ciphertext bit for bit."""
    if len(seed) != 32:
        raise ValueError(f"seed of {len(seed)} bytes: 32 are expected")
    bits = key.exponent_bits
    digest = hashlib.shake_256(b"commonwatt/1 exponent\0" + seed).digest((bits + 7) // 8)
    return int.from_bytes(digest, "big") >> (-bits % 8)


def check_ciphertexts(key: PublicKey, ciphertexts: list[int]) -> list[int]:
    """Indices of the ciphertexts that are not units modulo n^2, found by one gcd for all and bisection where it fails.

    A product is a unit if and only if every factor is one; 0, multiples of n and numbers outside (0, n^2) are refused first.
    """
    modulus = mpz(key.n)
    modulus_squared = modulus**2
    bad = [index for index, value in enumerate(ciphertexts) if not 1 < value < modulus_squared]
    rest = [index for index in range(len(ciphertexts)) if index not in set(bad)]
    return sorted(bad + _non_units(modulus, [(index, mpz(ciphertexts[index])) for index in rest]))


def _non_units(modulus: mpz, items: list[tuple[int, mpz]]) -> list[int]:
    if not items:
        return []
    product = mpz(1)
    for _, value in items:
        product = product * value % modulus
    if gmpy2.gcd(product, modulus) == 1:
        return []
    if len(items) == 1:
        return [items[0][0]]
    middle = len(items) // 2
    return _non_units(modulus, items[:middle]) + _non_units(modulus, items[middle:])


def multiply(key: PublicKey, ciphertexts: list[int]) -> int:
    """The ciphertext of the sum. The caller has checked its factors with `check_ciphertexts`."""
    modulus_squared = mpz(key.n) ** 2
    product = mpz(1)
    for value in ciphertexts:
        product = product * value % modulus_squared
    return int(product)


def to_bytes(key: PublicKey, ciphertext: int) -> bytes:
    """Fixed-width big-endian encoding."""
    return ciphertext.to_bytes(key.ciphertext_bytes, "big")


def from_bytes(key: PublicKey, data: bytes) -> int:
    """Inverse of `to_bytes`; raises `CiphertextRefused` for another width."""
    if len(data) != key.ciphertext_bytes:
        raise CiphertextRefused(f"ciphertext of {len(data)} bytes: exactly {key.ciphertext_bytes} are expected")
    return int.from_bytes(data, "big")
