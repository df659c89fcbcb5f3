"""Our ciphertexts against `phe` as the oracle, and the forms of keys and ciphertexts that are refused."""

from __future__ import annotations

import random

import gmpy2
import phe
import pytest
from gmpy2 import mpz

from protocols.aggregation import paillier
from protocols.aggregation.paillier import CiphertextRefused, Encryptor, KeyRefused, public_key

BITS = 1024
"""Small, because the arithmetic is the same at every size and tests should be quick."""

RNG = random.Random(20261120)


def prime_3_mod_4(bits: int) -> int:
    while True:
        candidate = RNG.getrandbits(bits) | (3 << (bits - 2)) | 3
        if gmpy2.is_prime(candidate, 25):
            return candidate


def key_pair() -> tuple[int, int]:
    while True:
        p, q = prime_3_mod_4(BITS // 2), prime_3_mod_4(BITS // 2)
        if p != q and gmpy2.gcd(p - 1, q - 1) == 2:
            return p, q


P, Q = key_pair()
N = P * Q
PRIME = next(c for c in range((1 << BITS) + 1, 1 << (BITS + 1), 4) if gmpy2.is_prime(c, 25))
X = 65537
KEY = public_key(N, X, min_bits=BITS)
ENCRYPTOR = Encryptor(KEY, teeth=6, tables=2)
ORACLE = phe.PaillierPrivateKey(phe.PaillierPublicKey(N), P, Q)


def exponent() -> int:
    return RNG.getrandbits(KEY.exponent_bits)


@pytest.mark.parametrize("plaintext", [0, 1, N // 2, N - 1])
def test_phe_decrypts_what_we_encrypt(plaintext: int) -> None:
    assert ORACLE.raw_decrypt(ENCRYPTOR.encrypt(plaintext, exponent())) == plaintext


@pytest.mark.parametrize(("teeth", "tables"), [(1, 1), (5, 3), (10, 4), (7, 8)])
def test_the_comb_is_plain_exponentiation(teeth: int, tables: int) -> None:
    encryptor = Encryptor(KEY, teeth=teeth, tables=tables)
    base = gmpy2.powmod(-(mpz(X) ** 2) % N, N, mpz(N) ** 2)
    for value in [0, 1, 2, (1 << KEY.exponent_bits) - 1, *(exponent() for _ in range(5))]:
        assert encryptor.randomiser(value) == gmpy2.powmod(base, value, mpz(N) ** 2)


def test_the_product_of_ciphertexts_is_the_sum_of_plaintexts() -> None:
    plaintexts = [RNG.randrange(N) for _ in range(20)]
    product = paillier.multiply(KEY, [ENCRYPTOR.encrypt(value, exponent()) for value in plaintexts])
    assert ORACLE.raw_decrypt(product) == sum(plaintexts) % N


def test_two_ciphertexts_of_one_plaintext_differ() -> None:
    assert ENCRYPTOR.encrypt(5, exponent()) != ENCRYPTOR.encrypt(5, exponent())


@pytest.mark.parametrize(
    ("n", "x", "words"),
    [
        (N, X, "at least 3072"),
        (N * 2, X, "1 mod 4"),
        (P * P, X, "power"),
        (PRIME, X, "prime"),
        (N * 7 * 3, X, "factor"),
        (N, 1, "x must"),
        (N, P, "x must"),
        (N, N + 1, "x must"),
    ],
)
def test_a_key_of_another_form_is_refused(n: int, x: int, words: str) -> None:
    with pytest.raises(KeyRefused, match=words):
        public_key(n, x, min_bits=3072 if "3072" in words else BITS - 1)


def test_a_ciphertext_that_is_no_unit_is_named() -> None:
    good = [ENCRYPTOR.encrypt(value, exponent()) for value in range(6)]
    bad = {1: 0, 3: N, 4: N * N, 6: 5 * P, 8: 1, 9: N * N + 1, 10: Q * P * 2}
    mixed = []
    for index in range(11):
        mixed.append(bad[index] if index in bad else good.pop())
        if not good:
            good = [ENCRYPTOR.encrypt(1, exponent())]
    assert paillier.check_ciphertexts(KEY, mixed) == sorted(bad)


def test_the_width_of_a_ciphertext_is_fixed_also_with_leading_zeros() -> None:
    assert len(paillier.to_bytes(KEY, 2)) == KEY.ciphertext_bytes
    assert paillier.from_bytes(KEY, paillier.to_bytes(KEY, 2)) == 2
    with pytest.raises(CiphertextRefused):
        paillier.from_bytes(KEY, b"\x01" * (KEY.ciphertext_bytes - 1))


@pytest.mark.parametrize("plaintext", [-1, N, N + 5])
def test_a_plaintext_outside_the_modulus_is_refused(plaintext: int) -> None:
    with pytest.raises(ValueError, match="plaintext"):
        ENCRYPTOR.encrypt(plaintext, 1)
