"""A hundred households under a key of full length: every sum exact, and what encryption costs a household's controller.

The controller's CPU is counted as deployed: one control cycle a second (the devices' registers here in memory, without sockets),
heartbeats every half a second, a round of plans every quarter of an hour and one of flexibility every hour. A report is counted whole:
packing, pads, Paillier with its randomisers, sealing and signing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.aggregation.settings import AggregationSection as DeskSection
from edge.agent import EdgeAgent
from edge.devices.registry import open_device
from edge.devices.transport import TransportOptions
from edge.leadership.settings import AggregationSection, LeadershipSection
from edge.store import Store
from hil.devices.house import House, HouseSpec
from hil.devices.memory import MemoryRegisterClient
from protocols.aggregation.paillier import COMB_TABLES, COMB_TEETH
from protocols.clock import ManualClock
from protocols.memory_bus import MemoryBroker
from protocols.signing import Signer, Verifier
from tests.community.leadership_street import Street, operator_key
from tests.edge.world import COMMUNITY, COORDINATOR_KEY, NODE, NODE_KEY, make_config

MEMBERS = 100
KEY_BITS = 3200
CYCLES_PER_DAY = 86400
ROUNDS_PER_DAY = 96 + 24


def street_of_hundred(folder: Path, *, every: int = 4) -> Street:
    """Heartbeats every half a minute, as one step of this simulation takes five seconds."""
    street = Street(
        folder,
        MEMBERS,
        members_min=10,
        leadership=LeadershipSection(
            enabled=True, heartbeat_s=30.0, lease_s=100.0, stagger_s=10.0, candidacy_s=20.0, tenure_s=30 * 86400.0
        ),
        aggregation=AggregationSection(
            enabled=True, flexibility_every=every, collect_s=30.0, recover_s=20.0, resend_s=30.0, pool_entries=0, keep_openings_s=0.0
        ),
        desk=DeskSection(enabled=True, members_min=10),
        key=operator_key(5, KEY_BITS),
        comb=(COMB_TEETH, COMB_TABLES),
        step_s=5.0,
    )
    street.listening = False
    return street


class Spent:
    """CPU time of calls, added up."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.calls = 0

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            begun_s = time.process_time()
            answer = function(*arguments)
            self.cpu_s += time.process_time() - begun_s
            self.calls += 1
            return answer

        return watched


async def play(street: Street, duration_s: float) -> tuple[int, Spent]:
    """(rounds whose sums were compared, CPU of the members' answers, pool included)."""
    await street.start()
    spent = Spent()
    for member in street.members.values():
        member.member.call = spent.watch(member.member.call)  # type: ignore[method-assign]
    checked: set[str] = set()
    while street.clock.now_s() < 1_700_000_100.0 + duration_s:
        street.step()
        unit = street.desk.unit
        for curve, row in ((unit.plan, slice(0, 96)), (unit.import_reach, slice(48, 72))):
            if curve is not None and curve.round_name not in checked:
                checked.add(curve.round_name)
                assert curve.count == MEMBERS
                assert list(curve.values_w) == street.expected(curve.round_name, street.names)[row]
        for house in street.houses.values():
            while len(house.said) > 4:
                del house.said[next(iter(house.said))]
    return len(checked), spent


async def cycle_cpu_s(folder: Path) -> float:
    """CPU of one cycle of one controller at one second, planning every five minutes as deployed; meter, PV and battery speak Modbus."""
    folder.mkdir()
    config = make_config(folder, cycle_s=1.0, schedule=True)
    house = House("house", HouseSpec(generation="der", ev_max_a=0.0))
    clock = ManualClock(1_700_000_100.0)
    devices = [
        open_device(settings, lambda _, device=device: MemoryRegisterClient([device], options=TransportOptions()))
        for settings, device in zip(config.devices, house.devices, strict=True)
    ]
    bus = MemoryBroker().client()
    agent = EdgeAgent(
        config,
        bus=bus,
        devices=devices,
        clock=clock,
        store=Store(folder / "state.json", node=NODE, fsync=False),
        signer=Signer(NODE_KEY),
        verifier=Verifier(COMMUNITY, {"coordinator": [COORDINATOR_KEY.public_key()]}),
    )
    await agent.start()
    spent_s = 0.0
    cycles = 600
    for cycle in range(-30, cycles):
        begun_s = time.process_time()
        await agent.step()
        spent_s += time.process_time() - begun_s if cycle >= 0 else 0.0
        house.advance(clock.now_s(), 1.0)
        clock.advance(1.0)
    return spent_s / cycles


async def election_cpu_frac(folder: Path) -> float:
    """CPU that a member's part in the election takes, as a share of time, with the default heartbeats."""
    members, duration_s = 12, 20.0
    street = Street(folder, members, aggregation=AggregationSection())
    street.listening = False
    await street.start()
    street.run(10.0)
    begun_s = time.process_time()
    street.run(duration_s)
    return (time.process_time() - begun_s) / members / duration_s


async def test_two_rounds_of_a_hundred_households_are_exact_and_cost_a_controller_less_than_a_hundredth(tmp_path: Path) -> None:
    street = street_of_hundred(tmp_path / "street", every=1)
    rounds, spent = await play(street, 450.0)
    assert rounds == 2, "in these, roots are agreed with every peer, once for the life of an epoch"
    first_s = spent.cpu_s
    street.run(900.0)
    report_s = (spent.cpu_s - first_s) / (2 * MEMBERS)
    day_s = report_s * ROUNDS_PER_DAY
    controller_s = await cycle_cpu_s(tmp_path / "house") * CYCLES_PER_DAY
    election_s = await election_cpu_frac(tmp_path / "election") * CYCLES_PER_DAY
    share = day_s / (day_s + controller_s + election_s)
    print(f"report {1e3 * report_s:.2f} ms; a day {day_s:.2f} s, control {controller_s:.1f} s, election {election_s:.1f} s: {share:.2%}")
    assert street.desk.opened == 4
    assert share < 0.01


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_a_day_of_a_hundred_households_with_a_round_every_quarter_of_an_hour_is_exact(tmp_path: Path) -> None:
    rounds, _ = await play(street_of_hundred(tmp_path), 86400.0)
    assert rounds >= ROUNDS_PER_DAY - 4
