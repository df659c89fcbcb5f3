"""Whose public keys the operator takes into an epoch, and what members demand of an epoch themselves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import structs

from coordinator.aggregation.desk import AggregationDesk
from coordinator.aggregation.settings import AggregationSection
from edge.leadership.settings import AggregationSection as EdgeSection
from hil.simulation.street import Street, operator_key
from protocols.aggregation.calls import group_of
from protocols.aggregation.packing import Layout
from protocols.messages import EpochNotice, JoinCard, SeatCard
from protocols.signing import Sequencer

NOW_S = 1_700_000_100.0
NAMES = ("h1", "h2", "h3", "h4")
SIGNING = {name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"s")) for name in NAMES}


def public(text: str) -> str:
    return X25519PrivateKey.from_private_bytes(text.encode().ljust(32, b"x")).public_key().public_bytes_raw().hex()


def card(name: str, *, pad_key: str | None = None, envelope_key: str | None = None) -> JoinCard:
    return JoinCard(
        sender=name,
        time_s=NOW_S,
        sequence=1,
        pad_key=pad_key or public(f"pad {name}"),
        envelope_key=envelope_key or public(f"envelope {name}"),
    )


def desk() -> AggregationDesk:
    return AggregationDesk(
        AggregationSection(enabled=True, members_min=3),
        {name: key.public_key() for name, key in SIGNING.items()},
        [operator_key()],
        make_key=lambda expires_s: operator_key(2, 1024, expires_s),
        sequence=Sequencer(NOW_S).next,
        entropy=random.Random(1).randbytes,
        ratings_w=(1e6, 1e6),
        reputation=lambda name: 0.8,
    )


def epoch_said(one: AggregationDesk) -> EpochNotice | None:
    said = [saying.message for saying in one.outgoing if isinstance(saying.message, EpochNotice)]
    return said[-1] if said else None


@pytest.mark.parametrize("field", ["pad_key", "envelope_key"])
def test_a_card_that_nobody_could_use_is_refused_by_name_and_the_others_begin_without_it(field: str) -> None:
    one = desk()
    for name in NAMES[:3]:
        one.take(card(name), NOW_S)
    one.take(card("h4", **{field: "00" * 32}), NOW_S)
    assert one.events == [("card-refused", f"{field.split('_')[0]} key of 'h4' is not an X25519 key of full order")]
    one.step(NOW_S + 601.0)
    notice = epoch_said(one)
    assert notice is not None and notice.epoch.names == NAMES[:3]
    one.take(card("h4"), NOW_S + 602.0)
    assert len(one.events) == 1, "with a good card it is welcome"


@pytest.mark.parametrize("field", ["pad_key", "envelope_key"])
def test_nobody_joins_with_a_key_of_somebody_else(field: str) -> None:
    one = desk()
    one.take(card("h1"), NOW_S)
    one.take(card("h2", **{field: public("pad h1")}), NOW_S)
    assert one.events == [("card-refused", "the card of 'h2' holds a key of 'h1'")]
    one.take(card("h1"), NOW_S + 1.0)
    assert len(one.events) == 1, "its owner may say it again"


def test_members_leave_out_a_useless_card_all_alike_should_an_operator_let_it_in() -> None:
    one = desk()
    for name in NAMES:
        one.take(card(name), NOW_S)
    one.step(NOW_S)
    notice = epoch_said(one)
    assert notice is not None
    bad = tuple(SeatCard(name=said.name, pad_key="00" * 32, envelope_key=said.envelope_key) if said.name == "h2" else said
                for said in notice.cards)  # fmt: skip
    tampered = EpochNotice(sender="coordinator", time_s=NOW_S, sequence=9, epoch=notice.epoch, cards=bad, members_min=3)
    group = group_of(tampered, operator_key().public, Layout(96))
    assert sorted(group.cards) == ["h1", "h3", "h4"]


def test_an_operator_that_lost_its_disk_founds_an_epoch_newer_than_every_one_before() -> None:
    numbers = []
    for now_s in (NOW_S, NOW_S + 30.0):
        one = desk()
        for name in NAMES:
            one.take(card(name), now_s)
        one.step(now_s)
        notice = epoch_said(one)
        assert notice is not None
        numbers.append(notice.epoch.number)
    assert numbers[0] < numbers[1]


async def test_an_operator_that_lowers_the_smallest_group_gets_no_sum_of_members_that_demand_more(tmp_path: Path) -> None:
    """Ten is the members' own setting: an epoch that says three, and a leader that believes it, are answered by nobody."""
    settings = EdgeSection(enabled=True, period_s=60.0, collect_s=2.0, recover_s=1.0, pool_entries=0, min_key_bits=1024)
    street = Street(tmp_path, 6, aggregation=settings, desk=AggregationSection(enabled=True, members_min=3))
    await street.start()
    street.run(12.0)
    leader = street.members[street.leader()]
    assert "no round: 6 members, 10 are the smallest group" in leader.leader.outcomes
    standing = leader._standing
    assert standing is not None
    leader._standing = structs.replace(standing, group=structs.replace(standing.group, members_min=3))
    street.run(60.0)
    assert street.desk.opened == 0
    refusals = {name: street.members[name].member.refusals for name in street.names}
    assert all(any("10 to 192 members make a round" in words for words in said) for said in refusals.values())
