"""What the coordinator shows of its feeder is what the nodes said and what it did about it."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from coordinator.errors import ConfigError
from coordinator.observation.catalogue import FAMILIES
from coordinator.observation.observer import CoordinatorObserver
from coordinator.observation.watch import Watch, open_watch
from coordinator.store import Store
from protocols.messages import SafetyState, Status, Telemetry
from protocols.observation.book import PROCESS_FAMILIES
from protocols.observation.health import Verdict
from protocols.observation.settings import MetricsSection
from tests.coordinator.service.service_world import HOMES, Feeder, settings, telemetry

Scrape = dict[tuple[str, tuple[str, ...]], float]
PREFIX = "commonwatt_coordinator"


class Watched:
    """A feeder whose turns are shown to an observer."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.feeder = Feeder(folder, **options)
        self.expiries: dict[str, float] = {}
        feeder = self.feeder
        self.observer = CoordinatorObserver(
            feeder.config, feeder.service, bus=feeder.bus, store=feeder.store, clock=feeder.clock, expiries=lambda: self.expiries
        )

    async def turn(self, dt_s: float = 0.0) -> None:
        self.feeder.clock.advance(dt_s)
        ingested = self.feeder.service.ingest()
        self.observer.turn(ingested, await self.feeder.service.act())

    def scrape(self) -> Scrape:
        self.observer.refresh()
        families = text_string_to_metric_families(self.observer.book.render().decode())
        return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


async def test_figures_are_those_of_the_feeder(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    feeder = watched.feeder
    await feeder.service.start()
    await watched.turn()
    for home in HOMES[:2]:
        feeder.say(home, "status", Status, state=SafetyState.CONTROLLED, software="edge 1")
        feeder.say(home, "telemetry", Telemetry, **{**telemetry(feeder.clock.now_s() - 60.0), "exceeded_s": 7.0})
    feeder.say("h3", "status", Status, state=SafetyState.FAILSAFE, software="edge 1")
    feeder.say("h1", "telemetry", Telemetry, key="thief", **telemetry(0.0))
    await watched.turn(2.0)
    found = watched.scrape()
    assert found[f"{PREFIX}_messages_received_total", ()] == 5.0
    assert found[f"{PREFIX}_messages_refused_total", ("UnknownSender",)] == 1.0
    assert found[f"{PREFIX}_nodes", ("controlled",)] == 2.0
    assert found[f"{PREFIX}_node_failsafe", ("h3",)] == 1.0
    assert found[f"{PREFIX}_node_envelope_exceeded_seconds_total", ("h1",)] == 7.0
    assert found[f"{PREFIX}_net_import_watts", ()] == -1000.0
    assert found[f"{PREFIX}_envelopes_computed_total", ()] == 6.0
    assert found[f"{PREFIX}_controls_published_total", ()] == 18.0 + 6.0, "a node in failsafe is told everything again"
    assert 1500.0 <= found[f"{PREFIX}_envelope_horizon_seconds", ()] <= 1800.0
    assert found[f"{PREFIX}_report_delay_seconds_count", ()] == 2.0
    assert found[f"{PREFIX}_store_rows_total", ()] > 20.0
    assert math.isnan(found[f"{PREFIX}_leader_term", ()])
    declared = {family.name for family in (*FAMILIES, *PROCESS_FAMILIES)}
    for name, _ in found:
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count").removesuffix("_created")
        assert {name, base, f"{base}_total"} & declared, name


async def test_health_says_what_is_wrong(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    feeder = watched.feeder
    assert watched.observer.health().verdict is Verdict.FAIL, "nothing has happened yet"
    await feeder.service.start()
    await watched.turn()
    for home in HOMES:
        feeder.say(home, "status", Status, state=SafetyState.CONTROLLED, software="edge 1")
    await watched.turn(1.0)
    assert watched.observer.health().verdict is Verdict.PASS, watched.observer.health()
    feeder.say("h1", "status", Status, state=SafetyState.OFFLINE, software="edge 1")
    await watched.turn(1.0)
    assert "1 of 3 nodes are offline" in watched.observer.health().document().decode()
    watched.expiries["h2"] = feeder.clock.now_s() - 1.0
    assert watched.observer.health().status == 503
    watched.expiries.clear()
    feeder.clock.advance(31.0)
    assert watched.observer.health().status == 503


async def test_a_store_that_cannot_be_written_is_not_healthy_and_what_it_loses_is_counted(tmp_path: Path) -> None:
    watched = Watched(tmp_path, buffer_rows=2)
    feeder = watched.feeder
    await feeder.service.start()
    await watched.turn()
    before = watched.scrape()[f"{PREFIX}_store_lost_rows_total", ()]
    assert isinstance(feeder.store, Store)
    sa.event.listen(feeder.store._engine, "begin", _no_disk)
    for _ in range(4):
        feeder.say("h1", "telemetry", Telemetry, **telemetry(feeder.clock.now_s() - 60.0))
        await watched.turn(1.0)
    found = watched.scrape()
    assert found[f"{PREFIX}_condition", ("store",)] == 1.0
    assert found[f"{PREFIX}_store_lost_rows_total", ()] - before >= 2.0
    assert watched.observer.health().status == 503


def _no_disk(_connection: object) -> None:
    raise sa.exc.OperationalError("begin", {}, Exception("database or disk is full"))


async def test_a_running_coordinator_serves_its_figures_where_it_is_told_to(tmp_path: Path) -> None:
    config = settings(metrics=MetricsSection(enabled=True, port=0, token_file="token"))
    feeder = Feeder(tmp_path, config)

    def opened() -> Watch:
        return open_watch(
            config, tmp_path, feeder.service, bus=feeder.bus, store=feeder.store, clock=feeder.clock, expiries=dict
        )

    with pytest.raises(ConfigError, match=r"token.* - at \$\.metrics\.token_file"):
        opened()
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("a-token-of-the-tests")
    watch = opened()
    await watch.start()
    await feeder.service.start()
    watch.turn(feeder.service.ingest(), await feeder.service.act())
    reader, writer = await asyncio.open_connection("127.0.0.1", watch.port)
    writer.write(b"GET /metrics HTTP/1.0\r\nAuthorization: Bearer a-token-of-the-tests\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert f"{PREFIX}_controls_published_total 18.0".encode() in answer
    await watch.stop()
