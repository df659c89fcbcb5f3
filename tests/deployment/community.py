"""A community made by the commands themselves, its real brokers, and MQTT clients that say what the broker answered."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec
import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from coordinator.assembly import read_signer
from coordinator.cli import main as coordinator_main
from coordinator.config import load_config as load_coordinator
from coordinator.enrolment.authority import Authority, pem, private_pem
from coordinator.enrolment.folder import Folder
from coordinator.speaking import status_message
from edge.cli import main as edge_main
from hil.broker import _environment, _free_port, die_with_parent, find_mosquitto
from protocols.bus import BusMessage
from protocols.messages import DefaultControl, EnvelopeSchedule, SafetyState
from protocols.topics import control_topic

NAME = "street"
ROOT = f"commonwatt/1/{NAME}"
PATIENCE_S = 15.0


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something that another process does."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {patience_s} s for {what}"
        time.sleep(0.01)


class Community:
    """A folder that `init` made, on free ports."""

    def __init__(self, base: Path, *options: str) -> None:
        self.base = base
        self.port, self.websockets_port = _free_port(), _free_port()
        self.folder = Folder(base / "community")
        arguments = ["init", str(self.folder.root), "--community", NAME, "--network", "ieee33", "--host", "127.0.0.1"]
        arguments += ["--port", str(self.port), "--websockets-port", str(self.websockets_port), *options]
        if os.geteuid() == 0:
            arguments += ["--broker-user", "root"]
        assert coordinator_main(arguments) == 0

    def coordinator(self, command: str, *arguments: str) -> int:
        return coordinator_main([command, *arguments, "--folder", str(self.folder.root)])

    def bundle(self, node: str, connection: str) -> Path:
        path = self.base / f"{node}.bundle"
        assert self.coordinator("enrol", node, "--connection", connection, "--out", str(path)) == 0
        return path

    def request(self, node: str, bundle: Path) -> Path:
        path = self.base / f"{node}.request"
        assert edge_main(["enrol", str(bundle), "--folder", str(self.identity(node)), "--out", str(path)]) == 0
        return path

    def enrol(self, node: str, connection: str) -> Path:
        """All four steps; returns where the identity in use is."""
        request = self.request(node, self.bundle(node, connection))
        self.answer(node, request)
        return self.identity(node) / "current"

    def answer(self, node: str, request: Path) -> None:
        answer = self.base / f"{node}.answer"
        assert self.coordinator("accept", str(request), "--out", str(answer)) == 0
        config = self.base / f"{node}.toml"
        assert edge_main(["enrol", str(answer), "--folder", str(self.identity(node)), "--config", str(config)]) == 0

    def identity(self, node: str) -> Path:
        return self.base / node

    def certified(self, name: str, authority: Authority, folder: str, *, now_s: float, days: int = 1) -> Path:
        """A folder with a certificate that some authority made for some name."""
        path = self.base / folder
        path.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(path, private_pem(key), pem(authority.issue_client(name, key.public_key(), now_s=now_s, days=days)))
        return path

    def administrator(self, name: str = "operator") -> Path:
        """The administrator's PKCS #12, unpacked as a browser would."""
        passphrase = (self.folder.administrators / f"{name}.passphrase").read_bytes().strip()
        data = (self.folder.administrators / f"{name}.p12").read_bytes()
        key, certificate, _ = serialization.pkcs12.load_key_and_certificates(data, passphrase)
        assert isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(certificate, x509.Certificate)
        path = self.base / f"administrator-{name}"
        path.mkdir(exist_ok=True)
        _write_key(path, private_pem(key), pem(certificate))
        return path

    def page(self) -> Path:
        """The identity of the bridge to the browsers' broker."""
        path = self.base / "bridge"
        path.mkdir(exist_ok=True)
        for suffix in ("pem", "key"):
            (path / f"tls.{suffix}").write_bytes((self.folder.broker / f"page.{suffix}").read_bytes())
        return path


