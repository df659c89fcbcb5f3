"""Who sees what, at the page's real brokers and its HTTP server, without a browser."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from coordinator.enrolment.page_tokens import is_token, token_hash
from hil.broker import _free_port
from hil.processes import start_command, stop_process
from protocols import codec
from protocols.messages import SafetyState, Telemetry
from tests.deployment.community import ROOT, Brokers, Client, Community, until

HOMES = ("home-a", "home-b")


class Deployed:
    """A community of two homes as an operator has it, with the page's server as its own process."""

    def __init__(self, base: Path) -> None:
        self.page_broker_port, self.port = _free_port(), _free_port()
        self.community = Community(base, "--page-port", str(self.page_broker_port))
        self.homes = {name: self.community.enrol(name, f"load{2 + index}") for index, name in enumerate(HOMES)}
        configuration = self.community.folder.configuration
        configuration.write_text(configuration.read_text().replace("port = 8080", f"port = {self.port}"))
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._server = start_command("commonwatt-coordinator", "page", "--config", str(self.community.folder.configuration))
        until(lambda: self.get("api/now")["broker"], "the page's server to find its broker", 60.0)

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            stop_process(self._server)

    def get(self, path: str, login: str | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}")
        if login is not None:
            request.add_header("Authorization", f"Bearer {login}")
        try:
            with urllib.request.urlopen(request, timeout=20.0) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return {"status": error.code, "text": error.read().decode()}
        except OSError:
            return {"broker": False}

    def token(self, name: str, capsys: pytest.CaptureFixture[str]) -> str:
        capsys.readouterr()
        assert self.community.coordinator("page-token", name) == 0
        return capsys.readouterr().out.strip()


class Watcher:
    """A client of the page's broker by name and token, as a browser is one."""

    def __init__(self, port: int, name: str, token: str, *topics: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.refused = self.subscribed = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"watch-{name}", protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self._client.username_pw_set(name, token)
        self._client.on_connect = lambda c, u, flags, reason, p: self._on_connect(reason, topics)
        self._client.on_subscribe = lambda c, u, mid, reasons, p: setattr(self, "subscribed", True)
        self._client.on_message = lambda c, u, message: self.heard.append((message.topic, bytes(message.payload)))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(lambda: self.refused or self.subscribed, "an answer of the page's broker")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, reason: mqtt.ReasonCode, topics: tuple[str, ...]) -> None:
        self.refused = reason.is_failure
        if not self.refused:
            self._client.subscribe([(topic, mqtt.SubscribeOptions(qos=1)) for topic in topics])


def telemetry(name: str, net_import_w: float) -> bytes:
    return codec.encode(
        Telemetry(
            sender=name, time_s=1_800_000_000.0, sequence=1, start_s=1_799_999_940.0, duration_s=60.0, net_import_w=net_import_w,
            load_w=net_import_w, pv_w=None, battery_w=None, ev_w=None, soc_frac=None, voltage_v=(), energy_import_wh=None,
            energy_export_wh=None, import_limit_w=5000.0, export_limit_w=1500.0, exceeded_s=0.0, state=SafetyState.CONTROLLED,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(tmp_path_factory.mktemp("page"))
    with Brokers(made.community, "mosquitto", "page"):
        made.start()
        try:
            yield made
        finally:
            made.stop()


def test_a_token_is_kept_as_a_hash_that_fits_it_alone() -> None:
    tokens = {"home-a": token_hash("the token of a")}
    assert is_token(tokens, "home-a", "the token of a")
    assert not is_token(tokens, "home-a", "the token of b")
    assert not is_token(tokens, "home-b", "the token of a")
    assert not is_token(tokens, "home-a", "")
    assert "the token" not in tokens["home-a"]
    assert token_hash("the token of a") != tokens["home-a"], "the salt is new each time"


def test_a_stranger_hears_no_household_and_a_household_hears_itself(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    token = deployed.token("home-a", capsys)
    port, everything = deployed.page_broker_port, f"{ROOT}/#"
    stranger = Watcher(port, "visitor", "visitor", everything)
    household = Watcher(port, "home-a", token, everything)
    administrator = Watcher(port, "admin.operator", deployed.token("admin.operator", capsys), everything)
    watchers = stranger, household, administrator
    try:
        for name, identity in deployed.homes.items():
            with Client(deployed.community, identity, f"{name}-client") as home:
                assert home.say(f"{ROOT}/node/{name}/telemetry", telemetry(name, 1234.5)) == "Success"
        topics = {f"{ROOT}/node/{name}/telemetry" for name in HOMES}
        until(lambda: topics <= {topic for topic, _ in administrator.heard}, "the administrator to hear both")
        until(lambda: any(topic.endswith("home-a/telemetry") for topic, _ in household.heard), "the household to hear itself")
        until(lambda: any(topic.endswith("/page/view") for topic, _ in stranger.heard), "the stranger to see the view")
        assert {topic for topic, _ in stranger.heard} == {f"{ROOT}/page/view"}
        assert not any(b"home-" in payload or b"1234.5" in payload for _, payload in stranger.heard)
        assert not any("home-b" in topic for topic, _ in household.heard)
        assert not any(topic.endswith("/page/feeder") for topic, _ in household.heard)
    finally:
        for watcher in watchers:
            watcher.close()


def test_the_server_shows_each_what_the_broker_would(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    token = deployed.token("home-b", capsys)
    stranger, household = deployed.get("api/now"), deployed.get("api/now", f"home-b:{token}")
    assert "home" not in stranger and "homes" not in stranger["view"] and stranger["view"]["total"] is None, "two homes make no sum"
    assert household["home"]["name"] == "home-b" and "homes" not in household["view"]
    assert deployed.get("api/home?name=home-a", f"home-b:{token}")["status"] == 403
    names = [bus.get("name") for bus in deployed.get("api/feeder")["buses"]]
    assert names == [None] * len(names)
    administrator = f"admin.operator:{deployed.token('admin.operator', capsys)}"
    assert [home["name"] for home in deployed.get("api/now", administrator)["view"]["homes"]] == list(HOMES)
    assert deployed.get("api/home?name=home-a", administrator)["home"]["name"] == "home-a"


def test_a_token_taken_back_opens_nothing(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    token = deployed.token("home-a", capsys)
    assert deployed.get("api/session", f"home-a:{token}")["name"] == "home-a"
    assert deployed.community.coordinator("page-token", "home-a", "--remove") == 0
    assert deployed.get("api/session", f"home-a:{token}") == {"status": 401, "text": "no such name and token"}
    until(lambda: _refused(deployed, "home-a", token), "the broker to read its passwords again")
    assert deployed.community.coordinator("page-token", "home-c") == 2, "who is not enrolled gets no token"
    until(lambda: deployed.get("api/now")["broker"], "the page to outlive the reload")


def test_whoever_guesses_has_to_wait(deployed: Deployed) -> None:
    statuses = [deployed.get("api/session", f"home-a:guess{attempt}")["status"] for attempt in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429
    assert deployed.get("api/session")["name"] == "", "who does not log in is not held up"


def _refused(deployed: Deployed, name: str, token: str) -> bool:
    watcher = Watcher(deployed.page_broker_port, name, token, f"{ROOT}/page/view")
    watcher.close()
    return watcher.refused
