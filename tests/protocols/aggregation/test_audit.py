"""An honest leader passes every audit; one that lies contradicts itself or its transcript."""

from __future__ import annotations

import msgspec
import pytest

from protocols.aggregation import paillier
from protocols.aggregation.audit import Heard, audit, contradiction, judge
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.messages import (
    Aggregate,
    Announce,
    Drops,
    Receipt,
    SealRefused,
    Transcript,
    aggregate_digest,
    sign_answer,
    sign_report,
    sign_reveal,
    verify_answer,
)
from tests.protocols.aggregation.community import Community, encryptor


def finished(missing: tuple[str, ...] = ("h007",)) -> tuple[Community, LeaderRound, Transcript, Aggregate]:
    community = Community(8)
    announce = community.announce()
    round_ = community.leader_round(announce)
    for name in community.names:
        if name not in missing:
            round_.receive_report(community.members[name].report(announce, community.values(), community.randomisers())[0])
    community.recover(round_, round_.close())
    exponents = community.exponents()
    return community, round_, round_.transcript(exponents), round_.aggregate(exponents)


@pytest.mark.parametrize("missing", [(), ("h007",), ("h001", "h003")])
def test_an_honest_round_passes_its_audit(missing: tuple[str, ...]) -> None:
    community, _, transcript, aggregate = finished(missing)
    assert audit(community.group, encryptor(), transcript, aggregate) is None
    assert repr(transcript) == f"Transcript(1:1, {8 - len(missing)} reports)"


def test_every_lie_about_the_sum_is_found() -> None:
    community, _, transcript, aggregate = finished()
    key = community.key
    [product] = aggregate.ciphertexts
    nudged = paillier.multiply(key, [paillier.from_bytes(key, product), encryptor().encrypt(1, 5)])
    first = transcript.reports[0]
    unsigned = msgspec.structs.replace(first, signature=bytes(64))
    lies = {
        "not the product": (transcript, {"ciphertexts": (paillier.to_bytes(key, nudged),)}),
        "another announcement": (transcript, {"beacon": "00" * 32}),
        "smallest group": (transcript, {"count": 6}),
        "root": (transcript, {"root": "00" * 32}),
        "are not the roster": (msgspec.structs.replace(transcript, reports=(first, *transcript.reports)), {}),
        "signature": (msgspec.structs.replace(transcript, reports=(unsigned, *transcript.reports[1:])), {}),
        "not whole": (msgspec.structs.replace(transcript, reveals=()), {}),
    }  # fmt: skip
    for words, (shown, changes) in lies.items():
        finding = audit(community.group, encryptor(), shown, msgspec.structs.replace(aggregate, **changes))
        assert finding is not None
        assert words in finding


def test_a_report_that_was_left_out_in_secret_is_missed() -> None:
    """The leader sums seven of eight reports, and shows the transcript of the whole round."""
    community, _, transcript, _ = finished(())
    _, _, _, smaller = finished(("h007",))
    finding = audit(community.group, encryptor(), transcript, msgspec.structs.replace(smaller, beacon=transcript.announce.beacon))
    assert finding is not None


def test_a_member_judges_an_answer_by_what_it_has_heard_itself() -> None:
    community, _, transcript, aggregate = finished()
    announce = transcript.announce
    receipt = Receipt(round_name="1:1", member="h001", digest="00" * 32)
    heard = Heard(announce=announce, left_out=frozenset({"h007"}), acknowledged=aggregate_digest(aggregate), receipt=receipt)
    key = community.signing["h000"]
    honest = sign_answer(key, "h000", aggregate, transcript)
    verify_answer(honest, key.public_key())
    assert judge(community.group, encryptor(), heard, honest) is None
    other = msgspec.structs.replace(announce, beacon="11" * 32)
    lies = {
        "is by 'h001'": (heard, sign_answer(key, "h001", aggregate, transcript)),
        "another aggregate": (msgspec.structs.replace(heard, acknowledged="00" * 32), honest),
        "another announcement": (msgspec.structs.replace(heard, announce=other), honest),
        "whom a drop list left out": (msgspec.structs.replace(heard, left_out=frozenset({"h002"})), honest),
        "'h007' was taken and is not summed": (
            msgspec.structs.replace(heard, left_out=frozenset(), receipt=msgspec.structs.replace(receipt, member="h007")), honest,
        ),
    }  # fmt: skip
    for words, (known, answer) in lies.items():
        finding = judge(community.group, encryptor(), known, answer)
        assert finding is not None and words in finding
    for changed in (msgspec.structs.replace(honest, body=honest.body[:-1]), msgspec.structs.replace(honest, leader="h001")):
        with pytest.raises(SealRefused, match="does not verify"):
            verify_answer(changed, key.public_key())
    with pytest.raises(SealRefused):
        judge(community.group, encryptor(), heard, msgspec.structs.replace(honest, body=b"nothing"))


