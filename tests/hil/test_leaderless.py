"""The street that elects its leader: what the community agrees moves its plans, who fails is trusted less, and no house shows itself."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.leadership.household import PlannedHousehold
from hil.broker import find_mosquitto
from hil.community_scenario import Mishap
from hil.day import build_day
from hil.feeder import read_feeder
from hil.run import FeederRun, RunOutcome
from hil.scenario import LoadedScenario, load_scenario
from hil.stage import MemoryStage, SocketStage, Stage
from hil.taps import BARRIER_TOPIC, BusTap
from hil.world import Home, World
from protocols.bus import BusMessage
from protocols.topics import sealed_route

FROM_A_HOUSE = {"status", "response", "join", "adherence"}


def shortened(minutes: float, *, start_h: int, mishaps: Sequence[Mishap] = (), **community: Any) -> LoadedScenario:
    """The shipped scenario for some minutes from an hour of the day, with short keys for speed."""
    loaded = load_scenario("leaderless")
    scenario = loaded.scenario
    assert scenario.community is not None
    changed = msgspec.structs.replace(
        scenario,
        day=msgspec.structs.replace(scenario.day, start=scenario.day.start.replace(hour=start_h), duration_h=minutes / 60.0),
        homes=msgspec.structs.replace(scenario.homes, history_days=0),
        community=msgspec.structs.replace(scenario.community, key_bits=1024, mishaps=tuple(mishaps), **community),
    )
    return msgspec.structs.replace(loaded, scenario=changed)


class Bench:
    """One run and what is in it."""

    def __init__(self, loaded: LoadedScenario, folder: Path, stage_of: type[Stage] = MemoryStage) -> None:
        day = build_day(loaded)
        self.world = World(read_feeder(loaded.network_folder), day)
        self.stage: Any = stage_of() if stage_of is MemoryStage else stage_of(self.world.homes)  # type: ignore[call-arg]
        self.run = FeederRun(loaded, day, self.world, self.stage, seed=1, coordinated=True, folder=folder)
        self.households: list[PlannedHousehold] = []

    def play(self) -> RunOutcome:
        outcome = asyncio.run(self.run.play(self.note))
        broken = [f"{check.name}: {check.details}" for check in outcome.checks if check.violations > 0]
        assert not broken
        return outcome

    def note(self, done: int, total: int) -> None:
        """What is in the houses at the end, before they leave."""
        if done == total:
            self.households = [edge.seat.part.household for edge in self.run._edges if edge.seat is not None]


def test_a_negotiation_in_the_loop_is_agreed_replayed_and_planned_by(tmp_path: Path) -> None:
    """Early night, when all vehicles want the same cheap hours: together they may draw 40 kW."""
    limit_w = 40_000.0
    bench = Bench(
        shortened(24.0, start_h=0, negotiation_iterations=60, negotiation_period_s=21_600.0, import_limit_w=limit_w, period_s=900.0),
        tmp_path,
    )
    checks = {check.name: check for check in bench.play().checks}
    assert checks["negotiated_limit_held"].checks == 1 and not checks["negotiated_limit_held"].excused
    assert checks["negotiation_replays"].checks > 3
    agreed = [household.agreement for household in bench.households if household.agreement is not None]
    assert len(agreed) == len(bench.world.homes)
    assert np.sum([agreement.net_import_w for agreement in agreed], axis=0).max() <= limit_w
    for household in bench.households:
        made = household._made
        assert made is not None and made.inputs.negotiation is not None, "the newest plan goes by the agreement"
        assert not made.inputs.buy_price_per_kwh.any()


def test_a_leader_that_is_killed_is_trusted_less_by_what_the_operator_saw(tmp_path: Path) -> None:
    bench = Bench(shortened(32.0, start_h=0, mishaps=(Mishap(kind="leader_killed", start_s=300.0, duration_s=1500.0),)), tmp_path)
    bench.play()
    coordinator = bench.run._coordinator
    assert coordinator is not None and coordinator.office is not None
    standing = coordinator.office.standing
    killed = {edge.name for edge in bench.run._edges if edge.restarts > 0}
    others = {edge.name for edge in bench.run._edges} - killed
    assert len(killed) == 1
    [name] = killed
    assert standing.reputation(name).uptime_frac < min(standing.reputation(other).uptime_frac for other in others)
    assert standing.reputation(name).communication_frac < min(standing.reputation(other).communication_frac for other in others)
    assert min(standing.reputation(other).communication_frac for other in others) > 0.5, "every home answers its controls"


@pytest.mark.slow
def test_a_leader_that_lies_over_its_signature_is_convicted(tmp_path: Path) -> None:
    mishaps = (Mishap(kind="leader_lies", start_s=250.0, duration_s=3600.0),)
    bench = Bench(shortened(32.0, start_h=0, mishaps=mishaps, period_s=300.0), tmp_path)
    bench.play()
    coordinator, community = bench.run._coordinator, bench.run._community
    assert coordinator is not None and coordinator.office is not None and community is not None
    [liar] = community.befallen.values()
    standing = coordinator.office.standing
    assert standing.reputation(liar).strikes > 0.0
    assert standing.value(liar) < 0.6 * min(standing.value(name) for name in community.seats if name != liar)


EVERYTHING = (
    Mishap(kind="leader_killed", start_s=600.0, duration_s=300.0),
    Mishap(kind="leader_lies", start_s=1500.0, duration_s=900.0),
    Mishap(kind="leader_frozen", start_s=2700.0, duration_s=300.0),
    Mishap(kind="leader_partitioned", start_s=3600.0, duration_s=600.0),
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", [MemoryStage, SocketStage])
def test_whatever_befalls_the_leader_the_street_stays_inside_its_envelopes(tmp_path: Path, stage: type[Stage]) -> None:
    """The late afternoon, when export limits bind; on sockets with a real broker and real Modbus."""
    bench = Bench(shortened(80.0, start_h=16, mishaps=EVERYTHING, period_s=300.0, negotiation_iterations=40), tmp_path, stage)
    checks = {check.name: check for check in bench.play().checks}
    community = bench.run._community
    assert community is not None and len(community.befallen) == len(EVERYTHING)
    assert max(community.ledger.leaders) >= 3, "terms in which somebody led"
    assert checks["envelope_held"].checks == 30 * 16 and not checks["envelope_held"].excused
    assert checks["sums_exact_or_refused"].checks >= 10


class OverheardStage(SocketStage):
    """Somebody at the broker reads everything that passes."""

    def __init__(self, homes: Sequence[Home]) -> None:
        super().__init__(homes)
        self.heard: list[BusMessage] = []
        self._ear: BusTap | None = None

    async def open(self) -> None:
        await super().open()
        self._ear = BusTap(self.bus("ear", None))
        self._ear.subscribe("#")
        await self._ear.start()
        await self.connected([self._ear])

    async def settle(self, publishers: Sequence[BusTap], listeners: Sequence[BusTap]) -> None:
        assert self._ear is not None
        await super().settle(publishers, [*listeners, self._ear])
        self.heard += [message for message in self._ear.receive() if message.topic != BARRIER_TOPIC]

    async def close(self) -> None:
        assert self._ear is not None
        await self._ear.stop()
        await super().close()


def numbers(content: object) -> Iterator[float]:
    """Every number of a message, at any depth."""
    match content:
        case bool():
            return
        case int() | float():
            yield float(content)
        case dict():
            for value in content.values():
                yield from numbers(value)
        case list():
            for value in content:
                yield from numbers(value)


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")
def test_whoever_reads_everything_at_the_broker_learns_no_households_power(tmp_path: Path) -> None:
    """Real Mosquitto, real Modbus: the whole wire of 30 homes through an election, rounds and a negotiation."""
    bench = Bench(shortened(6.0, start_h=0, negotiation_iterations=2), tmp_path, OverheardStage)
    metered: list[set[float]] = []
    step = bench.world.step

    def watched(*arguments: Any) -> Any:
        frame = step(*arguments)
        metered.append({round(float(power_w), 1) for power_w in frame.net_import_w if abs(power_w) >= 100.0 and power_w % 100.0})
        return frame

    bench.world.step = watched  # type: ignore[method-assign]
    checks = {check.name: check for check in bench.play().checks}
    assert checks["sums_exact_or_refused"].checks > 0
    heard: list[BusMessage] = bench.stage.heard
    of_homes = [message.topic.split("/") for message in heard if "/node/" in message.topic]
    assert {levels[-1] for levels in of_homes} <= FROM_A_HOUSE and {levels[-2] for levels in of_homes} == set(bench.world.names)
    powers_w = set().union(*metered)
    community = bench.run._community
    assert community is not None and community.ledger.said
    rows = [values for said in community.ledger.said.values() for values in said.values() if sum(map(bool, values[:8])) > 4]
    assert len(rows) >= 30 and len(powers_w) > 100 and any("/round/" in message.topic for message in heard)
    packed = [struct.pack(f"{order}4i", *values[:4]) for values in rows for order in "<>"]
    for message in heard:
        if not any(noun in message.topic for noun in ("/node/", "/election/", "/round/")):
            continue
        if sealed_route(message.topic) is None:
            assert not powers_w & set(numbers(json.loads(message.payload))), message.topic
        assert not any(bytes_ in message.payload for bytes_ in packed), message.topic
