"""What a region's real Mosquitto lets communities do, which it knows by their own authorities: homes of one name, each in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from coordinator.cli import main as coordinator_main
from coordinator.enrolment.folder import Folder
from coordinator.region.config import load_region
from edge.config import EdgeConfig
from edge.leadership.settings import RegionSection
from hil.broker import _free_port, find_mosquitto
from protocols import topics
from tests.deployment.community import Brokers, Client, Community, until

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run `commonwatt-hil broker --install`")
HERE = "commonwatt/1"
REGION = f"{HERE}/valley"
PROOFS = ("coordinator/epoch", "election/h07/certificate")


class Listener(Community):
    """One listener of the region's broker, as a client sees it."""

    def __init__(self, root: Path, port: int) -> None:
        self.base, self.port, self.websockets_port = root, port, port
        self.folder = Folder(root)


class Valley:
    """Two communities in which a home is called h07, their brokers, and the region's."""

    def __init__(self, base: Path) -> None:
        self.communities = {}
        for name in ("east", "north"):
            (base / name).mkdir()
            self.communities[name] = Community(base / name, "--community", name)
            self.communities[name].enrol("h07", "load18")
        self.root = base / "region"
        self.port = _free_port()
        arguments = ["init-region", str(self.root), "--region", "valley", "--host", "127.0.0.1", "--port", str(self.port)]
        for name, community in self.communities.items():
            arguments += ["--community", name, str(community.folder.root)]
        if os.geteuid() == 0:
            arguments += ["--broker-user", "root"]
        assert coordinator_main(arguments) == 0
        for name, community in self.communities.items():
            assert coordinator_main(["join-region", str(self.root / f"for-{name}"), "--folder", str(community.folder.root)]) == 0
        self.own = Listener(self.root, self.port)
        self.listeners = {name: Listener(self.root, self.port + 1 + index) for index, name in enumerate(self.communities)}

    def home(self, name: str) -> Path:
        return self.communities[name].identity("h07") / "current"


@pytest.fixture(scope="module")
def valley(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valley]:
    made = Valley(tmp_path_factory.mktemp("valley"))
    east, north = made.communities.values()
    with Brokers(made.own, "mosquitto"), Brokers(east, "mosquitto"), Brokers(north, "mosquitto"):
        yield made


def test_a_home_writes_below_its_communitys_name_and_below_no_other(valley: Valley) -> None:
    own = [f"{REGION}/election/east/{kind}" for kind in (*topics.ELECTION_KINDS, "to/north")]
    foreign = [topic.replace("/east/", "/north/") for topic in own]
    foreign += [f"{REGION}/coordinator/region", *(f"{HERE}/{name}/{proof}" for name in valley.communities for proof in PROOFS)]
    foreign += [f"{REGION}/node/east/status", f"{REGION}/election/east/anything", f"{HERE}/east/node/h07/telemetry"]
    with Client(valley.listeners["east"], valley.home("east"), "h07") as home:
        assert {topic for topic in own if home.say(topic) == "Not authorized"} == set()
        assert {topic for topic in foreign if home.say(topic) != "Not authorized"} == set()


def test_a_home_of_another_community_does_not_pass_for_one_by_its_name(valley: Valley) -> None:
    """Both are called h07, and both certificates are good: each is so at its own community's listener alone."""
    for name, listener in valley.listeners.items():
        for other in valley.communities:
            client = Client(listener, valley.home(other), f"{name}-{other}")
            assert client.connected is (name == other)
            client.client.disconnect()
            client.client.loop_stop()
    nobody = Client(valley.listeners["east"], None, "nobody")
    assert not nobody.connected
    nobody.client.loop_stop()


def test_what_proves_a_leader_comes_from_its_communitys_own_broker_and_nothing_else_does(valley: Valley) -> None:
    east = valley.communities["east"]
    with (
        Client(valley.own, valley.root / "keys", "watching") as coordinator,
        Client(valley.listeners["north"], valley.home("north"), "listening") as neighbour,
        Client(east, east.folder.keys, "coordinator") as operator,
        Client(east, valley.home("east"), "home") as home,
    ):
        coordinator.subscribe("#")
        neighbour.subscribe("#")
        for kind in ("node/h07/join", "node/h07/telemetry", "election/h07/call", "round/h07/call"):
            home.say(f"{HERE}/east/{kind}")
        operator.say(f"{HERE}/east/coordinator/signal")
        until(lambda: _proved(operator, home, coordinator, neighbour), "the bridge")
    for listener in (coordinator, neighbour):
        assert {topic for topic, _ in listener.heard if topic.startswith(f"{HERE}/east/")} == {f"{HERE}/east/{proof}" for proof in PROOFS}


