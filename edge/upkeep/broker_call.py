"""One call to the broker as this node would make it, and why it fails where it does: name, port, TLS, or the broker's own refusal. A shell.

A client identifier of its own takes no session from the running edge. Nothing is published.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import EdgeConfig
from edge.errors import EdgeError
from edge.runner import keys_of
from protocols import codec
from protocols.bus import BusMessage
from protocols.errors import ProtocolError
from protocols.messages import Status
from protocols.mqtt_bus import MqttSettings, tls_context, with_files_beside
from protocols.signing import Verifier
from protocols.topics import coordinator_status_topic

PATIENCE_S: Final = 8.0
HEARING_S: Final = 1.0
NOT_LET_IN: Final = "is this node revoked, or its certificate expired? ask the operator; then commonwatt-edge enrol BUNDLE --replace"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `trouble` is empty where the broker let the node in; `coordinator` and `heard_s` are its retained status."""

    trouble: str = ""
    remedy: str = ""
    secured: str = ""
    coordinator: str | None = None
    heard_s: float | None = None


async def call_broker(config: EdgeConfig, folder: Path) -> Call:
    """Connect, listen for the coordinator's retained status, and leave."""
    return await asyncio.to_thread(_call, config, folder)


def _call(config: EdgeConfig, folder: Path) -> Call:
    settings = with_files_beside(config.broker, folder)
    context: ssl.SSLContext | None = None
    if settings.tls is not None:
        try:
            context = tls_context(settings.tls)
        except ProtocolError as error:
            return Call(trouble=str(error), remedy="commonwatt-edge enrol BUNDLE; run the doctor as root or as commonwatt-edge")
    refused = _reach(settings, context)
    if refused is not None:
        return refused
    try:
        _, verifier = keys_of(config, folder)
    except (EdgeError, ProtocolError):
        return _mqtt(config, settings, context, None)
    return _mqtt(config, settings, context, verifier)


def _reach(settings: MqttSettings, context: ssl.SSLContext | None) -> Call | None:
    """The way to the broker, one step after the other; None where it is open."""
    try:
        with socket.create_connection((settings.host, settings.port), timeout=PATIENCE_S) as plain:
            if context is not None:
                with context.wrap_socket(plain, server_hostname=settings.host):
                    pass
    except socket.gaierror as error:
        return Call(trouble=f"the name cannot be resolved: {error.strerror}", remedy="name server, or the name in $.broker.host?")
    except ssl.SSLCertVerificationError as error:
        remedy = "this node's clock? another broker at this address? ask the operator"
        return Call(trouble=f"the broker's certificate is not believed: {error.verify_message}", remedy=remedy)
    except ssl.SSLError as error:
        return Call(trouble=f"TLS fails: {error.reason}", remedy="is a broker with TLS at this port?")
    except TimeoutError:
        return Call(trouble=f"no answer within {PATIENCE_S:g} s", remedy="network, firewall, or is the machine down?")
    except OSError as error:
        return Call(trouble=f"cannot connect: {error.strerror or error}", remedy="is the broker running, and is the address right?")
    return None


def _mqtt(config: EdgeConfig, settings: MqttSettings, context: ssl.SSLContext | None, verifier: Verifier | None) -> Call:
    """Connect as this node, and take the retained status."""
    outcome: dict[str, ReasonCode] = {}
    statuses: list[Status] = []
    name = f"{config.identity.node}-doctor-{os.getpid()}"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    topic = coordinator_status_topic(config.identity.community)

    def on_connect(_client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object) -> None:
        outcome["connected"] = reason
        client.subscribe(topic, qos=1)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        status = _believed(message, verifier)
        if status is not None:
            statuses.append(status)

    client.on_connect = on_connect
    client.on_message = on_message
    if context is not None:
        client.tls_set_context(context)
    client.connect_timeout = PATIENCE_S
    try:
        client.connect(settings.host, settings.port, keepalive=30)
        _turn(client, lambda: "connected" in outcome, PATIENCE_S)
        if "connected" in outcome and not outcome["connected"].is_failure:
            _turn(client, lambda: len(statuses) > 0, HEARING_S)
    except OSError as error:
        return Call(trouble=f"the broker ends the connection: {error}", remedy=NOT_LET_IN)
    finally:
        client.disconnect()
    reason = outcome.get("connected")
    if reason is None:
        return Call(trouble="the broker ends the connection without a word", remedy=NOT_LET_IN)
    if reason.is_failure:
        return Call(trouble=f"the broker refuses this node: {reason}", remedy=NOT_LET_IN)
    newest = max(statuses, key=lambda status: status.time_s, default=None)
    return Call(
        secured="mutual TLS" if context is not None else "an open connection",
        coordinator=None if newest is None else newest.state.value,
        heard_s=None if newest is None else newest.time_s,
    )


def _believed(message: mqtt.MQTTMessage, verifier: Verifier | None) -> Status | None:
    """A status that the coordinator signed, also where this clock is behind; that is for the doctor to say."""
    pairs = getattr(message.properties, "UserProperty", None) or []
    raw = BusMessage(topic=message.topic, payload=bytes(message.payload), retain=message.retain, properties=dict(pairs))
    try:
        made_s = codec.decode(raw.payload, topic=raw.topic).time_s
        content = None if verifier is None else verifier.open(raw, max(time.time(), made_s))
    except ProtocolError:
        return None
    return content if isinstance(content, Status) else None


def _turn(client: mqtt.Client, done: Callable[[], bool], patience_s: float) -> None:
    """Let the client work until it is done, the connection is gone, or patience ends."""
    deadline_s = time.monotonic() + patience_s
    while not done() and time.monotonic() < deadline_s:
        if client.loop(timeout=0.1) != mqtt.MQTT_ERR_SUCCESS:
            return
