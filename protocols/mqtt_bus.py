"""The one MQTT 5 shell: paho-mqtt driven by the asyncio loop of its owner.

Sockets are watched by the loop (no thread for each client: paho's own threads call `select`, which fails above 1024 descriptors).
Only connecting runs in a worker thread, because it blocks while a name resolves or a peer is silent. The session outlives the
connection (`session_expiry_s`), so QoS 1 messages to a client that is away wait at the broker; reconnection backs off with jitter until
the broker accepts it, so that neither a restart nor a refusal is a storm. Queues are bounded on both sides, and what does not fit or
cannot be read is counted in `dropped`.

A message that has been acknowledged is gone from the broker. What the owner must not lose to a power cut (`kept_until_handled`, a topic
filter) is therefore acknowledged one `receive` later than it was handed out: the owner has stored it by then, or gets it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import paho.mqtt.client as mqtt
from msgspec import Meta, Struct, structs
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from protocols.bus import BusMessage, Will
from protocols.errors import BusError
from protocols.files import read_private
from protocols.mqtt_client import MqttClient
from protocols.topics import matches

log = logging.getLogger(__name__)

MISC_PERIOD_S = 1.0
JITTER = (0.1, 1.0)
"""A reconnection waits so much of its backoff: wide, because all clients of a broker lose it in the same instant."""


class TlsFiles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mutual TLS: the authority that signed the broker, and this client's own certificate and key."""

    ca_file: str
    cert_file: str
    key_file: str


