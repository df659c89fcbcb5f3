"""What comes over MQTT: at the door (signatures) and behind it (what a trusted node may say wrongly), at edge, coordinator and page."""

from __future__ import annotations

import base64
import random
from pathlib import Path

from coordinator.page.board import Board
from coordinator.page.estimate import Estimator
from protocols.bus import BusMessage
from protocols.errors import Refusal
from protocols.messages import SafetyState, Status, Telemetry
from protocols.signing import KEY_PROPERTY, SIGNATURE_PROPERTY, Signer, Verifier, _signed_bytes
from protocols.topics import control_topic, node_topic
from tests.coordinator.service.service_world import COMMUNITY, HOMES, KEYS, START_S, Feeder, settings, street, telemetry
from tests.edge.world import COMMUNITY as EDGE_COMMUNITY
from tests.edge.world import COORDINATOR_KEY, NODE, World, control
from tests.fuzz.mutation import SEED, boundary, is_one_line, mutations


def sealed(signer: Signer, topic: str, payload: bytes, *, retain: bool = False) -> BusMessage:
    """Any bytes, signed as a trusted node would sign them: the signature is good, the content is not."""
    signature = base64.urlsafe_b64encode(signer._key.sign(_signed_bytes(topic, payload))).decode("ascii")
    return BusMessage(topic=topic, payload=payload, retain=retain, properties={SIGNATURE_PROPERTY: signature, KEY_PROPERTY: signer.key_id})


def good_reports() -> list[bytes]:
    """What a home says."""
    signer, topic = KEYS["h1"], node_topic(COMMUNITY, "h1", "telemetry")
    said = Telemetry(sender="h1", time_s=START_S, sequence=1, **telemetry(START_S - 60.0))
    status = Status(sender="h1", time_s=START_S, sequence=2, state=SafetyState.CONTROLLED, software="x", reasons=("all is well",))
    return [signer.seal(topic, said).payload, signer.seal(node_topic(COMMUNITY, "h1", "status"), status).payload]


@boundary
def test_the_door_opens_or_says_why_in_one_line(count: int) -> None:
    """Topic, payload, signature and key are all under attack."""
    verifier = Verifier(COMMUNITY, {home: [KEYS[home].public_key] for home in HOMES})
    rng = random.Random(SEED)
    topic = node_topic(COMMUNITY, "h1", "telemetry")
    for data in mutations(good_reports(), count):
        message = sealed(KEYS["h1"], topic, data)
        properties = dict(message.properties)
        if rng.random() < 0.3:
            key = rng.choice((SIGNATURE_PROPERTY, KEY_PROPERTY))
            properties[key] = rng.choice(("", "x", properties[key][:-1], properties[key] * 2, "\ud800", "é" * 9, "A" * 10_000))
        strange = rng.choice((topic, topic, topic, "", "/", topic + "/x", topic.replace("h1", "h2"), "commonwatt/1/street/+/h1/x", "\0"))
        try:
            verifier.open(BusMessage(topic=strange, payload=message.payload, properties=properties, retain=rng.random() < 0.1), START_S)
        except Refusal as refusal:
            assert is_one_line(refusal.reason), (data, str(refusal))


@boundary
async def test_an_edge_lives_through_whatever_its_coordinator_says(count: int, tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.agent.start()
    topics = [control_topic(EDGE_COMMUNITY, NODE, kind) for kind in ("envelope", "default")]
    signer = Signer(COORDINATOR_KEY)
    world.send(control("a", 0.0, 900.0, export_w=1500.0, import_w=5000.0, ramp_tms=100, randomize_start_s=5), cancelled=("b",))
    world.send_default(1500.0, 4000.0, grad=27)
    listener = world.broker.client()
    for topic in topics:
        listener.subscribe(topic)
    listener.connect()
    world.send(*(control(f"c{n}", 60.0 * n, 60.0, export_w=100.0 * n, import_w=5000.0) for n in range(4)))
    world.send_default(0.0, 0.0)
    good = [message.payload for message in listener.receive()]
    assert len(good) >= 2
    rng = random.Random(SEED)
    for number, data in enumerate(mutations(good, count)):
        world.pen.publish(sealed(signer, rng.choice(topics), data, retain=rng.random() < 0.05))
        if number % 10 == 9:
            record = await world.agent.step()
            world.live(1.0)
            assert not record.failed, (record.reasons, data)
            assert all(is_one_line(words) for words in (*record.refusals, *record.reasons)), record.refusals


@boundary
async def test_a_coordinator_lives_through_whatever_its_homes_say(count: int, tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    rng = random.Random(SEED)
    kinds = ("telemetry", "status", "forecast", "plan", "flexibility", "response")
    good = good_reports()
    for number, data in enumerate(mutations(good, count)):
        feeder.homes["h1"].bus.publish(sealed(KEYS["h1"], node_topic(COMMUNITY, "h1", rng.choice(kinds)), data))
        if number % 40 == 39:
            record = await feeder.step(1.0)
            assert all(is_one_line(words) for words in record.problems), record.problems
    feeder.say("h1", "telemetry", Telemetry, **telemetry(feeder.clock.now_s() - 60.0))
    assert (await feeder.step(1.0)).received == 1, "it still listens"
    await feeder.service.stop()


@boundary
def test_the_page_lives_through_whatever_passes_the_broker(count: int) -> None:
    """Its messages are not even signed."""
    board = Board(settings(), Estimator(settings(), street()))
    rng = random.Random(SEED)
    shown = 0
    for number, data in enumerate(mutations(good_reports(), count)):
        topic = node_topic(COMMUNITY, rng.choice(HOMES), rng.choice(("telemetry", "status")))
        topic = topic if rng.random() < 0.9 else data[:80].decode("latin-1")
        shown += board.take(BusMessage(topic=topic, payload=data))
        if number % 100 == 99:
            assert is_one_line(board.public_view().facts.coordinator)
            board.feeder_view()
    assert shown > 0 and board.refused > 0

