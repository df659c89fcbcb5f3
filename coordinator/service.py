"""The coordinator of one feeder: listens, remembers, and publishes rolling verified envelopes. A shell: it chooses nothing itself.

One step: drain the bus and verify every message (`listening`), bring the record to the disk (`journal`), then, when due, compute
envelopes for the intervals ahead (`horizon`) and publish what changed (`speaking`). Controls are stored before they are published; while
the store cannot be written none is made, the nodes run on what they have and end in their default, which was verified for all nodes at
once.

The caller owns the time: `run` loops on the wall clock, the bench calls `step` on its own clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from coordinator import recording
from coordinator import store as tables
from coordinator.aggregation.office import CommunityOffice
from coordinator.allocation import NOTHING, Allocator, Compute
from coordinator.assembly import open_store, read_network, read_signer, read_verifier
from coordinator.config import CoordinatorConfig, check_nodes
from coordinator.demand import LimitPair, NodeView, network_limits
from coordinator.envelopes.compute import prepare
from coordinator.errors import ConfigError
from coordinator.horizon import Horizon
from coordinator.journal import Journal
from coordinator.listening import Listener
from coordinator.market.assembly import HeldMechanism, Site, limited_site, loss_form, make_mechanism
from coordinator.market.desk import MarketDesk
from coordinator.market.settings import out_of_order
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.publication import Ledger
from coordinator.speaking import Speaker
from coordinator.store import Store
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.errors import Malformed
from protocols.messages import SafetyState, Telemetry
from protocols.signing import Sequencer, Signer, Verifier

log = logging.getLogger(__name__)


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one step did. `refused` counts refusals by name; `problems` are words for people."""

    time_s: float
    received: int
    refused: dict[str, int]
    computed: int
    published: int
    problems: tuple[str, ...]


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What one draining of the bus brought: messages believed, telemetry among them, refusals by name, rows that are on the disk now."""

    received: int
    refused: dict[str, int]
    stored: int
    reports: tuple[Telemetry, ...] = ()


class CoordinatorService:
    """See the module; construct, `start`, `step` as often as wanted, `stop`."""

    def __init__(
        self,
        config: CoordinatorConfig,
        *,
        bus: Bus,
        clock: Clock,
        network: Network | None = None,
        store: Store | None = None,
        signer: Signer | None = None,
        verifier: Verifier | None = None,
        compute: Compute | None = None,
        office: CommunityOffice | None = None,
    ) -> None:
        """What is not given is read from what the configuration names; `compute` is the envelope computation by default."""
        section = config.envelopes
        self._config = config
        self._bus = bus
        self._clock = clock
        network = read_network(config) if network is None else require_valid(network)
        problem = check_nodes(config, network)
        if problem is not None:
            raise ConfigError(problem)
        self._journal = Journal(open_store(config) if store is None else store, clock)
        self._signer = read_signer(config) if signer is None else signer
        self._verifier = read_verifier(config) if verifier is None else verifier
        self._ledger = Ledger(
            (node.name for node in config.nodes),
            interval_s=section.interval_s,
            horizon_s=section.horizon_s,
            deadband_w=section.deadband_w,
            primacy=section.primacy,
        )
        self._speaker = Speaker(bus, self._signer, config.identity.community)
        self.views = {node.name: NodeView() for node in config.nodes}
        self.office = office
        if office is None and config.aggregation.enabled:
            self.office = CommunityOffice(config, network, now_s=clock.now_s(), sequence=self._speaker.number)
        self.market = _market_desk(config, network, self.views, self._speaker, self._defaults)
        self._listener = Listener(bus, self._verifier, self._journal, self.views, self._ledger, self.office, self.market)
        allocator = Allocator(config, network, compute)
        self._horizon = Horizon(config, clock, allocator, self._ledger, self._journal, self.views, self.office, self.market)
        self._sessions = 0
        self._publish_due_s = self._refresh_due_s = self._status_due_s = 0.0
        self._said: frozenset[str] = frozenset()

    def _defaults(self) -> Mapping[str, LimitPair]:
        """What every node may do in any case."""
        default = self._horizon.default
        return dict.fromkeys(self.views, NOTHING) if default is None else default.limits

    async def start(self) -> None:
        """Restore what an earlier run published, verify the default, subscribe and connect.

        Raises StoreError where the store cannot be read: without it nobody knows which controls are out.
        """
        now_s, store = self._clock.now_s(), self._journal.store
        floor = store.remembered("sequence")
        self._speaker.sequencer = Sequencer(now_s, floor=0 if floor is None else int(floor))
        windows = store.remembered("replay_windows")
        if windows is not None:
            self._verifier.restore_windows(windows.encode("utf-8"))
        table = tables.controls
        self._ledger.restore(recording.control_of(row) for row in store.rows(table, table.c.start_s + table.c.duration_s > now_s))
        await self._horizon.verify_default(now_s)
        remark = out_of_order(self._config.market)
        if self.market is not None and remark is not None:
            self._journal.note(now_s, "market", remark)
        self._publish_due_s = self._refresh_due_s = self._status_due_s = self._clock.monotonic_s()
        self._listener.subscribe(self._config.identity.community)
        if self.office is not None:
            self.office.start(self._bus, store)
        await self._bus.start()

    @property
    def conditions(self) -> frozenset[str]:
        """Names of what the status has to say at present."""
        return frozenset(self._journal.conditions)

    def covered_until_s(self, now_s: float) -> float:
        """Until when every node has a control, without a gap from `now_s` on."""
        return self._ledger.covered_until_s(now_s)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something has arrived; False after `timeout_s`."""
        return await self._bus.wait(timeout_s)

    async def step(self) -> StepRecord:
        """Listen, record, and publish what is due at the clock's present time."""
        now_s = self._clock.now_s()
        received, refused = self._listener.listen(now_s)
        return await self._act(now_s, received, refused)

    def ingest(self) -> Ingested:
        """Listen and record, now: what `step` does first, for who lets envelopes be computed meanwhile."""
        now_s = self._clock.now_s()
        received, refused = self._listener.listen(now_s)
        stored = self._journal.flush(now_s)
        reports = tuple(self._listener.reports)
        return Ingested(received=received, refused=refused, stored=0 if stored is None else stored, reports=reports)

    async def act(self) -> StepRecord:
        """Publish what is due at the clock's present time: what `step` does after it has listened."""
        return await self._act(self._clock.now_s(), 0, {})

    async def _act(self, now_s: float, received: int, refused: dict[str, int]) -> StepRecord:
        elapsed_s = self._clock.monotonic_s()
        if self._bus.sessions != self._sessions:
            self._sessions = self._bus.sessions
            if self._horizon.default is not None:
                self._speaker.send_defaults(self._horizon.default, self._config.defaults.set_grad_w, now_s)
            self._refresh_due_s = self._status_due_s = elapsed_s
        if self.office is not None:
            for kind, words in self.office.decide(self._bus, self._journal.store, now_s):
                self._journal.event(now_s, "refused", f"{kind}: {words}")
        stored = self._journal.flush(now_s)
        computed = published = 0
        if stored is not None:
            if self.office is not None:
                self.office.say(self._bus, self._signer)
            await self._bargain(now_s)
            if elapsed_s >= self._publish_due_s:
                computed = await self._horizon.compute(now_s)
                self._publish_due_s = elapsed_s + self._config.envelopes.period_s
                self._remember()
                stored = self._journal.flush(now_s)
            published = 0 if stored is None else self._publish(now_s)
        if elapsed_s >= self._status_due_s or self._said != self._journal.conditions.keys():
            self._publish_status(now_s, SafetyState.ONLINE)
        return StepRecord(
            time_s=now_s,
            received=received,
            refused=refused,
            computed=computed,
            published=published,
            problems=tuple(self._journal.conditions.values()),
        )

    async def stop(self) -> None:
        """Say goodbye, store what waits, and disconnect."""
        now_s = self._clock.now_s()
        self._publish_status(now_s, SafetyState.OFFLINE)
        self._remember()
        if self._journal.flush(now_s, at_once=True) is None:
            log.error("stopping with %d rows that could not be stored; they are lost", self._journal.store.waiting)
        await self._bus.stop()

    async def _bargain(self, now_s: float) -> None:
        """Hold the mechanism, where there is one, and note how its negotiations end. It computes in a thread, as envelopes do."""
        if self.market is None:
            return
        for ask in await asyncio.to_thread(self.market.step, now_s):
            try:
                self._speaker.send_ask(ask)
            except Malformed as error:
                # Whoever cannot be asked does not answer, and is left out by name.
                self._journal.note(now_s, "market", f"node {ask.node} cannot be asked: {error}")
        for done in self.market.take_concluded():
            words = f"negotiation {done.number}: {'agreed' if done.outcome is not None else 'not agreed'} after {done.rounds} rounds"
            named = "".join(f"; without {name}: {why}" for name, why in done.left_out.items())
            refused = "" if done.refusal is None else f": {done.refusal}"
            self._journal.note(now_s, "market", words + refused + named)

    def _remember(self) -> None:
        """What a restart needs; the reserve covers the messages of one period."""
        store = self._journal.store
        store.remember("sequence", str(self._speaker.sequencer.last + 10 * len(self.views) + 100))
        store.remember("replay_windows", self._verifier.save_windows().decode("utf-8"))

    def _publish(self, now_s: float) -> int:
        """Send what changed; everything pending to nodes that fell back to their default, and to all of them from time to time."""
        unsent, whole = self._horizon.unsent, self._listener.fallen_back
        if self._clock.monotonic_s() >= self._refresh_due_s:
            whole.update(self.views)
            self._refresh_due_s = self._clock.monotonic_s() + self._config.envelopes.refresh_s
        count = 0
        for node in self.views:
            controls = self._ledger.pending(node, now_s) if node in whole else tuple(unsent.get(node, ()))
            if controls:
                self._speaker.send_controls(node, controls, now_s)
                if self.office is not None:
                    self.office.standing.told(node, controls)
                count += len(controls)
        whole.clear()
        unsent.clear()
        return count

    def _publish_status(self, now_s: float, state: SafetyState) -> None:
        conditions = self._journal.conditions
        self._said = frozenset(conditions)
        self._status_due_s = self._clock.monotonic_s() + self._config.status_period_s
        self._speaker.send_status(state, tuple(conditions.values()), now_s)


def _market_desk(
    config: CoordinatorConfig,
    network: Network,
    views: Mapping[str, NodeView],
    speaker: Speaker,
    defaults: Callable[[], Mapping[str, LimitPair]],
) -> MarketDesk | None:
    """The desk of the mechanism that the configuration names; its questions are numbered by `speaker`."""
    section, index = config.market, network.connection_index
    if section.mechanism == "none":
        return None
    prepared = prepare(network, network_limits(config))
    site = Site(
        connections={node.name: index[node.connection] for node in config.nodes},
        losses_per_w2=loss_form(prepared.feeder),
        network=network,
        limits=prepared.limits,
        nodes={node.name: node for node in config.nodes},
        views=views,
        q_per_w=config.envelopes.q_per_w,
        limited=lambda: limited_site(config, prepared, defaults()),
    )

    def make(names: tuple[str, ...], start_s: float) -> HeldMechanism:
        return make_mechanism(section, site, names, start_s)

    carried_w = {node.name: max(node.import_rating_w, node.export_rating_w) for node in config.nodes}
    return MarketDesk(section, carried_w, make, speaker.number)
