"""The loop on the wall clock: what arrives is on the disk while envelopes are still being computed."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import msgspec

from coordinator import store as tables
from coordinator.envelopes import EnvelopeProblem, EnvelopeResult, Infeasible, compute_envelopes
from coordinator.running import run_service
from coordinator.service import CoordinatorService, Ingested, StepRecord
from coordinator.store import Store
from protocols.clock import SystemClock
from protocols.memory_bus import MemoryBroker
from protocols.messages import Telemetry
from protocols.signing import Sequencer, Verifier
from protocols.topics import node_topic
from tests.coordinator.service.service_world import COMMUNITY, HOMES, KEYS, settings, street, telemetry


async def test_a_computation_that_takes_long_keeps_no_message_waiting(tmp_path: Path) -> None:
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def compute(problem: EnvelopeProblem) -> EnvelopeResult | Infeasible:
        calls.append(problem)
        if len(calls) == 2:
            begun.set()
            go_on.wait(60.0)
        return compute_envelopes(problem)

    broker = MemoryBroker()
    store = Store(f"sqlite:///{tmp_path / 'c.db'}")
    service = CoordinatorService(
        settings(), bus=broker.client(), clock=SystemClock(), network=street(), store=store, signer=KEYS["coordinator"],
        verifier=Verifier(COMMUNITY, {home: [KEYS[home].public_key] for home in HOMES}), compute=compute,
    )  # fmt: skip
    home = broker.client()
    home.connect()
    stopping, stored, acted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def observe(ingested: Ingested, record: StepRecord | None) -> None:
        if ingested.received > 0:
            assert ingested.stored == 1
            stored.set()
        if record is not None and record.published > 0:
            acted.set()

    running = asyncio.ensure_future(run_service(service, clock=SystemClock(), step_s=0.3, stopping=stopping, observers=(observe,)))
    async with asyncio.timeout(60.0):
        await asyncio.to_thread(begun.wait)
        message = Telemetry(sender="h1", time_s=time.time(), sequence=Sequencer(time.time()).next(), **telemetry(time.time()))
        home.publish(KEYS["h1"].seal(node_topic(COMMUNITY, "h1", "telemetry"), message))
        await stored.wait()
        assert not acted.is_set()
        assert [row["node"] for row in store.rows(tables.telemetry)] == ["h1"]
        go_on.set()
        await acted.wait()
        stopping.set()
        await running
    assert msgspec.json.decode(store.remembered("replay_windows") or "{}"), "the end stored what a restart needs"
