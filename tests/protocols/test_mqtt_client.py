"""The short way in of the MQTT client: it says what paho says, takes what comes in any pieces, and leaves to paho what is not ours."""

from __future__ import annotations

import asyncio
import functools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish as paho_decode
from paho.mqtt.client import MQTTv5
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hil.ingest_packets import publish_packet, split_packets
from protocols.bus import BusMessage
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.mqtt_client import BURST_PACKETS, decode_publish

TEXT = st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=("Cs",)), max_size=60)
MESSAGES = st.builds(
    BusMessage,
    topic=st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=("Cs",)), min_size=1, max_size=60),
    payload=st.binary(max_size=300),
    expiry_s=st.integers(0, 2**32 - 1),
    properties=st.dictionaries(TEXT, TEXT, max_size=4),
)
CONNACK = bytes((0x20, 3, 0, 0, 0))


def by_paho(first: int, body: bytes) -> tuple[int, BusMessage]:
    packet = paho_decode(first, body, MQTTv5)
    return packet.mid, BusMessage(
        topic=packet.topic.decode(),
        payload=bytes(packet.payload),
        qos=packet.qos,
        retain=packet.retain,
        properties=dict(getattr(packet.properties, "UserProperty", [])),
    )


@given(MESSAGES, st.integers(1, 65535), st.booleans())
def test_a_publication_reads_as_paho_reads_it(message: BusMessage, identifier: int, retain: bool) -> None:
    [(_, body)], _ = split_packets(publish_packet(message, identifier))
    first = 0x32 | retain
    decoded = decode_publish(first, body)
    assert decoded == by_paho(first, body)
    assert decoded is not None and decoded[1].payload == message.payload and decoded[1].properties == message.properties


@given(MESSAGES, st.data())
def test_what_is_damaged_is_read_as_paho_reads_it_or_left_to_paho(message: BusMessage, data: st.DataObject) -> None:
    [(_, body)], _ = split_packets(publish_packet(message, 7))
    damaged = bytearray(body[: data.draw(st.integers(0, len(body)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    first = data.draw(st.sampled_from((0x30, 0x31, 0x32, 0x33, 0x3A, 0x34, 0x36)))
    decoded = decode_publish(first, bytes(damaged))
    if decoded is not None:
        assert decoded == by_paho(first, bytes(damaged))


@pytest.mark.parametrize("name, value", [("ContentType", "text/plain"), ("SubscriptionIdentifier", 3), ("TopicAlias", 1)])
def test_a_property_that_this_system_does_not_use_is_left_to_paho(name: str, value: Any) -> None:
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    setattr(properties, name, value)
    body = b"\0\1t\0\7" + bytes(properties.pack()) + b"payload"
    assert decode_publish(0x32, body) is None
    assert by_paho(0x32, body)[1].payload == b"payload"


def test_a_forbidden_text_is_left_to_paho_which_refuses_it() -> None:
    body = b"\0\1t\0\7" + bytes((9, 38)) + b"\0\2a\0\0\2bc" + b"payload"
    assert decode_publish(0x32, body) is None
    with pytest.raises(MalformedPacket):
        paho_decode(0x32, body, MQTTv5)


def test_a_mark_of_byte_order_is_text_like_any_other() -> None:
    text = b"\0\3\xef\xbb\xbf"
    decoded = decode_publish(0x32, b"\0\1t\0\7" + bytes((11, 38)) + text + text + b"payload")
    assert decoded == (7, BusMessage(topic="t", payload=b"payload", properties={"\ufeff": "\ufeff"}))


def test_an_expiry_that_is_said_twice_is_left_to_paho_which_refuses_it() -> None:
    body = b"\0\1t\0\7" + bytes((10, 2, 0, 0, 0, 9, 2, 0, 0, 0, 9)) + b"payload"
    assert decode_publish(0x32, body) is None
    with pytest.raises(MalformedPacket):
        paho_decode(0x32, body, MQTTv5)


async def test_publications_without_an_identifier_that_can_be_read_end_the_connection() -> None:
    for first, body in ((0x32, b"\0\1t\0"), (0x32, b"\0\x09t"), (0x34, b"\0\1t\0\7\1\3"), (0x36, b"\0\1t\0\7\0"), (0x32, b"\0")):
        ended = asyncio.Event()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, packet: bytes, ended: asyncio.Event) -> None:
            await reader.read(1000)
            writer.write(CONNACK + packet)
            while await reader.read(1000):
                pass
            writer.close()
            ended.set()

        packet = bytes((first, len(body))) + body
        server = await asyncio.start_server(functools.partial(broker, packet=packet, ended=ended), "127.0.0.1", 0)
        bus = MqttBus(MqttSettings(port=server.sockets[0].getsockname()[1]), client_id="reader")
        await bus.start()
        async with asyncio.timeout(10.0):
            await ended.wait()
        assert bus.receive() == [] and bus.dropped == 0
        await bus.stop()
        server.close()


@pytest.mark.parametrize("piece", [1_000_000, 1000, 7, 1])
async def test_everything_is_taken_in_order_in_whatever_pieces_it_comes_and_acknowledged_once(piece: int) -> None:
    count = 3 * BURST_PACKETS + 1
    sent = [BusMessage(topic="t/a", payload=b"%d" % number, expiry_s=9, properties={"n": str(number)}) for number in range(count)]
    stream = b"".join(publish_packet(message, number + 1) for number, message in enumerate(sent))
    acknowledged: list[int] = []
    done, leave, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK)
        for begin in range(0, len(stream), piece):
            writer.write(stream[begin : begin + piece])
            await writer.drain()
            await asyncio.sleep(0)
        rest = b""
        while len(acknowledged) < count:
            packets, rest = split_packets(rest + await reader.read(4096))
            acknowledged.extend(struct.unpack("!H", body)[0] for kind, body in packets if kind == 0x40)
        done.set()
        await leave.wait()
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    bus = MqttBus(MqttSettings(port=server.sockets[0].getsockname()[1]), client_id="reader", kept_until_handled="t/#")
    await bus.start()
    received: list[BusMessage] = []
    async with asyncio.timeout(20.0):
        while len(received) < count:
            await bus.wait(1.0)
            received += bus.receive()
        assert len(acknowledged) < count, "what was handed out last is not acknowledged before it is handled"
        assert bus.receive() == []
        await done.wait()
    assert [message.properties["n"] for message in received] == [str(number) for number in range(count)]
    assert acknowledged == list(range(1, count + 1))
    await bus.stop()
    server.close()
    leave.set()
    await closed.wait()