class Login(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name and the file that holds its password, for a broker on this machine that asks for one."""

    user: str
    password_file: str


class MqttSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker is and how long to be patient with it."""

    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    tls: TlsFiles | None = None
    login: Login | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    session_expiry_s: Annotated[int, Meta(ge=0, le=7 * 86400)] = 3600
    backoff_min_s: Annotated[float, Meta(ge=0.05, le=60.0)] = 2.0
    backoff_max_s: Annotated[float, Meta(ge=0.1, le=600.0)] = 20.0
    queue_limit: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000


class MqttBus:
    """`protocols.bus.Bus` over MQTT 5. Everything but connecting happens on the event loop that called `start`."""

    def __init__(
        self, settings: MqttSettings, *, client_id: str, will: Will | None = None, kept_until_handled: str | None = None
    ) -> None:
        self._settings = settings
        self._filters: list[str] = []
        self._inbox: deque[BusMessage] = deque()
        self._kept_filter = kept_until_handled
        self._kept: list[tuple[int, int]] = []
        self._handed_out: list[tuple[int, int]] = []
        self._at_once: list[int] = []
        self._outbox: deque[tuple[float, BusMessage]] = deque()
        self._unacknowledged: set[int] = set()
        self._arrived = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._lost = asyncio.Event()
        self._connected = False
        self._sessions = 0
        self._dropped = 0
        self._jitter = random.Random(client_id)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._will = will
        self._client = self._make_client(client_id)

    def _make_client(self, client_id: str) -> MqttClient:
        client = MqttClient(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True, take=self._take
        )
        client.max_queued_messages_set(self._settings.queue_limit)
        client.max_inflight_messages_set(200)
        client.connect_timeout = 5.0
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        if self._settings.tls is not None:
            client.tls_set_context(tls_context(self._settings.tls))
        login = self._settings.login
        if login is not None:
            client.username_pw_set(login.user, read_private(Path(login.password_file)).strip().decode("ascii", "replace"))
        return client

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def sessions(self) -> int:
        return self._sessions

    @property
    def dropped(self) -> int:
        return self._dropped + self._client.unreadable

    async def start(self) -> None:
        if self._task is not None:
            raise BusError("the bus is started already")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep_connected())

    async def stop(self) -> None:
        if self._task is None:
            return
        self._acknowledge_handled()
        await self.flush(1.0)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        self._client.disconnect()
        self._connected = False

    def publish(self, message: BusMessage) -> None:
        if self._connected:
            self._send(message)
        elif len(self._outbox) < self._settings.queue_limit:
            self._outbox.append((self._deadline(message), message))
        else:
            self._dropped += 1

    def subscribe(self, topic_filter: str) -> None:
        if topic_filter in self._filters:
            return
        self._filters.append(topic_filter)
        if self._connected:
            self._client.subscribe(topic_filter, qos=1)

    def receive(self) -> list[BusMessage]:
        self._acknowledge_handled()
        self._handed_out, self._kept = self._kept, []
        messages = list(self._inbox)
        self._inbox.clear()
        self._arrived.clear()
        return messages

    async def wait(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        return bool(self._inbox)

    async def flush(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._unacknowledged or self._outbox:
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        return not self._unacknowledged and not self._outbox

    async def _keep_connected(self) -> None:
        backoff_s = self._settings.backoff_min_s
        while True:
            self._lost.clear()
            sessions = self._sessions
            if await self._connect():
                while not self._lost.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(MISC_PERIOD_S):
                            await self._lost.wait()
                    self._client.loop_misc()
            if self._sessions != sessions:
                backoff_s = self._settings.backoff_min_s
            await asyncio.sleep(backoff_s * self._jitter.uniform(*JITTER))
            backoff_s = min(2.0 * backoff_s, self._settings.backoff_max_s)

    async def _connect(self) -> bool:
        if self._will is not None:
            will = self._will()
            self._client.will_set(
                will.topic, will.payload, will.qos, will.retain, _properties(PacketTypes.WILLMESSAGE, will)
            )
        properties = _empty_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._settings.session_expiry_s

        def connect() -> None:
            self._client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                clean_start=False,
                properties=properties,
            )

        try:
            await asyncio.to_thread(connect)
        except (OSError, ValueError) as error:
            log.info("broker %s:%d is not reachable: %s", self._settings.host, self._settings.port, error)
            return False
        return True

    def _send(self, message: BusMessage) -> None:
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, _properties(PacketTypes.PUBLISH, message)
        )
        if info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            self._dropped += 1
        elif message.qos > 0:
            self._unacknowledged.add(info.mid)

    def _deadline(self, message: BusMessage) -> float:
        if message.expiry_s is None or self._loop is None:
            return float("inf")
        return self._loop.time() + message.expiry_s

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            log.warning("broker %s:%d refused the connection: %s", self._settings.host, self._settings.port, reason)
            return
        self._connected = True
        self._sessions += 1
        for topic_filter in self._filters:
            client.subscribe(topic_filter, qos=1)
        assert self._loop is not None
        now = self._loop.time()
        while self._outbox:
            deadline, message = self._outbox.popleft()
            if deadline < now:
                self._dropped += 1
            else:
                self._send(message)
        log.info("connected to broker %s:%d", self._settings.host, self._settings.port)

    def _on_connect_fail(self, client: mqtt.Client, userdata: Any) -> None:
        self._signal_lost()

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.DisconnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if self._connected:
            log.info("lost broker %s:%d: %s", self._settings.host, self._settings.port, reason)
        self._signal_lost()

    def _acknowledge_handled(self) -> None:
        """Packet identifiers belong to one connection: what an earlier one delivered is delivered again by this one."""
        if self._connected:
            self._client.acknowledge(mid for session, mid in self._handed_out if session == self._sessions)
        self._handed_out = []

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if message.qos == 2:
            client.ack(message.mid, message.qos)
        pairs = getattr(message.properties, "UserProperty", None) or []
        content = BusMessage(
            topic=message.topic, payload=bytes(message.payload), qos=message.qos, retain=message.retain, properties=dict(pairs)
        )
        self._take(message.mid, content)

    def _take(self, mid: int, message: BusMessage) -> None:
        full = len(self._inbox) >= self._settings.queue_limit
        if message.qos == 1:
            if self._kept_filter is not None and not full and matches(self._kept_filter, message.topic):
                self._kept.append((self._sessions, mid))
            else:
                self._at_once.append(mid)
        if full:
            self._dropped += 1
            return
        self._inbox.append(message)
        self._arrived.set()

    def _on_publish(self, client: mqtt.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        self._unacknowledged.discard(mid)
        if reason.is_failure:
            log.warning("broker refused a publication: %s", reason)
        if not self._unacknowledged:
            self._acknowledged.set()

    def _on_socket_open(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        self._on_loop(self._watch, sock)

    def _watch(self, sock: Any) -> None:
        if self._loop is not None and sock.fileno() >= 0:
            self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        more = self._client.read_burst()
        self._client.acknowledge(self._at_once)
        self._at_once.clear()
        if more and self._loop is not None:
            self._loop.call_soon(self._read)

    def _on_socket_close(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        self._on_loop(self._unwatch, sock)
        self._on_loop(self._signal_lost)

    def _unwatch(self, sock: Any) -> None:
        if self._loop is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _on_register_write(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        self._on_loop(self._watch_write, sock)

    def _watch_write(self, sock: Any) -> None:
        if self._loop is not None and sock.fileno() >= 0:
            self._loop.add_writer(sock, self._client.loop_write)

    def _on_unregister_write(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        self._on_loop(self._unwatch_write, sock)

    def _unwatch_write(self, sock: Any) -> None:
        if self._loop is not None:
            self._loop.remove_writer(sock)

    def _signal_lost(self) -> None:
        self._connected = False
        self._lost.set()

    def _on_loop(self, function: Any, *arguments: Any) -> None:
        """Call on the event loop: at once when already there, else handed over from the connecting thread."""
        assert self._loop is not None
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            function(*arguments)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _properties(packet_type: int, message: BusMessage) -> Properties:
    properties = _empty_properties(packet_type)
    if message.properties:
        properties.UserProperty = list(message.properties.items())
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties


def _empty_properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Trust in this authority alone, and this client's certificate. Raises `BusError`; a key that others may read is refused."""
    for path in (files.ca_file, files.cert_file, files.key_file):
        if not Path(path).is_file():
            raise BusError(f"{path}: no such file (TLS of the broker connection)")
    if Path(files.key_file).stat().st_mode & 0o077:
        raise BusError(f"{files.key_file}: a private key must not be accessible to group or others (chmod 600)")
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.cert_file, files.key_file)
    except (OSError, ssl.SSLError) as error:
        raise BusError(f"{files.cert_file}, {files.key_file}, {files.ca_file}: not usable for TLS: {error}") from error
    return context


def with_files_beside(settings: MqttSettings, folder: Path) -> MqttSettings:
    """The same settings with the files of TLS and login taken from `folder`, where the configuration lies; absolute paths stay."""
    tls, login = settings.tls, settings.login
    if tls is not None:
        tls = TlsFiles(**{name: str(folder / path) for name, path in structs.asdict(tls).items()})
    if login is not None:
        login = structs.replace(login, password_file=str(folder / login.password_file))
    return structs.replace(settings, tls=tls, login=login)
