"""Whatever arrives over MQTT, the coordinator refuses it by name and goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from coordinator import store as tables
from protocols.messages import Telemetry
from protocols.topics import node_topic
from tests.coordinator.service.service_world import COMMUNITY, KEYS, Feeder, telemetry
from tests.protocols.damage import damaged


async def fuzz(folder: Path, seed: int, count: int) -> None:
    feeder = Feeder(folder)
    await feeder.service.start()
    await feeder.step()
    rng = random.Random(seed)
    stranger = feeder.broker.client()
    stranger.connect()
    refused = received = 0
    for _ in range(count // 100):
        for _ in range(100):
            content = Telemetry(
                sender="h1", time_s=feeder.clock.now_s(), sequence=feeder.sequencer.next(), **telemetry(feeder.clock.now_s() - 60.0)
            )
            stranger.publish(damaged(rng, KEYS["h1"].seal(node_topic(COMMUNITY, "h1", "telemetry"), content)))
        record = await feeder.step(1.0)
        refused, received = refused + sum(record.refused.values()), received + record.received
    rows = feeder.store.rows(tables.telemetry)
    assert len(rows) == received, "what was not refused was whole: a blow may miss"
    assert received < count * 0.1
    assert refused > count * 0.4, "the rest went to topics that nobody reads"
    assert all("\n" not in row["message"] for row in feeder.store.rows(tables.events))
    feeder.say("h1", "telemetry", Telemetry, **telemetry(feeder.clock.now_s() - 60.0))
    assert (await feeder.step(1.0)).received == 1


async def test_damaged_messages_change_nothing(tmp_path: Path) -> None:
    await fuzz(tmp_path, 1, 1000)


@pytest.mark.slow
async def test_ten_thousand_damaged_messages_change_nothing(tmp_path: Path) -> None:
    await fuzz(tmp_path, 2, 10_000)
