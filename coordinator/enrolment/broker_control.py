"""Telling a running Mosquitto that its lists changed, and cutting a revoked name off. A shell: signals, sockets, the broker's log.

SIGHUP makes Mosquitto 2 read the access list again, which silences a revoked name at once on the connections that it has, and the
revocation list, which refuses it from then on. What is silenced is still a connected socket, so the coordinator also takes over its
client identifiers (MQTT 5, section 3.1.4: the server disconnects the older client) with a clean start, which removes the sessions.
The identifiers are those that the broker's log shows for the name, whatever program used them.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import time
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from coordinator.enrolment.folder import Folder
from coordinator.errors import EnrolmentError
from protocols.mqtt_bus import MqttSettings, TlsFiles, tls_context

LOG_TAIL_BYTES: Final = 16 * 1024 * 1024
TAKE_OVER_TIMEOUT_S: Final = 10.0
MAX_CLIENTS: Final = 256
_CONNECTED = re.compile(rb"New client connected from \S+ as (.+) \(p\d, c\d, k\d+, u'([^']{1,80})'\)\.$")


def broker_pid(folder: Folder, name: str = "mosquitto") -> int | None:
    """Process id of a broker of the community while it runs here: the one of its pid file, if that process is a Mosquitto."""
    try:
        pid = int((folder.broker / f"{name}.pid").read_text(encoding="ascii").strip())
        program = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return pid if program == "mosquitto" else None


def reload_brokers(folder: Folder) -> bool:
    """Make the brokers read their lists again; False where the nodes' broker does not run here, and then it reads them when it starts."""
    for name in ("mosquitto", "page"):
        pid = broker_pid(folder, name)
        try:
            if pid is not None:
                os.kill(pid, signal.SIGHUP)
        except OSError as error:
            raise EnrolmentError(
                f"the lists are written, yet the broker (process {pid}) could not be told: {error.strerror}; send it SIGHUP, or restart it"
            ) from error
    return broker_pid(folder) is not None


def clients_of(log: bytes, name: str) -> list[str]:
    """Client identifiers that were used last by this name, as the broker's log tells."""
    users: dict[bytes, bytes] = {}
    for line in log.splitlines():
        found = _CONNECTED.search(line)
        if found is not None:
            users[found[1]] = found[2]
    wanted = name.encode("ascii")
    return [client.decode("utf-8", "replace") for client, user in users.items() if user == wanted][-MAX_CLIENTS:]


def cut_off(folder: Folder, settings: MqttSettings, name: str) -> int:
    """Take over, and end, every session of a name; returns how many client identifiers that were. Raises `EnrolmentError`."""
    path = folder.broker / "mosquitto.log"
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LOG_TAIL_BYTES, 0))
            log = file.read()
    except OSError as error:
        raise EnrolmentError(
            f"{name} is silenced and cannot come back; its open connections are not known: {path}: {error.strerror}; restart the broker"
        ) from error
    clients = clients_of(log, name)
    for client in clients:
        _take_over(settings, client)
    return len(clients)


def own_settings(folder: Folder) -> MqttSettings:
    """How the coordinator itself reaches the broker from this machine."""
    settings = folder.settings()
    files = TlsFiles(
        ca_file=str(folder.authority_certificate), cert_file=str(folder.keys / "tls.pem"), key_file=str(folder.keys / "tls.key")
    )
    return MqttSettings(host="localhost", port=settings.port, tls=files)


def _take_over(settings: MqttSettings, client_id: str) -> None:
    """Connect once under this identifier with a clean start, and leave."""
    assert settings.tls is not None
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.connect_timeout = 5.0
    client.tls_set_context(tls_context(settings.tls))
    try:
        client.connect(settings.host, settings.port, keepalive=10, clean_start=True)
        deadline_s = time.monotonic() + TAKE_OVER_TIMEOUT_S
        while not client.is_connected() and time.monotonic() < deadline_s:
            client.loop(0.2)
        client.disconnect()
        client.loop(0.2)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise EnrolmentError(
            f"silenced, and refused from now on, but its connection could not be ended: {error}; restart the broker"
        ) from error
    finally:
        client.loop_stop()
