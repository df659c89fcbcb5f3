"""One liar who lies as often as it can, an operator that renews its epochs or is started again: nobody else pays for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import structs

from coordinator import store as tables
from coordinator.aggregation.convictions import CASES_OF_ONE_JUROR, CONVICTIONS_OF_ONE, Court, of_declarations, unsound
from coordinator.aggregation.office import conviction_row
from edge.leadership.jury import CASES_OF_ONE
from hil.simulation.street import COMMUNITY, START_S
from protocols import codec
from protocols.aggregation.charges import EXHIBITS_MAX, proved
from protocols.aggregation.evidence import Notice, notice_of
from protocols.aggregation.group import RoundRefused
from protocols.bus import BusMessage
from protocols.messages import (
    Accusation,
    AdherenceReport,
    AggregateNotice,
    EpochNotice,
    JoinCard,
    RoundCall,
    RoundContent,
    RoundNotice,
    Verdict,
)
from protocols.signing import Signer
from protocols.topics import node_topic, round_topic
from tests.community.test_convictions import GovernedStreet, founded


def listen(street: GovernedStreet, leader: str) -> list[AggregateNotice]:
    """What the leader hands in from now on."""
    honest, heard = street.members[leader].leader._say, list[AggregateNotice]()

    def say(kind: str, body: object) -> None:
        if isinstance(body, AggregateNotice):
            heard.append(body)
        honest(kind, body)  # type: ignore[arg-type]

    street.members[leader].leader._say = say  # type: ignore[assignment]
    return heard


async def test_who_convicts_itself_as_often_as_it_can_stops_no_round_and_fills_no_store(tmp_path: Path) -> None:
    """A new epoch ends the round that is under way: it takes away a seat once, not once for each lie."""
    street = await founded(tmp_path)
    leader = street.leader()
    heard = listen(street, leader)
    street.run(50.0)
    assert heard and street.desk.epoch is not None
    liar = next(name for name in street.names if name != leader)
    epochs, opened = {street.desk.epoch.number}, street.desk.opened
    for number in range(CONVICTIONS_OF_ONE + 9):
        for count in (3, 4):
            aggregate = structs.replace(heard[0].aggregate, leader=liar, round_name=f"9:{number}", count=count)
            street.members[liar]._voice.round("aggregate", structs.replace(heard[0], aggregate=aggregate), expiry_s=30.0)
        street.run(5.0)
        epochs.add(street.desk.epoch.number)
    assert {found.accused for found in street.convicted} == {liar} and len(street.convicted) == CONVICTIONS_OF_ONE
    assert len(epochs) == 2, "one more than there was"
    assert street.desk.opened >= opened + 1


async def test_a_round_over_several_renewals_of_the_epoch_is_nobodys_fault(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    heard = listen(street, leader)
    street.run(50.0)
    for _ in range(3):
        street.desk.found_anew()
        street.office.decide(street._desk_bus, street.store, street.clock.now_s())
    said = RoundNotice(sender=leader, time_s=street.clock.now_s(), sequence=1, body=heard[-1])
    message = Signer(street.keys[leader]).seal(round_topic(COMMUNITY, leader, "aggregate"), said)
    refused = street.desk.refused
    street.office.take(message, said, street.clock.now_s())
    assert street.desk.refused == refused + 1 and "is over" in street.desk.events[-1][1]
    street.office.decide(street._desk_bus, street.store, street.clock.now_s())
    street.store.flush(street.clock.now_s())
    assert street.convicted == []


async def test_what_settle_records_while_the_service_is_down_counts_at_its_next_start_and_once(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    liar, epoch = street.names[2], street.desk.epoch
    assert epoch is not None
    report = AdherenceReport(sender=liar, time_s=START_S, sequence=1, from_s=START_S, duration_s=21_600.0, intervals=24, kept=24)
    notice = notice_of(Signer(street.keys[liar]).seal(node_topic(COMMUNITY, liar, "adherence"), report), START_S)
    found = of_declarations(epoch, liar, "declares what is not so", [notice], settled_s=START_S + 60.0)
    forged = structs.replace(found, accused=street.names[3])
    assert unsound(found, COMMUNITY) is None
    for number, conviction in enumerate((found, forged)):
        street.store.add(tables.messages, conviction_row(conviction, next_sequence=number, received_s=START_S))
    street.store.flush(START_S)
    for _ in range(2):
        again = GovernedStreet(tmp_path, 9)
        again.office.start(again.broker.client(), again.store)
        again.office.decide(again._desk_bus, again.store, again.clock.now_s())
        again.store.flush(again.clock.now_s())
        assert again.office.standing.value(liar) == 0.0
        assert again.office.standing.reputation(liar).strikes == pytest.approx(1.0, abs=0.01)
        assert again.office.standing.reputation(street.names[3]).strikes == 0.0, "its record proves nothing"


async def test_an_accusation_of_thousands_of_exhibits_is_refused_before_they_are_compared(tmp_path: Path) -> None:
    """Every pair of a thousand calls of one round contradicts: half a million proofs out of one message."""
    street = await founded(tmp_path)
    liar = street.names[0]
    signer, topic = Signer(street.keys[liar]), round_topic(COMMUNITY, liar, "call")
    epoch = next(message for message in street.wire if message.topic.endswith("coordinator/epoch"))
    call = RoundCall(
        round_name="1:1", epoch=1, key_id="0" * 16, seats="7", previous="0" * 64, content=RoundContent.PLAN,
        start_s=START_S, step_s=900.0, closes_s=START_S + 2.0,
    )  # fmt: skip
    notices: list[Notice] = [notice_of(epoch, START_S)]
    for number in range(EXHIBITS_MAX):
        said = RoundNotice(sender=liar, time_s=START_S, sequence=number, body=structs.replace(call, iteration=number))
        notices.append(notice_of(signer.seal(topic, said), START_S))
    keys = [street.keys["coordinator"].public_key()]
    with pytest.raises(RoundRefused, match=f"at most {EXHIBITS_MAX}"):
        list(proved(msgspec.msgpack.encode(notices), COMMUNITY, keys))
    [proof] = proved(msgspec.msgpack.encode(notices[:40]), COMMUNITY, keys)
    assert (proof.author, proof.round_name) == (liar, "1:1")
    jury = street.members[street.names[1]].accountability.jury
    other = structs.replace(proof, author=street.names[2])
    assert jury._open(other, 0.0)
    for number in range(100):
        jury._open(structs.replace(proof, round_name=f"2:{number}"), 0.0)
    assert other in jury.verdicts and len(jury.verdicts) == 1 + CASES_OF_ONE


async def test_who_joins_with_new_keys_again_and_again_stops_no_round(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    liar = next(name for name in street.names if name != street.leader())
    epochs, opened = set[int](), street.desk.opened
    for number in range(20):
        made = [X25519PrivateKey.from_private_bytes(bytes([1 + number, kind] * 16)) for kind in (1, 2)]
        keys = [key.public_key().public_bytes_raw().hex() for key in made]
        card = JoinCard(sender=liar, time_s=street.clock.now_s(), sequence=2**50 + number, pad_key=keys[0], envelope_key=keys[1])
        street.buses[liar].publish(Signer(street.keys[liar]).seal(node_topic(COMMUNITY, liar, "join"), card, retain=True))
        street.run(5.0)
        assert street.desk.epoch is not None
        epochs.add(street.desk.epoch.number)
    assert len(epochs) == 1 and street.desk.opened >= opened + 2


async def test_a_key_that_was_taken_out_of_use_convicts_nobody(tmp_path: Path) -> None:
    """Whoever stole it can sign two calls with it, and show the epoch in which it was good; the same two calls under the key in use do."""
    street = await founded(tmp_path)
    victim, accuser, juror = street.names[:3]
    old = Ed25519PrivateKey.generate()
    jury = street.members[juror].accountability.jury
    retained = next(message for message in street.wire if message.topic.endswith("coordinator/epoch"))
    present = codec.decode(retained.payload, topic=retained.topic)
    assert isinstance(present, EpochNotice)
    seats = tuple(
        structs.replace(seat, public_key=old.public_key().public_bytes_raw().hex()) if seat.name == victim else seat
        for seat in present.epoch.seats
    )
    former = structs.replace(present, epoch=structs.replace(present.epoch, number=1, seats=seats))
    call = RoundCall(
        round_name="1:1", epoch=1, key_id="0" * 16, seats="7", previous="0" * 64, content=RoundContent.PLAN,
        start_s=START_S, step_s=900.0, closes_s=START_S + 2.0,
    )  # fmt: skip

    def accuse(key: Ed25519PrivateKey, *epochs: BusMessage) -> None:
        topic = round_topic(COMMUNITY, victim, "call")
        calls = [RoundNotice(sender=victim, time_s=START_S, sequence=n, body=structs.replace(call, iteration=n)) for n in (1, 2)]
        shown = [*epochs, *(Signer(key).seal(topic, said) for said in calls)]
        packed = msgspec.msgpack.encode([notice_of(message, START_S) for message in shown])
        digest = hashlib.sha256(packed).hexdigest()
        jury.accused(Accusation(sender=accuser, time_s=START_S, sequence=1, digest=digest, part=0, parts=1, body=packed), 0.0)

    accuse(old, Signer(street.keys["coordinator"]).seal(retained.topic, former))
    assert jury.verdicts == () and "not in use any more" in jury.refusals[-1]
    accuse(street.keys[victim], retained)
    assert [proof.author for proof in jury.verdicts] == [victim]


async def test_an_operator_that_lays_reports_out_anew_does_so_under_a_new_key(tmp_path: Path) -> None:
    """A leader's answer of before, judged by another layout, would look like a sum that is none."""
    street = await founded(tmp_path)
    text, [key] = street.desk.save(), street.desk.keys
    for change, same in ((0, True), (1, False)):
        desk = GovernedStreet(tmp_path, 9).office.desk
        desk._section = structs.replace(desk._section, pad_bits=desk._section.pad_bits - change)
        desk.restore(text)
        desk.step(street.clock.now_s())
        assert (desk.keys[-1].public == key.public, desk.keys_changed) == (same, not same)


async def test_a_juror_whose_verdicts_no_quorum_shared_is_still_heard(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    court, epoch, accused = Court(), street.desk.epoch, street.names[0]

    def say(juror: str, round_name: str) -> bool:
        verdict = Verdict(
            sender=juror, time_s=START_S, sequence=1, accused=accused, round_name=round_name, words="lies", evidence="ab" * 32
        )
        notice = notice_of(Signer(street.keys[juror]).seal(node_topic(COMMUNITY, juror, "verdict"), verdict), START_S)
        return court.verdict(epoch, verdict, notice) is not None

    for number in range(3 * CASES_OF_ONE_JUROR):
        assert not say(street.names[1], f"1:{number}")
    assert sum(len(jurors) for jurors in court._cases.values()) == CASES_OF_ONE_JUROR
    assert [say(juror, "2:1") for juror in street.names[1:6]] == [False, False, False, False, True]
