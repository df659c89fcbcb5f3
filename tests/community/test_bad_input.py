"""Bad input over the bus: each is a named refusal, none stops the rounds of the others, none loses what was submitted before."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from msgspec import structs

from edge.leadership.settings import AggregationSection
from hil.simulation.street import COMMUNITY, START_S, Street
from protocols.aggregation.leader import Phase
from protocols.aggregation.member import ROUND_MAX_S
from protocols.aggregation.messages import Drops, seal, sign_report
from protocols.aggregation.operator import NOT_A_SUM
from protocols.aggregation.paillier import to_bytes
from protocols.bus import BusMessage
from protocols.clock import ManualClock
from protocols.messages import RoundCall, RoundNotice
from protocols.signing import Signer
from protocols.topics import round_topic, sealed_topic

SETTINGS = AggregationSection(
    enabled=True, period_s=60.0, flexibility_every=1, collect_s=2.0, recover_s=1.0, resend_s=1.0, pool_entries=0, min_key_bits=1024,
    members_min=3,
)  # fmt: skip


async def founded(folder: Path, size: int = 9) -> Street:
    street = Street(folder, size, aggregation=SETTINGS)
    await street.start()
    street.run(14.0)
    assert street.leaders and street.desk.opened == 2
    return street


def other_than(street: Street, *names: str) -> str:
    return next(name for name in street.names if name not in names)


def begin(street: Street) -> None:
    """Up to the moment in which a round is open and nobody has been waited for in vain."""
    leader = street.leader()
    while not street.members[leader].leader.busy:
        street.step()


def exact(street: Street, names: Collection[str]) -> bool:
    plan = street.desk.unit.plan
    assert plan is not None
    return list(plan.values_w) == street.expected(plan.round_name, names)


@pytest.mark.parametrize("value", ["0", "1", "n", "n^2", "p", "wrong width"])
async def test_a_ciphertext_that_is_none_costs_its_sender_a_place_in_the_sum_and_nobody_else(tmp_path: Path, value: str) -> None:
    street = await founded(tmp_path, 14)
    leader = street.leader()
    liar = other_than(street, leader)
    street.freeze(liar)
    begin(street)
    key, secret = street.desk.keys[-1].public, street.desk.keys[-1]._secret
    number = {"0": 0, "1": 1, "n": key.n, "n^2": key.n**2, "p": 5 * int(secret.p, 16), "wrong width": 7}[value]
    data = to_bytes(key, number)[1:] if value == "wrong width" else to_bytes(key, number)
    running = street.members[leader].leader._running
    assert running is not None
    ciphertexts = (data,) * running.standing.group.ciphertexts
    report = sign_report(street.keys[liar], running.call.round_name, liar, ciphertexts)
    sealed = seal(report, running.standing.group.card(leader).envelope_key)
    refused = street.members[leader].leader.refused
    street.broker.client().publish(BusMessage(topic=sealed_topic(COMMUNITY, liar, "report", leader), payload=sealed))
    outsider = street.broker.client()
    await outsider.start()
    outsider.publish(BusMessage(topic=sealed_topic(COMMUNITY, liar, "report", leader), payload=sealed))
    street.run(20.0)
    assert street.members[leader].leader.refused == refused + 1
    assert street.desk.opened == 4 and exact(street, street.members[leader].member.summed[-1])
    assert liar not in street.members[leader].member.summed[-1]


async def test_a_report_that_is_late_or_of_another_round_is_refused_and_what_came_before_is_summed(tmp_path: Path) -> None:
    street = await founded(tmp_path, 14)
    leader = street.leader()
    member = other_than(street, leader)
    old = [message.payload for message in street.wire if message.topic == sealed_topic(COMMUNITY, member, "report", leader)]
    held: list[BusMessage] = []
    publish = street.buses[member].publish
    street.buses[member].publish = lambda message: held.append(message) if "/report/" in message.topic else publish(message)  # type: ignore[method-assign]
    begin(street)
    outsider = street.broker.client()
    await outsider.start()
    before = street.members[leader].leader.refused
    for payload in old:
        outsider.publish(BusMessage(topic=sealed_topic(COMMUNITY, member, "report", leader), payload=payload))
    running = street.members[leader].leader._running
    assert running is not None
    while running.round.phase is Phase.COLLECTING:
        street.step()
    assert street.members[leader].leader.refused == before + len(old) == before + 2
    assert held and running.round.phase is Phase.RECOVERING
    for message in held:
        publish(message)
    street.step()
    assert street.members[leader].leader.refused == before + 2 + len(held), "they came after the drop list: their pads are being unmasked"
    street.run(10.0)
    assert exact(street, street.members[leader].member.summed[-1])


async def test_a_forged_announcement_is_answered_by_nobody_and_disturbs_no_round(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    forger = other_than(street, leader)
    standing = street.members[leader]._standing
    assert standing is not None
    call = RoundCall(
        round_name=f"{street.members[leader].term}:99", epoch=standing.epoch.number, key_id=standing.group.key.key_id, seats="1ff",
        previous="0" * 64, content="plan", start_s=START_S, step_s=900.0, closes_s=street.clock.now_s() + 30.0,
    )  # fmt: skip

    def notice(sender: str, **changes: object) -> RoundNotice:
        number = street.members[sender]._voice._sequencer.next()
        return RoundNotice(sender=sender, time_s=street.clock.now_s(), sequence=number, body=structs.replace(call, **changes))

    by_forger, by_leader = Signer(street.keys[forger]), Signer(street.keys[leader])
    topic = round_topic(COMMUNITY, leader, "call")
    signed = by_leader.seal(topic, notice(leader))
    forged = [
        by_forger.seal(topic, notice(leader)),
        by_forger.seal(round_topic(COMMUNITY, forger, "call"), notice(forger)),
        structs.replace(signed, properties={}),
        structs.replace(signed, payload=signed.payload.replace(b'"plan"', b'"flexibility"')),
        by_leader.seal(topic, notice(leader, round_name=f"{street.members[leader].term + 1}:1")),
    ]
    answered = {name: street.members[name].member.answered for name in street.names}
    victim = street.members[other_than(street, leader, forger)]
    refused, fenced = dict(victim.refused), victim.fenced
    outsider = street.broker.client()
    await outsider.start()
    for message in forged:
        outsider.publish(message)
    street.run(2.0)
    assert {name: street.members[name].member.answered for name in street.names} == answered
    new = {reason: count - refused.get(reason, 0) for reason, count in victim.refused.items() if count != refused.get(reason, 0)}
    assert new == {"UnknownSender": 1, "Unsigned": 1, "BadSignature": 1} and victim.fenced == fenced + 2
    street.run(60.0)
    assert street.desk.opened == 4 and exact(street, street.names)


async def test_of_two_different_drop_lists_the_second_is_refused_by_name(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    gone, victim = other_than(street, leader), street.names[-1] if street.names[-1] != leader else street.names[-2]
    street.freeze(gone)
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        honest(kind, body)  # type: ignore[arg-type]
        if isinstance(body, Drops):
            honest(kind, structs.replace(body, dropped=(victim,), decoys=(), step=body.step + 1))

    street.members[leader].leader._say = lie  # type: ignore[assignment]
    reader = other_than(street, leader, gone, victim)
    street.run(60.0)
    assert any("does not contain an earlier one" in words for words in street.members[reader].member.refusals)
    assert any("two drop lists" in words for _, words in street.members[reader].witness.lies)


async def test_a_member_that_spoils_every_sum_is_left_out_and_the_others_have_theirs(tmp_path: Path) -> None:
    """Its pads do not cancel, no more than a report that overflows adds up: the leader cannot see whose it is, and finds out."""
    street = await founded(tmp_path, 16)
    leader = street.leader()
    spoiler = other_than(street, leader)
    street.members[spoiler]._secrets.pads.seed = lambda peer, public, context: street.rng.randbytes(32)  # type: ignore[method-assign]
    opened = street.desk.opened
    street.run(60.0 * 8)
    assert any(NOT_A_SUM in words for words in street.members[leader].leader.outcomes)
    assert street.desk.opened > opened + 4
    last = street.members[leader].member.summed[-1]
    assert spoiler not in last and len(last) > 16 - 2 * 5 and exact(street, last)
    assert spoiler in street.members[leader].leader._quarantine.held


async def test_a_member_that_lost_its_disk_sits_rounds_out_until_none_can_be_open_that_it_answered(tmp_path: Path) -> None:
    street = await founded(tmp_path, 14)
    lost = other_than(street, street.leader())
    street.kill(lost)
    shutil.rmtree(street.folder / lost)
    reborn = await street.boot(lost)
    street.run(ROUND_MAX_S - 120.0)
    assert reborn.member.answered == 0
    assert any("lost its memory" in words for words in reborn.member.refusals)
    street.run(400.0)
    assert reborn.member.answered > 0


async def test_a_member_with_a_new_disk_and_a_clock_that_was_wrong_sits_out_all_the_same(tmp_path: Path) -> None:
    """A controller without a clock of its own begins in 1970; when the time comes from the net, no half hour has passed."""
    street = await founded(tmp_path, 14)
    lost = other_than(street, street.leader())
    street.kill(lost)
    shutil.rmtree(street.folder / lost)
    right, street.clock = street.clock, ManualClock(100.0)
    reborn = await street.boot(lost)
    street.clock = right
    clock = reborn._clock
    assert isinstance(clock, ManualClock)
    clock.jump(right.now_s() - clock.now_s())
    for _ in range(round(300.0 / street.step_s)):
        street.step()
        clock.advance(street.step_s)
    assert reborn.member.answered == 0
    assert any("its clock may have been wrong" in words for words in reborn.member.refusals)


async def test_a_leader_that_lost_its_memory_of_the_sums_hides_who_is_missing_all_the_same(tmp_path: Path) -> None:
    street = await founded(tmp_path, 16)
    lost = other_than(street, street.leader())
    street.kill(lost)
    shutil.rmtree(street.folder / lost)
    reborn = await street.boot(lost)
    street.run(5.0)
    assert [sorted(group) for group in reborn.member.summed] == [street.names]
    street.run(60.0)
    assert reborn.member.summed == street.members[street.leader()].member.summed[-1:], "what it has heard since is what it knows"


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_member_whose_clock_jumps_sits_out_by_name_and_the_others_go_on(tmp_path: Path, jump_s: float) -> None:
    street = await founded(tmp_path, 14)
    jumper = street.members[other_than(street, street.leader())]
    clock = jumper._clock = ManualClock(street.clock.now_s())
    clock.advance(street.clock.monotonic_s())
    clock.jump(street.clock.now_s() + jump_s - clock.now_s())
    answered, term = jumper.member.answered, street.members[street.leader()].term
    for _ in range(round(70.0 / street.step_s)):
        street.step()
        clock.advance(street.step_s)
    assert jumper.member.answered == answered
    assert street.desk.opened == 4 and street.members[street.leader()].term == term
    assert exact(street, street.members[street.leader()].member.summed[-1])
    report = [message for message in street.wire if message.topic.startswith(f"commonwatt/1/{COMMUNITY}/round/{jumper.node}/report/")]
    assert len({message.payload for message in report}) == 2, "what it answered before the jump"
