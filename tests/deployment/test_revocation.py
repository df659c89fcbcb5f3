"""Revocation and renewal against a real broker and a coordinator's trust."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from coordinator.assembly import beside, read_verifier
from coordinator.config import load_config
from coordinator.enrolment import members as rules
from coordinator.enrolment.trust import member_trust
from edge.cli import main as edge_main
from edge.config import IdentitySection
from hil.broker import find_mosquitto
from protocols.bus import BusMessage
from protocols.errors import UnknownSender
from protocols.keys import load_private_key, load_public_key
from protocols.messages import SafetyState, Status
from protocols.mqtt_bus import MqttBus, MqttSettings, with_files_beside
from protocols.signing import Signer, Verifier
from protocols.topics import node_topic
from tests.deployment.community import NAME, ROOT, Brokers, Client, Community, refused, until

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run `commonwatt-hil broker --install`")
START_S = 1_900_000_000.0


class IdentityAlone(msgspec.Struct, forbid_unknown_fields=True):
    """What `commonwatt-edge enrol --config` writes."""

    identity: IdentitySection
    broker: MqttSettings


def status(signer: Signer, node: str, sequence: int, now_s: float) -> BusMessage:
    content = Status(sender=node, time_s=now_s, sequence=sequence, state=SafetyState.ONLINE, reasons=(), software="test")
    return signer.seal(node_topic(NAME, node, "status"), content)


@needs_mosquitto
def test_a_revoked_node_is_silenced_cut_and_refused_within_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    community = Community(tmp_path)
    identity, other = community.enrol("h07", "load18"), community.enrol("h08", "load19")
    with (
        Brokers(community, "mosquitto", "page"), Client(community, other, "other") as neighbour, Client(community, identity, "h07") as node,
        Client(community, identity, "an other name of the client") as second,
        Client(community, identity, "page", websockets=True) as page,
    ):
        node.subscribe(f"{ROOT}/coordinator/+")
        page.subscribe(f"{ROOT}/#")
        assert node.say(f"{ROOT}/node/h07/status") != "Not authorized"
        begin_s = time.monotonic()
        assert community.coordinator("revoke", "h07") == 0
        assert "2 connection(s)" in capsys.readouterr().out
        until(lambda: node.lost and second.lost, "both connections to be cut", 60.0)
        assert time.monotonic() - begin_s < 60.0
        until(lambda: refused(community, identity, "h07"), "the refusal")
        assert not neighbour.lost
        until(lambda: page.say(f"{ROOT}/node/h07/status") == "Not authorized", "the page's broker to read its new access list")
        with Client(community, community.folder.keys, "coordinator") as coordinator:
            for kind in ("status", "signal"):
                coordinator.say(f"{ROOT}/coordinator/{kind}", b"secret")
        assert not any(payload == b"secret" for _, payload in (*node.heard, *page.heard))
    with Brokers(community, "mosquitto"):
        assert refused(community, identity, "h07")
        assert not refused(community, other, "h08")


@needs_mosquitto
async def test_edge_and_coordinator_meet_with_the_files_that_enrolment_wrote(tmp_path: Path) -> None:
    """The configurations as written connect, a status is believed, and a running coordinator stops to believe it after a revocation."""
    community = Community(tmp_path)
    community.enrol("h07", "load18")
    config = beside(load_config(community.folder.configuration), community.folder.root)
    house = msgspec.toml.decode((tmp_path / "h07.toml").read_bytes(), type=IdentityAlone)
    assert house.identity.key_file is not None
    signer = Signer(load_private_key(tmp_path / house.identity.key_file))
    coordinator_key = load_public_key(tmp_path / house.identity.coordinator_keys[0])
    verifier = read_verifier(config)
    trust = member_trust(community.folder.root, verifier)
    assert trust is not None
    now_s = time.time()
    trust.refresh(now_s, 100.0)
    with Brokers(community, "mosquitto"):
        ears = MqttBus(config.broker, client_id="coordinator")
        mouth = MqttBus(with_files_beside(house.broker, tmp_path), client_id="h07")
        ears.subscribe(node_topic(NAME, "+", "status"))
        await ears.start()
        async with asyncio.timeout(30.0):
            while not ears.connected:
                await asyncio.sleep(0.01)
        await mouth.start()
        mouth.publish(status(signer, "h07", 1, now_s))
        assert await mouth.flush(30.0)
        assert await ears.wait(30.0)
        [message] = ears.receive()
        await mouth.stop()
        await ears.stop()
    assert verifier.open(message, now_s).sender == "h07"
    answer = Signer(load_private_key(community.folder.keys / "coordinator.key"))
    assert answer.key_id == Signer(load_private_key(community.folder.keys / "coordinator.key")).key_id
    assert coordinator_key == answer.public_key
    assert community.coordinator("revoke", "h07") == 0
    trust.refresh(now_s, 101.0)
    trust.refresh(now_s, 105.0)
    with pytest.raises(UnknownSender):
        verifier.open(status(signer, "h07", 2, now_s), now_s)


@needs_mosquitto
def test_a_renewal_changes_the_keys_without_a_gap(tmp_path: Path) -> None:
    community = Community(tmp_path)
    current = community.enrol("h07", "load18")
    before = {name: (current / name).read_bytes() for name in ("tls.key", "tls.pem", "signing.key")}
    old = tmp_path / "old"
    old.mkdir()
    for name in ("tls.key", "tls.pem"):
        (old / name).touch(0o600)
        (old / name).write_bytes(before[name])
    request = tmp_path / "renewal"
    assert edge_main(["renew", "--folder", str(tmp_path / "h07"), "--out", str(request)]) == 0
    assert (current / "tls.key").read_bytes() == before["tls.key"]
    with Brokers(community, "mosquitto"):
        community.answer("h07", request)
        assert (current / "tls.key").read_bytes() != before["tls.key"]
        assert (current / "signing.key").read_bytes() == before["signing.key"]
        assert not refused(community, current, "new")
        assert not refused(community, old, "old")
    assert community.coordinator("accept", str(request), "--out", str(tmp_path / "again")) == 2


def test_after_the_overlap_the_older_credential_is_over() -> None:
    first = rules.Credential(serial="1", signing_key="A" * 43, issued_s=START_S, expires_s=START_S + 1e7)
    second = rules.Credential(serial="2", signing_key="B" * 43, issued_s=START_S + 1e6, expires_s=START_S + 2e7)
    members = rules.Members(community=NAME).put(rules.Member(name="h07", role=rules.Role.NODE, state=rules.State.ENROLLED))
    members = rules.admit(rules.admit(members, "h07", first), "h07", second)
    end_s = START_S + 1e6 + rules.OVERLAP_S
    assert rules.revoked_serials(members, end_s - 1.0) == {}
    assert rules.revoked_serials(members, end_s) == {"1": end_s}
    assert rules.revoked_serials(members, START_S + 1e7) == {}, "what has expired needs no entry"
    members = rules.revoke(members, "h07", START_S + 2e6)
    assert set(rules.revoked_serials(members, START_S + 2e6)) == {"1", "2"}
    assert rules.silenced(members) == ["h07"]


def test_expiry_is_warned_of_in_the_list_and_by_the_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    community = Community(tmp_path)
    request = community.request("h07", community.bundle("h07", "load18"))
    assert community.coordinator("accept", str(request), "--out", str(tmp_path / "answer"), "--days", "20") == 0
    capsys.readouterr()
    assert community.coordinator("members", "--warn-days", "10") == 0
    assert "expires" not in capsys.readouterr().out
    assert community.coordinator("members", "--warn-days", "30", "--json") == 1
    rows = {row["name"]: row for row in msgspec.json.decode(capsys.readouterr().out)["members"]}
    assert rows["h07"]["warning"] == "expires in 20 days"
    assert rows["broker"]["warning"] is None


def test_a_members_file_that_cannot_be_read_changes_no_trust(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    community = Community(tmp_path)
    current = community.enrol("h07", "load18")
    signer = Signer(load_private_key(current / "signing.key"))
    verifier = Verifier(NAME, {})
    trust = member_trust(community.folder.root, verifier)
    assert trust is not None
    now_s = time.time()
    trust.refresh(now_s, 100.0)
    (community.folder.root / "members.json").chmod(0o644)
    (community.folder.root / "members.json").write_bytes(b"{")
    trust.refresh(now_s, 200.0)
    trust.refresh(now_s, 300.0)
    assert verifier.open(status(signer, "h07", 1, now_s), now_s).sender == "h07"
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_nobody_else_can_name_a_session(tmp_path: Path) -> None:
    """A client identifier is all that it takes to end another's connection (MQTT 5, section 3.1.4), so it must not be guessed."""
    community = Community(tmp_path)
    homes = [community.enrol(node, connection) for node, connection in (("h07", "load18"), ("h08", "load19"))]
    signers = [Signer(load_private_key(home / "signing.key")) for home in homes]
    names = {signer.private_name(purpose) for signer in signers for purpose in ("edge", "community")}
    assert len(names) == 4
    again = Signer(load_private_key(tmp_path / "h07/current/signing.key"))
    assert again.private_name("edge") in names
    assert all(signer.key_id not in names for signer in signers)
