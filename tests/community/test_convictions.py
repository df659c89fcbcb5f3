"""Who is proved to have lied loses its seat: through shipped members, the shipped office and its store, and shown by both commands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import structs

import coordinator.cli
import edge.cli
from coordinator import store as tables
from coordinator.aggregation.convictions import Conviction, unsound
from coordinator.aggregation.desk import AggregationDesk
from coordinator.aggregation.keys import OperatorKey
from coordinator.aggregation.office import CommunityOffice, convictions, openings
from coordinator.aggregation.settings import AggregationSection as DeskSection
from coordinator.config import load_config
from coordinator.network.cases import load
from coordinator.store import Store
from edge.leadership.settings import AggregationSection
from hil.simulation.street import COMMUNITY, START_S, Street, operator_key
from protocols.aggregation import packing
from protocols.aggregation.charges import Charges, charge
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.messages import Aggregate, Drops
from protocols.aggregation.paillier import from_bytes, multiply, to_bytes
from protocols.errors import Refusal
from protocols.messages import Accusation, AdherenceReport, AggregateNotice, RoundCall, RoundContent, Verdict
from protocols.signing import Sequencer, Signer
from protocols.topics import node_topic, round_topic

AUDITED = AggregationSection(
    enabled=True, period_s=60.0, flexibility_every=1, collect_s=2.0, recover_s=1.0, resend_s=1.0, pool_entries=0, min_key_bits=1024,
    members_min=3, audit_share=1.0,
)  # fmt: skip


class GovernedStreet(Street):
    """A street whose operator is the whole office, with its configuration and its store."""

    office: CommunityOffice
    store: Store
    opened_share = 0.0

    def _make_desk(self, section: DeskSection, key: OperatorKey | None) -> AggregationDesk:
        self.config_file = self.folder / "coordinator.toml"
        lines = [f'[identity]\ncommunity = "{COMMUNITY}"\n[feeder]\nnetwork = "ieee33"\n[aggregation]\nenabled = true\nmembers_min = 3']
        lines.append(f"settlement_share = {self.opened_share}")
        for number, name in enumerate(self.names):
            file = self.folder / f"{name}.pub"
            file.write_bytes(self.keys[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            lines.append(f'[[nodes]]\nname = "{name}"\nconnection = "load{number + 2}"\nimport_rating_w = 15000.0')
            lines.append(f'export_rating_w = 10000.0\nkey_files = ["{file}"]')
        self.config_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.store = Store(f"sqlite:///{self.folder / 'coordinator.db'}")
        numbers = Sequencer(self.clock.now_s())
        self.office = CommunityOffice(
            load_config(self.config_file),
            load("ieee33"),
            now_s=self.clock.now_s(),
            sequence=numbers.next,
            entropy=self.rng.randbytes,
            keys=[operator_key()],
            make_key=lambda expires_s: operator_key(2, 1024, expires_s),
        )
        return self.office.desk

    async def start(self) -> None:
        for kind in ("verdict", "adherence"):
            self._desk_bus.subscribe(node_topic(COMMUNITY, "+", kind))
        self.office.start(self._desk_bus, self.store)
        await super().start()

    def desk_step(self) -> None:
        now_s = self.clock.now_s()
        for message in self._desk_bus.receive():
            if self.office.take_sealed(message):
                continue
            try:
                self.office.take(message, self._verifier.open(message, now_s), now_s)
            except Refusal:
                continue
        self.office.decide(self._desk_bus, self.store, now_s)
        self.store.flush(now_s)
        self.office.say(self._desk_bus, self._signer)

    @property
    def convicted(self) -> list[Conviction]:
        return convictions(self.store)


class OpenStreet(GovernedStreet):
    """Every report is opened when its epoch is over."""

    opened_share = 1.0


async def founded(folder: Path, size: int = 9, kind: type[GovernedStreet] = GovernedStreet, **changes: Any) -> GovernedStreet:
    street = kind(folder, size, **changes)
    await street.start()
    street.run(14.0)
    assert street.leaders and not street.convicted
    return street


def twist_drops(street: Street, leader: str, victim: str) -> None:
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        honest(kind, structs.replace(body, dropped=(*body.dropped, victim)) if isinstance(body, Drops) else body)  # type: ignore[arg-type]

    street.members[leader].leader._say = lie  # type: ignore[assignment]


def shown(capsys: pytest.CaptureFixture[str], main: Any, *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    status = main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


async def test_a_false_drop_list_costs_its_leader_the_seat_although_the_operator_reads_no_drop_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the victim holds the receipt: it shows it, all the others verify it, and a quorum of verdicts convicts."""
    street = await founded(tmp_path)
    leader, victim, absent = street.leader(), street.names[-1], street.names[-2]
    assert leader not in (victim, absent)
    epoch = street.desk.epoch
    street.freeze(absent)
    twist_drops(street, leader, victim)
    street.run(80.0)
    street.wake(absent)
    [found, *_] = street.convicted
    assert {conviction.accused for conviction in street.convicted} == {leader} and found.ground == "verdicts"
    assert "is called missing" in found.words and unsound(found, COMMUNITY) is None
    assert not any(name in found.words for name in street.names), "the operator is not told who was in the round"
    assert street.office.standing.value(leader) == 0.0 and street.office.standing.value(victim) > 0.4
    street.run(40.0)
    assert epoch is not None and street.desk.epoch is not None and street.desk.epoch.number > epoch.number
    assert leader not in {seat.name for seat in street.desk.epoch.eligible()}
    assert street.leader() != leader, "another one leads, by the rule of every election"
    to_operator = [message for message in street.wire if "/accusation" not in message.topic and victim.encode() in message.payload]
    assert not any("/node/" in message.topic and '"drops"' in message.payload.decode() for message in to_operator)

    status, document = shown(capsys, coordinator.cli.main, "proofs", "--config", str(street.config_file))
    assert status == 0 and {one["accused"] for one in document["convictions"]} == {leader}
    [one, *_] = document["convictions"]
    assert one["problem"] is None and len(one["by"]) >= 5 and leader not in one["by"] and len(one["evidence"]) == 64
    assert one["round_name"].split(":")[0] == str(one["term"]) and document["reputations"] == {leader: 0.0}
    assert coordinator.cli.main(["proofs", "--config", str(street.config_file)]) == 0
    assert "verified again" in capsys.readouterr().out


