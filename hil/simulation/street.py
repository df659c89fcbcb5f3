"""A street of one community: shipped members and the shipped desk on an in-memory broker, in virtual time; keys may be short for speed.

What the desk believes of reputations is fixed here; `hil.community` has the whole operator. Houses draw what they report from a seed, so
that whoever watches knows every sum.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.aggregation.desk import AggregationDesk
from coordinator.aggregation.keys import OperatorKey, generate_key
from coordinator.aggregation.office import demand_message
from coordinator.aggregation.settings import AggregationSection as DeskSection
from edge.leadership.membership import Identity, Membership
from edge.leadership.settings import AggregationSection, LeadershipSection
from edge.leadership.voice import gone_message
from protocols.bus import BusMessage
from protocols.clock import ManualClock
from protocols.errors import Refusal
from protocols.memory_bus import MemoryBroker, MemoryBus
from protocols.messages import CommunitySignal, RoundCall, RoundContent
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import coordinator_topic, election_topic, node_topic, round_topic, sealed_route, sealed_topic

COMMUNITY = "street"
START_S = 1_700_000_100.0
STEP_S = 0.25


@cache
def operator_key(seed: int = 1, bits: int = 1024, expires_s: float = START_S + 30 * 86400.0) -> OperatorKey:
    return generate_key(bits, expires_s, randbits=random.Random(seed).getrandbits)


class House:
    """What a member says of itself: plans from a seed, all of which the test knows."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.signals: list[CommunitySignal] = []
        self.said: dict[str, list[int]] = {}
        self.silent = False
        self._seed = seed

    def values(self, call: RoundCall) -> Sequence[int] | None:
        if self.silent:
            return None
        rng = random.Random(f"{self._seed} {self.name} {call.round_name}")
        low = 0 if call.content is RoundContent.FLEXIBILITY else -5000
        values = [rng.randint(low, 7000) for _ in range(96)]
        self.said[call.round_name] = values
        return values

    def signal(self, signal: CommunitySignal) -> None:
        self.signals.append(signal)


class CutBus(MemoryBus):
    """A bus that can be made deaf and mute without anybody noticing, as a frozen process or a silent network is."""

    frozen = False

    def publish(self, message: BusMessage) -> None:
        if not self.frozen:
            super().publish(message)

    def receive(self) -> list[BusMessage]:
        return [] if self.frozen else super().receive()


