"""Audits and the settlement over the bus: shipped members, the shipped desk, liars among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from coordinator.aggregation.desk import AggregationDesk
from coordinator.aggregation.settings import AggregationSection as DeskSection
from coordinator.aggregation.settlement import ASK_AGAIN_S, ASKED_MAX
from edge.leadership.settings import AggregationSection
from hil.simulation.street import Street
from protocols.aggregation import packing
from protocols.aggregation.evidence import SignedAnswer
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.messages import Aggregate, labelled, seal, sign_request
from protocols.aggregation.paillier import from_bytes, multiply, to_bytes
from protocols.aggregation.settlement import sign_demand
from protocols.signing import Signer

SETTINGS = AggregationSection(
    enabled=True, period_s=60.0, flexibility_every=1, collect_s=2.0, recover_s=1.0, resend_s=1.0, pool_entries=0, min_key_bits=1024,
    members_min=3, audit_share=1.0, settlement_share_max=1.0,
)  # fmt: skip


async def founded(folder: Path, size: int = 8, *, share: float = 0.0, settings: AggregationSection = SETTINGS) -> Street:
    street = Street(folder, size, aggregation=settings, desk=DeskSection(enabled=True, members_min=3, settlement_share=share))
    await street.start()
    street.run(14.0)
    assert street.leaders and street.desk.opened == 2
    return street


def passed(street: Street) -> dict[str, int]:
    return {name: street.members[name].accountability.auditor.passed for name in street.names}


def findings(street: Street) -> dict[str, list[str]]:
    return {name: [words for _, words in street.members[name].accountability.auditor.findings] for name in street.names}


async def test_every_member_that_looks_finds_an_honest_sum_to_be_one(tmp_path: Path) -> None:
    street = await founded(tmp_path, 14)
    leader = street.leader()
    assert passed(street)[leader] == 0 and sum(passed(street).values()) == 2 * 8, "a leader answers eight members about one round"
    for name in [name for name in street.names if name != leader][:2]:
        street.freeze(name)
    street.run(60.0)
    assert sum(passed(street).values()) > 2 * 8, "also where members were left out, with decoys"
    assert not any(findings(street).values())


async def test_a_leader_that_adds_a_little_is_found_out_by_whoever_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five watts more, with the checksum that fits: the operator cannot see it, the audit does."""
    honest = LeaderRound.aggregate

    def nudged(round_: LeaderRound, exponents: list[int]) -> Aggregate:
        aggregate, group = honest(round_, exponents), round_._group
        slots = np.zeros(group.layout.slots, dtype=np.uint32)
        alpha = packing.checksum_coefficients(group.layout, bytes.fromhex(aggregate.beacon))
        slots[0], slots[group.layout.values] = 5, 5 * int(alpha[0]) & group.layout.mask
        forged = [
            multiply(group.key, [from_bytes(group.key, data), round_._encryptor.encrypt(plaintext, 7)])
            for data, plaintext in zip(aggregate.ciphertexts, packing.pack(slots, group.chunk), strict=True)
        ]
        return structs.replace(aggregate, ciphertexts=tuple(to_bytes(group.key, value) for value in forged))

    monkeypatch.setattr(LeaderRound, "aggregate", nudged)
    street = await founded(tmp_path)
    leader = street.leader()
    plan = street.desk.unit.plan
    assert plan is not None and plan.values_w[0] == street.expected(plan.round_name, street.names)[0] + 5
    found = findings(street)
    assert found.pop(leader) == [] and all("not the product" in words for said in found.values() for words in said)
    assert all(len(said) == 2 for said in found.values())
    exhibits = list(street.members[next(iter(found))].witness.evidence.exhibits())
    assert [exhibit.answer.leader for exhibit in exhibits if isinstance(exhibit, SignedAnswer)] == [leader, leader]


