"""The four MQTT 5 packets that a reporting edge needs, as bytes and back (OASIS MQTT 5.0, sections 2.1, 3.1 to 3.4). Pure.

A client library costs a load generator five times what a report's way through the sockets does; the edges of a measurement must not
take the processor from the coordinator that is measured.
"""

from __future__ import annotations

from typing import Any, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocols.bus import BusMessage

CONNACK: Final = 0x20
PUBACK: Final = 0x40
_CLEAN_START: Final = 0x02
_QOS_1: Final = 0x02


def connect_packet(client_id: str) -> bytes:
    """CONNECT (section 3.1): a new session, no keep-alive."""
    header = _text("MQTT") + bytes((5, _CLEAN_START)) + (0).to_bytes(2, "big") + b"\0"
    return _packet(0x10, header + _text(client_id))


def publish_packet(message: BusMessage, identifier: int) -> bytes:
    """PUBLISH at QoS 1 (section 3.3)."""
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = list(message.properties.items())
    properties.MessageExpiryInterval = message.expiry_s
    return _packet(0x30 | _QOS_1, _text(message.topic) + identifier.to_bytes(2, "big") + bytes(properties.pack()) + message.payload)


def split_packets(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole packets in what has arrived, as type and body, and what is left over."""
    packets: list[tuple[int, bytes]] = []
    begin = 0
    while begin < len(data):
        length, digit = 0, 0
        while True:
            place = begin + 1 + digit
            if place >= len(data):
                return packets, data[begin:]
            length |= (data[place] & 0x7F) << (7 * digit)
            digit += 1
            if data[place] < 0x80:
                break
        end = begin + 1 + digit + length
        if end > len(data):
            break
        packets.append((data[begin] & 0xF0, data[begin + 1 + digit : end]))
        begin = end
    return packets, data[begin:]


def _packet(first: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes((first,)) + bytes(digits) + body


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return len(data).to_bytes(2, "big") + data
