"""Three communities and their region on a real Mosquitto, every part running as deployed; the region's leader is cut off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.region.config import CommunityEntry, RegionConfig, RegionIdentity
from coordinator.region.service import RegionCoordinator
from edge.config import EdgeConfig, IdentitySection, SiteSection, StoreSection
from edge.devices.registry import DeviceConfig
from edge.leadership.election_shell import BootClock
from edge.leadership.part import CommunityPart, commission, make_part, part_will
from edge.leadership.region_shell import region_will
from edge.leadership.settings import LeadershipSection, NeighbourSection, RegionSection
from edge.values import DeviceKind
from hil.broker import Broker, find_mosquitto
from protocols.election.values import Epoch, Seat
from protocols.keys import save_private_key, save_public_key
from protocols.messages import EpochNotice
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Sequencer, Signer
from protocols.topics import coordinator_topic

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")
NAMES = ("east", "north", "west")
HOMES = ("h0", "h1", "h2")
REGION = "valley"


def key_of(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(text.encode().ljust(32, b"."))


class Valley:
    """Nine households of three communities, the epochs of their coordinators, and the region's coordinator."""

    def __init__(self, folder: Path, port: int) -> None:
        self.clock = BootClock()
        self.settings = MqttSettings(port=port, backoff_min_s=0.05, backoff_max_s=0.2, session_expiry_s=0)
        self.stop = asyncio.Event()
        self.dead: set[tuple[str, str]] = set()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.parts: dict[tuple[str, str], CommunityPart] = {}
        self.buses: dict[tuple[str, str], list[MqttBus]] = {}
        for name in (*NAMES, REGION):
            save_public_key(key_of(name).public_key(), folder / f"{name}.pub")
        save_private_key(key_of(REGION), folder / "region.key")
        for community in NAMES:
            for home in HOMES:
                self._settle(folder, community, home)
        self.teller = MqttBus(self.settings, client_id="coordinators")
        config = RegionConfig(
            identity=RegionIdentity(region=REGION, key_file=str(folder / "region.key")),
            communities=tuple(CommunityEntry(name=name, coordinator_keys=(str(folder / f"{name}.pub"),)) for name in NAMES),
            settle_s=0.3,
            state=str(folder / "state.json"),
        )
        self.coordinator = RegionCoordinator(config, bus=MqttBus(self.settings, client_id="region"), clock=self.clock)

    def _settle(self, folder: Path, community: str, home: str) -> None:
        config = EdgeConfig(
            identity=IdentitySection(community=community, node=home),
            site=SiteSection(import_rating_w=14_000.0, export_rating_w=10_000.0),
            devices=(DeviceConfig(name="meter", kind=DeviceKind.METER, host="127.0.0.1", family="sunspec"),),
            store=StoreSection(fsync=False),
            leadership=LeadershipSection(enabled=True, folder=f"{community}-{home}", runtime_folder=f"{community}-{home}/run"),
            region=RegionSection(
                enabled=True,
                name=REGION,
                coordinator_keys=(f"{REGION}.pub",),
                communities=tuple(NeighbourSection(name=name, coordinator_keys=(f"{name}.pub",)) for name in NAMES),
                heartbeat_s=0.5,
                lease_s=1.6,
                stagger_s=0.15,
                candidacy_s=1.0,
            ),
        )
        commission(config, folder)
        key, name = key_of(f"{community} {home}"), f"{community}-{home}"
        bus = MqttBus(self.settings, client_id=name, will=part_will(community, home, key, self.clock))
        region_bus = MqttBus(self.settings, client_id=f"{name}-region", will=region_will(REGION, community, key, self.clock))
        self.buses[community, home] = [bus, region_bus]
        self.parts[community, home] = make_part(
            config,
            bus=bus,
            clock=self.clock,
            key=key,
            coordinator_keys=(key_of(community).public_key(),),
            folder=folder,
            region_bus=region_bus,
        )

    async def start(self) -> None:
        await self.teller.start()
        for community in NAMES:
            seats = tuple(
                Seat(name=home, public_key=key_of(f"{community} {home}").public_key().public_bytes_raw().hex(), reputation=0.8)
                for home in HOMES
            )
            now_s = self.clock.now_s()
            notice = EpochNotice(
                sender="coordinator",
                time_s=now_s,
                sequence=Sequencer(now_s).next(),
                epoch=Epoch(number=1, seats=seats, reputation_min=0.4, seed="ab" * 32),
                cards=(),
                members_min=3,
            )
            self.teller.publish(Signer(key_of(community)).seal(coordinator_topic(community, "epoch"), notice, retain=True))
        self.tasks["region"] = asyncio.create_task(self.coordinator.run(self.stop))
        for (community, home), part in self.parts.items():
            self.tasks[f"{community} {home}"] = asyncio.create_task(part.run(self.stop))

    async def close(self) -> None:
        self.stop.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self.teller.stop()

    def cut(self, community: str, home: str) -> None:
        """The household's process is gone without a word; the broker publishes its wills."""
        self.dead.add((community, home))
        self.tasks[f"{community} {home}"].cancel()
        for bus in self.buses[community, home]:
            connection = bus._client.socket()
            if connection is not None:
                connection.close()

    def leaders(self) -> list[tuple[str, str]]:
        return [key for key, part in self.parts.items() if key not in self.dead and part.region is not None and part.region.leads]

    async def until(self, happened: Callable[[], bool], within_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < deadline_s, "nothing happened in time"
            await asyncio.sleep(0.02)


@pytest.fixture
async def valley(tmp_path: Path) -> AsyncIterator[Valley]:
    broker = Broker()
    broker.start()
    valley = Valley(tmp_path, broker.port)
    try:
        await valley.start()
        yield valley
    finally:
        await valley.close()
        broker.close()


async def test_a_region_elects_a_leader_among_leaders_and_another_one_when_that_is_cut_off(valley: Valley) -> None:
    await valley.until(lambda: len(valley.leaders()) == 1)
    [(community, home)] = valley.leaders()
    part = valley.parts[community, home]
    assert part.leads and part.region is not None and part.region.seat.certificate is not None
    first = msgspec.structs.asdict(part.region.seat.certificate)
    valley.cut(community, home)
    await valley.until(lambda: bool(valley.leaders()))
    [(other_community, other_home)] = valley.leaders()
    region = valley.parts[other_community, other_home].region
    assert region is not None and region.seat.certificate is not None
    assert region.seat.certificate.term > first["term"]
