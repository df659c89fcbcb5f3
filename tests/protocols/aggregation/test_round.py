"""Whole rounds: exact sums or named refusals, whoever is missing and whatever is sent."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from protocols.aggregation import differencing, paillier
from protocols.aggregation.group import RoundRefused, check_card
from protocols.aggregation.leader import Phase
from protocols.aggregation.member import check_time
from protocols.aggregation.messages import (
    Aggregate,
    Drops,
    SealRefused,
    merkle_root,
    report_digest,
    seal,
    sign_report,
    sign_reveal,
    unseal_report,
)
from protocols.aggregation.operator import NOT_A_SUM, OperatorBook
from tests.protocols.aggregation.community import Community, encryptor, operator_keys


def fuzzed_round(seed: int) -> str:
    """One round with drawn size, values, absentees (up to 50 %) and mute survivors (up to 10 %); returns how it ended."""
    rng = random.Random(seed)
    size = rng.randint(3, 12)
    community = Community(size, values=rng.choice([1, 7, 40]), seed=seed)
    announce = community.announce()
    round_ = community.leader_round(announce)
    absent = set(rng.sample(community.names, rng.randint(0, size // 2)))
    mute = {name for name in community.names if rng.random() < 0.1}
    values = {name: community.values() for name in community.names}
    present = [name for name in community.names if name not in absent]
    for name in rng.sample(present, len(present)):
        sealed, _ = community.members[name].report(announce, values[name], community.randomisers())
        round_.receive_report(sealed)
        if rng.random() < 0.2:
            round_.receive_report(sealed)
        if rng.random() < 0.3:
            with pytest.raises(SealRefused):
                round_.receive_report(rng.randbytes(rng.randint(0, 400)))
    try:
        community.recover(round_, round_.close(), mute)
    except RoundRefused as error:
        assert round_.phase is Phase.FAILED, error
        assert len(round_.survivors) < community.group.members_min
        return "refused"
    answer, sums = community.book.receive(round_.aggregate(community.exponents()))
    assert answer.accepted, f"seed {seed}: {answer.reason}"
    assert sums is not None
    expected = np.array([values[name] for name in round_.survivors]).sum(axis=0)
    assert sums.values.tolist() == expected.tolist(), f"seed {seed}"
    assert sums.count == len(round_.survivors)
    return "exact"


def test_every_fuzzed_round_is_exact_or_refused() -> None:
    ends = [fuzzed_round(seed) for seed in range(60)]
    assert ends.count("exact") > 30
    assert ends.count("refused") > 0


@pytest.mark.slow
def test_a_thousand_fuzzed_rounds_give_no_wrong_sum() -> None:
    for seed in range(1000, 2000):
        fuzzed_round(seed)


@pytest.fixture
def community() -> Community:
    return Community(8)


def reported(community: Community, number: int = 1, without: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    announce = community.announce(number)
    round_ = community.leader_round(announce)
    openings = {}
    for name in community.names:
        if name not in without:
            sealed, openings[name] = community.members[name].report(announce, [1] * 7, community.randomisers())
            round_.receive_report(sealed)
    return announce, round_, openings


def test_members_refuse_a_round_that_could_expose_them(community: Community) -> None:
    member = community.members["h001"]
    announce = community.announce(5)
    cases = {
        "under key": {"key_id": "0" * 16},
        "twice": {"roster": (*announce.roster, "h001")},
        "make a round": {"roster": ("h000", "h001")},
        "does not name": {"roster": tuple(name for name in announce.roster if name != "h001")},
        "not a registered member": {"roster": (*announce.roster, "ghost")},
        "not newer": {"round_name": "1:0"},
    }
    for words, changes in cases.items():
        with pytest.raises(RoundRefused, match=words):
            member.report(
                msgspec.structs.replace(announce, **changes), [1] * 7, community.randomisers(),
                newest=(1, 4) if words == "not newer" else (0, 0),
            )  # fmt: skip


def test_a_repeated_announcement_gets_the_same_bytes_and_a_changed_one_none(community: Community) -> None:
    announce = community.announce()
    first, _ = community.members["h001"].report(announce, [1] * 7, community.randomisers())
    again, _ = community.members["h001"].report(announce, [2] * 7, community.randomisers())
    assert again == first
    with pytest.raises(RoundRefused, match="not newer"):
        community.members["h001"].report(
            msgspec.structs.replace(announce, beacon="11" * 32), [2] * 7, community.randomisers()
        )


def test_a_member_unmasks_nobody_against_the_rules(community: Community) -> None:
    _, round_, _ = reported(community, without=("h007",))
    drops = round_.close()
    assert drops is not None
    member = community.members["h001"]
    refusals = {
        "is on the drop list": {"dropped": ("h001", "h007")},
        "outside the roster": {"dropped": ("ghost",)},
        "below the smallest": {"dropped": tuple(f"h{i:03d}" for i in range(2, 8))},
        "is led by": {"leader": "h002"},
        "no report was made": {"round_name": "1:9"},
        "17 decoys: none, or 5 to 16": {"decoys": tuple(f"d{i}" for i in range(17))},
        "1 decoys: none, or 5 to 16": {"decoys": ("h006",)},
    }
    for words, changes in refusals.items():
        with pytest.raises(RoundRefused, match=words):
            member.reveal(msgspec.structs.replace(drops, **changes))
    member.reveal(drops)
    with pytest.raises(RoundRefused, match="does not contain an earlier one"):
        member.reveal(msgspec.structs.replace(drops, dropped=("h006",)))


def test_once_the_operator_has_answered_no_seed_leaves_any_more(community: Community) -> None:
    """Else a leader could name decoys after the sum, and open them together with the operator."""
    _, round_, _ = reported(community, without=("h007",))
    drops = round_.close()
    assert drops is not None
    community.members["h001"].reveal(drops)
    for name in ("h001", "h002"):
        community.members[name].end("1:0")
        community.members[name].reveal(drops)
        community.members[name].end("1:1")
        with pytest.raises(RoundRefused, match="was answered"):
            community.members[name].reveal(drops)


def test_the_leader_names_what_is_wrong_and_the_round_goes_on(community: Community) -> None:
    _, round_, _ = reported(community, without=("h006", "h007"))
    key = community.key
    width = key.ciphertext_bytes
    envelope = community.group.card("h000").envelope_key

    def sealed(name: str, ciphertexts: tuple[bytes, ...], *, signer: str | None = None, round_name: str = "1:1") -> bytes:
        return seal(sign_report(community.signing[signer or name], round_name, name, ciphertexts), envelope)

    one = (paillier.to_bytes(key, encryptor().encrypt(1, 5)),)
    refusals = [
        (sealed("h006", one, signer="h001"), SealRefused, "signature"),
        (sealed("h006", one, round_name="1:2"), SealRefused, "sealed to this leader"),
        (sealed("h006", one * 2), RoundRefused, "ciphertexts"),
        (sealed("h006", (b"\x01" * (width - 1),)), paillier.CiphertextRefused, "bytes"),
        (sealed("h001", one), RoundRefused, "two different reports"),
        (seal(sign_report(community.signing["h001"], "1:1", "h001", one), community.group.card("h002").envelope_key), SealRefused, ""),
    ]
    for data, kind, words in refusals:
        with pytest.raises(kind, match=words or "round"):
            round_.receive_report(data)
    for name, value in (("h006", 0), ("h007", key.n * 3)):
        with pytest.raises(paillier.CiphertextRefused, match=name):
            round_.receive_report(sealed(name, (paillier.to_bytes(key, value),)))
    drops = round_.close()
    assert drops is not None
    assert drops.dropped == ("h006", "h007")
    with pytest.raises(RoundRefused, match="takes no more"):
        round_.receive_report(sealed("h006", one))
    community.recover(round_, drops)
    answer, sums = community.book.receive(round_.aggregate(community.exponents()))
    assert answer.accepted
    assert sums is not None
    assert sums.values.tolist() == [6] * 7


@pytest.mark.parametrize("value", [0, 1])
def test_an_aggregate_that_is_no_sum_is_refused(community: Community, value: int) -> None:
    aggregate = Aggregate(
        round_name="1:1", leader="h000", key_id=community.key.key_id, count=8, beacon="00" * 32, root="00" * 32,
        ciphertexts=(paillier.to_bytes(community.key, value),),
    )  # fmt: skip
    answer, sums = community.book.receive(aggregate)
    assert (answer.accepted, sums) == (False, None)


def test_one_report_offered_as_the_sum_is_noise(community: Community) -> None:
    """A malicious leader that sends one member's ciphertext as the aggregate learns nothing, and the operator decrypts noise."""
    announce, round_, _ = reported(community)
    assert round_.close() is None
    aggregate = round_.aggregate(community.exponents())
    sealed, _ = community.members["h001"].report(announce, [1] * 7, community.randomisers())
    stolen = unseal_report(sealed, "1:1", community.envelopes["h000"]).ciphertexts
    answer, sums = community.book.receive(msgspec.structs.replace(aggregate, ciphertexts=stolen))
    assert not answer.accepted
    assert sums is None
    assert answer.reason == NOT_A_SUM
    assert "checksum" in community.book.findings["1:1"]


