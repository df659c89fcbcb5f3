"""What an edge shows of itself is what it measured and did; what it does not know is not zero."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.observation.catalogue import FAMILIES
from edge.observation.observer import EdgeObserver, refusal_label
from edge.observation.watch import open_watch
from edge.runner import run_agent
from protocols.errors import BadSignature, Malformed, Replayed, Stale, UnknownSender, Unsigned
from protocols.observation.book import PROCESS_FAMILIES
from protocols.observation.health import Verdict
from protocols.observation.settings import MetricsSection
from tests.edge.world import START_S, World, control, make_config

Scrape = dict[tuple[str, tuple[str, ...]], float]


class Watched:
    """A house whose cycles are shown to an observer."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.expiries = {"node": START_S + 90 * 86400.0}
        self.observer = EdgeObserver(
            self.world.config, bus=self.world.bus, clock=self.world.clock, expiries=lambda: self.expiries, community=None
        )

    async def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / 10.0)):
            self.observer.cycle(await self.world.agent.step())
            self.world.live(10.0)

    def scrape(self) -> Scrape:
        self.observer.refresh()
        families = text_string_to_metric_families(self.observer.book.render().decode())
        return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


async def test_figures_are_those_of_the_house(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    world = watched.world
    world.send_default(1500.0, 4000.0)
    world.pv.available_w = 4000.0
    await world.agent.start()
    world.send(control("a", 0.0, 3600.0, export_w=1000.0, import_w=3000.0))
    await watched.run(120.0)
    found = watched.scrape()
    assert found["commonwatt_edge_net_import_watts", ()] == world.agent._meter.reading.power_w  # type: ignore[union-attr]
    assert found["commonwatt_edge_device_power_watts", ("pv_1",)] < 0.0
    assert found["commonwatt_edge_limit_watts", ("export",)] == 1000.0
    assert found["commonwatt_edge_limit_source", ("import", "control")] == 1.0
    assert found["commonwatt_edge_safety_state", ("controlled",)] == 1.0
    assert found["commonwatt_edge_safety_state", ("failsafe",)] == 0.0
    assert found["commonwatt_edge_controls_total", ("received",)] >= 1.0
    assert found["commonwatt_edge_controls_total", ("started",)] == 1.0
    assert found["commonwatt_edge_cycles_total", ("done",)] == 12.0
    assert found["commonwatt_edge_cycles_missed_total", ()] == 0.0
    assert found["commonwatt_edge_battery_soc_ratio", ("battery_1",)] == pytest.approx(world.battery.soc_frac, abs=0.005)
    assert found["commonwatt_edge_energy_exported_joules_total", ()] > 0.0
    assert found["commonwatt_edge_envelope_exceeded_seconds_total", ("export",)] <= 20.0
    assert found["commonwatt_edge_certificate_expiry_timestamp_seconds", ("node",)] == watched.expiries["node"]
    assert math.isnan(found["commonwatt_edge_leader_known", ()])


async def test_a_house_that_cannot_keep_its_limit_counts_every_second_outside(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    world = watched.world
    world.send_default(1500.0, 1000.0)
    world.battery.soc_frac = 0.0
    world.load_w = 3000.0
    await world.agent.start()
    await watched.run(600.0)
    found = watched.scrape()
    assert 400.0 <= found["commonwatt_edge_envelope_exceeded_seconds_total", ("import",)] <= 600.0
    assert found["commonwatt_edge_breach_watts", ("import",)] > 1000.0
    health = watched.observer.health()
    assert "envelope:breach" in {check.name for check in health.checks if check.verdict is Verdict.WARN}


async def test_a_silent_meter_is_not_zero_and_not_healthy(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    world = watched.world
    world.send_default(1500.0, 4000.0)
    await world.agent.start()
    await watched.run(60.0)
    assert watched.observer.health().status == 200
    world.meter.fault = "timeout"
    await watched.run(60.0)
    found = watched.scrape()
    assert math.isnan(found["commonwatt_edge_net_import_watts", ()])
    assert found["commonwatt_edge_device_up", ("meter_1",)] == 0.0
    assert found["commonwatt_edge_meter_age_seconds", ()] >= 60.0
    assert found["commonwatt_edge_safety_state", ("failsafe",)] == 1.0
    health = watched.observer.health()
    assert health.status == 503
    document = json.loads(health.document())
    assert document["serviceId"] == "street/home-01"
    assert {"meter:age", "safety:state"} <= {name for name, found in document["checks"].items() if found[0]["status"] == "fail"}


async def test_an_edge_that_does_not_cycle_is_not_healthy(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert watched.observer.health().verdict is Verdict.FAIL
    watched.world.send_default(1500.0, 4000.0)
    await watched.world.agent.start()
    await watched.run(60.0)
    assert watched.observer.health().verdict is Verdict.WARN, "healthy, but for no active control"
    watched.world.clock.advance(31.0)
    assert watched.observer.health().verdict is Verdict.FAIL
    await watched.run(10.0)
    assert watched.scrape()["commonwatt_edge_cycles_missed_total", ()] == 3.0


async def test_everything_exported_is_declared_and_nothing_names_a_household(tmp_path: Path) -> None:
    """Labels are kinds and states; the node's own name is told once, in `build_info`."""
    watched = Watched(tmp_path)
    watched.world.send_default(1500.0, 4000.0)
    await watched.world.agent.start()
    await watched.run(30.0)
    declared = {family.name for family in (*FAMILIES, *PROCESS_FAMILIES)}
    for name, labels in watched.scrape():
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count").removesuffix("_created")
        assert {name, base, f"{base}_total"} & declared, name
        assert "home-01" not in labels or name == "commonwatt_edge_build_info"


def test_every_refusal_has_a_label() -> None:
    refusals = (BadSignature, Malformed, Replayed, Stale, UnknownSender, Unsigned)
    assert [refusal_label(f"{kind.__name__}: why") for kind in refusals] == [
        "bad_signature", "malformed", "replayed", "stale", "unknown_sender", "unsigned",
    ]  # fmt: skip
    assert refusal_label("control a-1: limit is not finite") == "invalid_control"
    assert refusal_label("Fenced: old term") == "fenced"
    assert refusal_label("hello") == "other"


async def test_a_running_edge_serves_its_figures_where_it_is_told_to(tmp_path: Path) -> None:
    """The loop of `commonwatt-edge run`, with its watch on a free port; an address that cannot be had stops nothing."""
    config = msgspec.structs.replace(make_config(tmp_path), metrics=MetricsSection(enabled=True, port=0))
    world = World(tmp_path, config=config)
    watch = open_watch(config, tmp_path, bus=world.bus, clock=world.clock, community=None)
    await watch.start()
    assert watch.port is not None
    await run_agent(world.agent, clock=world.clock, cycle_s=0.001, stop=asyncio.Event(), cycles=3, observers=(watch.cycle,))
    reader, writer = await asyncio.open_connection("127.0.0.1", watch.port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b'commonwatt_edge_cycles_total{outcome="done"} 3.0' in answer
    taken = msgspec.structs.replace(config, metrics=MetricsSection(enabled=True, port=watch.port))
    second = open_watch(taken, tmp_path, bus=world.bus, clock=world.clock, community=None)
    await second.start()
    assert second.port is None
    await second.stop()
    await watch.stop()
    silent = open_watch(make_config(tmp_path), tmp_path, bus=world.bus, clock=world.clock, community=None)
    await silent.start()
    assert silent.port is None