async def test_the_members_command_shows_what_it_holds_and_what_contradicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    street = await founded(tmp_path)
    leader, victim, absent = street.leader(), street.names[-1], street.names[-2]
    config = tmp_path / "house.toml"
    (tmp_path / "operator.pub").write_bytes(
        street.keys["coordinator"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    config.write_text(
        f'[identity]\ncommunity = "{COMMUNITY}"\nnode = "{victim}"\nkey_file = "home.key"\ncoordinator_keys = ["operator.pub"]\n'
        '[site]\nimport_rating_w = 15000.0\nexport_rating_w = 10000.0\ntimezone = "UTC"\nlatitude_deg = 52.5\nlongitude_deg = 13.4\n'
        "buy = [{ from_h = 0.0, price_per_kwh = 0.25 }]\nsell = [{ from_h = 0.0, price_per_kwh = 0.05 }]\n"
        f'[leadership]\nenabled = true\nfolder = "{victim}"\n'
        '[[devices]]\nname = "meter"\nkind = "meter"\nhost = "127.0.0.1"\n',
        encoding="utf-8",
    )
    status, document = shown(capsys, edge.cli.main, "proofs", "--config", str(config))
    assert status == 0 and document["proofs"] == []
    assert document["held"]["receipts"] >= 2 and document["held"]["epochs"] == 1 and document["held"]["keys"] == 1
    street.freeze(absent)
    twist_drops(street, leader, victim)
    street.run(80.0)
    status, document = shown(capsys, edge.cli.main, "proofs", "--config", str(config))
    assert status == 1 and {proof["author"] for proof in document["proofs"]} == {leader}
    assert edge.cli.main(["proofs", "--config", str(config)]) == 1
    assert "is called missing" in capsys.readouterr().out


async def test_a_sum_that_is_none_convicts_by_whoever_computes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five watts more, with the checksum that fits. One member audits; the others compute what it shows again."""
    honest, liars = LeaderRound.aggregate, set[str]()

    def nudged(round_: LeaderRound, exponents: list[int]) -> Aggregate:
        aggregate, group = honest(round_, exponents), round_._group
        if round_.announce.leader not in liars:
            return aggregate
        slots = np.zeros(group.layout.slots, dtype=np.uint32)
        alpha = packing.checksum_coefficients(group.layout, bytes.fromhex(aggregate.beacon))
        slots[0], slots[group.layout.values] = 5, 5 * int(alpha[0]) & group.layout.mask
        forged = [
            multiply(group.key, [from_bytes(group.key, data), round_._encryptor.encrypt(plaintext, 7)])
            for data, plaintext in zip(aggregate.ciphertexts, packing.pack(slots, group.chunk), strict=True)
        ]
        return structs.replace(aggregate, ciphertexts=tuple(to_bytes(group.key, value) for value in forged))

    monkeypatch.setattr(LeaderRound, "aggregate", nudged)
    street = await founded(tmp_path, aggregation=AUDITED)
    leader = street.leader()
    auditor = next(name for name in street.names if name != leader)
    for name in street.names:
        street.members[name].accountability.auditor._share = float(name == auditor)
    liars.add(leader)
    street.run(90.0)
    assert {(found.accused, found.ground) for found in street.convicted} == {(leader, "verdicts")}
    assert all("not the product" in found.words and unsound(found, COMMUNITY) is None for found in street.convicted)
    assert len(street.convicted[0].notices) >= 5


async def test_two_aggregates_of_one_round_convict_over_their_own_signatures(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        honest(kind, body)  # type: ignore[arg-type]
        if isinstance(body, AggregateNotice):
            honest(kind, structs.replace(body, aggregate=structs.replace(body.aggregate, count=body.aggregate.count - 1)))

    street.members[leader].leader._say = lie  # type: ignore[assignment]
    street.run(60.0)
    assert {(found.accused, found.ground) for found in street.convicted} == {(leader, "aggregates")}
    assert all(unsound(found, COMMUNITY) is None for found in street.convicted)
    assert len({found.round_name for found in street.convicted}) == len(street.convicted), "one breach in one round"


async def test_what_was_asked_for_as_something_else_convicts_over_its_own_signature(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        if isinstance(body, AggregateNotice):
            body = structs.replace(body, content=RoundContent.NEGOTIATION)
        honest(kind, body)  # type: ignore[arg-type]

    street.members[leader].leader._say = lie  # type: ignore[assignment]
    street.run(60.0)
    assert {(found.accused, found.ground) for found in street.convicted} == {(leader, "beacon")}
    assert all(unsound(found, COMMUNITY) is None for found in street.convicted)


async def test_an_aggregate_of_the_epoch_before_is_refused_and_nobodys_fault(tmp_path: Path) -> None:
    """The operator renews the epoch while a round is under way: its leader signed under the one that was."""
    street = await founded(tmp_path)
    street.run(46.0 - 14.0)
    while not any(isinstance(member.leader._running, object) and member.leader.busy for member in street.members.values()):
        street.step()
    for _ in range(8):
        street.step()
    street.desk.found_anew()
    street.run(30.0)
    assert street.convicted == []


async def test_no_minority_convicts_and_no_member_is_heard_in_its_own_case(tmp_path: Path) -> None:
    """Four of nine, and the accused herself, say that something was proved; the operator has no proof and needs five others."""
    street = await founded(tmp_path)
    accused = street.names[0]
    numbers = Sequencer(street.clock.now_s())

    def say(juror: str) -> None:
        verdict = Verdict(
            sender=juror, time_s=street.clock.now_s(), sequence=numbers.next(), accused=accused, round_name="1:1", words="lies",
            evidence="ab" * 32,
        )  # fmt: skip
        street.buses[juror].publish(Signer(street.keys[juror]).seal(node_topic(COMMUNITY, juror, "verdict"), verdict))
        street.run(0.5)

    for juror in [*street.names[:5], street.names[1], street.names[1]]:
        say(juror)
    assert street.convicted == [] and street.office.standing.value(accused) > 0.4
    say(street.names[5])
    [found] = street.convicted
    assert unsound(found, COMMUNITY) is None
    assert "no quorum" in str(unsound(structs.replace(found, notices=found.notices[:4]), COMMUNITY))
    assert "no verdict names" in str(unsound(structs.replace(found, evidence="cd" * 32), COMMUNITY))
    forged = structs.replace(found.notices[0], payload=found.notices[0].payload.replace(b"lies", b"sins"))
    assert "does not verify" in str(unsound(structs.replace(found, notices=(forged, *found.notices[1:])), COMMUNITY))


async def test_a_record_that_was_changed_in_the_store_is_said_to_prove_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    street = await founded(tmp_path)
    leader, victim = street.leader(), street.names[-1]
    street.freeze(street.names[-2])
    twist_drops(street, leader, victim)
    street.run(80.0)
    [found, *_] = street.convicted
    other = structs.replace(found, accused=victim)
    street.store.add(
        tables.messages,
        {"kind": "conviction", "node": victim, "sequence": 1, "time_s": START_S, "received_s": START_S,
         "body_json": msgspec.json.encode(other).decode()},
    )  # fmt: skip
    street.store.flush(START_S)
    status, document = shown(capsys, coordinator.cli.main, "proofs", "--config", str(street.config_file))
    problems = {one["accused"]: one["problem"] for one in document["convictions"]}
    assert status == 1 and "0 verdicts are no quorum" in problems[victim] and problems[leader] is None


async def test_an_operator_that_is_started_again_convicts_nobody_twice_for_the_same(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader, victim = street.leader(), street.names[-1]
    street.freeze(street.names[-2])
    twist_drops(street, leader, victim)
    street.run(80.0)
    before = {(found.accused, found.round_name) for found in street.convicted}
    again = GovernedStreet(tmp_path, 9)
    again.office.start(again.broker.client(), again.store)
    assert again.office._court.convicted == before
    assert again.office.standing.value(leader) == 0.0


async def test_who_declares_to_have_kept_what_the_operators_meter_disproves_loses_its_seat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All declare the same; every report is opened when the epoch is over, and one house never did what it said."""
    street = await founded(tmp_path, kind=OpenStreet, aggregation=structs.replace(AUDITED, audit_share=0.0, settlement_share_max=1.0))
    street.run(4 * 60.0)
    liar = street.names[2]
    for name in street.names:
        report = AdherenceReport(
            sender=name, time_s=street.clock.now_s(), sequence=1, from_s=START_S, duration_s=21_600.0, intervals=24, kept=24
        )
        street.buses[name].publish(Signer(street.keys[name]).seal(node_topic(COMMUNITY, name, "adherence"), report))
    street.desk.found_anew()
    street.run(10.0)
    rows = ["node,start_s,duration_s,net_import_w"]
    for opened in openings(street.store):
        if opened.round.content == "plan" and opened.values is not None:
            off_w = 9000.0 if opened.member == liar else 400.0
            rows.append(f"{opened.member},{opened.round.start_s + 900.0},900,{opened.values[1] + off_w}")
    assert len(rows) >= 5 * len(street.names)
    (tmp_path / "meter.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    arguments = ("settle", "--config", str(street.config_file), "--meter", str(tmp_path / "meter.csv"))
    status, document = shown(capsys, coordinator.cli.main, *arguments, "--convict")
    assert status == 1 and [one["member"] for one in document["findings"] if one["disproved"]] == [liar]
    assert shown(capsys, coordinator.cli.main, *arguments, "--convict")[0] == 1, "again, and nothing is recorded twice"
    [found] = street.convicted
    assert (found.accused, found.ground, unsound(found, COMMUNITY)) == (liar, "declaration", None)
    assert street.office.standing.value(liar) > 0.4, "the service has not looked yet"
    street.office._looked_s = -1e12
    street.run(2.0)
    assert street.office.standing.value(liar) == 0.0
    assert street.desk.epoch is not None and liar not in {seat.name for seat in street.desk.epoch.eligible()}
    assert "has not declared" in str(unsound(structs.replace(found, accused=street.names[0]), COMMUNITY))
    assert shown(capsys, coordinator.cli.main, "proofs", "--config", str(street.config_file))[0] == 0


async def test_a_proof_is_told_in_parts_and_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    street = await founded(tmp_path)
    leader = street.leader()
    honest = street.members[leader].leader._say

    def lie(kind: str, body: object) -> None:
        honest(kind, body)  # type: ignore[arg-type]
        if isinstance(body, RoundCall):
            honest(kind, structs.replace(body, iteration=body.iteration + 1))

    street.members[leader].leader._say = lie  # type: ignore[assignment]
    street.run(60.0)
    member = next(name for name in street.names if name != leader)
    jury = street.members[member].accountability.jury
    proof = next(proof for proof in jury.verdicts if proof.author == leader)
    accusations = [message for message in street.wire if message.topic.endswith("/accusation")]
    assert 1 <= len({message.topic for message in accusations}) < 5, "who hears that somebody accuses keeps silent itself"
    [part] = charge(proof)

    def told(**changes: object) -> Accusation:
        fields = {"digest": part.digest, "part": 0, "parts": 1, "body": part.body, **changes}
        return Accusation(sender="h001", time_s=START_S, sequence=1, **fields)  # type: ignore[arg-type]

    charges = Charges()
    half = len(part.body) // 2
    assert charges.take(told(parts=2, body=part.body[:half])) is None
    assert charges.take(told(parts=2, part=1, body=part.body[half:])) == part.body
    with pytest.raises(RoundRefused, match="not what their digest names"):
        charges.take(told(body=b"other"))
    with pytest.raises(RoundRefused, match="part 1 of 1"):
        charges.take(told(part=1))
    refused = len(jury.refusals)
    for count, (sender, body) in enumerate((("h001", b"garbage"), ("h002", msgspec.msgpack.encode(proof.exhibits[:1])))):
        digest = hashlib.sha256(body).hexdigest()
        jury.accused(structs.replace(told(body=body, digest=digest), sender=sender), START_S)
        assert len(jury.refusals) == refused + count + 1
    assert "shows nothing" in jury.refusals[-2] and "proves nothing" in jury.refusals[-1]
    topic = round_topic(COMMUNITY, leader, "accusation")
    assert all(message.topic != topic for message in accusations)
