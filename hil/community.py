"""The community of a run: each home's seat in it, what befalls its leader, and the named invariants of elections and rounds.

Seats are the shipped memberships, stepped after each control cycle. What befalls the leader is written in the scenario: it is killed (its
will is published), frozen (its connection stays), partitioned (its connection is gone and nobody is told), or it lies.
`hil.community_ledger` names the invariants that are watched.
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
from hil.commissioning import COORDINATOR, KeyRing
from hil.community_ledger import Ledger
from hil.community_scenario import CommunitySection, Mishap
from hil.lying_bus import LyingBus
from hil.stage import Stage
from hil.taps import BusTap
from protocols import codec
from protocols.aggregation.packing import Layout
from protocols.bus import BusMessage
from protocols.clock import ManualClock
from protocols.election.values import Certificate
from protocols.errors import ProtocolError
from protocols.messages import CommunitySignal, ElectionNotice, RoundCall
from protocols.signing import Signer
from protocols.topics import coordinator_topic, election_topic

COMB: Final = (8, 2)
LATE_CYCLES: Final = 30
"""A sum that no group explains for so many cycles is wrong."""


class Recorded(PlannedHousehold):
    """A house whose reports the bench remembers, so that it can add them up itself."""

    def __init__(self, config: EdgeConfig, ledger: Ledger, clock: ManualClock) -> None:
        super().__init__(
            intervals=INTERVALS,
            value_max=Layout(INTERVALS).value_max,
            now_s=clock.now_s,
            monotonic_s=clock.monotonic_s,
            deadline_s=config.schedule.deadline_s,
            size_w=config.site.import_rating_w,
        )
        self._name = config.identity.node
        self._ledger = ledger

    def values(self, call: RoundCall) -> Sequence[int] | None:
        values = super().values(call)
        if values is not None:
            self._ledger.reported(self._name, call.round_name, list(values))
        return values


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
        household = Recorded(config, bench.ledger, bench.clock)
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
        """Listen to every certificate and every signal that passes."""
        self._observer = BusTap(self.stage.bus("community-observer", None))
        self._observer.subscribe(election_topic(self.name, "+", "certificate"))
        self._observer.subscribe(coordinator_topic(self.name, "signal"))
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

    def check(self, desk: AggregationDesk) -> None:
        """Look at one cycle."""
        for name, seat in self.seats.items():
            if seat._part is not None and seat.membership.leads:
                self.ledger.leads(seat.membership.term, name)
        for message in [] if self._observer is None else self._observer.receive():
            self._heard(message)
        self.ledger.negotiated(desk.bargain)
        unit = desk.unit
        for curve in (unit.plan, unit.import_reach):
            if curve is not None and curve.round_name not in self._checked:
                row = slice(0, INTERVALS) if curve is unit.plan else slice(INTERVALS // 2, 3 * INTERVALS // 4)
                self._explain(curve.round_name, list(curve.values_w), curve.count, row)

    def _heard(self, message: BusMessage) -> None:
        try:
            notice = codec.decode(message.payload, topic=message.topic)
        except ProtocolError:
            return
        if isinstance(notice, ElectionNotice) and isinstance(notice.body, Certificate):
            self.ledger.leads(notice.body.term, notice.body.leader)
        elif isinstance(notice, CommunitySignal):
            self.ledger.signalled(notice)

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