class Brokers:
    """The brokers of a community, as the operator starts them."""

    def __init__(self, community: Community, *names: str) -> None:
        self._community = community
        self._names = names
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Brokers:
        program = find_mosquitto()
        assert program is not None
        for name in self._names:
            configuration = self._community.folder.broker / f"{name}.conf"
            child = subprocess.Popen(
                [str(program), "-c", str(configuration)],
                env=_environment(program),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
            self._children.append(child)
            pid_file = self._community.folder.broker / f"{name}.pid"
            port = self._community.port if name == "mosquitto" else self._community.websockets_port
            until(lambda pid_file=pid_file, port=port: pid_file.exists() and _listens(port), f"{name} to start")  # type: ignore[misc]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in self._children:
            child.kill()
            child.wait()


class Client:
    """One MQTT 5 client with some identity. `refused` is what stopped it from connecting."""

    def __init__(
        self, community: Community, identity: Path | None, client_id: str, *, websockets: bool = False, will: str | None = None
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.answers: dict[int, str] = {}
        self.connected = False
        self.lost = False
        self.refused = ""
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            transport="websockets" if websockets else "tcp",
            reconnect_on_failure=False,
        )
        if will is not None:
            self.client.will_set(will, will.encode(), qos=1)
        context = ssl.create_default_context(cafile=str(community.folder.authority_certificate))
        if identity is not None:
            context.load_cert_chain(identity / "tls.pem", identity / "tls.key")
        self.client.tls_set_context(context)
        self.client.on_connect = lambda c, u, flags, reason, p: self._on_connect(reason)
        self.client.on_disconnect = lambda c, u, flags, reason, p: self._on_disconnect(reason)
        self.client.on_message = lambda c, u, message: self.heard.append((message.topic, bytes(message.payload)))
        self.client.on_publish = lambda c, u, mid, reason, p: self.answers.__setitem__(mid, str(reason))
        self._subscribed: set[int] = set()
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self._subscribed.add(mid)
        try:
            self.client.connect("127.0.0.1", community.websockets_port if websockets else community.port)
        except (OSError, mqtt.WebsocketConnectionError) as error:
            self.refused = str(error)
            return
        self.client.loop_start()
        until(lambda: self.connected or self.lost, "an answer of the broker")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic_filter: str) -> None:
        _, mid = self.client.subscribe(topic_filter, qos=1)
        assert mid is not None
        until(lambda: mid in self._subscribed, "the subscription")

    def say(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> str:
        """Publish at QoS 1 and return the broker's reason."""
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        until(lambda: mid in self.answers, f"an acknowledgement on {topic}")
        return self.answers[mid]

    def die(self) -> None:
        """Lose the connection without a word."""
        sock = self.client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        until(lambda: self.lost, "the end of the connection")

    def _on_connect(self, reason: mqtt.ReasonCode) -> None:
        if reason.is_failure:
            self.refused = str(reason)
            self.lost = True
        else:
            self.connected = True

    def _on_disconnect(self, reason: mqtt.ReasonCode) -> None:
        if not self.connected:
            self.refused = self.refused or str(reason)
        self.lost = True


def handshake(community: Community, port: int, identity: Path) -> bool:
    """Whether a websocket opens on this port for this identity; a plain socket, because paho loses its own when none does."""
    context = ssl.create_default_context(cafile=str(community.folder.authority_certificate))
    context.load_cert_chain(identity / "tls.pem", identity / "tls.key")
    ask = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    ask += b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                secure.sendall(ask)
                return secure.recv(1024).startswith(b"HTTP/1.1 101")
        except OSError:
            return False


def refused(community: Community, identity: Path | None, client_id: str) -> bool:
    """Whether the broker takes no connection with this identity."""
    with Client(community, identity, client_id) as client:
        return not client.connected


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _write_key(path: Path, key_pem: bytes, certificate_pem: bytes) -> None:
    (path / "tls.pem").write_bytes(certificate_pem)
    (path / "tls.key").touch(mode=0o600)
    (path / "tls.key").write_bytes(key_pem)


class Voice:
    """What the coordinator would say, signed with its key and said with its certificate."""

    def __init__(self, community: Community) -> None:
        self._community = community
        config = load_coordinator(community.folder.configuration)
        key_file = str(community.folder.root / config.identity.key_file)
        self.signer = read_signer(msgspec.structs.replace(config, identity=msgspec.structs.replace(config.identity, key_file=key_file)))
        self.identity = community.base / "voice"
        self.identity.mkdir(exist_ok=True)
        for suffix in ("pem", "key"):
            (self.identity / f"tls.{suffix}").write_bytes((community.folder.keys / f"tls.{suffix}").read_bytes())

    def say(self, message: BusMessage) -> None:
        """Publish a sealed message, and wait until the broker has it."""
        with Client(self._community, self.identity, "voice") as client:
            self.say_through(client, message)

    def say_through(self, client: Client, message: BusMessage) -> None:
        """The same, over a connection that is open."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = list(message.properties.items())
        mid = client.client.publish(message.topic, message.payload, qos=1, retain=message.retain, properties=properties).mid
        until(lambda: mid in client.answers, f"an acknowledgement on {message.topic}")

    def status(self, state: SafetyState, time_s: float) -> None:
        """The coordinator's retained status."""
        self.say(status_message(self.signer, NAME, time_s, int(time_s * 1000), state))

    def control(self, node: str, message: DefaultControl | EnvelopeSchedule) -> None:
        """A default (retained) or a schedule for one node."""
        kind = "default" if isinstance(message, DefaultControl) else "envelope"
        self.say(self.signer.seal(control_topic(NAME, node, kind), message, retain=kind == "default"))
