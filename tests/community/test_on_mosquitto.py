"""The same members and the same desk on a real Mosquitto: election, rounds, and the wire as it is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coordinator.aggregation.desk import AggregationDesk
from coordinator.aggregation.office import demand_message
from coordinator.aggregation.settings import AggregationSection as DeskSection
from edge.leadership.election_shell import BootClock
from edge.leadership.membership import Identity, Membership
from edge.leadership.part import part_will
from edge.leadership.settings import AggregationSection, LeadershipSection
from hil.broker import Broker, find_mosquitto
from hil.simulation.street import COMMUNITY, House, Street, operator_key
from protocols.errors import Refusal
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import coordinator_topic, election_topic, node_topic, round_topic, sealed_route, sealed_topic

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")
MEMBERS = 11


class Town:
    """Members that run as they are deployed, each with its own connection, and an operator beside them."""

    def __init__(self, folder: Path, port: int, keys: Street) -> None:
        self.clock = BootClock()
        self.names = keys.names
        self.houses = {name: House(name, 1) for name in self.names}
        settings = MqttSettings(port=port, backoff_min_s=0.05, backoff_max_s=0.2, session_expiry_s=0)
        self.stop = asyncio.Event()
        self.members = {}
        self.buses = {}
        for name in self.names:
            key = keys.keys[name]
            bus = MqttBus(settings, client_id=name, will=part_will(COMMUNITY, name, key, self.clock))
            self.buses[name] = bus
            self.members[name] = Membership(
                Identity(community=COMMUNITY, node=name, key=key, coordinator_keys=(keys.keys["coordinator"].public_key(),)),
                LeadershipSection(enabled=True),
                AggregationSection(
                    enabled=True,
                    period_s=10.0,
                    flexibility_every=1,
                    collect_s=2.0,
                    recover_s=1.0,
                    resend_s=1.0,
                    min_key_bits=1024,
                    members_min=3,
                    audit_share=1.0,
                    settlement_share_max=1.0,
                ),
                bus=bus,
                clock=self.clock,
                folder=folder / name,
                runtime_folder=folder / name / "run",
                household=self.houses[name],
                commissioned=True,
                durable=False,
                comb=(6, 2),
            )
        numbers = Sequencer(self.clock.now_s())
        self.desk = AggregationDesk(
            DeskSection(enabled=True, members_min=3, settlement_share=0.5),
            {name: keys.keys[name].public_key() for name in self.names},
            [operator_key(1, 1024, 4e9)],
            make_key=lambda expires_s: operator_key(2, 1024, expires_s),
            sequence=numbers.next,
            entropy=random.Random(1).randbytes,
            ratings_w=(1e6, 1e6),
            reputation=lambda name: 0.8,
        )
        self.bus = MqttBus(settings, client_id="operator")
        self.signer = Signer(keys.keys["coordinator"])
        self.verifier = Verifier(COMMUNITY, {name: [keys.keys[name].public_key()] for name in self.names})
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        for topic in (
            node_topic(COMMUNITY, "+", "join"),
            election_topic(COMMUNITY, "+", "certificate"),
            round_topic(COMMUNITY, "+", "aggregate"),
            sealed_topic(COMMUNITY, "+", "opening", "coordinator"),
        ):
            self.bus.subscribe(topic)
        await self.bus.start()
        for name, member in self.members.items():
            await member.start()
            self.tasks[name] = asyncio.create_task(member.run(self.stop))
        self.tasks["operator"] = asyncio.create_task(self.operate())

    async def operate(self) -> None:
        while not self.stop.is_set():
            now_s = self.clock.now_s()
            for message in self.bus.receive():
                route = sealed_route(message.topic)
                if route is not None:
                    self.desk.settlement.answer(route[1], message.payload)
                    continue
                try:
                    self.desk.take(self.verifier.open(message, now_s), now_s)
                except Refusal:
                    continue
            self.desk.step(now_s)
            for saying in self.desk.outgoing:
                topic = coordinator_topic(COMMUNITY, saying.kind)
                self.bus.publish(self.signer.seal(topic, saying.message, retain=saying.retain))
            self.desk.outgoing.clear()
            for asking in self.desk.settlement.asking:
                self.bus.publish(demand_message(COMMUNITY, asking, self.signer))
            self.desk.settlement.asking.clear()
            await self.bus.wait(0.2)

    async def close(self) -> None:
        self.stop.set()
        await asyncio.gather(*self.tasks.values())
        for member in self.members.values():
            await member.stop()
        await self.bus.stop()

    async def until(self, happened: Callable[[], bool], within_s: float = 40.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < deadline_s, "nothing happened in time"
            await asyncio.sleep(0.02)

    def leaders(self) -> list[str]:
        return [name for name in self.names if not self.tasks[name].done() and self.members[name].leads]

    def exact(self) -> bool:
        """Whether the newest opened plan is the sum of what some known group reported."""
        plan = self.desk.unit.plan
        assert plan is not None
        for member in self.members.values():
            for group in member.member.summed:
                said = [self.houses[name].said.get(plan.round_name) for name in group]
                known = [values for values in said if values is not None]
                if len(known) == plan.count and [sum(column) for column in zip(*known, strict=True)] == list(plan.values_w):
                    return True
        return False


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    broker = Broker()
    broker.start()
    town = Town(tmp_path, broker.port, Street(tmp_path / "keys", MEMBERS))
    try:
        await town.start()
        yield town
    finally:
        await town.close()
        broker.close()


async def test_a_leader_is_elected_sums_are_opened_and_another_takes_over_when_it_is_cut_off(town: Town) -> None:
    await town.until(lambda: town.desk.unit.plan is not None)
    await town.until(town.exact)
    [first] = town.leaders()
    town.tasks[first].cancel()
    connection = town.buses[first]._client.socket()
    assert connection is not None
    connection.close()
    await town.until(lambda: bool(town.leaders()) and town.leaders() != [first], within_s=10.0)
    [second] = town.leaders()
    opened = town.desk.opened
    await town.until(lambda: town.desk.opened > opened and town.desk.unit.plan.round_name.startswith(f"{town.members[second].term}:"))  # type: ignore[union-attr]
    await town.until(town.exact)
    town.tasks[first] = asyncio.create_task(town.members[first].run(town.stop))


async def test_members_audit_their_leader_and_open_what_was_sampled_over_the_wire(town: Town) -> None:
    await town.until(lambda: sum(member.accountability.auditor.passed for member in town.members.values()) >= MEMBERS - 1)
    assert not any(member.accountability.auditor.findings for member in town.members.values())
    town.desk._kept.epoch_s = -1e9
    await town.until(lambda: len(town.desk.settlement.settled) >= 5)
    for settled in town.desk.settlement.settled:
        assert list(settled.values or ()) == town.houses[settled.member].said[settled.round.sampled.round_name]
    assert not [words for kind, words in town.desk.events if kind.startswith("opening")]
