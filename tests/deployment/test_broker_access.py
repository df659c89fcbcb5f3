"""What the community's real Mosquitto lets each identity do."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.enrolment.authority import make_authority
from hil.broker import find_mosquitto
from protocols import topics
from protocols.mqtt_bus import TlsFiles, tls_context
from tests.deployment.community import NAME, ROOT, Brokers, Client, Community, handshake, refused, until

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run `commonwatt-hil broker --install`")

# Who may publish what: the table of `protocols.topics`, written out for the nodes h07 and h08.
BY_H07 = [
    *(f"node/h07/{kind}" for kind in ("status", "telemetry", "forecast", "plan", "flexibility", "response", "join", "adherence")),
    *(f"node/h07/{kind}" for kind in ("verdict", "answer")),
    *(f"election/h07/{kind}" for kind in ("call", "certificate", "gone", "to/h08", "to/h07")),
    *(f"round/h07/{kind}" for kind in ("call", "aggregate", "report/h08", "reveal/h08", "receipt/h08", "audit/h08", "transcript/h08")),
    *(f"round/h07/{kind}" for kind in ("demand/h08", "opening/h08", "opening/coordinator", "accusation")),
]
BY_COORDINATOR = [
    *(f"control/{node}/{kind}" for node in ("h07", "h08") for kind in ("envelope", "default", "ask")),
    *(f"coordinator/{kind}" for kind in ("status", "epoch", "key", "round", "signal", "region")),
    *(f"round/coordinator/demand/{node}" for node in ("h07", "h08")),
]
HEARD_BY_H08 = {
    *(f"election/h07/{kind}" for kind in ("call", "certificate", "gone", "to/h08")),
    *(f"round/h07/{kind}/h08" for kind in ("report", "reveal", "receipt", "audit", "transcript", "demand", "opening")),
    *("round/h07/call", "round/h07/accusation", "round/coordinator/demand/h08"),
    *(f"control/h08/{kind}" for kind in ("envelope", "default", "ask")),
    *(f"coordinator/{kind}" for kind in ("status", "epoch", "key", "round", "signal", "region")),
}
OUTSIDE = ["node/h07", "node/h07/status/x", "node/h07/anything", "control/h07", "elsewhere", "election/h07/to", "round/h07/report"]


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    made = Community(tmp_path_factory.mktemp("community"))
    for number, node in enumerate(("h07", "h08")):
        made.enrol(node, f"load{18 + number}")
    with Brokers(made, "mosquitto", "page"):
        yield made


@pytest.fixture(scope="module")
def h07(community: Community) -> Path:
    return community.identity("h07") / "current"


@pytest.fixture(scope="module")
def h08(community: Community) -> Path:
    return community.identity("h08") / "current"


def test_a_node_writes_below_its_own_name_and_nowhere_else(community: Community, h07: Path) -> None:
    with Client(community, h07, "h07") as node:
        assert {topic for topic in BY_H07 if node.say(f"{ROOT}/{topic}") == "Not authorized"} == set()
        foreign = [topic.replace("/h07/", "/h08/", 1) for topic in BY_H07] + BY_COORDINATOR + OUTSIDE
        elsewhere = [f"commonwatt/1/other/{topic}" for topic in BY_H07] + ["homeassistant/x", "$SYS/broker/uptime", "$CONTROL/x"]
        said = {topic: node.say(topic) for topic in [*(f"{ROOT}/{topic}" for topic in foreign), *elsewhere]}
    assert {topic for topic, reason in said.items() if reason != "Not authorized"} == set()


def test_a_node_reads_what_is_said_to_all_or_to_it_and_nothing_else(community: Community, h07: Path, h08: Path) -> None:
    """The subscription asks for everything, as a curious neighbour would."""
    with Client(community, h08, "h08") as listener, Client(community, h07, "h07") as node:
        listener.subscribe("#")
        listener.subscribe("$SYS/#")
        with Client(community, community.folder.keys, "coordinator") as coordinator:
            assert {topic for topic in BY_COORDINATOR if coordinator.say(f"{ROOT}/{topic}") == "Not authorized"} == set()
            for topic in BY_H07:
                node.say(f"{ROOT}/{topic}")
            coordinator.say(f"{ROOT}/coordinator/signal", b"last")
        until(lambda: (f"{ROOT}/coordinator/signal", b"last") in listener.heard, "the last message")
    assert {topic.removeprefix(f"{ROOT}/") for topic, _ in listener.heard} == HEARD_BY_H08


def test_every_topic_that_the_grammar_owns_can_be_written_by_its_owner(community: Community, h07: Path) -> None:
    """So that a kind which is added to the grammar is added here: the lists above are complete."""
    kinds = [f"node/h07/{kind}" for kind in topics.NODE_KINDS] + [f"election/h07/{kind}" for kind in topics.ELECTION_KINDS]
    kinds += [f"round/h07/{kind}" for kind in topics.ROUND_KINDS] + [f"round/h07/{kind}/h08" for kind in topics.SEALED_KINDS]
    assert set(kinds) <= set(BY_H07)
    assert {f"coordinator/{kind}" for kind in topics.COORDINATOR_KINDS} <= set(BY_COORDINATOR)
    assert {f"control/h07/{kind}" for kind in topics.CONTROL_KINDS} <= set(BY_COORDINATOR)


def test_the_coordinator_hears_nodes_and_aggregates_but_no_sealed_report(community: Community, h07: Path) -> None:
    with Client(community, community.folder.keys, "coordinator") as coordinator, Client(community, h07, "h07") as node:
        coordinator.subscribe(f"{ROOT}/#")
        for topic in BY_H07:
            node.say(f"{ROOT}/{topic}")
        node.say(f"{ROOT}/node/h07/join", b"last")
        until(lambda: (f"{ROOT}/node/h07/join", b"last") in coordinator.heard, "the last message")
        assert coordinator.say(f"{ROOT}/node/h07/status") == "Not authorized"
    heard = {topic.removeprefix(f"{ROOT}/") for topic, _ in coordinator.heard}
    assert {topic for topic in BY_H07 if topic.startswith("node/")} <= heard
    assert {topic for topic in heard if topic.startswith("round/")} == {"round/h07/aggregate", "round/h07/opening/coordinator"}


def test_whoever_watches_for_the_operator_hears_no_roster_and_no_drop_list(community: Community, h07: Path, h08: Path) -> None:
    """The operator gets a count and never a roster: neither the page's bridge nor an administrator's browser is a way round."""
    with (
        Client(community, community.page(), "bridge") as page,
        Client(community, community.administrator(), "watcher", websockets=True) as browser,
        Client(community, h08, "h08") as member,
        Client(community, h07, "h07") as node,
    ):
        page.subscribe(f"{ROOT}/#")
        browser.subscribe(f"{ROOT}/#")
        member.subscribe(f"{ROOT}/#")
        until(lambda: _arrives(node, browser), "the bridge")
        for topic in BY_H07:
            node.say(f"{ROOT}/{topic}")
        node.say(f"{ROOT}/node/h07/telemetry", b"last")
        last = (f"{ROOT}/node/h07/telemetry", b"last")
        until(lambda: last in browser.heard and last in page.heard, "the last message")
        until(lambda: (f"{ROOT}/round/h07/call", b"x") in member.heard, "the call, at a member")
    for watcher in (page, browser):
        assert not [topic for topic, _ in watcher.heard if "/round/" in topic]


def test_a_last_will_outside_the_own_name_is_not_published(community: Community, h07: Path, h08: Path) -> None:
    with Client(community, community.folder.keys, "coordinator") as coordinator:
        coordinator.subscribe(f"{ROOT}/node/+/status")
        for topic in (f"{ROOT}/node/h08/status", f"{ROOT}/node/h07/status"):
            with Client(community, h07, "h07-dying", will=topic) as node:
                node.die()
        own = (f"{ROOT}/node/h07/status", f"{ROOT}/node/h07/status".encode())
        until(lambda: own in coordinator.heard, "the will on its own name")
    assert not any(payload == f"{ROOT}/node/h08/status".encode() for _, payload in coordinator.heard)


def test_who_has_no_certificate_of_this_authority_is_not_let_in(community: Community, tmp_path: Path) -> None:
    forger = make_authority(NAME, time.time())
    forged = community.certified("h08", forger, "forged", now_s=time.time())
    assert refused(community, forged, "h08")
    assert refused(community, None, "h08")


def test_an_expired_certificate_is_refused(community: Community) -> None:
    authority = community.folder.open_authority(None)
    expired = community.certified("h08", authority, "expired", now_s=time.time() - 2 * 86400.0, days=1)
    valid = community.certified("h08", authority, "valid", now_s=time.time(), days=1)
    assert refused(community, expired, "h08-expired")
    assert not refused(community, valid, "h08-valid")


def test_a_node_cannot_pose_as_the_broker(community: Community, h07: Path) -> None:
    """Its certificate is for clients (extended key usage), so that a client which reaches it instead of the broker refuses it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(h07 / "tls.pem", h07 / "tls.key")
    files = TlsFiles(
        ca_file=str(community.folder.authority_certificate), cert_file=str(h07 / "tls.pem"), key_file=str(h07 / "tls.key")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    server.wrap_socket(connection, server_side=True).close()
                except (OSError, ssl.SSLError):
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listener.getsockname()) as plain, pytest.raises(ssl.SSLCertVerificationError):
            tls_context(files).wrap_socket(plain, server_hostname="127.0.0.1")
        thread.join()