def test_a_round_is_answered_once(community: Community) -> None:
    _, round_, _ = reported(community)
    round_.close()
    aggregate = round_.aggregate(community.exponents())
    first, sums = community.book.receive(aggregate)
    assert sums is not None
    assert community.book.receive(aggregate) == (first, None)
    another, none = community.book.receive(round_.aggregate(community.exponents()))
    assert not another.accepted
    assert none is None


def test_a_wrong_key_and_a_small_group_are_refused_by_name(community: Community) -> None:
    _, round_, _ = reported(community)
    round_.close()
    aggregate = round_.aggregate(community.exponents())
    other, _ = operator_keys(2)
    for words, changes in {"under key": {"key_id": other.key_id}, "smallest": {"count": 2}}.items():
        answer, _ = Community(8).book.receive(msgspec.structs.replace(aggregate, **changes))
        assert words in answer.reason


def test_a_count_that_does_not_match_the_sum_is_refused(community: Community) -> None:
    _, round_, _ = reported(community)
    round_.close()
    answer, _ = community.book.receive(msgspec.structs.replace(round_.aggregate(community.exponents()), count=7))
    assert answer.reason == NOT_A_SUM, "what was decrypted is not told to the leader"
    assert "says 7" in community.book.findings["1:1"]


def test_a_false_reveal_is_refused(community: Community) -> None:
    _, round_, _ = reported(community, without=("h007",))
    assert round_.close() is not None
    envelope = community.group.card("h000").envelope_key
    for seeds in ((("h003", bytes(32)),), (("h007", b"short"),)):
        with pytest.raises(RoundRefused, match="not asked for"):
            round_.receive_reveal(seal(sign_reveal(community.signing["h001"], "1:1", "h001", seeds), envelope))
    with pytest.raises(RoundRefused, match="not a survivor"):
        round_.receive_reveal(seal(sign_reveal(community.signing["h007"], "1:1", "h007", (("h001", bytes(32)),)), envelope))


