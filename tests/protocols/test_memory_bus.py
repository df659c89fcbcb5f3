"""The broker in memory does what the system relies on from MQTT."""

from __future__ import annotations

from protocols.bus import BusMessage
from protocols.memory_bus import MemoryBroker


def message(topic: str, payload: bytes = b"x", retain: bool = False) -> BusMessage:
    return BusMessage(topic=topic, payload=payload, retain=retain)


async def test_a_message_reaches_each_subscriber_once_and_in_order() -> None:
    broker = MemoryBroker()
    a, b = broker.client(), broker.client()
    await a.start()
    await b.start()
    a.subscribe("x/#")
    a.subscribe("x/y")
    for number in range(3):
        b.publish(message("x/y", str(number).encode()))
    assert [m.payload for m in a.receive()] == [b"0", b"1", b"2"]
    assert a.receive() == []
    assert b.receive() == []


async def test_retained_messages_meet_a_late_subscriber_and_can_be_erased() -> None:
    broker = MemoryBroker()
    a, b = broker.client(), broker.client()
    await a.start()
    await b.start()
    a.publish(message("x/1", retain=True))
    a.publish(message("x/2", retain=True))
    a.publish(message("x/2", b"", retain=True))
    a.publish(message("x/3"))
    b.subscribe("x/+")
    assert [m.topic for m in b.receive()] == ["x/1"]


async def test_what_is_published_while_cut_off_is_sent_on_return_and_the_will_is_published() -> None:
    broker = MemoryBroker()
    watcher = broker.client()
    await watcher.start()
    watcher.subscribe("#")
    client = broker.client(will=lambda: message("will", b"offline", retain=True))
    await client.start()
    client.cut()
    client.publish(message("x", b"late"))
    assert [m.topic for m in watcher.receive()] == ["will"]
    client.connect()
    assert [m.payload for m in watcher.receive()] == [b"late"]
    assert client.sessions == 2


async def test_leaving_in_order_publishes_no_will() -> None:
    broker = MemoryBroker()
    watcher = broker.client()
    await watcher.start()
    watcher.subscribe("#")
    client = broker.client(will=lambda: message("will"))
    await client.start()
    await client.stop()
    assert watcher.receive() == []
