"""Whole rounds of shipped members and the shipped desk on an in-memory broker: sums exact or refused, whoever is missing or leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.simulation.street import COMMUNITY, Street, operator_key
from protocols.bus import BusMessage
from protocols.messages import RoundContent
from protocols.topics import round_topic, sealed_topic


async def founded(folder: Path, size: int = 12, **options: object) -> Street:
    street = Street(folder, size, **options)  # type: ignore[arg-type]
    await street.start()
    street.run(12.0)
    assert street.leaders
    return street


def sums(street: Street) -> tuple[str, list[int], int]:
    plan = street.desk.unit.plan
    assert plan is not None
    return plan.round_name, list(plan.values_w), plan.count


async def test_every_period_has_a_round_of_plans_and_one_of_flexibility_and_their_sums_are_exact(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8)
    round_name, values, count = sums(street)
    assert (values, count) == (street.expected(round_name, street.names), 8)
    rows = street.desk.unit.import_reach
    assert rows is not None
    assert list(rows.values_w) == street.expected(rows.round_name, street.names)[48:72]
    street.run(60.0)
    assert street.desk.opened == 4


async def test_two_members_that_are_missing_are_hidden_among_five_and_the_sum_is_that_of_the_others(tmp_path: Path) -> None:
    street = await founded(tmp_path, 14)
    leader = street.leader()
    away = [name for name in street.names if name != leader][:2]
    for name in away:
        street.kill(name)
    street.run(60.0)
    round_name, values, count = sums(street)
    left = set(street.members[leader].member.summed[-1])
    assert len(left) == count <= 9
    assert left.isdisjoint(away)
    assert values == street.expected(round_name, left)


async def test_a_member_that_reports_and_falls_silent_before_it_reveals_is_left_out(tmp_path: Path) -> None:
    street = await founded(tmp_path, 16)
    leader = street.leader()
    others = [name for name in street.names if name != leader]
    street.kill(others[0])
    mute = others[1]
    opened = street.desk.opened
    while street.desk.opened == opened:
        street.step()
        running = street.members[leader].leader._running
        if running is not None and mute in running.round.reported:
            street.freeze(mute)
    street.step()
    round_name, values, count = sums(street)
    left = set(street.members[leader].member.summed[-1])
    assert mute not in left and count == len(left)
    assert values == street.expected(round_name, left)


async def test_a_group_below_the_smallest_gets_no_sum(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8, members_min=7)
    opened, leader = street.desk.opened, street.leader()
    for name in [name for name in street.names if name != leader][:2]:
        street.kill(name)
    street.run(65.0)
    assert street.desk.opened == opened
    assert any("below the smallest group" in words for words in street.members[leader].leader.outcomes)


async def test_a_new_leader_in_mid_round_begins_a_round_of_its_own_and_its_sum_is_exact(tmp_path: Path) -> None:
    street = await founded(tmp_path, 14)
    first = street.leader()
    while not street.members[first].leader.busy:
        street.step()
    street.step()
    street.kill(first)
    street.run(50.0)
    second = street.leader()
    assert second != first
    street.run(60.0)
    round_name, values, _ = sums(street)
    assert round_name.startswith(f"{street.members[second].term}:")
    assert values == street.expected(round_name, street.members[second].member.summed[-1])
    answers = [message for message in street.wire if message.topic == sealed_topic(COMMUNITY, street.names[1], "report", second)]
    assert answers


async def test_the_same_call_again_gets_the_same_bytes_and_none_once_there_is_a_receipt(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8)
    leader = street.leader()
    name = next(name for name in street.names if name != leader)
    absent = next(other for other in street.names if other not in (leader, name))
    street.freeze(absent)
    topic, receipts = sealed_topic(COMMUNITY, name, "report", leader), sealed_topic(COMMUNITY, leader, "receipt", name)
    begun = len(street.wire)
    lost = street.buses[name].deliver
    street.buses[name].deliver = lambda message: None if message.topic == receipts else lost(message)  # type: ignore[method-assign]
    street.run(60.0)
    street.buses[name].deliver = lost  # type: ignore[method-assign]
    without = [message.payload for message in street.wire[begun:] if message.topic == topic]
    assert len(without) == 2 * len(set(without)) == 4, "the call is repeated while somebody is missing"
    begun = len(street.wire)
    street.run(60.0)
    with_receipt = [message.payload for message in street.wire[begun:] if message.topic == topic]
    assert len(with_receipt) == len(set(with_receipt)) == 2


async def test_a_leader_that_calls_flexibility_a_plan_gets_no_sum(tmp_path: Path) -> None:
    """The beacon, and with it every checksum, is bound to what the members were asked for."""
    street = await founded(tmp_path, 8)
    leader = street.members[street.leader()]
    honest = leader.leader._say

    def lie(kind: str, body: object) -> None:
        if kind == "aggregate":
            import msgspec

            body = msgspec.structs.replace(body, content=RoundContent.NEGOTIATION)
        honest(kind, body)  # type: ignore[arg-type]

    leader.leader._say = lie  # type: ignore[assignment]
    opened = street.desk.opened
    street.run(60.0)
    assert street.desk.opened == opened
    assert any("beacon" in words for _, words in street.desk.events)


async def test_an_aggregate_under_an_old_term_is_refused(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8)
    first = street.leader()
    notices = []
    honest = street.members[first].leader._say
    street.members[first].leader._say = lambda kind, body: (notices.append(body) if kind == "aggregate" else None, honest(kind, body))[1]
    street.run(60.0)
    street.kill(first)
    street.run(10.0)
    assert street.desk.term > int(notices[-1].aggregate.round_name.split(":")[0])
    before = len(street.desk.events)
    street.desk._answer(notices[-1], street.clock.now_s())
    assert "leads in term" in street.desk.events[before][1]


async def test_what_a_deposed_leader_calls_is_answered_by_nobody(tmp_path: Path) -> None:
    street = await founded(tmp_path, 9)
    first = street.leader()
    street.freeze(first)
    street.run(8.0)
    second = street.leader()
    assert second != first
    answered = {name: street.members[name].member.answered for name in street.names}
    old = street.members[first]
    wish = old.leader
    street.wake(first)
    standing = old._standing
    assert standing is not None
    wish._due_s = -1e18
    wish.lead(
        street.members[first].election.term,
        standing,
        now_s=street.clock.monotonic_s(),
        wall_s=street.clock.now_s(),
        present=frozenset(street.names),
        summed=old.member.summed,
        previous_ack=None,
    )
    fenced = sum(street.members[name].fenced for name in street.names)
    street.run(1.0)
    assert sum(street.members[name].fenced for name in street.names) > fenced
    assert all(street.members[name].member.answered == answered[name] for name in street.names if name != first)


async def test_a_key_is_replaced_with_a_round_in_flight_and_both_rounds_are_exact(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8)
    leader = street.leader()
    while not street.members[leader].leader.busy:
        street.step()
    old = street.desk.keys[-1]
    street.desk.keys.append(operator_key(2))
    for key in street.desk.keys:
        street.desk._book(key)
    street.desk.announce_anew()
    opened = street.desk.opened
    street.run(10.0)
    assert street.desk.opened == opened + 2
    round_name, values, _ = sums(street)
    assert values == street.expected(round_name, street.names)
    street.run(60.0)
    round_name, values, _ = sums(street)
    assert values == street.expected(round_name, street.names)
    standing = street.members[leader]._standing
    assert standing is not None and standing.group.key.key_id != old.key_id


async def test_a_member_that_comes_back_from_a_crash_answers_no_round_twice(tmp_path: Path) -> None:
    street = await founded(tmp_path, 9)
    leader = street.leader()
    name = next(name for name in street.names if name != leader)
    member = street.members[name].member
    before = member.answered
    while member.answered == before:
        street.step()
    street.kill(name)
    reborn = await street.boot(name)
    street.run(5.0)
    reports = [message for message in street.wire if message.topic == sealed_topic(COMMUNITY, name, "report", leader)]
    rounds = len(street.houses[name].said)
    assert len({message.payload for message in reports}) == rounds
    assert not reborn.election.amnesiac


async def test_one_household_alone_joins_only_with_a_batch(tmp_path: Path) -> None:
    street = await founded(tmp_path, 12)
    epoch = street.desk._kept.epoch
    assert epoch is not None and len(epoch.seats) == 12
    street.desk._members["h999"] = street.keys["h000"].public_key()
    from protocols.messages import JoinCard

    card = JoinCard(sender="h999", time_s=street.clock.now_s(), sequence=1, pad_key="11" * 32, envelope_key="22" * 32)
    street.desk.take(card, street.clock.now_s())
    street.run(5.0)
    assert street.desk._kept.epoch == epoch


async def test_garbage_from_anybody_stops_no_round(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8)
    leader = street.leader()
    outsider = street.broker.client()
    await outsider.start()
    for kind in ("report", "reveal", "receipt"):
        outsider.publish(BusMessage(topic=sealed_topic(COMMUNITY, "h001", kind, leader), payload=street.rng.randbytes(900)))
    outsider.publish(BusMessage(topic=round_topic(COMMUNITY, leader, "call"), payload=b"{}"))
    opened = street.desk.opened
    street.run(60.0)
    assert street.desk.opened == opened + 2


async def test_nothing_that_a_household_plans_is_readable_on_the_broker(tmp_path: Path) -> None:
    street = await founded(tmp_path, 8)
    street.run(60.0)
    plans = [values for house in street.houses.values() for values in house.said.values()]
    payloads = [message.payload for message in street.wire]
    assert len(payloads) > 100
    for values in plans:
        for width, order in ((2, "big"), (2, "little"), (4, "big"), (4, "little")):
            run = b"".join((value & ((1 << 8 * width) - 1)).to_bytes(width, order) for value in values[:3])  # type: ignore[arg-type]
            assert not any(run in payload for payload in payloads)
        text = ",".join(str(value) for value in values[:3]).encode()
        assert not any(text in payload for payload in payloads)


@pytest.mark.parametrize("bits", [3200])
def test_a_report_of_96_values_takes_at_most_1150_bytes_on_the_wire_all_in(bits: int) -> None:
    """Topic, properties and payload as MQTT 5 sends them, the report and the receipt together; measured on the shipped encodings."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from protocols.aggregation.messages import seal, sign_report

    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    leader = X25519PrivateKey.from_private_bytes(b"l" * 32).public_key().public_bytes_raw()
    sizes = {}
    for chunks in (1, 3):
        report = sign_report(key, "12345:123456", "h0123", tuple(b"c" * (2 * bits // 8) for _ in range(chunks)))
        up = mqtt_bytes(sealed_topic("community-17", "h0123", "report", "h0456"), seal(report, leader))
        down = mqtt_bytes(sealed_topic("community-17", "h0456", "receipt", "h0123"), b"s" * 64)
        sizes[chunks] = (up, up + down)
    assert sizes[1][0] <= 1024
    assert sizes[1][1] <= 1150
    assert sizes[3][1] <= 2750


def mqtt_bytes(topic: str, payload: bytes) -> int:
    """Length of an MQTT 5 PUBLISH at QoS 1 without properties, and its PUBACK (MQTT 5, sections 3.3 and 3.4)."""
    remaining = 2 + len(topic.encode()) + 2 + 1 + len(payload)
    return 1 + (1 if remaining < 128 else 2) + remaining + 4
