"""The community of a run: each home's seat in it, what befalls its leader, and the named invariants of elections and rounds.

Seats are the shipped memberships, stepped after each control cycle. What befalls the leader is written in the scenario: it is killed (its
will is published), frozen (its connection stays), partitioned (its connection is gone and nobody is told), or it lies. Checkers:

- `one_leader_per_term`: no term has two leaders, in whatever certificate passes over the broker and in whoever acts;
- `sums_exact_or_refused`: every sum that the coordinator opened is, watt by watt, the sum of what a group of that size reported;
- `no_plaintext`: no telemetry, plan, forecast or flexibility passes over the broker, nor three reported values in a row;
- `no_actuation_under_an_old_term`: no home answers a call, nor obeys a relayed control, under a lower term than it knew before.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from coordinator.aggregation.desk import AggregationDesk
from coordinator.aggregation.keys import OperatorKey, generate_key
from edge.config import EdgeConfig
from edge.leadership.household import PlannedHousehold
from edge.leadership.membership import Identity, Membership
from edge.leadership.part import INTERVALS, CommunityPart, commission, part_will
from hil.checkers import CheckResult, Tally
from hil.commissioning import COORDINATOR, KeyRing
from hil.community_scenario import CommunitySection, Mishap
from hil.stage import Stage
from hil.taps import BusTap
from protocols import codec
from protocols.aggregation.member import round_order
from protocols.aggregation.packing import Layout
from protocols.bus import Bus, BusMessage
from protocols.clock import ManualClock
from protocols.election.values import Certificate
from protocols.errors import ProtocolError
from protocols.messages import AggregateNotice, ElectionNotice, RoundCall, RoundContent, RoundNotice
from protocols.signing import Signer
from protocols.topics import election_topic, round_topic

CONFIDENTIAL: Final = ("telemetry", "plan", "forecast", "flexibility")
COMB: Final = (8, 2)
LATE_CYCLES: Final = 30
"""A sum that no group explains for so many cycles is wrong."""


class Recorded(PlannedHousehold):
    """A house whose reports the bench remembers, so that it can add them up itself."""

    def __init__(self, name: str, ledger: Ledger, clock: ManualClock, deadline_s: float) -> None:
        super().__init__(
            intervals=INTERVALS,
            value_max=Layout(INTERVALS).value_max,
            now_s=clock.now_s,
            monotonic_s=clock.monotonic_s,
            deadline_s=deadline_s,
        )
        self._name = name
        self._ledger = ledger

    def values(self, call: RoundCall) -> Sequence[int] | None:
        values = super().values(call)
        if values is not None:
            self._ledger.reported(self._name, call.round_name, list(values))
        return values


class Ledger:
    """Everything that the checkers need to know of a run."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, list[int]]] = {}
        self.leaders: dict[int, str] = {}
        self.terms: dict[str, int] = {}
        self.one_leader = Tally("one_leader_per_term")
        self.exact = Tally("sums_exact_or_refused")
        self.plaintext = Tally("no_plaintext")
        self.old_term = Tally("no_actuation_under_an_old_term")

    def leads(self, term: int, name: str) -> None:
        """Somebody acts as the leader of a term, or is certified as it."""
        if self.leaders.setdefault(term, name) == name:
            self.one_leader.passed()
        else:
            self.one_leader.violated(f"term {term}: {self.leaders[term]} and {name}")

    def reported(self, name: str, round_name: str, values: list[int]) -> None:
        """A house answers a call."""
        self.said.setdefault(round_name, {})[name] = values
        while len(self.said) > 24:
            del self.said[next(iter(self.said))]
        term = round_order(round_name)[0]
        if term < self.terms.get(name, 0):
            self.old_term.violated(f"{name} answered round {round_name} after term {self.terms[name]}")
        else:
            self.old_term.passed()
        self.terms[name] = max(term, self.terms.get(name, 0))

    def published(self, message: BusMessage) -> None:
        """A home put this on the broker."""
        self.plaintext.passed()
        if "/node/" in message.topic and message.topic.rpartition("/")[2] in CONFIDENTIAL:
            self.plaintext.add_violation(f"{message.topic} left a house")
            return
        newest = next(reversed(self.said.values()), {})
        for name, values in newest.items():
            row = ",".join(str(value) for value in values[:3])
            if any(values[:3]) and (row.encode() in message.payload or row.replace(",", ".0,").encode() in message.payload):
                self.plaintext.add_violation(f"{message.topic} shows what {name} plans")

    def results(self) -> list[CheckResult]:
        """What was found."""
        return [tally.result() for tally in (self.one_leader, self.exact, self.plaintext, self.old_term)]


