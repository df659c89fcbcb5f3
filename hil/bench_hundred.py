"""Rows of the bench: a hundred households under a key of full length, through a day of rounds; every sum is compared.

The controller's CPU is counted as deployed: one control cycle a second (the devices' registers here in memory, without sockets),
heartbeats every half a second, a round of plans every quarter of an hour and one of flexibility every hour. A report is counted whole:
packing, pads, Paillier with its randomisers, sealing and signing.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.aggregation.settings import AggregationSection as DeskSection
from edge.agent import EdgeAgent
from edge.config import ControlSection, EdgeConfig, IdentitySection, ScheduleSection, SiteSection, StoreSection
from edge.devices.registry import DeviceConfig, open_device
from edge.devices.transport import TransportOptions
from edge.leadership.settings import AggregationSection, LeadershipSection
from edge.store import Store
from edge.values import DeviceKind
from hil.devices.device import SimulatedDevice
from hil.devices.house import House, HouseSpec
from hil.devices.memory import MemoryRegisterClient
from hil.simulation.street import COMMUNITY, START_S, Street, operator_key
from protocols.aggregation.paillier import COMB_TABLES, COMB_TEETH
from protocols.clock import ManualClock
from protocols.memory_bus import MemoryBroker
from protocols.signing import Signer, Verifier

MEMBERS: Final = 100
KEY_BITS: Final = 3200
DAY_S: Final = 86400.0
ROUNDS_PER_DAY: Final = 96 + 24
CYCLES: Final = 600
WARM_CYCLES: Final = 30

Row = dict[str, Any]


def hundred_rows(duration_s: float = DAY_S) -> list[Row]:
    """Wrong sums of a day, and what of a controller's CPU goes into encryption."""
    with tempfile.TemporaryDirectory(prefix="commonwatt-hundred-") as folder:
        return asyncio.run(_rows(Path(folder), duration_s))


async def _rows(folder: Path, duration_s: float) -> list[Row]:
    street = street_of_hundred(folder / "street")
    rounds, wrong, spent = await play(street, duration_s)
    share, words = await encryption_frac(folder, spent.cpu_s / max(spent.calls, 1))
    held = f"{rounds} rounds of {MEMBERS} households, {KEY_BITS} bits, {duration_s / 3600.0:.0f} h in virtual time"
    fewest = round(ROUNDS_PER_DAY * duration_s / DAY_S) - 4
    return [
        _row("hundred_wrong_sums", wrong, "sums", 0.0, held),
        _row("hundred_rounds_missing", max(fewest - rounds, 0), "rounds", 0.0, f"{rounds} were opened, of at least {fewest}"),
        _row("hundred_encryption_cpu", share, "of a controller's CPU", 0.01, words),
    ]


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
        """The same function, counted."""

        def watched(*arguments: Any) -> Any:
            begun_s = time.process_time()
            answer = function(*arguments)
            self.cpu_s += time.process_time() - begun_s
            self.calls += 1
            return answer

        return watched


async def play(street: Street, duration_s: float) -> tuple[int, int, Spent]:
    """(rounds whose sums were compared, how many were wrong, CPU of the members' answers, randomisers included)."""
    await street.start()
    spent = Spent()
    for member in street.members.values():
        member.member.call = spent.watch(member.member.call)  # type: ignore[method-assign]
    checked: set[str] = set()
    wrong = 0
    while street.clock.now_s() < START_S + duration_s:
        street.step()
        unit = street.desk.unit
        for curve, row in ((unit.plan, slice(0, 96)), (unit.import_reach, slice(48, 72))):
            if curve is not None and curve.round_name not in checked:
                checked.add(curve.round_name)
                exact = street.expected(curve.round_name, street.names)[row]
                wrong += curve.count != len(street.names) or list(curve.values_w) != exact
        for house in street.houses.values():
            while len(house.said) > 4:
                del house.said[next(iter(house.said))]
    return len(checked), wrong, spent


async def encryption_frac(folder: Path, report_s: float) -> tuple[float, str]:
    """Share of a controller's CPU that reports of this cost take in a day, and how it comes together."""
    day_s = report_s * ROUNDS_PER_DAY
    controller_s = await cycle_cpu_s(folder / "house") * DAY_S
    election_s = await election_cpu_frac(folder / "election") * DAY_S
    words = f"report {1e3 * report_s:.2f} ms; a day {day_s:.2f} s, control {controller_s:.1f} s, election {election_s:.1f} s"
    return day_s / (day_s + controller_s + election_s), words


async def cycle_cpu_s(folder: Path) -> float:
    """CPU of one cycle of one controller at one second, planning every five minutes as deployed; meter, PV and battery speak Modbus."""
    folder.mkdir()
    house = House("house", HouseSpec(generation="der", ev_max_a=0.0))
    clock = ManualClock(START_S)
    key, operator = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
    config = EdgeConfig(
        identity=IdentitySection(community=COMMUNITY, node="house"),
        site=SiteSection(import_rating_w=14_000.0, export_rating_w=10_000.0),
        devices=tuple(
            DeviceConfig(name=kind.value, kind=kind, host="127.0.0.1") for kind in (DeviceKind.METER, DeviceKind.PV, DeviceKind.BATTERY)
        ),
        control=ControlSection(cycle_s=1.0, mode="coordinated"),
        schedule=ScheduleSection(enabled=True),
        store=StoreSection(path=str(folder / "state.json"), fsync=False),
    )
    agent = EdgeAgent(
        config,
        bus=MemoryBroker().client(),
        devices=[
            open_device(settings, functools.partial(_registers, device))
            for settings, device in zip(config.devices, house.devices, strict=True)
        ],
        clock=clock,
        store=Store(folder / "state.json", node="house", fsync=False),
        signer=Signer(key),
        verifier=Verifier(COMMUNITY, {"coordinator": [operator.public_key()]}),
    )
    await agent.start()
    spent_s = 0.0
    for cycle in range(-WARM_CYCLES, CYCLES):
        begun_s = time.process_time()
        await agent.step()
        spent_s += time.process_time() - begun_s if cycle >= 0 else 0.0
        house.advance(clock.now_s(), 1.0)
        clock.advance(1.0)
    return spent_s / CYCLES


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


def _registers(device: SimulatedDevice, settings: DeviceConfig) -> MemoryRegisterClient:
    del settings
    return MemoryRegisterClient([device], options=TransportOptions())


def _row(name: str, value: float, unit: str, most: float, note: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "target": f"<= {most:g}", "met": value <= most, "note": note}
