"""The participants of a run: one slot for each household's edge, one for the coordinator. A slot outlives what runs in it.

A power cycle drops the agent as it is, without a word to anybody, and later makes a new one from the same configuration and the same
file; the home's devices live on by their own timers in between.
"""

from __future__ import annotations

import functools
import random
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from coordinator.aggregation.office import CommunityOffice
from coordinator.config import CoordinatorConfig
from coordinator.demand import network_limits
from coordinator.envelopes.compute import compute_envelopes, prepare
from coordinator.market.desk import MarketDesk
from coordinator.network.cases import load as load_network
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.service import CoordinatorService
from coordinator.store import Store as CoordinatorStore
from edge.agent import EdgeAgent
from edge.config import EdgeConfig
from edge.correspondence import status_message
from edge.cycle_record import CycleRecord
from edge.devices.driver import Device
from edge.devices.registry import open_device
from edge.history import History, history_path
from edge.market import MarketPart
from edge.planning import PlanMaker
from edge.store import Store
from hil.commissioning import (
    COORDINATOR,
    KeyRing,
    coordinator_config,
    edge_config,
    hand_over_history,
    market_section,
    price_windows,
    zone_name,
)
from hil.community import CommunityBench
from hil.envelope_watch import EnvelopeWatch, PublishedRegister
from hil.households import NeighbourhoodDay
from hil.scenario import LoadedScenario
from hil.stage import Stage
from hil.taps import BusTap
from hil.world import Home, World
from protocols.bus import BusMessage
from protocols.clock import ManualClock
from protocols.keys import load_public_key
from protocols.messages import SafetyState
from protocols.signing import Sequencer, Signer, Verifier


class Surroundings(Struct, frozen=True, kw_only=True):
    """What all participants of one run share."""

    loaded: LoadedScenario
    day: NeighbourhoodDay
    stage: Stage
    clock: ManualClock
    folder: Path
    keys: KeyRing
    published: PublishedRegister
    coordinated: bool
    community: CommunityBench | None = None


class EdgeSlot:
    """The place of one household's edge; `alive` while one runs in it."""

    def __init__(self, home: Home, around: Surroundings) -> None:
        self.name = home.name
        self.home = home
        self.watch = EnvelopeWatch()
        self.last: CycleRecord | None = None
        self.restarts = 0
        self.refused = 0
        self.forged = 0
        self.blind_cycles = 0
        self.frozen = False
        self._around = around
        self._config = self._make_config()
        self.seat = None if around.community is None else around.community.seat(self._config)
        hand_over_history(around.day, home, self._config)
        self._agent: EdgeAgent | None = None
        self._devices: tuple[Device, ...] = ()
        self.tap = self._make_tap()

    @property
    def alive(self) -> bool:
        """Whether an agent runs here, and is not frozen."""
        return self._agent is not None and not self.frozen

    @property
    def market(self) -> MarketPart | None:
        """What answers a mechanism here, while an agent runs."""
        return None if self._agent is None else self._agent.market

    @property
    def config(self) -> EdgeConfig:
        """The configuration of every agent that runs here."""
        return self._config

    async def start(self) -> None:
        """Power on: an agent from the configuration and whatever its file remembers."""
        around, config = self._around, self._config
        self._devices = tuple(open_device(device, around.stage.clients(self.home, around.clock.monotonic_s)) for device in config.devices)
        identity = config.identity
        verifier = Verifier(identity.community, {COORDINATOR: [load_public_key(Path(path)) for path in identity.coordinator_keys]})
        self._agent = EdgeAgent(
            config,
            bus=self.tap,
            devices=self._devices,
            clock=around.clock,
            store=Store(Path(config.store.path), node=self.name, fsync=config.store.fsync),
            signer=self._signer(),
            verifier=verifier,
            plan_maker=PlanMaker(config, clock=around.clock, history=History(history_path(Path(config.store.path)))),
            community=None if self.seat is None else self.seat.part,
        )
        await self._agent.start()
        if self.seat is not None:
            await self.seat.start()

    async def step(self) -> None:
        """One control cycle of the agent."""
        assert self._agent is not None
        self.last = await self._agent.step()
        self.refused += len(self.last.refusals)
        self.blind_cycles += self.last.blind
        if self.seat is not None:
            self.seat.step()

    async def kill(self) -> None:
        """Power off in the middle of whatever it was doing."""
        if self._agent is None:
            return
        self._agent = None
        self.last = None
        await self._around.stage.leave(self.tap)
        if self.seat is not None:
            await self.seat.kill()
        for device in self._devices:
            await device.close()

    async def revive(self) -> None:
        """Power on again."""
        if self._agent is not None:
            return
        self.restarts += 1
        self.tap = self._make_tap()
        if self.seat is not None:
            self.seat.renew()
        await self.start()

    async def stop(self) -> None:
        """Leave in order at the end of the run."""
        if self.seat is not None:
            await self.seat.stop()
        if self._agent is not None:
            await self._agent.stop()
            self._agent = None

    def _make_config(self) -> EdgeConfig:
        around = self._around
        config = edge_config(
            around.loaded.scenario,
            around.day,
            self.home,
            around.keys,
            lambda device: around.stage.place(self.home, device),
            around.folder / "state",
            coordinated=around.coordinated,
            device_timeout_s=around.stage.device_timeout_s,
            concurrent_io=False,
        )
        if around.community is None:
            return config
        section = around.community.section
        return msgspec.structs.replace(config, leadership=section.leadership("community"), aggregation=section.aggregation())

    def _make_tap(self) -> BusTap:
        return BusTap(self._around.stage.bus(self.name, self._will), on_receive=self._received)

    def _received(self, message: BusMessage) -> None:
        """The watch believes what the coordinator published; every other command that arrives is a forgery, to be refused."""
        if "/control/" in message.topic and not self._around.published.knows(message):
            self.forged += 1
        self.watch.deliver(message, self._around.published)

    def _signer(self) -> Signer:
        return Signer(self._around.keys.private[self.name])

    def _will(self) -> BusMessage:
        now_s, identity = self._around.clock.now_s(), self._config.identity
        sequence = Sequencer(now_s).next()
        return status_message(
            identity.community, self.name, self._signer(), sequence, now_s, SafetyState.OFFLINE, ("connection lost",)
        )