class Street:
    """Everything of one community. `step` lets a quarter of a second pass for everybody that is awake."""

    def __init__(
        self,
        folder: Path,
        size: int = 12,
        *,
        seed: int = 1,
        members_min: int = 3,
        leadership: LeadershipSection | None = None,
        aggregation: AggregationSection | None = None,
        desk: DeskSection | None = None,
        key: OperatorKey | None = None,
        comb: tuple[int, int] = (6, 2),
        step_s: float = STEP_S,
        community: str = COMMUNITY,
        broker: MemoryBroker | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.community = community
        self.step_s = step_s
        self.rng = random.Random(seed)
        self.folder = folder
        self.clock = ManualClock(START_S) if clock is None else clock
        self.broker = MemoryBroker() if broker is None else broker
        self.names = [f"h{i:03d}" for i in range(size)]
        self.keys = {name: Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32)) for name in (*self.names, "coordinator")}
        self.houses = {name: House(name, seed) for name in self.names}
        self.leadership = LeadershipSection(enabled=True) if leadership is None else leadership
        self.aggregation = (
            AggregationSection(
                enabled=True,
                period_s=60.0,
                flexibility_every=1,
                collect_s=2.0,
                recover_s=1.0,
                resend_s=1.0,
                pool_entries=0,
                min_key_bits=1024,
                members_min=3,
            )
            if aggregation is None
            else aggregation
        )
        self.comb = comb
        self.members: dict[str, Membership] = {}
        self.buses: dict[str, CutBus] = {}
        self.asleep: set[str] = set()
        self.wire: list[BusMessage] = []
        self.listening = True
        self.desk = self._make_desk(DeskSection(enabled=True, members_min=members_min) if desk is None else desk, key)
        self._desk_bus = self.broker.client()
        self._signer = Signer(self.keys["coordinator"])
        self._verifier = Verifier(self.community, {name: [self.keys[name].public_key()] for name in self.names})
        self._tap = self.broker.client()

    def _make_desk(self, section: DeskSection, key: OperatorKey | None) -> AggregationDesk:
        numbers = Sequencer(self.clock.now_s())
        return AggregationDesk(
            section,
            {name: self.keys[name].public_key() for name in self.names},
            [operator_key() if key is None else key],
            make_key=lambda expires_s: operator_key(2, 1024, expires_s),
            sequence=numbers.next,
            entropy=self.rng.randbytes,
            ratings_w=(15_000.0 * len(self.names), 10_000.0 * len(self.names)),
            reputation=lambda name: 0.8,
        )

    async def start(self) -> None:
        for topic in (
            node_topic(self.community, "+", "join"),
            election_topic(self.community, "+", "certificate"),
            round_topic(self.community, "+", "aggregate"),
            sealed_topic(self.community, "+", "opening", "coordinator"),
        ):
            self._desk_bus.subscribe(topic)
        await self._desk_bus.start()
        if self.listening:
            self._tap.subscribe("#")
            await self._tap.start()
        for name in self.names:
            await self.boot(name, commissioned=True)

    async def boot(self, name: str, *, commissioned: bool = False) -> Membership:
        signer, wills = Signer(self.keys[name]), Sequencer(self.clock.now_s())
        bus = CutBus(self.broker, lambda: gone_message(self.community, name, signer, wills, self.clock.now_s()))
        member = Membership(
            Identity(community=self.community, node=name, key=self.keys[name], coordinator_keys=(self.keys["coordinator"].public_key(),)),
            self.leadership,
            self.aggregation,
            bus=bus,
            clock=self.clock,
            folder=self.folder / name,
            runtime_folder=self.folder / name / "run",
            household=self.houses[name],
            commissioned=commissioned,
            durable=False,
            entropy=self.rng.randbytes,
            comb=self.comb,
        )
        self.buses[name], self.members[name] = bus, member
        await member.start()
        self.asleep.discard(name)
        return member

    def kill(self, name: str) -> None:
        """The process dies; the broker publishes its will."""
        self.asleep.add(name)
        self.buses[name].cut()

    def freeze(self, name: str) -> None:
        """The process stops where it is; nobody notices."""
        self.asleep.add(name)

    def wake(self, name: str) -> None:
        self.asleep.discard(name)

    def step(self, *, advance: bool = True) -> None:
        for name in self.names:
            if name not in self.asleep:
                self.members[name].step()
        self.desk_step()
        if self.listening:
            self.wire += self._tap.receive()
        if advance:
            self.clock.advance(self.step_s)

    def desk_step(self) -> None:
        now_s = self.clock.now_s()
        for message in self._desk_bus.receive():
            route = sealed_route(message.topic)
            if route is not None:
                self.desk.settlement.answer(route[1], message.payload)
                continue
            try:
                content = self._verifier.open(message, now_s)
            except Refusal:
                continue
            self.desk.take(content, now_s)
        self.desk.step(now_s)
        for saying in self.desk.outgoing:
            topic = coordinator_topic(self.community, saying.kind)
            self._desk_bus.publish(self._signer.seal(topic, saying.message, retain=saying.retain))
        self.desk.outgoing.clear()
        for asking in self.desk.settlement.asking:
            self._desk_bus.publish(demand_message(self.community, asking, self._signer))
        self.desk.settlement.asking.clear()

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / self.step_s)):
            self.step()

    @property
    def leaders(self) -> list[str]:
        """Members that may act as leaders at this moment."""
        return [name for name in self.names if name not in self.asleep and self.members[name].leads]

    def leader(self) -> str:
        [name] = self.leaders
        return name

    def expected(self, round_name: str, names: Collection[str]) -> list[int]:
        return [sum(column) for column in zip(*(self.houses[name].said[round_name] for name in names), strict=True)]
