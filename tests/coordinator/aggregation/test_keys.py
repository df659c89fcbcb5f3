"""The operator's private keys: of the right form, encrypted at rest, and never shown."""

from __future__ import annotations

import copy
import pickle
import random
import traceback
from pathlib import Path

import gmpy2
import phe
import pytest

from coordinator.aggregation.keys import KeyStoreError, OperatorKey, generate_key, load_keys, read_passphrase, save_keys
from protocols.aggregation.paillier import Encryptor

BITS = 1024
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="module")
def key() -> OperatorKey:
    return generate_key(BITS, 1e9, randbits=random.Random(3).getrandbits)


def test_primes_are_three_mod_four_and_their_halves_share_nothing(key: OperatorKey) -> None:
    """What Damgard, Jurik and Nielsen (2010), section 4.2, ask of a key."""
    p, q = int(key._secret.p, 16), int(key._secret.q, 16)
    assert p % 4 == q % 4 == 3 and gmpy2.gcd(p - 1, q - 1) == 2
    assert key.public.n == p * q and key.public.n.bit_length() == BITS


def test_what_a_member_encrypts_decrypts_as_phe_decrypts_it(key: OperatorKey) -> None:
    ciphertext = Encryptor(key.public, teeth=4, tables=1).encrypt(123456789, 987654321)
    p, q = int(key._secret.p, 16), int(key._secret.q, 16)
    oracle = phe.PaillierPrivateKey(phe.PaillierPublicKey(p * q), p, q)
    assert key.decrypt(ciphertext) == oracle.raw_decrypt(ciphertext) == 123456789


def test_keys_come_back_under_their_passphrase_and_under_no_other(key: OperatorKey, tmp_path: Path) -> None:
    path = tmp_path / "operator.key"
    save_keys(path, [key], PASSPHRASE)
    [again] = load_keys(path, PASSPHRASE, min_bits=BITS)
    assert (again.key_id, again.expires_s) == (key.key_id, key.expires_s)
    with pytest.raises(KeyStoreError, match="another passphrase"):
        load_keys(path, b"another passphrase", min_bits=BITS)
    assert load_keys(tmp_path / "none", PASSPHRASE, min_bits=BITS) == []


def test_the_file_holds_no_prime_in_any_form_and_one_changed_byte_is_noticed(key: OperatorKey, tmp_path: Path) -> None:
    path = tmp_path / "operator.key"
    save_keys(path, [key], PASSPHRASE)
    data = path.read_bytes()
    p = int(key._secret.p, 16)
    for form in (key._secret.p.encode(), str(p).encode(), p.to_bytes(BITS // 16, "big"), p.to_bytes(BITS // 16, "little")):
        assert form not in data and form[:16] not in data
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(KeyStoreError):
        load_keys(path, PASSPHRASE, min_bits=BITS)


def test_a_file_that_others_may_read_is_refused(key: OperatorKey, tmp_path: Path) -> None:
    path = tmp_path / "operator.key"
    save_keys(path, [key], PASSPHRASE)
    path.chmod(0o640)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        load_keys(path, PASSPHRASE, min_bits=BITS)
    words = tmp_path / "passphrase"
    words.write_bytes(PASSPHRASE + b"\n")
    words.chmod(0o644)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        read_passphrase(words)
    words.chmod(0o600)
    assert read_passphrase(words) == PASSPHRASE
    words.write_bytes(b"short")
    with pytest.raises(KeyStoreError, match="at least 12"):
        read_passphrase(words)


def test_nothing_of_a_private_key_is_in_a_representation_a_pickle_or_an_error(key: OperatorKey, tmp_path: Path) -> None:
    secrets = (key._secret.p, key._secret.q, str(int(key._secret.p, 16)), str(int(key._secret.q, 16)))
    shown = repr(key) + str(key) + repr(key._secret) + repr([key]) + f"{key._private}"
    assert not any(secret in shown for secret in secrets)
    for serialise in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            serialise(key)
    path = tmp_path / "operator.key"
    save_keys(path, [key], PASSPHRASE)
    try:
        load_keys(path, b"another passphrase", min_bits=BITS)
    except KeyStoreError as error:
        text = "".join(traceback.format_exception(error))
        assert PASSPHRASE.decode() not in text and not any(secret in text for secret in secrets)
