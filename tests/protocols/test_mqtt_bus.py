"""The MQTT shell against a real Mosquitto."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from hil.broker import Broker, find_mosquitto
from hil.ingest_packets import connect_packet
from protocols.bus import BusMessage
from protocols.mqtt_bus import MqttBus, MqttSettings

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run `commonwatt-hil broker --install`")


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running


def settings(broker: Broker, **changes: float) -> MqttSettings:
    return MqttSettings(port=broker.port, **{"backoff_min_s": 0.05, "backoff_max_s": 0.2, **changes})  # type: ignore[arg-type]


async def connected(bus: MqttBus, session: int = 1) -> MqttBus:
    async with asyncio.timeout(10.0):
        while not (bus.connected and bus.sessions >= session):
            await asyncio.sleep(0.01)
    return bus


async def arrivals(bus: MqttBus, count: int) -> list[BusMessage]:
    messages: list[BusMessage] = []
    async with asyncio.timeout(10.0):
        while len(messages) < count:
            await bus.wait(1.0)
            messages += bus.receive()
    return messages


@pytest.fixture
async def pair(broker: Broker) -> AsyncIterator[tuple[MqttBus, MqttBus]]:
    receiver = MqttBus(settings(broker), client_id="receiver")
    sender = MqttBus(settings(broker), client_id="sender")
    receiver.subscribe("test/#")
    await receiver.start()
    await sender.start()
    await connected(receiver)
    await connected(sender)
    yield sender, receiver
    await sender.stop()
    await receiver.stop()


async def test_messages_arrive_in_order_with_their_properties(pair: tuple[MqttBus, MqttBus]) -> None:
    sender, receiver = pair
    for number in range(500):
        sender.publish(BusMessage(topic="test/a", payload=str(number).encode(), properties={"sig": "s", "key": "k"}))
    assert await sender.flush(10.0)
    messages = await arrivals(receiver, 500)
    assert [int(message.payload) for message in messages] == list(range(500))
    assert messages[0].properties == {"sig": "s", "key": "k"}


async def test_a_late_subscriber_gets_what_is_retained_and_nothing_else(broker: Broker, pair: tuple[MqttBus, MqttBus]) -> None:
    sender, _ = pair
    sender.publish(BusMessage(topic="test/kept", payload=b"1", retain=True))
    sender.publish(BusMessage(topic="test/gone", payload=b"2"))
    assert await sender.flush(10.0)
    late = MqttBus(settings(broker), client_id="late")
    late.subscribe("test/#")
    await late.start()
    [message] = await arrivals(late, 1)
    assert message.topic == "test/kept"
    assert message.retain
    await late.stop()


async def test_after_a_broker_restart_everybody_is_back_and_the_outbox_is_sent(
    broker: Broker, pair: tuple[MqttBus, MqttBus]
) -> None:
    sender, receiver = pair
    broker.stop()
    async with asyncio.timeout(10.0):
        while sender.connected or receiver.connected:
            await asyncio.sleep(0.01)
    sender.publish(BusMessage(topic="test/meanwhile", payload=b"kept"))
    broker.start()
    await connected(receiver, session=2)
    await connected(sender, session=2)
    [message] = await arrivals(receiver, 1)
    assert message.payload == b"kept"
    assert sender.dropped == 0


async def test_what_expires_while_the_broker_is_away_is_dropped_and_counted(broker: Broker, pair: tuple[MqttBus, MqttBus]) -> None:
    sender, receiver = pair
    broker.stop()
    async with asyncio.timeout(10.0):
        while sender.connected:
            await asyncio.sleep(0.01)
    sender.publish(BusMessage(topic="test/a", payload=b"old", expiry_s=0))
    sender.publish(BusMessage(topic="test/a", payload=b"new", expiry_s=600))
    broker.start()
    await connected(sender, session=2)
    [message] = await arrivals(receiver, 1)
    assert message.payload == b"new"
    assert sender.dropped == 1


async def test_the_queue_for_an_absent_broker_is_bounded(broker: Broker) -> None:
    bus = MqttBus(MqttSettings(port=broker.port, queue_limit=10), client_id="bounded")
    for _ in range(25):
        bus.publish(BusMessage(topic="test/a", payload=b"x"))
    assert bus.dropped == 15


MORTAL = """
import asyncio, sys
from protocols.bus import BusMessage
from protocols.mqtt_bus import MqttBus, MqttSettings

