"""paho's client with a short way in: what a coordinator of thousands of nodes does thousands of times a second.

Four things differ from paho, and nothing else. Bytes are read from the socket by the block instead of by the field (which also takes
everything out of a TLS record, whose rest no socket announces). A publication of the form that this system sends, with at most user
properties and an expiry, is taken apart here (MQTT 5.0, section 3.3) in a tenth of the time; every other form, and every one that is
wrong, goes the whole way through paho. Acknowledgements of a batch leave in one write. paho-mqtt is pinned to the versions whose inner
methods these are; `tests/protocols/test_mqtt_client.py` compares with paho's own decoding.

A publication that paho cannot read ends at the next one, not at the connection: it may be legal (paho refuses U+FEFF, which section
1.5.4 allows and brokers pass on), and a broker delivers it again to every new connection, so that whoever may publish anything could
keep every subscriber away. It is acknowledged and counted in `unreadable`.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from protocols.bus import BusMessage

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 65536
BURST_PACKETS: Final = 100
"""After so many packets the owner's loop has its turn."""

_PUBACK: Final = 0x40
_EXPIRY: Final = 2
_USER_PROPERTY: Final = 38
_FORBIDDEN: Final = "\0"

Take = Callable[[int, BusMessage], None]
"""What is done with a publication: its packet identifier (0 at QoS 0) and its content."""


class MqttClient(mqtt.Client):
    """See the module. `take` gets what is read the short way; what is not comes by `on_message`."""

    def __init__(self, *arguments: Any, take: Take, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.unreadable = 0
        self._take = take
        self._block = b""
        self._place = 0

    def reconnect(self) -> MQTTErrorCode:
        """As paho's; what an earlier connection left unread is gone."""
        self._block, self._place = b"", 0
        return super().reconnect()

    def read_burst(self) -> bool:
        """Read packets until none is whole, `BURST_PACKETS` at most. True where more has been read from the socket than was taken."""
        for _ in range(BURST_PACKETS):
            if self.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._place >= len(self._block):
                return False
        return True

    def acknowledge(self, identifiers: Iterable[int]) -> None:
        """PUBACK for each of these publications (section 3.4), in one write."""
        packets = b"".join(struct.pack("!BBH", _PUBACK, 2, identifier) for identifier in identifiers)
        if packets:
            self._packet_queue(_PUBACK, packets, 0, 1)

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._place >= len(self._block):
            self._block, self._place = super()._sock_recv(BLOCK_BYTES), 0
        begin = self._place
        self._place = min(begin + bufsize, len(self._block))
        return self._block[begin : self._place]

    def _handle_publish(self) -> MQTTErrorCode:
        first, body = self._in_packet["command"], bytes(self._in_packet["packet"])
        decoded = decode_publish(first, body)
        if decoded is not None:
            self._take(*decoded)
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            return super()._handle_publish()
        except (MalformedPacket, UnicodeDecodeError) as error:  # the latter is a topic that is no text
            return self._pass_over(first, body, error)

    def _pass_over(self, first: int, body: bytes, error: Exception) -> MQTTErrorCode:
        """Leave a publication unread whose packet identifier is known; without one, or at QoS 2, which nobody asks for, all is over."""
        qos, place = (first >> 1) & 3, 2 + int.from_bytes(body[:2], "big")
        if qos > 1 or len(body) < place + 2 * qos:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self.unreadable += 1
        log.info("a publication on %r cannot be read: %s", body[2:place], error)
        if qos == 1:
            self.acknowledge((int.from_bytes(body[place : place + 2], "big"),))
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def decode_publish(first: int, body: bytes) -> tuple[int, BusMessage] | None:
    """Packet identifier and content of a publication, by its first byte and what follows its length; None for any form but our own."""
    qos = (first >> 1) & 3
    place = 2 + int.from_bytes(body[:2], "big")
    identifier = int.from_bytes(body[place : place + 2], "big") if qos else 0
    begin = place + (2 if qos else 0)
    if qos > 1 or begin >= len(body):
        return None
    length, digits = _length(body, begin)
    end = begin + digits + length
    if digits == 0 or end > len(body):
        return None
    try:
        topic = body[2:place].decode("utf-8")
        properties = _properties(body, begin + digits, end)
    except UnicodeDecodeError:
        return None
    if properties is None:
        return None
    return identifier, BusMessage(topic=topic, payload=body[end:], qos=qos, retain=bool(first & 1), properties=properties)


def _length(body: bytes, place: int) -> tuple[int, int]:
    """A variable byte integer of at most two bytes and how many it has; none for a longer one, or one that is cut off."""
    value = body[place]
    if value < 0x80:
        return value, 1
    if place + 1 < len(body) and body[place + 1] < 0x80:
        return value & 0x7F | body[place + 1] << 7, 2
    return 0, 0


def _properties(body: bytes, place: int, end: int) -> dict[str, str] | None:
    """User properties; an expiry is the broker's affair. None for anything else."""
    found: dict[str, str] = {}
    expires = False
    while place < end:
        kind, place = body[place], place + 1
        if kind == _USER_PROPERTY:
            middle = place + 2 + int.from_bytes(body[place : place + 2], "big")
            after = middle + 2 + int.from_bytes(body[middle : middle + 2], "big")
            if after > end:
                return None
            name, value = body[place + 2 : middle].decode("utf-8"), body[middle + 2 : after].decode("utf-8")
            if _FORBIDDEN in name or _FORBIDDEN in value:
                return None
            found[name] = value
            place = after
        elif kind == _EXPIRY and not expires:
            expires = True
            place += 4
        else:
            return None
    return found if place == end else None