class LyingBus:
    """The bus of a leader that lies about what it hands in, in one way after another, over its own signature."""

    def __init__(self, inner: Bus, community: str, name: str, signer: Signer, rng: random.Random) -> None:
        self._inner = inner
        self._topic = round_topic(community, name, "aggregate")
        self._signer = signer
        self._rng = rng
        self.lying = False
        self.lies = 0

    @property
    def connected(self) -> bool:
        return self._inner.connected

    @property
    def sessions(self) -> int:
        return self._inner.sessions

    @property
    def dropped(self) -> int:
        return self._inner.dropped

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    def publish(self, message: BusMessage) -> None:
        self._inner.publish(self._twisted(message) if self.lying and message.topic == self._topic else message)

    def subscribe(self, topic_filter: str) -> None:
        self._inner.subscribe(topic_filter)

    def receive(self) -> list[BusMessage]:
        return self._inner.receive()

    async def wait(self, timeout_s: float) -> bool:
        return await self._inner.wait(timeout_s)

    async def flush(self, timeout_s: float) -> bool:
        return await self._inner.flush(timeout_s)

    def _twisted(self, message: BusMessage) -> BusMessage:
        notice = codec.decode(message.payload, topic=message.topic)
        if not isinstance(notice, RoundNotice) or not isinstance(notice.body, AggregateNotice):
            return message
        self.lies += 1
        body, aggregate = notice.body, notice.body.aggregate
        match self.lies % 4:
            case 0:
                body = msgspec.structs.replace(body, aggregate=msgspec.structs.replace(aggregate, count=aggregate.count + 1))
            case 1:
                other = {RoundContent.PLAN: RoundContent.FLEXIBILITY}.get(body.content, RoundContent.PLAN)
                body = msgspec.structs.replace(body, content=other)
            case 2:
                noise = tuple(self._rng.randbytes(len(data)) for data in aggregate.ciphertexts)
                body = msgspec.structs.replace(body, aggregate=msgspec.structs.replace(aggregate, ciphertexts=noise))
            case _:
                body = msgspec.structs.replace(body, start_s=body.start_s + body.step_s)
        twisted = msgspec.structs.replace(notice, body=body)
        return self._signer.seal(message.topic, twisted, expiry_s=message.expiry_s)


class Seat:
    """One home's place in the community. It outlives what runs in it, as the slot of its edge does."""

    def __init__(self, config: EdgeConfig, bench: CommunityBench) -> None:
        self.name = config.identity.node
        self._config = config
        self._bench = bench
        self._part: CommunityPart | None = None
        self.tap = self._make_tap()
        self.liar: LyingBus | None = None

    @property
    def part(self) -> CommunityPart:
        """What runs here; made when it is first asked for after a power cycle."""
        if self._part is None:
            self._part = self._make_part()
        return self._part

    @property
    def membership(self) -> Membership:
        """The membership that runs here."""
        return self.part.membership

    async def start(self) -> None:
        """Connect."""
        await self.part.membership.start()

    def step(self) -> None:
        """Everything that is due at this cycle."""
        self.part.membership.step()

    async def kill(self) -> None:
        """Power off; the broker publishes the will."""
        self._part = None
        await self._bench.stage.leave(self.tap)

    def renew(self) -> None:
        """A fresh connection for what starts here next."""
        self.tap = self._make_tap()

    async def stop(self) -> None:
        """Leave in order."""
        if self._part is not None:
            await self._part.membership.stop()
            self._part = None

    def _make_tap(self) -> BusTap:
        bench = self._bench
        will = part_will(bench.name, self.name, bench.keys.private[self.name], bench.clock)
        return BusTap(bench.stage.bus(f"{self.name}-community", will), on_publish=bench.ledger.published)

    def _make_part(self) -> CommunityPart:
        bench, config = self._bench, self._config
        key = bench.keys.private[self.name]
        self.liar = LyingBus(self.tap, bench.name, self.name, Signer(key), random.Random(f"{bench.seed} {self.name}"))
        household = Recorded(self.name, bench.ledger, bench.clock, config.schedule.deadline_s)
        folder = bench.folder / self.name
        rng = random.Random(f"{bench.seed} {self.name} {bench.clock.now_s()}")
        membership = Membership(
            Identity(
                community=bench.name,
                node=self.name,
                key=key,
                coordinator_keys=(bench.keys.private[COORDINATOR].public_key(),),
            ),
            config.leadership,
            config.aggregation,
            bus=self.liar,
            clock=bench.clock,
            folder=folder,
            runtime_folder=folder / "run",
            household=household,
            durable=False,
            entropy=rng.randbytes,
            comb=COMB,
        )
        return CommunityPart(membership, household, bench.clock)