def test_a_wrong_seed_makes_a_refused_sum_and_never_a_wrong_one(community: Community) -> None:
    _, round_, _ = reported(community, without=("h007",))
    drops = round_.close()
    assert drops is not None
    envelope = community.group.card("h000").envelope_key
    for name in round_.survivors:
        sealed = community.members[name].reveal(drops)
        if name == "h001":
            sealed = seal(sign_reveal(community.signing[name], "1:1", name, (("h007", bytes(32)),)), envelope)
        assert sealed is not None
        round_.receive_reveal(sealed)
    assert round_.advance() is None
    answer, _ = community.book.receive(round_.aggregate(community.exponents()))
    assert answer.reason == NOT_A_SUM
    assert "checksum" in community.book.findings["1:1"]


def test_an_audit_recomputes_the_root_of_what_was_summed(community: Community) -> None:
    announce, round_, _ = reported(community)
    round_.close()
    digests = []
    for name in community.names:
        sealed, _ = community.members[name].report(announce, [1] * 7, community.randomisers())
        digests.append(report_digest("1:1", name, unseal_report(sealed, "1:1", community.envelopes["h000"]).ciphertexts))
    assert round_.aggregate(community.exponents()).root == merkle_root(digests)
    assert merkle_root(digests[:-1]) != merkle_root(digests)