def test_a_transcript_of_the_wrong_shape_is_a_finding_and_no_crash() -> None:
    community, _, transcript, aggregate = finished()
    report, reveal = transcript.reports[0], transcript.reveals[0]
    short = sign_report(community.signing[report.member], "1:1", report.member, ())
    foreign = sign_reveal(community.signing[reveal.member], "1:2", reveal.member, reveal.seeds)
    blunt = sign_reveal(community.signing[reveal.member], "1:1", reveal.member, (("h007", b"short"),))
    shapes = {
        "has not 1 ciphertexts": {"reports": (short, *transcript.reports[1:])},
        "another round": {"reveals": (foreign, *transcript.reveals)},
        "not whole": {"reveals": (*transcript.reveals, blunt)},
        "whole: zip": {"exponents": ()},
    }
    for words, changes in shapes.items():
        finding = audit(community.group, encryptor(), msgspec.structs.replace(transcript, **changes), aggregate)
        assert finding is not None and words in finding


def test_an_unfinished_round_has_no_transcript() -> None:
    community = Community(8)
    with pytest.raises(RoundRefused, match="nothing to audit"):
        community.leader_round(community.announce()).transcript([1])


def test_two_statements_that_contradict_each_other_are_proof() -> None:
    announce = Announce(round_name="1:1", leader="h0", key_id="0" * 16, roster=("h0", "h1"), beacon="00" * 32, closes_s=0.0)
    other = msgspec.structs.replace(announce, beacon="11" * 32)
    first = Drops(round_name="1:1", leader="h0", dropped=("h1", "h2"))
    shrunk = Drops(round_name="1:1", leader="h0", dropped=("h1",), step=1)
    grown = Drops(round_name="1:1", leader="h0", dropped=("h1", "h2", "h3"), decoys=("h4",), step=1)
    receipt = Receipt(round_name="1:1", member="h1", digest="00" * 32)
    revealed = Receipt(round_name="1:1", member="h3", digest="00" * 32, step=1)
    decoy = Receipt(round_name="1:1", member="h4", digest="00" * 32, step=1)
    mute = Receipt(round_name="1:1", member="h3", digest="00" * 32)
    changed = msgspec.structs.replace(first, dropped=("h5",))
    proofs = [(announce, other), (first, shrunk), (first, changed), (receipt, first), (grown, revealed)]
    for pair in proofs:
        assert contradiction(*pair) is not None
        assert contradiction(*reversed(pair)) is not None
    innocent = [
        (announce, announce), (first, grown), (first, first), (decoy, grown), (mute, grown), (receipt, announce),
        (announce, msgspec.structs.replace(other, round_name="1:2")), (receipt, msgspec.structs.replace(first, round_name="1:2")),
    ]  # fmt: skip
    for pair in innocent:
        assert contradiction(*pair) is None


def test_what_an_honest_leader_says_never_contradicts_itself() -> None:
    """Also where members are missing, and others fall silent in recovery after they had a receipt."""
    community = Community(16, members_max=20)
    announce = community.announce()
    round_ = community.leader_round(announce)
    said: list[Announce | Receipt | Drops | Aggregate] = [announce]
    for name in community.names[:-1]:
        said.append(round_.receive_report(community.members[name].report(announce, community.values(), community.randomisers())[0]))
    drops = round_.close(decoys=("h001", "h004", "h005", "h006", "h007"))
    mute = iter(("h002", "h003", "none", "none"))
    while drops is not None:
        said.append(drops)
        silent = next(mute)
        for name in round_.survivors:
            sealed = None if name == silent else community.members[name].reveal(drops)
            if sealed is not None:
                said.append(round_.receive_reveal(sealed))
        drops = round_.advance()
    said.append(round_.aggregate(community.exponents()))
    assert len([statement for statement in said if isinstance(statement, Drops)]) == 3
    assert [contradiction(a, b) for a in said for b in said if contradiction(a, b) is not None] == []