class CommunityBench:
    """All seats of one run, and what happens to whoever leads. `name` is the community's."""

    def __init__(
        self, section: CommunitySection, name: str, *, stage: Stage, clock: ManualClock, keys: KeyRing, folder: Path, seed: int
    ) -> None:
        self.section = section
        self.name = name
        self.stage = stage
        self.clock = clock
        self.keys = keys
        self.folder = folder / "community"
        self.seed = seed
        self.ledger = Ledger()
        self.seats: dict[str, Seat] = {}
        self.befallen: dict[Mishap, str] = {}
        self.told_lies = 0
        self._begun_s = clock.now_s()
        self._unexplained: dict[str, int] = {}
        self._checked: set[str] = set()
        self._observer: BusTap | None = None

    def seat(self, config: EdgeConfig) -> Seat:
        """The seat of a home, commissioned as its installer does."""
        config = msgspec.structs.replace(
            config, leadership=msgspec.structs.replace(config.leadership, folder=str(self.folder / config.identity.node))
        )
        commission(config, self.folder)
        seat = self.seats[config.identity.node] = Seat(config, self)
        return seat

    def operator_keys(self) -> list[OperatorKey]:
        """The operator's key of this run."""
        return [_operator_key(self.section.key_bits, self.seed)]

    async def observe(self) -> None:
        """Listen to every certificate that passes."""
        self._observer = BusTap(self.stage.bus("community-observer", None))
        self._observer.subscribe(election_topic(self.name, "+", "certificate"))
        await self._observer.start()
        await self.stage.connected([self._observer])

    async def stop(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            await self._observer.stop()

    @property
    def taps(self) -> list[BusTap]:
        """Everybody who listens to the community."""
        return [seat.tap for seat in self.seats.values()] + ([] if self._observer is None else [self._observer])

    def leader(self) -> str | None:
        """Who acts as the leader now."""
        return next((name for name, seat in self.seats.items() if seat._part is not None and seat.membership.leads), None)

    def due(self) -> list[tuple[Mishap, str, bool]]:
        """(mishap, whom it befalls, whether it begins) for everything that begins or ends now; nobody leads: it waits."""
        elapsed_s = self.clock.now_s() - self._begun_s
        found = []
        for mishap in self.section.mishaps:
            if mishap in self.befallen:
                if self.befallen[mishap] and elapsed_s >= mishap.start_s + mishap.duration_s:
                    found.append((mishap, self.befallen[mishap], False))
                    self.befallen[mishap] = ""
            elif elapsed_s >= mishap.start_s:
                leader = self.leader()
                if leader is not None:
                    self.befallen[mishap] = leader
                    found.append((mishap, leader, True))
        return found

    async def partition(self, name: str, begins: bool) -> None:
        """Take a seat's connection away without a word, or give it back."""
        tap = self.seats[name].tap
        if begins:
            await tap.stop()
        else:
            await tap.start()
            await self.stage.connected([tap])

    def lie(self, name: str, begins: bool) -> None:
        """Let a leader hand in false aggregates, or be honest again."""
        liar = self.seats[name].liar
        if liar is not None:
            liar.lying = begins
            self.told_lies += 0 if begins else liar.lies

    def check(self, desk: AggregationDesk) -> None:
        """Look at one cycle."""
        for name, seat in self.seats.items():
            if seat._part is not None and seat.membership.leads:
                self.ledger.leads(seat.membership.term, name)
        for message in [] if self._observer is None else self._observer.receive():
            self._certified(message)
        unit = desk.unit
        for curve in (unit.plan, unit.import_reach):
            if curve is not None and curve.round_name not in self._checked:
                row = slice(0, INTERVALS) if curve is unit.plan else slice(INTERVALS // 2, 3 * INTERVALS // 4)
                self._explain(curve.round_name, list(curve.values_w), curve.count, row)

    def _certified(self, message: BusMessage) -> None:
        try:
            notice = codec.decode(message.payload, topic=message.topic)
        except ProtocolError:
            return
        if isinstance(notice, ElectionNotice) and isinstance(notice.body, Certificate):
            self.ledger.leads(notice.body.term, notice.body.leader)

    def _explain(self, round_name: str, values: list[int], count: int, row: slice) -> None:
        """Find the group of homes whose own reports add up to what was opened."""
        said = self.ledger.said.get(round_name, {})
        groups = {tuple(group) for seat in self.seats.values() if seat._part is not None for group in seat.membership.member.summed}
        for group in groups:
            known = len(group) == count and said.keys() >= set(group)
            if known and [sum(column) for column in zip(*(said[name][row] for name in group), strict=True)] == values:
                self._checked.add(round_name)
                self.ledger.exact.passed()
                return
        self._unexplained[round_name] = self._unexplained.get(round_name, 0) + 1
        if self._unexplained[round_name] >= LATE_CYCLES:
            self._checked.add(round_name)
            self.ledger.exact.violated(f"round {round_name}: no group of {count} reported what was opened")


@functools.lru_cache(maxsize=4)
def _operator_key(bits: int, seed: int) -> OperatorKey:
    return generate_key(bits, 4e9, randbits=random.Random(f"operator {bits} {seed}").getrandbits)
