"""Lies of a leader and of an operator, told on the bus, and proved from the disks of members that have since been started again."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from coordinator.aggregation.desk import Saying
from edge.leadership.evidence import EvidenceLog
from hil.simulation.street import COMMUNITY, START_S, Street
from protocols.aggregation.evidence import Exhibit, Notice, Proof, SignedReceipt, proofs
from protocols.aggregation.messages import Acknowledgement, Drops
from protocols.election.rules import sign_vote
from protocols.election.values import Certificate
from protocols.messages import RoundCall, RoundNotice
from protocols.signing import Signer
from protocols.topics import coordinator_topic


async def founded(folder: Path, size: int = 9) -> Street:
    street = Street(folder, size)
    await street.start()
    street.run(12.0)
    assert street.leaders
    return street


def exhibits(street: Street, name: str) -> list[Exhibit]:
    return list(EvidenceLog(street.folder / name / "evidence", keep_s=1e6).exhibits())


def proved(street: Street, name: str) -> list[Proof]:
    return proofs(exhibits(street, name), COMMUNITY, [street.keys["coordinator"].public_key()])


def other_than(street: Street, *names: str) -> str:
    return next(name for name in street.names if name not in names)


async def lied(folder: Path) -> tuple[Street, str, str]:
    """A leader that calls a member missing although it gave it a receipt: (street, leader, member)."""
    street = await founded(folder)
    leader = street.leader()
    victim, absent = street.names[-1], street.names[-2]
    assert leader not in (victim, absent)
    street.freeze(absent)
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        honest(kind, structs.replace(body, dropped=(*body.dropped, victim)) if isinstance(body, Drops) else body)  # type: ignore[arg-type]

    street.members[leader].leader._say = lie  # type: ignore[assignment]
    street.run(60.0)
    return street, leader, victim


async def test_a_falsely_dropped_member_proves_it_after_it_was_started_again(tmp_path: Path) -> None:
    street, leader, victim = await lied(tmp_path)
    assert (leader, "is called missing" in street.members[victim].witness.lies[0][1]) == (leader, True)
    street.kill(victim)
    await street.boot(victim)
    found = proved(street, victim)
    assert {proof.author for proof in found} == {leader}
    assert all("is called missing" in proof.words and "holds a receipt" in proof.words for proof in found)


async def test_an_honest_day_proves_nothing_against_anybody(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    street.freeze(other_than(street, street.leader()))
    street.run(120.0)
    street.kill(street.leader())
    street.run(70.0)
    for name in street.names:
        assert [kind for kind in map(type, exhibits(street, name)) if kind is SignedReceipt] or name in street.asleep
        assert proved(street, name) == []


async def test_what_was_changed_or_is_signed_by_somebody_else_proves_nothing(tmp_path: Path) -> None:
    street, leader, victim = await lied(tmp_path)
    held = exhibits(street, victim)
    operator = [street.keys["coordinator"].public_key()]
    assert proofs(held, COMMUNITY, operator)
    assert proofs(held, COMMUNITY, [street.keys["h001"].public_key()]) == [], "whose epoch is not the coordinator's"
    assert proofs(held, "elsewhere", operator) == []
    changed: list[Exhibit] = []
    for exhibit in held:
        if isinstance(exhibit, SignedReceipt):
            changed.append(structs.replace(exhibit, signature=bytes(64)))
        elif b'"drops"' in exhibit.payload:
            changed.append(structs.replace(exhibit, payload=exhibit.payload.replace(victim.encode(), b"h001", 1)))
        else:
            changed.append(exhibit)
    assert proofs(changed, COMMUNITY, operator) == []
    framed = [structs.replace(exhibit, leader="h001") if isinstance(exhibit, SignedReceipt) else exhibit for exhibit in held]
    assert {proof.author for proof in proofs(framed, COMMUNITY, operator)} <= {leader}


async def test_a_round_that_is_announced_in_two_ways_is_answered_once_and_proved(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        honest(kind, body)  # type: ignore[arg-type]
        if isinstance(body, RoundCall):
            honest(kind, structs.replace(body, iteration=body.iteration + 1))

    street.members[leader].leader._say = lie  # type: ignore[assignment]
    street.run(60.0)
    member = other_than(street, leader)
    assert any("announced before, and otherwise" in words for words in street.members[member].member.refusals)
    assert {(proof.author, proof.words.split(" of round")[0]) for proof in proved(street, member)} == {(leader, "two announcements")}


async def test_an_operator_that_opens_two_sums_of_one_round_is_proved_to(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    plan = street.desk.unit.plan
    assert plan is not None
    again = Acknowledgement(round_name=plan.round_name, digest="ab" * 32, accepted=True)
    notice = RoundNotice(sender="coordinator", time_s=street.clock.now_s(), sequence=2**50, body=again)
    street._desk_bus.publish(Signer(street.keys["coordinator"]).seal(coordinator_topic(COMMUNITY, "round"), notice))
    street.run(1.0)
    name = other_than(street, street.leader())
    assert [(proof.author, proof.words) for proof in proved(street, name)] == [
        ("coordinator", f"two aggregates of round {plan.round_name} were opened")
    ]


async def test_what_somebody_says_who_does_not_lead_is_not_kept(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    outsider = other_than(street, street.leader())
    call = RoundCall(
        round_name="1:99", epoch=1, key_id="0" * 16, seats="1", previous="0" * 64, content="plan", start_s=START_S, step_s=900.0,
        closes_s=START_S,
    )  # fmt: skip
    street.members[outsider]._voice.round("call", call, expiry_s=60.0)
    street.run(1.0)
    name = other_than(street, street.leader(), outsider)
    kept = [exhibit for exhibit in exhibits(street, name) if isinstance(exhibit, Notice)]
    assert kept and not any(f"/round/{outsider}/" in exhibit.topic for exhibit in kept)


async def test_a_member_that_voted_for_two_leaders_of_one_term_is_proved_to_have(tmp_path: Path) -> None:
    """Six of nine vote for one, and three of them for another as well: its own signatures stand in two certificates."""
    street = await founded(tmp_path)
    epoch = street.desk._kept.epoch
    assert epoch is not None
    term = max(street.members[name].term for name in street.names) + 1
    certificates = []
    for leader, voters in (("h000", street.names[:6]), ("h008", street.names[4:])):
        votes = tuple((name, sign_vote(street.keys[name], epoch, term, leader, name).signature) for name in voters)
        certificates.append(Certificate(epoch=epoch.number, term=term, leader=leader, held=1, backups=(), votes=votes))
    witness = street.members["h003"]
    for certificate in certificates:
        witness.election.receive(certificate.leader, certificate, street.clock.monotonic_s())
    street.kill("h003")
    found = [proof for proof in proved(street, "h003") if "two votes" in proof.words]
    assert [proof.author for proof in found] == ["h004", "h005"]
    assert all("'h000'" in proof.words and "'h008'" in proof.words for proof in found)


async def test_an_operator_that_seats_other_members_under_the_same_number_is_proved_to(tmp_path: Path) -> None:
    """To say the same epoch again, as after every connection, is no contradiction."""
    street = await founded(tmp_path)
    street.desk.announce_anew()
    street.run(1.0)
    [said] = [saying.message for saying in _epochs(street)]
    other = structs.replace(said, sequence=said.sequence + 2**40, epoch=structs.replace(said.epoch, seed="ab" * 32))
    topic = coordinator_topic(COMMUNITY, "epoch")
    street._desk_bus.publish(Signer(street.keys["coordinator"]).seal(topic, other, retain=True))
    street.run(1.0)
    name = other_than(street, street.leader())
    assert proved(street, name)[0].words == f"two epochs of number {said.epoch.number}" and len(proved(street, name)) == 1
    assert street.members[name].election.epoch == said.epoch, "nobody follows the second"


def _epochs(street: Street) -> list[Saying]:
    street.desk._say_epoch(street.clock.now_s())
    return [street.desk.outgoing.pop()]
