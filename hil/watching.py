"""Everything that looks at a run: checkers, settlement and the record, fed with the frames of each cycle, closed at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hil.checkers import CheckResult, EnergyConserved, EnvelopeHeld, NetworkLimits, P1NeverShed, SocWithinLimits, Tally
from hil.corner_check import PublishedEnvelopesHold
from hil.envelope_watch import PublishedRegister
from hil.figures import home_figures, run_figures
from hil.frames import Frame, Record
from hil.households import NeighbourhoodDay
from hil.results import RunSummary
from hil.scenario import Scenario
from hil.settlement import MICRO, Settlement
from hil.world import World

METERING_INTERVAL_S = 300.0


class EdgeCounts(Protocol):
    """What is counted of one edge."""

    restarts: int
    refused: int
    blind_cycles: int
    forged: int


class Watching:
    """The eyes of one run. Network limits are a checker where envelopes are meant to keep them, and a figure where nobody does."""

    def __init__(self, scenario: Scenario, day: NeighbourhoodDay, world: World, *, coordinated: bool) -> None:
        names = world.names
        rating_w = np.array([max(home.site.import_rating_w, home.site.export_rating_w) for home in world.homes])
        self._scenario = scenario
        self._world = world
        self._coordinated = coordinated
        self._envelope = EnvelopeHeld(names, rating_w, scenario.limits, scenario.coordinator.interval_s)
        self._energy = EnergyConserved(names)
        self._network = NetworkLimits(names, scenario.limits)
        self._p1 = P1NeverShed(names)
        self._soc = SocWithinLimits(names)
        self._corners = PublishedEnvelopesHold(scenario, world)
        self._settlement = Settlement(names, METERING_INTERVAL_S)
        cycles = round(scenario.day.duration_h * 3600.0 / scenario.control.cycle_s)
        self._home_cycles = self._on_control = 0
        self.record = Record(names, day.start_s, scenario.control.cycle_s, cycles)
        begins_s = day.start_s + scenario.control.cycle_s * np.arange(cycles, dtype=np.float64)
        self._buy, self._sell = (prices.tolist() for prices in day.tariff.prices(begins_s, day.utc_offset_s))

    def watch(self, now_s: float, frames: list[Frame], on_control: int) -> None:
        """The frames of the cycle that began at `now_s`; for `on_control` homes a control held in it, not the default."""
        self._home_cycles += len(self._world.names)
        self._on_control += on_control
        buy, sell = self._buy[self.record.samples], self._sell[self.record.samples]
        if self._coordinated:
            self._corners.watch(now_s, frames[0].import_limit_w, frames[0].export_limit_w)
        for frame in frames:
            self._envelope.watch(frame)
            self._energy.watch(frame)
            self._network.watch(frame)
            self._p1.watch(frame)
            self._soc.watch(frame)
            self._settlement.watch(frame, buy, sell)
        self.record.add(frames)

    def close(self, edges: Sequence[EdgeCounts], published: PublishedRegister) -> tuple[RunSummary, list[CheckResult]]:
        """Book what is open and say what was seen."""
        self._settlement.close()
        self._world.close(self._energy.tally)
        settlement = self._settlement
        checks = [self._p1.result(), self._soc.result(), self._energy.result(), settlement.result()]
        if self._coordinated:
            checks += [self._envelope.result(), self._network.result(), self._corners.result()]
            checks += published_checks(published, edges)
        homes = home_figures(
            self.record, settlement.home_micro / MICRO, self._envelope.exceeded_s, settlement.import_wh, settlement.export_wh
        )
        figures = run_figures(
            self.record,
            homes,
            self._scenario.limits,
            self._network.outside_s,
            sum(home.ev_missing_wh for home in self._world.homes),
        )
        counters = {
            "edge_restarts": sum(edge.restarts for edge in edges),
            "messages_refused": sum(edge.refused for edge in edges),
            "blind_cycles": sum(edge.blind_cycles for edge in edges),
            "controls_published": published.controls,
            "home_cycles": self._home_cycles,
            "home_cycles_on_control": self._on_control,
        }
        return RunSummary(figures=figures, homes=tuple(homes), counters=counters), sorted(checks, key=lambda check: check.name)


def published_checks(published: PublishedRegister, edges: Sequence[EdgeCounts]) -> list[CheckResult]:
    """What can be said of the messages themselves."""
    verified, signed, forged = Tally("no_unverified_envelope"), Tally("signed_only"), Tally("forgeries_refused")
    verified.passed(published.controls)
    if published.unverified > 0:
        verified.add_violation(f"{published.unverified} of {published.controls} published controls name no guarantee that was proved")
        verified.violations = published.unverified
    signed.passed(published.messages)
    if published.unsigned > 0:
        signed.add_violation(f"{published.unsigned} of {published.messages} published commands are not signed")
        signed.violations = published.unsigned
    for edge in edges:
        forged.passed(edge.forged)
        if edge.refused < edge.forged:
            forged.add_violation(f"of {edge.forged} forged commands only {edge.refused} were refused")
    return [verified.result(), signed.result(), forged.result()]