async def live():
    will = BusMessage(topic="test/will", payload=b"offline", retain=True, properties={"sig": "w"})
    bus = MqttBus(MqttSettings(port=int(sys.argv[1])), client_id="mortal", will=lambda: will)
    await bus.start()
    bus.publish(BusMessage(topic="test/alive", payload=b"yes"))
    await asyncio.sleep(60.0)

asyncio.run(live())
"""


async def test_a_client_that_is_killed_leaves_its_will(broker: Broker, pair: tuple[MqttBus, MqttBus]) -> None:
    _, receiver = pair
    mortal = await asyncio.create_subprocess_exec(sys.executable, "-c", MORTAL, str(broker.port))
    [alive] = await arrivals(receiver, 1)
    assert alive.topic == "test/alive"
    mortal.kill()
    await mortal.wait()
    [will] = await arrivals(receiver, 1)
    assert (will.topic, will.payload, will.properties) == ("test/will", b"offline", {"sig": "w"})


async def test_a_qos_1_message_waits_for_a_client_that_is_away(broker: Broker, pair: tuple[MqttBus, MqttBus]) -> None:
    sender, _ = pair
    first = MqttBus(settings(broker), client_id="sleeper")
    first.subscribe("test/#")
    await first.start()
    await connected(first)
    await asyncio.sleep(0)
    sender.publish(BusMessage(topic="test/marker", payload=b"0"))
    await arrivals(first, 1)
    await first.stop()
    sender.publish(BusMessage(topic="test/a", payload=b"waited"))
    assert await sender.flush(10.0)
    again = MqttBus(settings(broker), client_id="sleeper")
    await again.start()
    [message] = await arrivals(again, 1)
    assert message.payload == b"waited"
    await again.stop()


async def test_starting_does_not_wait_for_a_broker_that_is_not_there() -> None:
    bus = MqttBus(MqttSettings(port=1), client_id="lonely")
    async with asyncio.timeout(1.0):
        await bus.start()
        assert not bus.connected
        assert not await bus.wait(0.01)
    await bus.stop()


async def test_a_command_that_nobody_had_time_to_store_comes_again_after_a_power_cut(broker: Broker) -> None:
    sender = await started(MqttBus(settings(broker), client_id="sender"))
    first = await started(node(broker))
    sender.publish(BusMessage(topic="test/control", payload=b"stored"))
    assert [m.payload for m in await arrivals(first, 1)] == [b"stored"]
    assert first.receive() == []
    sender.publish(BusMessage(topic="test/control", payload=b"tighten"))
    sender.publish(BusMessage(topic="test/other", payload=b"chat"))
    assert sorted(m.payload for m in await arrivals(first, 2)) == [b"chat", b"tighten"]
    second = await started(node(broker))
    assert [m.payload for m in await arrivals(second, 1)] == [b"tighten"]
    assert second.receive() == []
    await second.stop()
    third = await started(node(broker))
    sender.publish(BusMessage(topic="test/control", payload=b"later"))
    assert [m.payload for m in await arrivals(third, 1)] == [b"later"]
    for bus in (first, third, sender):
        await bus.stop()


def node(broker: Broker) -> MqttBus:
    bus = MqttBus(settings(broker, backoff_min_s=30.0, backoff_max_s=60.0), client_id="node", kept_until_handled="test/control")
    bus.subscribe("test/#")
    return bus


async def started(bus: MqttBus) -> MqttBus:
    await bus.start()
    return await connected(bus)


async def test_what_paho_cannot_read_keeps_nobody_from_the_next_message(broker: Broker, pair: tuple[MqttBus, MqttBus]) -> None:
    sender, receiver = pair
    body = b"\0\6test/a\0\7" + bytes((6, 3, 0, 3)) + "\ufeff".encode() + b"a content type that begins with a mark of byte order"
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    writer.write(connect_packet("stranger"))
    assert (await reader.readexactly(4))[0] == 0x20
    await reader.read(100)
    writer.write(bytes((0x32, len(body))) + body)
    assert (await reader.read(100))[0] == 0x40
    sender.publish(BusMessage(topic="test/a", payload=b"after it"))
    assert [message.payload for message in await arrivals(receiver, 1)] == [b"after it"]
    assert receiver.sessions == 1 and receiver.dropped == 1
    writer.close()
    await writer.wait_closed()
