"""One run: one day of one feeder in one of its two variants, stepped in phases on one virtual clock.

Each control cycle at time t: faults that begin or end now; the coordinator's cycle; barrier; all edges' cycles; barrier; then the world
lives through [t, t + cycle) in plant steps. So an edge decides on what its devices measured up to t, and what it writes takes effect in
the seconds that follow. The edges and the coordinator are the shipped ones; nothing in them knows that time is virtual.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from coordinator.network.cases import load as load_network
from coordinator.network.validate import require_valid
from hil.agreements import Checker
from hil.checkers import CheckResult
from hil.commissioning import KeyRing, market_section
from hil.community import CommunityBench
from hil.envelope_watch import PublishedRegister, envelope_limits
from hil.faulting import Calendar, install_device_faults
from hil.faults import Fault, FaultPlan, draw_faults
from hil.forgery import forgeries
from hil.frames import Frame, Glance, Record, glance_of
from hil.garbage import collecting_seldom
from hil.households import NeighbourhoodDay
from hil.market_ledger import MarketLedger, MarketReport
from hil.metering import INTERVAL_S
from hil.participants import CoordinatorSlot, EdgeSlot, Surroundings
from hil.results import RunSummary
from hil.scenario import LoadedScenario
from hil.services import settle_services
from hil.serving import ServedPage
from hil.stage import SocketStage, Stage
from hil.taps import BusTap
from hil.trading import TRADING, settle_trades
from hil.watching import Watching
from hil.world import World
from protocols.clock import ManualClock

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
PROGRESS_CYCLES = 30
TURN_CYCLES = 10
"""So many cycles a run plays before it lets somebody else have the machine, where anybody asks for that."""


class RunOutcome(Struct, kw_only=True):
    """Everything that a run leaves; `timings` is the only part that depends on the wall clock."""

    summary: RunSummary
    checks: list[CheckResult]
    plan: FaultPlan
    record: Record
    timings: dict[str, float]


class FeederRun:
    """See the module docstring. `seed` draws the faults; files of the participants go below `folder`."""

    def __init__(
        self,
        loaded: LoadedScenario,
        day: NeighbourhoodDay,
        world: World,
        stage: Stage,
        *,
        seed: int,
        coordinated: bool,
        folder: Path,
        served: ServedPage | None = None,
        glance: Callable[[Glance], None] | None = None,
    ) -> None:
        scenario = loaded.scenario
        self._scenario = scenario
        self._day = day
        self._world = world
        self._stage = stage
        self._cycle_s = scenario.control.cycle_s
        self._step_s = scenario.control.plant_step_s
        self._cycles = round(scenario.day.duration_h * 3600.0 / self._cycle_s)
        self._clock = ManualClock(day.start_s)
        self.plan = draw_faults(
            scenario.faults,
            {home.name: tuple(home.devices) for home in world.homes},
            seed=seed,
            start_s=day.start_s,
            duration_s=scenario.day.duration_h * 3600.0,
            step_s=self._cycle_s,
        )
        install_device_faults(self.plan, world.homes, seed)
        self._calendar = Calendar(self.plan)
        keys = KeyRing(folder / "keys", world.names, seed)
        section = scenario.community if coordinated else None
        self._community = (
            None
            if section is None
            else CommunityBench(section, scenario.name, stage=stage, clock=self._clock, keys=keys, folder=folder, seed=seed)
        )
        self._around = Surroundings(
            loaded=loaded,
            day=day,
            stage=stage,
            clock=self._clock,
            folder=folder,
            keys=keys,
            published=PublishedRegister(),
            coordinated=coordinated,
            community=self._community,
        )
        market = market_section(scenario, day)
        self._market = MarketLedger(market, self._checker()) if coordinated and market.mechanism != "none" else None
        self._watching = Watching(scenario, day, world, coordinated=coordinated)
        self._edges: tuple[EdgeSlot, ...] = ()
        self._coordinator: CoordinatorSlot | None = None
        self._served = served
        self._glance = glance

    async def play(self, progress: Progress, at_rest: Callable[[], Awaitable[None]] | None = None) -> RunOutcome:
        """Run from start to end. `at_rest` is awaited before every `TURN_CYCLES` cycles."""
        begun_s = time.monotonic()
        try:
            await self._stage.open()
            await self._start()
            with collecting_seldom():
                started_s, requests_before = time.monotonic(), self._stage.requests()
                for cycle in range(self._cycles):
                    if at_rest is not None and cycle % TURN_CYCLES == 0:
                        await at_rest()
                    await self._cycle(cycle)
                    if cycle % PROGRESS_CYCLES == PROGRESS_CYCLES - 1 or cycle == self._cycles - 1:
                        progress(cycle + 1, self._cycles)
                wall_s = time.monotonic() - started_s
                requests = self._stage.requests() - requests_before
        finally:
            await self._stop()
        timings = {"wall_s": wall_s, "start_s": started_s - begun_s, "modbus_requests": float(requests), "cycles": float(self._cycles)}
        summary, checks = self._watching.close(self._edges, self._around.published)
        if self._market is not None:
            summary = msgspec.structs.replace(summary, market=self._traded(self._market.report()))
        if self._coordinator is not None:
            timings |= {"coordinator_s": self._coordinator.spent_s, "envelopes_computed": float(self._coordinator.computed)}
            for problem in sorted(self._coordinator.problems):
                log.warning("coordinator: %s", problem)
        if self._community is not None:
            checks = sorted([*checks, *self._community.ledger.results()], key=lambda check: check.name)
        return RunOutcome(summary=summary, checks=checks, plan=self.plan, record=self._watching.record, timings=timings)

    def _traded(self, report: MarketReport) -> MarketReport:
        """The report with what members traded and what they delivered, where the mechanism is one in which they do."""
        if report.mechanism not in TRADING:
            return report
        record, day = self._watching.record, self._day
        begins_s = np.arange(record.start_s, record.start_s + record.samples * record.sample_s, INTERVAL_S)
        trading = settle_trades(record, day.tariff.prices(begins_s, day.utc_offset_s), report.prices)
        services = settle_services(record, report.owed) if report.owed else None
        return msgspec.structs.replace(report, trading=trading, services=services, owed=())

    def _checker(self) -> Checker:
        """An independent power flow for what is agreed."""
        network = require_valid(load_network(self._around.loaded.network_folder))
        connections = {home.name: home.site.connection for home in self._world.homes}
        return Checker(network, connections, self._scenario.coordinator.reactive_frac)

    async def _start(self) -> None:
        self._edges = tuple(EdgeSlot(home, self._around) for home in self._world.homes)
        if self._around.coordinated:
            self._coordinator = CoordinatorSlot(self._around, self._world)
            await self._coordinator.start()
            if self._served is not None and isinstance(self._stage, SocketStage):
                await self._served.start(self._coordinator.config, self._stage.broker_port)
        for edge in self._edges:
            await edge.start()
        await self._stage.connected([edge.tap for edge in self._edges] + self._coordinator_taps())
        if self._community is not None:
            await self._community.observe()
            await self._stage.connected(self._community.taps)

    async def _stop(self) -> None:
        for edge in self._edges:
            await edge.stop()
        if self._coordinator is not None:
            await self._coordinator.stop()
        if self._community is not None:
            await self._community.stop()
        if self._served is not None:
            await self._served.stop()
        await self._stage.close()

    async def _cycle(self, cycle: int) -> None:
        now_s = self._clock.now_s()
        for fault, begins in self._calendar.due(now_s):
            await self._apply(fault, begins, now_s)
        if self._community is not None:
            await self._befall(self._community)
        if self._coordinator is not None:
            before = self._coordinator.tap.published
            await self._coordinator.step()
            if self._market is not None and self._coordinator.market is not None:
                self._market.look(self._coordinator.market, {edge.name: edge for edge in self._edges})
            if self._coordinator.tap.published != before:
                await self._stage.settle(self._coordinator_taps(), [edge.tap for edge in self._edges if edge.alive] + self._seat_taps())
        awake = [edge for edge in self._edges if edge.alive]
        published = [edge.tap.published for edge in awake]
        await self._stage.together([edge.step for edge in awake])
        spoke = [edge.tap for edge, before in zip(awake, published, strict=True) if edge.tap.published != before]
        if spoke and self._coordinator is not None:
            await self._stage.settle(spoke, self._coordinator_taps())
        if self._community is not None and self._coordinator is not None and self._coordinator.office is not None:
            await self._stage.settle(self._seat_taps(), self._seat_taps() + self._coordinator_taps())
            self._community.check(self._coordinator.office.desk)
        self._live(cycle, now_s)
        self._clock.advance(self._cycle_s)

    def _live(self, cycle: int, now_s: float) -> None:
        """The plant steps of one cycle."""
        steps = round(self._cycle_s / self._step_s)
        alive = np.array([edge.alive for edge in self._edges])
        watches = [edge.watch for edge in self._edges]
        frames: list[Frame] = []
        for step in range(steps):
            at_s = now_s + step * self._step_s
            frames.append(self._world.step(cycle * steps + step, at_s, self._step_s, envelope_limits(watches, at_s), alive))
        self._watching.watch(now_s, frames, sum(watch.on_control for watch in watches))
        if self._glance is not None and cycle % PROGRESS_CYCLES == 0:
            self._glance(glance_of(frames[-1]))

    async def _apply(self, fault: Fault, begins: bool, now_s: float) -> None:
        log.debug("%s %s %s", fault.kind, fault.target, "begins" if begins else "ends")
        match fault.kind:
            case "broker_restart" if begins:
                await self._stage.broker_down()
            case "broker_restart":
                seats = [] if self._community is None else self._community.taps
                await self._stage.broker_up([edge.tap for edge in self._edges if edge.alive] + seats + self._coordinator_taps())
            case "coordinator_unreachable":
                if self._coordinator is not None:
                    await self._coordinator.reach(not begins)
            case "edge_power_cycle":
                edge = next(edge for edge in self._edges if edge.name == fault.target)
                await (edge.kill() if begins else edge.revive())
            case "forged_command":
                if begins and self._coordinator is not None:
                    for message in forgeries(self._around.loaded.scenario.name, fault.target, now_s, self._around.published):
                        self._stage.outsider().publish(message)
            case _:
                raise AssertionError(f"{fault.kind} is not applied by the run")

    async def _befall(self, community: CommunityBench) -> None:
        """What the scenario has in store for whoever leads."""
        for mishap, name, begins in community.due():
            log.info("%s: %s %s", mishap.kind, name, "begins" if begins else "ends")
            edge = next(edge for edge in self._edges if edge.name == name)
            match mishap.kind:
                case "leader_killed":
                    await (edge.kill() if begins else edge.revive())
                case "leader_frozen":
                    edge.frozen = begins
                case "leader_partitioned":
                    await community.partition(name, begins)
                case "leader_lies":
                    community.lie(name, begins)

    def _seat_taps(self) -> list[BusTap]:
        return [] if self._community is None else [tap for tap in self._community.taps if tap.connected]

    def _coordinator_taps(self) -> list[BusTap]:
        return [] if self._coordinator is None or not self._coordinator.reachable else [self._coordinator.tap]