def test_an_operator_that_restarts_answers_no_round_again(community: Community) -> None:
    _, round_, _ = reported(community)
    round_.close()
    assert community.book.receive(round_.aggregate(community.exponents()))[1] is not None
    restarted = OperatorBook(community.key, community.group.layout, community.private_key.raw_decrypt, members_min=3)
    restarted.restore(community.book.save())
    answer, sums = restarted.receive(round_.aggregate(community.exponents()))
    assert (answer.accepted, sums) == (False, None)


def test_a_member_that_lost_its_memory_sits_out_what_it_may_have_answered(community: Community) -> None:
    announce = msgspec.structs.replace(community.announce(), closes_s=10_000.0)
    check_time(announce, 9_000.0)
    check_time(announce, 9_000.0, forgot_s=8_000.0)
    for now_s, forgot_s, words in ((10_000.0, None, "closes in"), (8_000.0, None, "closes in"), (9_000.0, 8_500.0, "lost its memory")):
        with pytest.raises(RoundRefused, match=words):
            check_time(announce, now_s, forgot_s=forgot_s)


def test_a_round_announced_twice_has_two_sets_of_pads(community: Community) -> None:
    """A member that answers both (it lost its memory and its clock) has still not added the same pads twice."""
    announce = community.announce()
    other = msgspec.structs.replace(announce, closes_s=1.0)
    _, first = community.members["h001"].report(announce, [1] * 7, community.randomisers())
    _, second = Community(8).members["h001"].report(other, [1] * 7, community.randomisers())
    assert dict(first.pad_seeds).keys() == dict(second.pad_seeds).keys()
    assert not set(first.pad_seeds) & set(second.pad_seeds)


@pytest.mark.parametrize("field", ["pad_key", "envelope_key"])
@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"short"])
def test_a_card_that_would_stop_its_neighbours_is_refused(community: Community, field: str, key: bytes) -> None:
    card = community.group.card("h001")
    check_card(card)
    with pytest.raises(RoundRefused, match="full order"):
        check_card(msgspec.structs.replace(card, **{field: key}))


def test_no_two_of_many_sums_differ_by_a_few_members() -> None:
    rng = random.Random(8)
    roster = [f"h{i:03d}" for i in range(60)]
    groups: list[set[str]] = []
    for _ in range(60):
        present = [name for name in roster if rng.random() > rng.choice([0.0, 0.02, 0.05])]
        left_out = differencing.decoys(groups[-1] if groups else (), present, rng, earlier=groups[:-1])
        assert len(left_out) == 0 or len(left_out) >= differencing.BATCH, "a decoy alone is open to leader and operator together"
        groups.append(set(present) - set(left_out))
        for group in groups[:-1]:
            assert len(group ^ groups[-1]) == 0 or len(group ^ groups[-1]) >= differencing.BATCH
    assert min(len(group) for group in groups) > 40


def test_decoys_hide_who_is_missing() -> None:
    community = Community(10)
    rng = random.Random(3)
    present = [name for name in community.names if name != "h007"]
    hidden = differencing.decoys(community.names, present, rng)
    assert len(set(community.names) ^ (set(present) - set(hidden))) == differencing.BATCH + 1
    assert differencing.decoys(community.names, community.names, rng) == ()
    assert differencing.decoys((), present, rng) == ()
    assert differencing.admitted(community.names, ["n1", "n2"]) == ()
    assert len(differencing.admitted(community.names, [f"n{i}" for i in range(5)])) == 5
    _, round_, _ = reported(community, without=("h007",))
    drops = round_.close(decoys=hidden)
    assert isinstance(drops, Drops)
    community.recover(round_, drops)
    answer, sums = community.book.receive(round_.aggregate(community.exponents()))
    assert answer.accepted
    assert sums is not None
    assert sums.count == 4