async def test_a_leader_that_shows_nothing_is_asked_twice_and_named(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    street.members[leader].accountability.archive.request = lambda sender, sealed: None  # type: ignore[method-assign]
    street.run(60.0)
    street.freeze(leader)
    street.run(130.0)
    assert any("does not show how it was summed" in words for said in findings(street).values() for words in said)


async def test_a_leader_shows_a_round_to_its_members_only_and_to_each_of_them_twice(tmp_path: Path) -> None:
    street = await founded(tmp_path, settings=structs.replace(SETTINGS, audit_share=0.0))
    leader = street.leader()
    archive = street.members[leader].accountability.archive
    card = street.members[leader]._standing.group.card(leader)  # type: ignore[union-attr]
    name = next(name for name in street.names if name != leader)

    def ask(sender: str, member: str, round_name: str = "1:1", key: str | None = None) -> str | None:
        request = sign_request(street.keys[key or member], round_name, member)
        return archive.request(sender, labelled(round_name, seal(request, card.envelope_key)))

    assert "not a member of round" in str(ask("coordinator", "coordinator"))
    assert "not a member of round" in str(ask("h999", name))
    assert "signature does not verify" in str(ask(name, name, key="coordinator"))
    assert "not kept here" in str(ask(name, name, "9:9"))
    assert "not a auditrequest" in str(archive.request(name, labelled("1:1", b"garbage")))
    assert [ask(name, name) for _ in range(2)] == [None, None]
    assert "often enough" in str(ask(name, name))


def over(street: Street) -> None:
    """The epoch ends; a new one begins at the next step."""
    assert street.desk._kept.epoch is not None
    street.desk._kept.epoch_s = -1e9


async def test_sampled_reports_are_opened_when_the_epoch_is_over_and_are_what_was_reported(tmp_path: Path) -> None:
    street = await founded(tmp_path, share=0.5)
    number = street.desk._kept.epoch.number  # type: ignore[union-attr]
    assert street.desk.settlement.settled == [] and street.desk.settlement.epochs[number].waiting is None
    over(street)
    street.run(3.0)
    settled = street.desk.settlement.settled
    assert 2 <= len(settled) < 16, "half of sixteen reports, by the secret"
    for one in settled:
        assert list(one.values or ()) == street.houses[one.member].said[one.round.sampled.round_name]
    assert {one.round.content for one in settled} == {"plan", "flexibility"}
    assert street.desk.settlement.epochs[number].waiting == [] and not street.desk.events
    text = repr([message.payload for message in street.wire if "/opening/" in message.topic or "/demand/" in message.topic])
    assert not any(",".join(map(str, (one.values or ())[:3])) in text for one in settled)


async def test_members_open_from_the_disk_and_an_operator_asks_again_after_a_restart(tmp_path: Path) -> None:
    street = await founded(tmp_path, share=1.0)
    sleeper = next(name for name in street.names if name != street.leader())
    street.kill(sleeper)
    over(street)
    street.run(3.0)
    assert {one.member for one in street.desk.settlement.settled} == set(street.names) - {sleeper}
    kept = street.desk.save()
    street.desk.settlement.settled.clear()
    reborn: AggregationDesk = street._make_desk(DeskSection(enabled=True, members_min=3, settlement_share=1.0), None)
    reborn.restore(kept)
    street.desk = reborn
    await street.boot(sleeper)
    street.clock.advance(ASK_AGAIN_S)
    street.run(5.0)
    assert [one.member for one in reborn.settlement.settled] == [sleeper, sleeper]
    for one in reborn.settlement.settled:
        assert list(one.values or ()) == street.houses[sleeper].said[one.round.sampled.round_name]


async def test_who_tells_another_story_or_none_at_all_is_on_record(tmp_path: Path) -> None:
    street = await founded(tmp_path, share=1.0)
    others = [name for name in street.names if name != street.leader()]
    liar, silent = others[0], others[1]
    records = street.members[liar].accountability.opener._records
    honest = records.kept

    def other_story(round_name: str) -> object:
        kept = honest(round_name)
        assert kept is not None
        return structs.replace(kept, opening=structs.replace(kept.opening, values=(0, *kept.opening.values[1:])))

    records.kept = other_story  # type: ignore[assignment]
    street.freeze(silent)
    over(street)
    for _ in range(ASKED_MAX + 1):
        street.run(2.0)
        street.clock.advance(ASK_AGAIN_S)
    events = street.desk.events
    refused = [words for kind, words in events if kind == "opening-refused"]
    assert refused and all(repr(liar) in words and "not the report that its leader took" in words for words in refused)
    missing = sorted(words for kind, words in events if kind == "opening-missing")
    assert len(missing) == 4 and {liar, silent} == {name for name in (liar, silent) if any(repr(name) in words for words in missing)}
    assert {one.member for one in street.desk.settlement.settled} == set(street.names) - {liar, silent}


async def test_a_household_opens_no_more_than_its_own_share_and_nothing_to_a_stranger(tmp_path: Path) -> None:
    street = await founded(tmp_path, share=1.0, settings=structs.replace(SETTINGS, settlement_share_max=0.02))
    over(street)
    street.run(3.0)
    assert street.desk.settlement.settled == []
    for name in street.names:
        refusals = street.members[name].accountability.opener.refusals
        assert len(refusals) == 2 and all("opens at most 0.02" in words for words in refusals)
    opener = street.members["h001"].accountability.opener
    stranger = sign_demand(Signer(street.keys["h002"]), "1:1", "h001", bytes(32), bytes(32))
    envelope = opener._envelope_key.public_key().public_bytes_raw()
    for payload, words in (
        (labelled("1:1", seal(stranger, envelope)), "not signed by the operator"),
        (b"\x02\xff\xfe", "without the name"),
        (labelled("1:1", b"garbage"), "not a demand sealed"),
    ):
        opener.demand(payload)
        assert words in opener.refusals[-1]


async def test_an_opening_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    street = await founded(tmp_path, share=0.0)
    for payload in (b"", b"\x03abc", labelled("1:1", b"x" * 100), b"\xff" * 10):
        street.desk.settlement.answer("h001", payload)
    assert [kind for kind, _ in street.desk.settlement.events] == ["opening-refused"] * 4
