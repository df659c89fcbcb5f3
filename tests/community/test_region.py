"""Leaders of three communities elect one of themselves, with the code that elected them, and go on when a community changes its leader."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge.leadership.ballots import BallotStore
from edge.leadership.region import RegionalSeat
from protocols.election.region import CommunityLead, check_regional_epoch, regional_epoch
from protocols.election.rules import CertificateRefused
from protocols.election.values import ElectionMessage, Epoch, Timing
from tests.community.leadership_street import Street

STEP_S = 0.25


class Region:
    """Three streets whose proven leaders sit in the region; messages between seats arrive at once, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.streets: dict[str, Street] = {}
        self.seats: dict[str, dict[str, RegionalSeat]] = {}
        self.epoch: Epoch | None = None
        self.post: list[tuple[str, str | None, ElectionMessage]] = []
        self.terms: dict[int, str] = {}

    async def found(self) -> None:
        for index, community in enumerate(("east", "north", "west")):
            street = Street(self.folder / community, 5, seed=index + 1)
            await street.start()
            self.streets[community] = street
            self.seats[community] = {name: self.seat(community, name) for name in street.names}

    def seat(self, community: str, name: str) -> RegionalSeat:
        street = self.streets[community]
        return RegionalSeat(
            community,
            name,
            street.keys[name],
            ballots=BallotStore(self.folder / community / name / "region.json", name, durable=False),
            timing=Timing(),
            send=lambda message, to: self.post.append((community, to, message)),
            nonce=lambda: street.rng.randbytes(32).hex(),
            speaks=lambda now_s: name not in street.asleep and street.members[name].election.leads(now_s),
        )

    def leads(self) -> dict[str, CommunityLead]:
        found = {}
        for community, street in self.streets.items():
            for name in street.leaders:
                election = street.members[name].election
                assert election.epoch is not None and election.certificate is not None
                found[community] = CommunityLead(election.epoch, election.certificate)
        return found

    def enter(self, *, founding: bool = False) -> None:
        leads = self.leads()
        self.epoch = regional_epoch(1 if self.epoch is None else self.epoch.number + 1, leads, reputation_min=0.5)
        for community, seats in self.seats.items():
            for seat in seats.values():
                seat.adopt(self.epoch, leads, self.streets[community].clock.monotonic_s(), founding=founding)

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / STEP_S)):
            for community, street in self.streets.items():
                street.step()
                for seat in self.seats[community].values():
                    seat.tick(street.clock.monotonic_s())
            while self.post:
                sender, to, message = self.post.pop(0)
                for community, seats in self.seats.items():
                    if community != sender and to in (None, community):
                        for seat in seats.values():
                            seat.receive(sender, message, self.streets[community].clock.monotonic_s())
            for leader in self.leaders:
                certificate = leader.certificate
                assert certificate is not None
                assert self.terms.setdefault(certificate.term, leader.community) == leader.community

    @property
    def leaders(self) -> list[RegionalSeat]:
        return [
            seat
            for community, seats in self.seats.items()
            for seat in seats.values()
            if seat.leads(self.streets[community].clock.monotonic_s())
        ]


async def test_the_leaders_of_three_communities_elect_one_of_themselves(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.found()
    region.run(10.0)
    region.enter(founding=True)
    region.run(10.0)
    [leader] = region.leaders
    assert leader.household == region.streets[leader.community].leader()
    certificate = leader.certificate
    assert certificate is not None and len(certificate.votes) >= 2


async def test_when_the_regions_leader_is_lost_its_community_and_then_the_region_elect_others(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.found()
    region.run(10.0)
    region.enter(founding=True)
    region.run(10.0)
    [first] = region.leaders
    assert first.certificate is not None
    term = first.certificate.term
    region.streets[first.community].kill(first.household)
    region.run(10.0)
    assert region.streets[first.community].leader() != first.household
    region.enter()
    region.run(20.0)
    [second] = region.leaders
    assert second.certificate is not None
    assert second.certificate.term > term
    assert not first.leads(region.streets[first.community].clock.monotonic_s())


async def test_a_regional_epoch_without_a_proven_leader_is_refused(tmp_path: Path) -> None:
    region = Region(tmp_path)
    await region.found()
    region.run(10.0)
    leads = region.leads()
    epoch = regional_epoch(1, leads, reputation_min=0.5)
    check_regional_epoch(epoch, leads)
    stranger = region.streets["east"].keys["coordinator"].public_key().public_bytes_raw().hex()
    usurped = msgspec.structs.replace(epoch.seats[0], public_key=stranger)
    with pytest.raises(CertificateRefused, match="imply"):
        check_regional_epoch(msgspec.structs.replace(epoch, seats=(usurped, *epoch.seats[1:])), leads)
    weak = leads["east"].certificate
    leads["east"] = CommunityLead(leads["east"].epoch, msgspec.structs.replace(weak, votes=weak.votes[:1]))
    with pytest.raises(CertificateRefused, match="quorum"):
        regional_epoch(1, leads, reputation_min=0.5)
