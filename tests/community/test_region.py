"""Leaders of several communities elect one of themselves over the bus, with the code that elected them, and go on when one is lost."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from coordinator.errors import ConfigError, StoreError
from coordinator.region.config import CommunityEntry, RegionConfig, RegionIdentity, decode_region
from coordinator.region.service import RegionCoordinator
from edge.leadership.ballots import BallotStore
from edge.leadership.region_shell import RegionalPart, RegionKeys, region_will
from edge.leadership.settings import LeadershipSection, NeighbourSection, RegionSection, check_region
from hil.simulation.street import START_S, CutBus, Street
from protocols.bus import BusMessage
from protocols.clock import ManualClock
from protocols.election.region import check_regional_epoch, first_term, regional_ballot, regional_epoch
from protocols.election.rules import CertificateRefused
from protocols.election.values import Ballot
from protocols.keys import save_private_key, save_public_key
from protocols.memory_bus import MemoryBroker
from protocols.messages import ElectionNotice, RegionNotice
from protocols.signing import Sequencer, Signer
from protocols.topics import coordinator_topic, election_topic

STEP_S = 0.25
NAMES = ("east", "north", "west")
REGION = "valley"


class Region:
    """Streets on one broker, a part of every household in the region, and the region's coordinator; everything over the bus."""

    def __init__(self, folder: Path, size: int = 5) -> None:
        self.folder = folder
        self.clock = ManualClock(START_S)
        self.broker = MemoryBroker()
        self.streets = {
            name: Street(folder / name, size, seed=index + 1, community=name, broker=self.broker, clock=self.clock)
            for index, name in enumerate(NAMES)
        }
        self.parts: dict[tuple[str, str], RegionalPart] = {}
        self.buses: dict[tuple[str, str], CutBus] = {}
        self.section = RegionSection(
            enabled=True, name=REGION, heartbeat_s=0.5, lease_s=1.6, stagger_s=0.15, candidacy_s=1.0, tenure_s=3600.0
        )
        self.terms: dict[int, str] = {}
        self.wire: list[BusMessage] = []
        self.tap = self.broker.client()
        for street in self.streets.values():
            street.listening = False
        keys = self.streets["east"].keys["coordinator"]
        folder.mkdir(parents=True, exist_ok=True)
        save_private_key(keys, folder / "region.key")
        for name, street in self.streets.items():
            save_public_key(street.keys["coordinator"].public_key(), folder / f"{name}.pub")
        self.coordinator = self.make_coordinator()

    def make_coordinator(self) -> RegionCoordinator:
        config = RegionConfig(
            identity=RegionIdentity(region=REGION, key_file=str(self.folder / "region.key")),
            communities=tuple(CommunityEntry(name=name, coordinator_keys=(str(self.folder / f"{name}.pub"),)) for name in NAMES),
            settle_s=0.5,
            state=str(self.folder / "region.json"),
        )
        return RegionCoordinator(config, bus=self.broker.client(), clock=self.clock)

    def make_part(self, community: str, name: str) -> RegionalPart:
        street = self.streets[community]
        key = street.keys[name]
        folder = self.folder / community / name
        BallotStore(folder / "region.json", name, durable=False).commission()
        self.buses[community, name] = bus = CutBus(self.broker, region_will(REGION, community, key, self.clock))
        return RegionalPart(
            self.section,
            community,
            name,
            key,
            keys=RegionKeys(
                coordinator=(self.streets["east"].keys["coordinator"].public_key(),),
                communities={other: (self.streets[other].keys["coordinator"].public_key(),) for other in NAMES},
            ),
            bus=bus,
            clock=self.clock,
            folder=folder,
            leads_home=street.members[name].election.leads,
            durable=False,
            entropy=street.rng.randbytes,
        )

    async def start(self) -> None:
        self.tap.subscribe(f"commonwatt/1/{REGION}/#")
        await self.tap.start()
        for community, street in self.streets.items():
            await street.start()
            for name in street.names:
                self.parts[community, name] = self.make_part(community, name)
        await self.coordinator.start()

    async def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / STEP_S)):
            for street in self.streets.values():
                street.step(advance=False)
            self.coordinator.step()
            for (community, name), part in self.parts.items():
                if name not in self.streets[community].asleep:
                    await part.step()
            self.clock.advance(STEP_S)
            self.wire += self.tap.receive()
            for part in self.leaders:
                certificate = part.seat.certificate
                assert certificate is not None
                assert self.terms.setdefault(certificate.term, part.community) == part.community

    def kill(self, part: RegionalPart) -> None:
        """The household's process dies; the broker publishes both of its wills."""
        community, name = part.community, part.seat.household
        self.streets[community].kill(name)
        self.buses[community, name].cut()

    @property
    def leaders(self) -> list[RegionalPart]:
        return [part for (community, name), part in self.parts.items() if name not in self.streets[community].asleep and part.leads]

    def leader(self) -> RegionalPart:
        [part] = self.leaders
        return part