class CoordinatorSlot:
    """The place of the feeder's coordinator."""

    def __init__(self, around: Surroundings, world: World) -> None:
        self._around = around
        self._config = coordinator_config(around.loaded, world, around.keys, around.folder / "coordinator")
        if around.community is not None:
            buy, sell = price_windows(around.day)
            section = around.community.section.operator(buy, sell, zone_name(around.day.utc_offset_s))
            self._config = msgspec.structs.replace(self._config, aggregation=section)
        self._config = msgspec.structs.replace(self._config, market=market_section(around.loaded.scenario, around.day))
        self.tap = BusTap(around.stage.bus(COORDINATOR, None), on_publish=around.published.add)
        self.reachable = True
        self.spent_s = 0.0
        self.computed = 0
        self.refused = 0
        self.problems: set[str] = set()
        self.office: CommunityOffice | None = None
        self._service: CoordinatorService | None = None

    @property
    def config(self) -> CoordinatorConfig:
        """What the service runs by."""
        return self._config

    async def start(self) -> None:
        """Bring the service up."""
        config = self._config
        network = require_valid(load_network(config.feeder.network))
        keys = {node.name: [load_public_key(Path(file)) for file in node.key_files] for node in config.nodes}
        if self._around.community is not None:
            self.office = self._make_office(self._around.community, network)
        self._service = CoordinatorService(
            config,
            network=network,
            bus=self.tap,
            clock=self._around.clock,
            store=CoordinatorStore(config.store.url, buffer_rows=config.store.buffer_rows),
            signer=Signer(self._around.keys.private[COORDINATOR]),
            verifier=Verifier(config.identity.community, keys),
            compute=functools.partial(compute_envelopes, prepared=prepare(network, network_limits(config))),
            office=self.office,
        )
        await self._service.start()

    async def step(self) -> None:
        """One cycle of the service."""
        assert self._service is not None
        begun_s = time.monotonic()
        record = await self._service.step()
        self.spent_s += time.monotonic() - begun_s
        self.computed += record.computed
        self.refused += sum(record.refused.values())
        self.problems.update(record.problems)

    def _make_office(self, community: CommunityBench, network: Network) -> CommunityOffice:
        """The operator's desk with the key of this run, and randomness that comes again with its seed."""
        now_s = self._around.clock.now_s()
        rng = random.Random(f"{community.seed} office")
        return CommunityOffice(
            self._config,
            network,
            now_s=now_s,
            sequence=Sequencer(now_s).next,
            entropy=rng.randbytes,
            keys=community.operator_keys(),
        )

    @property
    def market(self) -> MarketDesk | None:
        """The desk of the mechanism that is held, if any."""
        return None if self._service is None else self._service.market

    async def reach(self, reachable: bool) -> None:
        """Cut the coordinator off from the broker, or let it find it again. It does not know, and goes on working."""
        if reachable == self.reachable:
            return
        self.reachable = reachable
        if reachable:
            await self.tap.start()
            await self._around.stage.connected([self.tap])
        else:
            await self.tap.stop()

    async def stop(self) -> None:
        """Leave in order."""
        if self._service is not None:
            await self._service.stop()
            self._service = None
