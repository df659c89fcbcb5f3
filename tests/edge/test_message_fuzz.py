"""Whatever arrives over MQTT, the edge refuses it in one line, keeps its limits and goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from protocols.bus import BusMessage
from protocols.messages import EnvelopeSchedule, SafetyState
from protocols.topics import control_topic
from tests.edge.world import COMMUNITY, NODE, START_S, World, control
from tests.protocols.damage import damaged


def whole(message: BusMessage) -> tuple[object, ...]:
    """What a signature is about: a blow may have hit something else."""
    return message.topic, message.payload, message.properties.get("sig"), message.properties.get("key")


async def fuzz(folder: Path, seed: int, count: int) -> None:
    world = World(folder)
    world.send_default(1500.0, 4000.0)
    await world.agent.start()
    world.send(control("kept", 0.0, 86_400.0, export_w=1000.0, import_w=3000.0))
    await world.run(30.0)
    rng = random.Random(seed)
    refusals: list[str] = []
    for number in range(count // 100):
        now_s = world.clock.now_s()
        for index in range(100):
            looser = control(f"evil-{number}-{index}", now_s - START_S, 3600.0, export_w=9000.0, import_w=9000.0, primacy=0)
            schedule = EnvelopeSchedule(sender="coordinator", time_s=now_s, sequence=next(world._sequence), node=NODE, controls=(looser,))
            sealed = world.coordinator.seal(control_topic(COMMUNITY, NODE, "envelope"), schedule)
            blown = damaged(rng, sealed)
            if whole(blown) != whole(sealed):
                world.pen.publish(blown)
        for record in await world.run(10.0):
            refusals += record.refusals
            assert record.state is SafetyState.CONTROLLED
            assert record.limits.export is not None and record.limits.export.limit_w == 1000.0
    assert len(refusals) > count * 0.4
    assert all("\n" not in words and ": " in words for words in refusals)


async def test_damaged_controls_loosen_nothing(tmp_path: Path) -> None:
    await fuzz(tmp_path, 1, 1000)


@pytest.mark.slow
async def test_ten_thousand_damaged_controls_loosen_nothing(tmp_path: Path) -> None:
    await fuzz(tmp_path, 2, 10_000)


async def test_a_reconnection_is_no_incident_and_a_repeated_control_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is retained comes again with every connection and is refused in silence; a control that comes again is written down."""
    world = World(tmp_path)
    world.send_default(1500.0, 4000.0)
    await world.agent.start()
    await world.run(10.0)
    world.bus.cut()
    world.bus.connect()
    (record,) = await world.run(10.0)
    assert [words.partition(":")[0] for words in record.refusals] == ["Replayed"]
    assert "message refused" not in caplog.text
    schedule = EnvelopeSchedule(sender="coordinator", time_s=world.clock.now_s(), sequence=next(world._sequence), node=NODE, controls=())
    sealed = world.coordinator.seal(control_topic(COMMUNITY, NODE, "envelope"), schedule)
    world.pen.publish(sealed)
    world.pen.publish(sealed)
    await world.run(10.0)
    assert "message refused: Replayed" in caplog.text
