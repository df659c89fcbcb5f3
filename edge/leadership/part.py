"""A household's part in its community as a whole: the membership, what it reports, and the two stepped together. A shell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge.config import EdgeConfig
from edge.leadership.ballots import BallotStore
from edge.leadership.household import PlannedHousehold
from edge.leadership.membership import Identity, Membership
from edge.leadership.records import MemberRecords
from edge.leadership.region_shell import RegionalPart, RegionKeys
from edge.leadership.voice import gone_message
from protocols.aggregation.packing import Layout
from protocols.bus import Bus, Will
from protocols.clock import Clock
from protocols.keys import load_public_key
from protocols.signing import Sequencer, Signer

if TYPE_CHECKING:
    from edge.agreement import Agreement
    from edge.leadership.adherence import Declared
    from edge.made_plan import Made

log = logging.getLogger(__name__)

INTERVALS = 96


class CommunityPart:
    """What the edge's agent is given (`edge.correspondence.Community`), and what whoever runs the edge steps beside it."""

    def __init__(
        self, membership: Membership, household: PlannedHousehold, clock: Clock, region: RegionalPart | None = None
    ) -> None:
        self.membership = membership
        self.household = household
        self.region = region
        self._clock = clock

    @property
    def term(self) -> int:
        """The highest term whose leader was proven."""
        return self.membership.term

    @property
    def leads(self) -> bool:
        """Whether this household leads now."""
        return self.membership.leads

    @property
    def leader_heard(self) -> bool:
        """Whether a leader was proven and heard from within two leases."""
        election = self.membership.election
        certificate = election.certificate
        others = election.present(self._clock.monotonic_s()) - {election.name}
        return certificate is not None and (self.leads or certificate.leader in others)

    @property
    def rounds(self) -> dict[str, int]:
        """Rounds that this household led: opened by the operator, or failed; and the reports that it refused in them."""
        leader = self.membership.leader
        return {"opened": leader.accepted, "failed": leader.failed, "refused": leader.refused}

    @property
    def agreement(self) -> Agreement | None:
        """What this house has agreed to in its community, while it holds."""
        return self.household.agreement

    def resume(self, agreement: Agreement | None) -> None:
        """What was agreed before the controller was started again."""
        self.household.resume(agreement)

    def metered(self, now_s: float, net_import_w: float) -> Declared | None:
        """What the meter says, for what is declared of how well reports were kept."""
        return self.household.metered(now_s, net_import_w)

    def planned(self, made: Made) -> None:
        """A new plan is in use."""
        self.household.planned(made)

    async def run(self, stop: asyncio.Event) -> None:
        """Run beside the control cycle until `stop` is set.

        The second broad `except` of the system: a fault in here must neither stop the control cycle nor silently end this part.
        """
        await self.membership.start()
        try:
            async with asyncio.TaskGroup() as group:
                if self.region is not None:
                    group.create_task(_kept_alive(self.region.run, stop))
                await _kept_alive(self.membership.run, stop)
        finally:
            await self.membership.stop()


async def _kept_alive(run: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await run(stop)
        except Exception:
            log.exception("the community part failed; it begins again")
            await asyncio.sleep(1.0)


def make_part(
    config: EdgeConfig,
    *,
    bus: Bus,
    clock: Clock,
    key: Ed25519PrivateKey,
    coordinator_keys: tuple[Ed25519PublicKey, ...],
    folder: Path,
    commissioned: bool = False,
    region_bus: Bus | None = None,
) -> CommunityPart:
    """The part of a configuration whose relative paths start at `folder`; `region_bus` is its connection to the region, if it is in one."""
    household = PlannedHousehold(
        intervals=INTERVALS,
        value_max=Layout(INTERVALS).value_max,
        now_s=clock.now_s,
        monotonic_s=clock.monotonic_s,
        deadline_s=config.schedule.deadline_s,
        size_w=config.site.import_rating_w,
    )
    identity = config.identity
    membership = Membership(
        Identity(community=identity.community, node=identity.node, key=key, coordinator_keys=coordinator_keys),
        config.leadership,
        config.aggregation,
        bus=bus,
        clock=clock,
        folder=folder / config.leadership.folder,
        runtime_folder=folder / config.leadership.runtime_folder,
        household=household,
        commissioned=commissioned,
        durable=config.store.fsync,
    )
    region = None
    if config.region.enabled and region_bus is not None:
        region = RegionalPart(
            config.region,
            identity.community,
            identity.node,
            key,
            keys=region_keys(config, folder),
            bus=region_bus,
            clock=clock,
            folder=folder / config.leadership.folder,
            leads_home=membership.election.leads,
            durable=config.store.fsync,
        )
    return CommunityPart(membership, household, clock, region)


def region_keys(config: EdgeConfig, folder: Path) -> RegionKeys:
    """The keys that the region's section names."""

    def read(paths: Sequence[str]) -> tuple[Ed25519PublicKey, ...]:
        return tuple(load_public_key(folder / path) for path in paths)

    section = config.region
    return RegionKeys(
        coordinator=read(section.coordinator_keys),
        communities={neighbour.name: read(neighbour.coordinator_keys) for neighbour in section.communities},
    )


def part_will(community: str, node: str, key: Ed25519PrivateKey, clock: Clock) -> Will:
    """Makes the last wills of a membership's connections."""
    signer, wills = Signer(key), Sequencer(clock.now_s())
    return lambda: gone_message(community, node, signer, wills, clock.now_s())


def commission(config: EdgeConfig, folder: Path) -> None:
    """What an installer does once: say on the disk that this member has never voted nor reported. What is there already stays."""
    place = folder / config.leadership.folder
    BallotStore(place / "ballot.json", config.identity.node).commission()
    BallotStore(place / "region.json", config.identity.node).commission()
    MemberRecords(place, keep_openings_s=0.0).commission()