def test_browsers_watch_and_write_nothing(community: Community, h07: Path, h08: Path) -> None:
    """On the broker for browsers: an administrator sees every node, a household itself alone, nobody writes, a stranger is not let in."""
    administrator = community.administrator()
    with (
        Client(community, administrator, "browser", websockets=True) as browser,
        Client(community, h08, "household", websockets=True) as household,
        Client(community, h07, "h07") as node,
        Client(community, h08, "h08") as other,
    ):
        browser.subscribe(f"{ROOT}/#")
        household.subscribe(f"{ROOT}/#")
        until(lambda: _arrives(node, browser), "the bridge")
        other.say(f"{ROOT}/node/h08/telemetry", b"own")
        until(lambda: (f"{ROOT}/node/h08/telemetry", b"own") in household.heard, "the household's own telemetry")
        assert all("/node/h07/" not in topic for topic, _ in household.heard)
        assert browser.say(f"{ROOT}/control/h07/default") == "Not authorized"
        assert household.say(f"{ROOT}/node/h08/telemetry") == "Not authorized"
    forged = community.certified("admin.operator", make_authority(NAME, time.time()), "forged-browser", now_s=time.time())
    assert not handshake(community, community.websockets_port, forged)
    assert handshake(community, community.websockets_port, administrator)


def _arrives(node: Client, browser: Client) -> bool:
    node.say(f"{ROOT}/node/h07/telemetry", b"seen")
    return (f"{ROOT}/node/h07/telemetry", b"seen") in browser.heard
