"""What anybody may send to a leader, a member or the operator: each is a named refusal, and nothing else changes."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.aggregation import packing
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.messages import SUITE, Aggregate, SealRefused, seal, sign_report, sign_reveal
from protocols.aggregation.packing import Layout, SumRefused
from protocols.aggregation.pads import add_pads, pad, pads_total, sign
from protocols.aggregation.paillier import CiphertextRefused, to_bytes
from protocols.errors import ProtocolError
from tests.protocols.aggregation.community import Community, encryptor

LAYOUT = Layout(values=7, members_max=12)


def good_report(community: Community, round_: LeaderRound, name: str = "h001") -> bytes:
    return community.members[name].report(round_.announce, community.values(), community.randomisers())[0]


def sealed_bytes(community: Community, round_name: str, plaintext: bytes, kind: str = "report") -> bytes:
    """Any bytes, sealed as a report of this round would be."""
    key = community.envelopes["h000"].public_key()
    return SUITE.encrypt(plaintext, key, info=f"commonwatt/1 {kind} {round_name}".encode())


def malformed(rng: random.Random, good: bytes) -> bytes:
    """Random bytes, or a good envelope that was cut, extended, or changed at one place."""
    match rng.randrange(5):
        case 0:
            return rng.randbytes(rng.randint(0, 120))
        case 1:
            return good[: rng.randrange(len(good))]
        case 2:
            return good + rng.randbytes(rng.randint(1, 8))
        case 3:
            place = rng.randrange(len(good))
            return good[:place] + bytes([good[place] ^ (1 << rng.randrange(8))]) + good[place + 1 :]
        case _:
            return good[: rng.randrange(32)] + good[32:]


def shoot(cases: int, seed: int) -> None:
    rng = random.Random(seed)
    community = Community(5, seed=seed)
    round_ = community.leader_round(community.announce())
    good = good_report(community, round_)
    for number in range(cases):
        with pytest.raises(SealRefused):
            round_.receive_report(malformed(rng, good))
        if number % 10 == 0:
            with pytest.raises(ProtocolError):
                round_.receive_report(sealed_bytes(community, "1:1", rng.randbytes(rng.randint(0, 60))))
    assert round_.reported == frozenset()
    round_.receive_report(good)
    assert round_.reported == {"h001"}


def test_malformed_envelopes_are_refused_and_change_nothing() -> None:
    shoot(1000, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_malformed_envelopes() -> None:
    for seed in range(10):
        shoot(10_000, seed)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150)
@given(json_like)
def test_a_well_sealed_envelope_with_any_content_is_refused(content: object) -> None:
    community = Community(4)
    round_ = community.leader_round(community.announce())
    with pytest.raises(ProtocolError):
        round_.receive_report(sealed_bytes(community, "1:1", msgspec.msgpack.encode(content)))


@settings(max_examples=60)
@given(
    ciphertexts=st.lists(st.binary(max_size=300), max_size=3),
    signature=st.binary(max_size=80),
    member=st.sampled_from(["h000", "h001", "h009", "", "x" * 64]),
)
def test_a_report_with_any_parts_is_refused(ciphertexts: list[bytes], signature: bytes, member: str) -> None:
    community = Community(4)
    round_ = community.leader_round(community.announce())
    with pytest.raises(ProtocolError):
        round_.receive_report(sealed_bytes(community, "1:1", msgspec.msgpack.encode(["1:1", member, ciphertexts, signature])))
    assert round_.reported == frozenset()


@pytest.mark.parametrize("value", ["0", "1", "n", "n^2", "p", "p^2"])
def test_a_ciphertext_that_is_no_unit_costs_its_sender_the_round_and_nobody_else(value: str) -> None:
    community = Community(6)
    round_ = community.leader_round(community.announce())
    key, p = community.key, community.private_key.p
    number = {"0": 0, "1": 1, "n": key.n, "n^2": key.n**2, "p": 5 * p, "p^2": p * p}[value]
    report = sign_report(community.signing["h001"], "1:1", "h001", (to_bytes(key, number),))
    with pytest.raises(CiphertextRefused, match="h001"):
        round_.receive_report(seal(report, community.group.card("h000").envelope_key))
    sums = np.zeros(7, dtype=np.int64)
    for name in community.names:
        if name != "h001":
            vector = community.values()
            sums += np.array(vector)
            round_.receive_report(community.members[name].report(round_.announce, vector, community.randomisers())[0])
    community.recover(round_, round_.close())
    answer, opened = community.book.receive(round_.aggregate(community.exponents()))
    assert answer.accepted
    assert opened is not None
    assert opened.values.tolist() == sums.tolist()


@given(st.integers(min_value=0, max_value=2**1024 - 1), st.integers(min_value=0, max_value=12))
def test_what_the_operator_decrypts_is_a_sum_or_a_named_refusal(plaintext: int, count: int) -> None:
    community = Community(4)
    book = type(community.book)(community.key, LAYOUT, lambda ciphertext: plaintext, members_min=3)
    aggregate = Aggregate(
        round_name="1:1", leader="h000", key_id=community.key.key_id, count=max(1, count), beacon="00" * 32, root="00" * 32,
        ciphertexts=(to_bytes(community.key, 5),),
    )  # fmt: skip
    answer, sums = book.receive(aggregate)
    assert answer.accepted is (sums is not None)
    assert answer.accepted or answer.reason


seeds = st.binary(min_size=32, max_size=32)


@given(st.lists(st.tuples(st.sampled_from([-1, 1]), seeds), max_size=20))
def test_adding_pads_at_once_is_adding_them_one_by_one(signed: list[tuple[int, bytes]]) -> None:
    expected = np.zeros(LAYOUT.slots, dtype=np.int64)
    for factor, seed in signed:
        expected += factor * pad(LAYOUT, seed).astype(np.int64)
    assert pads_total(LAYOUT, signed).tolist() == expected.tolist()


@given(
    values=st.lists(st.integers(-LAYOUT.value_max, LAYOUT.value_max), min_size=7, max_size=7),
    taken=st.lists(seeds, min_size=1, max_size=6, unique=True),
)
def test_pads_that_are_taken_off_again_leave_the_report(values: list[int], taken: list[bytes]) -> None:
    alpha = packing.checksum_coefficients(LAYOUT, b"beacon")
    slots = packing.encode(LAYOUT, values, alpha)
    peers = [(f"p{number}", seed) for number, seed in enumerate(taken)]
    padded = add_pads(LAYOUT, slots, "m", peers)
    total = pads_total(LAYOUT, [(-sign("m", peer), seed) for peer, seed in peers])
    back = ((padded + total) & LAYOUT.mask).astype(np.uint32)
    assert packing.decode(LAYOUT, back, alpha)[0].tolist() == values
    with pytest.raises(SumRefused):
        packing.decode(LAYOUT, padded, alpha)


def test_text_that_is_no_text_is_refused_by_name() -> None:
    """A decoder of MessagePack raises another error for bytes that are not UTF-8; found by the hundred thousand."""
    community = Community(4)
    round_ = community.leader_round(community.announce())
    with pytest.raises(SealRefused, match="utf-8"):
        round_.receive_report(sealed_bytes(community, "1:1", b"\x94\xa2\xee\x01\xa1x\x90\xc4\x00"))


def test_a_reveal_that_was_recorded_is_of_no_use_in_the_next_round() -> None:
    community = Community(6)
    for number in (1, 2):
        round_ = community.leader_round(community.announce(number))
        for name in community.names[:-1]:
            round_.receive_report(good_report(community, round_, name))
        drops = round_.close()
        assert drops is not None
        if number == 1:
            recorded = community.members["h001"].reveal(drops)
            assert recorded is not None
    with pytest.raises(SealRefused):
        round_.receive_reveal(recorded)
    forged = seal(sign_reveal(community.signing["h002"], "1:2", "h001", (("h005", bytes(32)),)), community.group.card("h000").envelope_key)
    with pytest.raises(SealRefused, match="signature"):
        round_.receive_reveal(forged)


def test_the_number_of_values_does_not_show_in_the_bytes() -> None:
    """Fixed width: a report of zeros is as long as one of extremes, also where a ciphertext begins with zeros."""
    community = Community(4)
    lengths = set()
    for number, vector in enumerate(([0] * 7, [LAYOUT.value_max] * 7, [-LAYOUT.value_max] * 7), start=1):
        announce = community.announce(number)
        lengths.add(len(community.members["h001"].report(announce, vector, community.randomisers())[0]))
    assert len(lengths) == 1
    assert len(to_bytes(community.key, encryptor().encrypt(1, 1))) == community.key.ciphertext_bytes
