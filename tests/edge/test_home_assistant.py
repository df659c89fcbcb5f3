"""The household in Home Assistant: what it is told follows its grammar, comes back after every loss, and goes when it shall go."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.cli import main as edge_main
from edge.config import EdgeConfig
from edge.devices.registry import DeviceConfig
from edge.errors import ConfigurationError
from edge.home_assistant.bridge import HomeAssistantBridge, forget_household, open_bridge
from edge.home_assistant.discovery import Appearance
from edge.home_assistant.settings import HomeAssistantSection
from edge.values import DeviceKind
from hil.broker import Broker, find_mosquitto
from hil.toml_text import toml_text
from protocols.bus import BusMessage
from protocols.memory_bus import MemoryBroker, MemoryBus
from protocols.mqtt_bus import Login, MqttBus, MqttSettings
from tests.edge.world import World, make_config

CONFIG_TOPIC = "homeassistant/device/commonwatt_street_home-01/config"
STATE_TOPIC = "commonwatt/home/street/home-01/state"
AVAILABILITY_TOPIC = "commonwatt/home/street/home-01/availability"
HOME_ASSISTANT = os.environ.get("COMMONWATT_HOME_ASSISTANT_PYTHON")

# Units that Home Assistant documents for each device class (developers.home-assistant.io, sensor entity, available device classes).
UNITS = {
    "power": {"W", "kW", "mW", "MW", "GW", "TW"},
    "energy": {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh", "cal", "kcal", "Mcal", "Gcal"},
    "battery": {"%"},
}


def config(folder: Path, **section: Any) -> EdgeConfig:
    made = make_config(folder)
    return msgspec.structs.replace(made, home_assistant=HomeAssistantSection(enabled=True, **section))


class Watched:
    """A house, its own broker, Home Assistant's ear on it, and the bridge between them."""

    def __init__(self, folder: Path) -> None:
        self.config = config(folder)
        self.world = World(folder, config=self.config)
        self.home = MemoryBroker()
        self.ear = self.home.client()
        for topic_filter in ("homeassistant/#", "commonwatt/home/#"):
            self.ear.subscribe(topic_filter)
        self.ear.connect()
        self.bus: MemoryBus = self.home.client(
            will=lambda: BusMessage(topic=AVAILABILITY_TOPIC, payload=b"offline", retain=True)
        )
        self.bridge = HomeAssistantBridge(self.config, self.bus)

    async def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / 10.0)):
            self.bridge.cycle(await self.world.agent.step())
            self.world.live(10.0)

    def heard(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for message in self.ear.receive():
            found.setdefault(message.topic, []).append(message.payload)
        return found


async def test_home_assistant_learns_of_the_house_and_its_state(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.world.send_default(1500.0, 4000.0)
    watched.world.pv.available_w = 3000.0
    await watched.world.agent.start()
    await watched.bridge.start()
    await watched.run(60.0)
    heard = watched.heard()
    assert len(heard[CONFIG_TOPIC]) == 1
    assert heard[AVAILABILITY_TOPIC] == [b"online"]
    states = [json.loads(payload) for payload in heard[STATE_TOPIC]]
    assert len(states) == 6
    components = json.loads(heard[CONFIG_TOPIC][0])["components"]
    assert states[-1].keys() == components.keys(), "every entity has its state, and no state is without an entity"
    assert states[-1]["pv_1_power"] > 0.0, "generation is shown as a positive number"
    assert states[-1]["export_limit"] == 1500.0
    assert states[-1]["problem"] == "OFF"
    watched.world.meter.fault = "timeout"
    await watched.run(60.0)
    state = json.loads(watched.heard()[STATE_TOPIC][-1])
    assert (state["net_import"], state["problem"], state["safety_state"]) == (None, "ON", "failsafe")


async def test_everything_is_said_again_after_a_lost_connection_and_after_a_birth(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    await watched.world.agent.start()
    await watched.bridge.start()
    await watched.run(20.0)
    watched.heard()
    watched.bus.cut()
    await watched.run(20.0)
    assert watched.heard() == {AVAILABILITY_TOPIC: [b"offline"]}, "the last will, and nothing while away"
    watched.bus.connect()
    await watched.run(10.0)
    heard = watched.heard()
    assert len(heard[CONFIG_TOPIC]) == 1 and heard[AVAILABILITY_TOPIC] == [b"online"] and len(heard[STATE_TOPIC]) == 1
    stranger = watched.home.client()
    stranger.connect()
    stranger.publish(BusMessage(topic="homeassistant/status", payload=b"offline"))
    await watched.run(10.0)
    assert CONFIG_TOPIC not in watched.heard()
    stranger.publish(BusMessage(topic="homeassistant/status", payload=b"online"))
    await watched.run(10.0)
    heard = watched.heard()
    assert len(heard[CONFIG_TOPIC]) == 1 and heard[AVAILABILITY_TOPIC] == [b"online"]
    await watched.bridge.stop()
    assert watched.heard()[AVAILABILITY_TOPIC] == [b"offline"]


async def test_an_entity_that_is_no_longer_configured_is_removed(tmp_path: Path) -> None:
    """First with its platform alone, which removes it, then not at all (Home Assistant, MQTT, removing a component)."""
    watched = Watched(tmp_path)
    earlier = msgspec.structs.replace(
        watched.config,
        devices=(*watched.config.devices, DeviceConfig(name="my boiler", kind=DeviceKind.LOAD, host="127.0.0.1", family="sunspec")),
    )
    before = watched.home.client()
    before.connect()
    before.publish(BusMessage(topic=CONFIG_TOPIC, payload=Appearance(earlier).payload(), retain=True))
    watched.heard()
    await watched.world.agent.start()
    await watched.bridge.start()
    await watched.run(20.0)
    payloads = [json.loads(payload)["components"] for payload in watched.heard()[CONFIG_TOPIC]]
    assert any(components.get("load_1_power") == {"platform": "sensor"} for components in payloads)
    assert "load_1_power" not in payloads[-1]


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"components": 5}', b"\xff\xfe", b'{"components": {"a": {}}}', b"[" * 5000])
async def test_garbage_in_our_own_topic_changes_nothing(tmp_path: Path, garbage: bytes) -> None:
    watched = Watched(tmp_path)
    stranger = watched.home.client()
    stranger.connect()
    stranger.publish(BusMessage(topic=CONFIG_TOPIC, payload=garbage, retain=True))
    stranger.publish(BusMessage(topic="homeassistant/status", payload=garbage, retain=True))
    await watched.world.agent.start()
    await watched.bridge.start()
    await watched.run(20.0)
    assert watched.bridge.removed == {}


def test_the_payload_follows_the_documented_grammar(tmp_path: Path) -> None:
    payload = json.loads(Appearance(config(tmp_path)).payload())
    assert {"device", "origin", "components"} <= payload.keys()
    assert re.fullmatch(r"[a-zA-Z0-9_-]+/device/[a-zA-Z0-9_-]+/config", CONFIG_TOPIC)
    assert payload["device"]["identifiers"] == ["commonwatt_street_home-01"]
    assert payload["origin"]["name"] == "commonwatt-edge"
    ids = [component["unique_id"] for component in payload["components"].values()]
    assert len(set(ids)) == len(ids) >= 12
    for name, component in payload["components"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
        assert component["platform"] in ("sensor", "binary_sensor")
        assert component["value_template"] == f"{{{{ value_json.{name} }}}}"
        assert component["expire_after"] == 30
        kind = component.get("device_class")
        if component["platform"] == "sensor" and kind in UNITS:
            assert component["unit_of_measurement"] in UNITS[kind], name
            assert component["state_class"] == ("total_increasing" if kind == "energy" else "measurement")
        if kind == "enum":
            assert component["options"] and "unit_of_measurement" not in component and "state_class" not in component


@pytest.mark.skipif(HOME_ASSISTANT is None, reason="COMMONWATT_HOME_ASSISTANT_PYTHON does not name a Python with Home Assistant")
@pytest.mark.parametrize("gone", [{}, {"load_1_power": "sensor"}])
def test_home_assistant_itself_accepts_the_payload(tmp_path: Path, gone: dict[str, str]) -> None:
    assert HOME_ASSISTANT is not None
    script = (Path(__file__).parent / "home_assistant_check.py").read_text(encoding="utf-8")
    payload = Appearance(config(tmp_path)).payload(gone)
    done = subprocess.run([*shlex.split(HOME_ASSISTANT), "-c", script], input=payload, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    understood = json.loads(done.stdout)["understood"]
    assert understood["net_import"] == "sensor power W"
    assert understood["problem"] == "binary_sensor problem None"
    assert all(understood[name] == "removed" for name in gone)


def test_a_password_that_others_may_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "home.password").write_text("secret word")
    (tmp_path / "home.password").chmod(0o644)
    made = config(tmp_path, broker=MqttSettings(login=Login(user="commonwatt", password_file="home.password")))
    with pytest.raises(ConfigurationError, match=r"home\.password: .*chmod 600.* - at \$\.home_assistant\.broker") as refused:
        open_bridge(made, tmp_path)
    assert "secret word" not in str(refused.value)
    (tmp_path / "home.password").chmod(0o600)
    assert open_bridge(made, tmp_path) is not None


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
async def test_a_real_broker_keeps_the_household_until_it_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped connection introduces the house, its last will marks it unavailable, and `--remove` clears what is retained."""
    with Broker() as broker:
        made = config(tmp_path, broker=MqttSettings(port=broker.port))
        world = World(tmp_path, config=made)
        bridge = open_bridge(made, tmp_path)
        assert bridge is not None
        await world.agent.start()
        await bridge.start()
        ear = MqttBus(MqttSettings(port=broker.port), client_id="home-assistant")
        for topic in (CONFIG_TOPIC, STATE_TOPIC, AVAILABILITY_TOPIC):
            ear.subscribe(topic)
        await ear.start()
        heard: dict[str, bytes] = {}
        async with asyncio.timeout(30.0):
            while heard.keys() < {CONFIG_TOPIC, STATE_TOPIC, AVAILABILITY_TOPIC}:
                bridge.cycle(await world.agent.step())
                world.live(10.0)
                await ear.wait(0.1)
                heard.update({message.topic: message.payload for message in ear.receive()})
            assert heard[AVAILABILITY_TOPIC] == b"online"
            await bridge.stop()
            while heard[AVAILABILITY_TOPIC] != b"offline":
                await ear.wait(0.1)
                heard.update({message.topic: message.payload for message in ear.receive()})
            assert await forget_household(made, tmp_path)
            while heard[CONFIG_TOPIC] != b"" or heard[AVAILABILITY_TOPIC] != b"":
                await ear.wait(0.1)
                heard.update({message.topic: message.payload for message in ear.receive()})
        await ear.stop()
        late = MqttBus(MqttSettings(port=broker.port), client_id="late")
        late.subscribe("#")
        await late.start()
        assert not await late.wait(0.5)
        await late.stop()
        path = tmp_path / "house.toml"
        path.write_text(toml_text(made), encoding="utf-8")
        assert await asyncio.to_thread(edge_main, ["home-assistant", "--config", str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["device"]["identifiers"] == ["commonwatt_street_home-01"]
        assert await asyncio.to_thread(edge_main, ["home-assistant", "--config", str(path), "--remove"]) == 0
    assert capsys.readouterr().out == f"removed from 127.0.0.1:{broker.port}\n"