def test_the_leaders_of_a_region_hear_each_other_and_its_coordinator(valley: Valley) -> None:
    with (
        Client(valley.own, valley.root / "keys", "coordinator") as coordinator,
        Client(valley.listeners["east"], valley.home("east"), "east") as east,
        Client(valley.listeners["north"], valley.home("north"), "north") as north,
    ):
        north.subscribe(f"{REGION}/#")
        coordinator.subscribe(f"{REGION}/#")
        assert coordinator.say(f"{REGION}/election/east/call") == "Not authorized"
        for kind in ("call", "certificate", "gone", "to/east", "to/north"):
            east.say(f"{REGION}/election/east/{kind}")
        coordinator.say(f"{REGION}/coordinator/region", b"last")
        until(lambda: (f"{REGION}/coordinator/region", b"last") in north.heard, "the region's epoch")
    heard = {topic.removeprefix(f"{REGION}/") for topic, _ in north.heard}
    assert heard == {*(f"election/east/{kind}" for kind in ("call", "certificate", "gone", "to/north")), "coordinator/region"}
    assert [topic for topic, _ in coordinator.heard] == [], "the region's coordinator has no part in the election"


def test_a_communitys_bridge_says_what_proves_its_leader_and_has_no_voice(valley: Valley) -> None:
    with Client(valley.listeners["east"], valley.communities["east"].page(), "bridge") as bridge:
        for proof in PROOFS:
            assert bridge.say(f"{HERE}/east/{proof}") != "Not authorized"
            assert bridge.say(f"{HERE}/north/{proof}") == "Not authorized"
        for kind in (*topics.ELECTION_KINDS, "to/north"):
            assert bridge.say(f"{REGION}/election/east/{kind}") == "Not authorized"


def test_what_is_handed_to_homes_and_coordinator_can_be_used(valley: Valley) -> None:
    config = load_region(valley.root / "region.toml")
    assert [entry.name for entry in config.communities] == ["east", "north"] and config.broker.port == valley.port
    text = (valley.root / "for-north" / "section.toml").read_bytes()
    section = msgspec.toml.decode(text, type=dict[str, RegionSection])["region"]
    assert section.enabled and section.broker is not None and section.broker.port == valley.listeners["north"].port
    assert {"region"} <= {field.name for field in msgspec.structs.fields(EdgeConfig)}
    named = [*section.coordinator_keys, *(key for entry in section.communities for key in entry.coordinator_keys)]
    assert all((valley.root / "for-north" / Path(name).name).is_file() for name in (*named, "region/region.pem"))


def test_a_region_that_cannot_be_is_refused_in_one_line(valley: Valley, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(valley.communities["east"].folder.root)
    base = ["init-region", str(tmp_path / "new"), "--host", "localhost"]
    for arguments, words in (
        ([*base, "--region", "valley", "--community", "east", folder], "at least two communities"),
        ([*base, "--region", "east", "--community", "east", folder, "--community", "north", folder], "none of them is called like it"),
        ([*base, "--region", "valley", "--community", "a/b", folder, "--community", "north", folder], "topic level 'a/b'"),
        ([*base, "--region", "valley", "--community", "east", str(tmp_path), "--community", "north", folder], "no authority.pem"),
        (["init-region", str(valley.root), "--region", "v", "--community", "e", folder, "--community", "n", folder], "not empty"),
        (["join-region", str(valley.root / "for-north"), "--folder", folder], "is for community 'north', this is 'east'"),
    ):
        if arguments[0] == "init-region" and os.geteuid() == 0:
            arguments = [*arguments, "--broker-user", "root"]
        assert coordinator_main(arguments) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def _proved(operator: Client, home: Client, *listeners: Client) -> bool:
    """Say both proofs again until the bridge, which connects when it can, has carried them."""
    operator.say(f"{HERE}/east/{PROOFS[0]}", b"epoch")
    home.say(f"{HERE}/east/{PROOFS[1]}", b"certificate")
    topics_heard = [{topic for topic, _ in listener.heard} for listener in listeners]
    return all({f"{HERE}/east/{proof}" for proof in PROOFS} <= heard for heard in topics_heard)
