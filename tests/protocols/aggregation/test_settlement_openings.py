"""A sampled report is opened bit for bit, and neither its member nor the operator chooses which."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from protocols.aggregation.group import RoundRefused
from protocols.aggregation.messages import Receipt, Sampling, SealRefused, label, labelled, report_digest, sign_receipt, unseal_report
from protocols.aggregation.settlement import (
    Demand,
    Disclosure,
    Sampled,
    check_demand,
    check_disclosure,
    commitment,
    disclose,
    is_sampled,
    nothing_to_disclose,
    recomputed,
    sign_demand,
)
from tests.protocols.aggregation.community import Community, encryptor

OPERATOR = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SECRET = b"s" * 32


def opened(community: Community, name: str = "h003") -> tuple[Disclosure, Sampled, bytes]:
    """(what the member discloses, what the operator knows, the digest of what the leader took)"""
    announce = community.announce()
    sealed, opening = community.members[name].report(announce, community.values(), community.randomisers())
    digest = report_digest("1:1", name, unseal_report(sealed, "1:1", community.envelopes["h000"]).ciphertexts)
    receipt = sign_receipt(community.signing["h000"], Receipt(round_name="1:1", member=name, digest=digest.hex()))
    sampled = Sampled(round_name="1:1", leader="h000", key_id=community.key.key_id, beacon=announce.beacon)
    return disclose(opening, receipt, community.signing[name]), sampled, digest


def check(community: Community, disclosure: Disclosure, sampled: Sampled) -> tuple[int, ...] | None:
    keys = {name: key.public_key() for name, key in community.signing.items()}
    return check_disclosure(disclosure, sampled, community.group.layout, encryptor(), keys)


def signed(community: Community, disclosure: Disclosure, **changes: object) -> Disclosure:
    """The member signs something else."""
    from protocols.aggregation.settlement import _signed

    return _signed(structs.replace(disclosure, **changes), community.signing[disclosure.member])


def test_an_opening_is_the_report_bit_for_bit_and_shows_no_other_name() -> None:
    community = Community(8)
    disclosure, sampled, digest = opened(community)
    assert recomputed(community.group.layout, encryptor(), disclosure) == digest
    assert check(community, disclosure, sampled) == disclosure.values
    shown = repr([getattr(disclosure, field) for field in disclosure.__struct_fields__])
    assert [name for name in community.names if name in shown] == ["h000", "h003"], "its leader and itself"
    assert repr(disclosure) == "Disclosure(1:1, h003)"


def test_every_other_story_is_refused_by_name() -> None:
    community = Community(8)
    disclosure, sampled, _ = opened(community)
    values = disclosure.values
    stories = {
        "not the report that its leader took": [
            {"values": (values[0] + (1 if values[0] < 0 else -1), *values[1:])},
            {"exponent_seeds": (bytes(32),)},
            {"pads": disclosure.pads[1:]},
            {"receipt": bytes(64)},
            {"receipt": b""},
        ],
        "another round": [{"round_name": "1:2"}, {"beacon": "00" * 32}, {"leader": "h001"}, {"key_id": "0" * 16}],
        "describes no report": [
            {"values": (2**40, *values[1:])},
            {"values": (2**63, *values[1:])},
            {"values": values[1:]},
            {"exponent_seeds": ()},
            {"exponent_seeds": (b"short",)},
            {"pads": ((1, b"short"),)},
        ],
    }
    for words, lies in stories.items():
        for changes in lies:
            with pytest.raises(RoundRefused, match=words):
                check(community, signed(community, disclosure, **changes), sampled)
    with pytest.raises(RoundRefused, match="does not verify"):
        check(community, structs.replace(disclosure, values=(0, *values[1:])), sampled)


def test_a_member_without_a_report_says_so_under_its_name() -> None:
    community = Community(8)
    _, sampled, _ = opened(community)
    answer = nothing_to_disclose("1:1", "h004", community.signing["h004"])
    assert check(community, answer, sampled) is None
    with pytest.raises(RoundRefused, match="does not verify"):
        check(community, structs.replace(answer, member="h005"), sampled)


def demand(member: str = "h003", **changes: object) -> Demand:
    made = sign_demand(OPERATOR, "1:1", member, SECRET, b"r" * 32)
    return structs.replace(made, **changes)


def test_a_member_opens_what_was_sampled_and_nothing_else() -> None:
    community = Community(8)
    keys = (OPERATOR.public_key(),)
    _, opening = community.members["h003"].report(community.announce(), community.values(), community.randomisers())
    every = Sampling(commitment=commitment(SECRET), share=1.0)
    check_demand(demand(), "h003", every, opening, keys, share_max=1.0)
    check_demand(demand(), "h003", None, None, keys, share_max=0.0)
    none = structs.replace(every, share=0.0)
    refused = [
        ("not for 'h003'", demand("h004"), every, 1.0),
        ("not signed by the operator", demand(secret=b"t" * 32), every, 1.0),
        ("not signed by the operator", demand(signature=bytes(64)), every, 1.0),
        ("opens at most 0.02", demand(), every, 0.02),
        ("committed to", demand(), Sampling(commitment=commitment(b"u" * 32), share=1.0), 1.0),
        ("was not sampled", demand(), none, 1.0),
    ]
    for words, said, sampling, share_max in refused:
        with pytest.raises(RoundRefused, match=words):
            check_demand(said, "h003", sampling, opening, keys, share_max=share_max)
    stranger = sign_demand(community.signing["h001"], "1:1", "h003", SECRET, b"r" * 32)
    with pytest.raises(RoundRefused, match="not signed by the operator"):
        check_demand(stranger, "h003", every, opening, keys, share_max=1.0)


def test_samples_have_their_share_and_follow_secret_beacon_and_member() -> None:
    """300 rounds at 1 % catch a member that always lies with 95 % (1 - 0.99^299); the share must be what it says."""
    rng = random.Random(4)
    draws = [(rng.randbytes(32), rng.randbytes(32).hex(), f"h{index}") for index in range(20_000)]
    share = sum(is_sampled(*draw, 0.05) for draw in draws) / len(draws)
    assert share == pytest.approx(0.05, abs=4.0 * (0.05 * 0.95 / len(draws)) ** 0.5)
    assert all(is_sampled(*draw, 1.0) and not is_sampled(*draw, 0.0) for draw in draws[:100])
    secret, _, member = draws[0]
    chosen = [is_sampled(secret, rng.randbytes(32).hex(), member, 0.5) for _ in range(64)]
    assert 0 < sum(chosen) < 64, "whoever knows the secret and the member still needs the beacon"


def test_bytes_without_the_name_of_a_round_are_refused() -> None:
    assert label(labelled("12:34", b"sealed")) == ("12:34", b"sealed")
    assert label(b"") == ("", b"")
    with pytest.raises(SealRefused):
        label(b"\x02\xff\xfe")