async def test_the_leaders_of_three_communities_elect_one_of_themselves_over_the_bus(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    leader = region.leader()
    assert leader.seat.household == region.streets[leader.community].leader()
    certificate = leader.seat.certificate
    assert certificate is not None and len(certificate.votes) >= 2
    for community, street in region.streets.items():
        follower = region.parts[community, street.leader()]
        assert follower.seat.certificate == certificate, "every community knows the same leader"
    speakers = {message.topic.split("/")[4] for message in region.wire if "/election/" in message.topic}
    assert speakers <= set(NAMES)


async def test_only_households_that_lead_at_home_are_in_the_region(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    there = {key for key, bus in region.buses.items() if bus.connected}
    assert there == {(community, street.leader()) for community, street in region.streets.items()}


async def test_when_the_regions_leader_is_lost_its_community_and_then_the_region_elect_others(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    first = region.leader()
    assert first.seat.certificate is not None
    term, epoch = first.seat.certificate.term, first.seat.certificate.epoch
    region.kill(first)
    await region.run(30.0)
    assert region.streets[first.community].leader() != first.seat.household
    second = region.leader()
    assert second.seat.certificate is not None
    assert second.seat.certificate.term > term and second.seat.certificate.epoch > epoch
    assert {(message.topic.split("/")[4]) for message in region.wire if message.topic.endswith("/gone")} == {first.community}


async def test_all_communities_may_lose_their_leaders_at_once(tmp_path: Path) -> None:
    """None of the new ones has any memory of the region: the epoch's number alone keeps terms growing."""
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    before = region.leader().seat.certificate
    assert before is not None
    for community, street in region.streets.items():
        region.kill(region.parts[community, street.leader()])
    await region.run(40.0)
    after = region.leader().seat.certificate
    assert after is not None and after.term > before.term


@pytest.mark.parametrize("seed", range(3))
async def test_no_regional_term_has_two_leaders_whatever_befalls_them(tmp_path: Path, seed: int) -> None:
    """Leaders at home and in the region freeze, lose one connection or the other, and come back; `run` checks every quarter second."""
    rng = random.Random(seed)
    region = Region(tmp_path)
    await region.start()
    await region.run(15.0)
    frozen: list[tuple[str, str]] = []
    for _ in range(16):
        community = rng.choice(NAMES)
        street = region.streets[community]
        name = rng.choice(street.leaders or street.names)
        match rng.choice(("freeze", "cut home", "cut region", "thaw")):
            case "freeze" if len(frozen) < 3:
                street.freeze(name)
                frozen.append((community, name))
            case "cut home":
                street.buses[name].cut()
                street.buses[name].connect()
            case "cut region":
                region.buses[community, name].cut()
                region.buses[community, name].connect()
            case _ if frozen:
                thawed, home = frozen.pop(rng.randrange(len(frozen)))
                region.streets[thawed].wake(home)
        await region.run(rng.uniform(1.0, 6.0))
    for community, name in frozen:
        region.streets[community].wake(name)
    await region.run(40.0)
    assert len(region.leaders) == 1, f"seed {seed}: once nothing befalls them any more, one leads"
    assert len(region.terms) > 1, f"seed {seed}: {region.terms}"


async def test_a_regional_leader_gives_the_region_up_with_its_lease_at_home(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    first = region.leader()
    street = region.streets[first.community]
    street.buses[first.seat.household].frozen = True
    await region.run(4.0)
    assert not street.members[first.seat.household].leads
    assert not first.leads
    await region.run(30.0)
    assert region.leader() is not first


async def test_the_coordinator_of_the_region_goes_on_counting_after_a_restart(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    epoch = region.coordinator.desk.epoch
    assert epoch is not None
    await region.coordinator.stop()
    region.coordinator = region.make_coordinator()
    assert region.coordinator.desk.last == epoch.number
    await region.coordinator.start()
    await region.run(10.0)
    again = region.coordinator.desk.epoch
    assert again is not None and again.number > epoch.number
    assert len(region.leaders) == 1


async def test_an_epoch_that_the_certificates_do_not_imply_is_refused_by_every_leader(tmp_path: Path) -> None:
    """Even over the signature of the region's own coordinator: it numbers epochs, and does not choose who sits in them."""
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    leader = region.leader()
    desk = region.coordinator.desk
    assert desk.epoch is not None
    stranger = region.streets["east"].keys["coordinator"].public_key().public_bytes_raw().hex()
    usurped = (msgspec.structs.replace(desk.epoch.seats[0], public_key=stranger), *desk.epoch.seats[1:])
    epoch = msgspec.structs.replace(desk.epoch, number=desk.epoch.number + 1000, seats=usurped)
    notice = RegionNotice(
        sender="coordinator", time_s=region.clock.now_s(), sequence=Sequencer(region.clock.now_s()).next(), epoch=epoch, leads=desk.names
    )
    signer = Signer(region.streets["east"].keys["coordinator"])
    region.tap.publish(signer.seal(coordinator_topic(REGION, "region"), notice, retain=True))
    await region.run(2.0)
    assert leader.refused["CertificateRefused"] == 1
    assert region.leader() is leader and leader.seat.epoch == desk.epoch


async def test_who_does_not_lead_at_home_is_not_heard_in_the_region(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    leader = region.leader()
    certificate = leader.seat.certificate
    assert certificate is not None
    other = next(name for name in NAMES if name != leader.community)
    street = region.streets[other]
    pretender = next(name for name in street.names if name != street.leader())
    forged = ElectionNotice(
        sender=other,
        time_s=region.clock.now_s(),
        sequence=Sequencer(region.clock.now_s() + 50.0).next(),
        body=msgspec.structs.replace(certificate, term=certificate.term + 1, leader=other),
    )
    region.tap.publish(Signer(street.keys[pretender]).seal(election_topic(REGION, other, "certificate"), forged, retain=True))
    await region.run(2.0)
    assert leader.refused["UnknownSender"] == 1
    assert region.leader() is leader


async def test_a_regional_epoch_without_a_proven_leader_is_refused(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    book = region.coordinator.desk.leads
    leads = {name: lead for name in NAMES if (lead := book.newest(name)) is not None}
    epoch = regional_epoch(1, leads, reputation_min=0.5)
    check_regional_epoch(epoch, leads)
    weak = leads["east"].certificate
    leads["east"] = msgspec.structs.replace(leads["east"], certificate=msgspec.structs.replace(weak, votes=weak.votes[:1]))
    with pytest.raises(CertificateRefused, match="quorum"):
        regional_epoch(1, leads, reputation_min=0.5)


async def test_terms_of_an_epoch_lie_above_all_terms_of_earlier_ones(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.start()
    await region.run(25.0)
    epoch = region.coordinator.desk.epoch
    assert epoch is not None
    fresh = regional_ballot(Ballot(epoch=0, term=0, candidate=None, fence=0), epoch)
    assert fresh == Ballot(epoch=epoch.number, term=first_term(epoch), candidate=None, fence=0)
    voted = Ballot(epoch=epoch.number, term=first_term(epoch) + 7, candidate="east", fence=3)
    assert regional_ballot(voted, epoch) == voted
    later = msgspec.structs.replace(epoch, number=epoch.number + 1)
    carried = regional_ballot(voted, later)
    assert carried is not None and carried.term == first_term(later) > voted.term and carried.candidate is None
    assert regional_ballot(None, epoch) is None


def test_a_damaged_state_of_the_coordinator_is_refused(tmp_path: Path) -> None:
    region = Region(tmp_path)
    (tmp_path / "region.json").write_text("{")
    with pytest.raises(StoreError, match=r"region\.json"):
        region.make_coordinator()


GOOD = """
[identity]
region = "valley"
key_file = "region.key"
[[communities]]
name = "east"
coordinator_keys = ["east.pub"]
[[communities]]
name = "west"
coordinator_keys = ["west.pub"]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "west"', 'name = "east"', "community 'east' is named twice - at $.communities[1].name"),
        ('region = "valley"', 'region = "west"', "must not be called like one of its communities, 'west' - at $.identity.region"),
        ('["west.pub"]', "[]", "$.communities[1].coordinator_keys"),
        ("[identity]", "[identity", "not TOML"),
    ],
)
def test_what_is_wrong_with_a_region_is_one_line_with_its_path(old: str, new: str, message: str) -> None:
    assert decode_region(GOOD.encode(), "region.toml").founding_s == 600.0
    with pytest.raises(ConfigError) as caught:
        decode_region(GOOD.replace(old, new).encode(), "region.toml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_households_region_names_its_own_community_and_whom_to_believe() -> None:
    home = LeadershipSection(enabled=True)
    east = NeighbourSection(name="east", coordinator_keys=("east.pub",))
    good = RegionSection(enabled=True, name=REGION, coordinator_keys=("region.pub",), communities=(east,))
    assert check_region(good, home, "east") is None
    assert check_region(RegionSection(), LeadershipSection(), "east") is None
    for section, leadership, community, words in (
        (good, LeadershipSection(), "east", "leadership.enabled must be true"),
        (good, home, "west", "must name this household's own, 'west'"),
        (msgspec.structs.replace(good, coordinator_keys=()), home, "east", "$.region.coordinator_keys"),
        (msgspec.structs.replace(good, communities=(east, east)), home, "east", "named twice"),
        (msgspec.structs.replace(good, name="east"), home, "east", "$.region.name"),
        (msgspec.structs.replace(good, lease_s=1.0), home, "east", "$.region.lease_s"),
    ):
        problem = check_region(section, leadership, community)
        assert problem is not None and words in problem
