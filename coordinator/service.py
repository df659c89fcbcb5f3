"""The coordinator of one feeder: listens, remembers, and publishes rolling verified envelopes. A shell: it chooses nothing itself.

One step: drain the bus and verify every message (`protocols.signing`), record it, bring the record to the disk, then, when due,
compute envelopes for the intervals ahead (`allocation`, `publication`) and publish what changed. Controls are stored before they are
published; while the store cannot be written none is made, the nodes run on what they have and end in their default, which was
verified for all nodes at once.

The caller owns the time: `run` loops on the wall clock, the bench calls `step` on its own clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import msgspec

from coordinator import recording
from coordinator import store as tables
from coordinator.aggregation.office import CommunityOffice
from coordinator.allocation import Allocator, Box, Compute
from coordinator.assembly import open_store, read_network, read_signer, read_verifier
from coordinator.config import CoordinatorConfig, check_nodes
from coordinator.demand import LimitPair, NodeView, demand_grew, wanted
from coordinator.envelopes.certificate import Infeasible
from coordinator.envelopes.interior_point import AllocationError
from coordinator.errors import ConfigError, StoreError, UnverifiedEnvelopeError
from coordinator.market.assembly import HeldMechanism, Site, loss_form, make_mechanism
from coordinator.market.desk import MarketDesk
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.unbalanced import unbalanced_feeder
from coordinator.publication import Ledger
from coordinator.store import Store
from protocols.bus import Bus, BusMessage
from protocols.clock import Clock
from protocols.errors import Refusal
from protocols.messages import (
    AnyMessage,
    ControlResponse,
    DefaultControl,
    EnvelopeControl,
    EnvelopeSchedule,
    FlexibilityDeclaration,
    Forecast,
    MarketAnswer,
    Plan,
    ResponseStatus,
    SafetyState,
    Status,
    Telemetry,
)
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import control_topic, coordinator_status_topic, node_topic

log = logging.getLogger(__name__)

SENDER = "coordinator"
MAX_EVENTS_PER_STEP = 50
MAX_DELIVERY_S = 86400
STORE_RETRY_S = 30.0
ASK_EXPIRY_S = 300
SPOKEN = ("status", "telemetry", "forecast", "plan", "flexibility", "response", "answer")
SPOKEN_IN_SECRET = ("status", "response", "adherence")
HELD = (ResponseStatus.RECEIVED, ResponseStatus.STARTED)


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
        self._network = read_network(config) if network is None else require_valid(network)
        problem = check_nodes(config, self._network)
        if problem is not None:
            raise ConfigError(problem)
        self._store = open_store(config) if store is None else store
        self._signer = read_signer(config) if signer is None else signer
        self._verifier = read_verifier(config) if verifier is None else verifier
        self._allocator = Allocator(config, self._network, compute)
        self._ledger = Ledger(
            (node.name for node in config.nodes),
            interval_s=section.interval_s,
            horizon_s=section.horizon_s,
            deadband_w=section.deadband_w,
            primacy=section.primacy,
        )
        self.views = {node.name: NodeView() for node in config.nodes}
        self._default: Box | None = None
        self._considered: dict[float, dict[str, LimitPair]] = {}
        self._sequencer = Sequencer(0.0)
        self._sessions = 0
        self._publish_due_s = self._refresh_due_s = self._status_due_s = self._store_due_s = 0.0
        self._said: frozenset[str] = frozenset()
        self._unsent: dict[str, list[EnvelopeControl]] = {}
        self._whole: set[str] = set()
        self._conditions: dict[str, str] = {}
        self._reports: list[Telemetry] = []
        self._events = 0
        self.office = office
        if office is None and config.aggregation.enabled:
            self.office = CommunityOffice(config, self._network, now_s=clock.now_s(), sequence=lambda: self._sequencer.next())

        self.market = self._make_market()

    def _make_market(self) -> MarketDesk | None:
        section = self._config.market
        if section.mechanism == "none":
            return None
        network, index = self._network, self._network.connection_index
        losses = loss_form(balanced_feeder(network) if network.is_balanced else unbalanced_feeder(network))
        site = Site(connections={node.name: index[node.connection] for node in self._config.nodes}, losses_per_w2=losses)

        def make(names: tuple[str, ...], start_s: float) -> HeldMechanism:
            return make_mechanism(section, site, names, start_s)

        return MarketDesk(section, tuple(site.connections), make, lambda: self._sequencer.next())

    async def start(self) -> None:
        """Restore what an earlier run published, verify the default, subscribe and connect.

        Raises StoreError where the store cannot be read: without it nobody knows which controls are out.
        """
        now_s = self._clock.now_s()
        floor = self._store.remembered("sequence")
        self._sequencer = Sequencer(now_s, floor=0 if floor is None else int(floor))
        windows = self._store.remembered("replay_windows")
        if windows is not None:
            self._verifier.restore_windows(windows.encode("utf-8"))
        table = tables.controls
        self._ledger.restore(recording.control_of(row) for row in self._store.rows(table, table.c.start_s + table.c.duration_s > now_s))
        default = await asyncio.to_thread(self._allocator.default_box)
        if isinstance(default, Infeasible):
            self._event(now_s, "no-default", f"no default is safe: {default.reason}")
        else:
            self._default = default
            self._note_reduced_default(now_s, default)
        self._publish_due_s = self._refresh_due_s = self._status_due_s = self._clock.monotonic_s()
        for kind in SPOKEN if self.office is None else SPOKEN_IN_SECRET:
            self._bus.subscribe(node_topic(self._config.identity.community, "+", kind))
        if self.office is not None:
            self.office.start(self._bus, self._store)
        await self._bus.start()

    @property
    def conditions(self) -> frozenset[str]:
        """Names of what the status has to say at present."""
        return frozenset(self._conditions)

    def covered_until_s(self, now_s: float) -> float:
        """Until when every node has a control, without a gap from `now_s` on."""
        return self._ledger.covered_until_s(now_s)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something has arrived; False after `timeout_s`."""
        return await self._bus.wait(timeout_s)

    async def step(self) -> StepRecord:
        """Listen, record, and publish what is due at the clock's present time."""
        now_s = self._clock.now_s()
        received, refused = self._listen(now_s)
        return await self._act(now_s, received, refused)

    def ingest(self) -> Ingested:
        """Listen and record, now: what `step` does first, for who lets envelopes be computed meanwhile."""
        now_s = self._clock.now_s()
        received, refused = self._listen(now_s)
        stored = self._flush(now_s)
        return Ingested(received=received, refused=refused, stored=0 if stored is None else stored, reports=tuple(self._reports))

    async def act(self) -> StepRecord:
        """Publish what is due at the clock's present time: what `step` does after it has listened."""
        return await self._act(self._clock.now_s(), 0, {})

    async def _act(self, now_s: float, received: int, refused: dict[str, int]) -> StepRecord:
        elapsed_s = self._clock.monotonic_s()
        if self._bus.sessions != self._sessions:
            self._sessions = self._bus.sessions
            self._publish_defaults(now_s)
            self._refresh_due_s = self._status_due_s = elapsed_s
        if self.office is not None:
            for kind, words in self.office.decide(self._bus, self._store, now_s):
                self._event(now_s, "refused", f"{kind}: {words}")
        stored = self._flush(now_s)
        computed = published = 0
        if stored is not None:
            if self.office is not None:
                self.office.say(self._bus, self._signer)
            self._bargain(now_s)
            if elapsed_s >= self._publish_due_s:
                computed = await self._compute(now_s)
                self._publish_due_s = elapsed_s + self._config.envelopes.period_s
                self._remember()
                stored = self._flush(now_s)
            published = 0 if stored is None else self._publish(now_s)
        if elapsed_s >= self._status_due_s or self._said != self._conditions.keys():
            self._publish_status(now_s, SafetyState.ONLINE)
        return StepRecord(
            time_s=now_s,
            received=received,
            refused=refused,
            computed=computed,
            published=published,
            problems=tuple(self._conditions.values()),
        )

    async def stop(self) -> None:
        """Say goodbye, store what waits, and disconnect."""
        now_s = self._clock.now_s()
        self._publish_status(now_s, SafetyState.OFFLINE)
        self._remember()
        self._store_due_s = self._clock.monotonic_s()
        if self._flush(now_s) is None:
            log.error("stopping with %d rows that could not be stored; they are lost", self._store.waiting)
        await self._bus.stop()

    def _bargain(self, now_s: float) -> None:
        """Hold the mechanism, where there is one, and note how its negotiations end."""
        if self.market is None:
            return
        for ask in self.market.step(now_s):
            topic = control_topic(self._config.identity.community, ask.node, "ask")
            self._bus.publish(self._signer.seal(topic, ask, expiry_s=ASK_EXPIRY_S))
        for done in self.market.take_concluded():
            words = f"negotiation {done.number}: {'agreed' if done.outcome is not None else 'not agreed'} after {done.rounds} rounds"
            named = "".join(f"; without {name}: {why}" for name, why in done.left_out.items())
            self._store.add(tables.events, {"time_s": now_s, "kind": "market", "message": (words + named)[:2000]})

    def _remember(self) -> None:
        """What a restart needs; the reserve covers the messages of one period."""
        self._store.remember("sequence", str(self._sequencer.last + 10 * len(self.views) + 100))
        self._store.remember("replay_windows", self._verifier.save_windows().decode("utf-8"))

    def _listen(self, now_s: float) -> tuple[int, dict[str, int]]:
        """Take every message that passes the rules of trust; a refused one changes nothing but a count and an event."""
        self._events = 0
        self._reports.clear()
        refused: Counter[str] = Counter()
        received = 0
        for message in self._bus.receive():
            if self.office is not None and self.office.take_sealed(message):
                received += 1
                continue
            try:
                content = self._verifier.open(message, now_s)
            except Refusal as refusal:
                refused[type(refusal).__name__] += 1
                if not message.retain:
                    self._event(now_s, "refused", f"{type(refusal).__name__}: {refusal}")
                continue
            if content.sender in self.views:
                received += 1
                self._take(content, now_s)
            else:
                refused["UnknownNode"] += 1
                self._event(now_s, "refused", f"UnknownNode: {content.sender} is not a node of this feeder")
        return received, dict(refused)

    def _take(self, content: AnyMessage, now_s: float) -> None:
        view = self.views[content.sender]
        if self.office is not None:
            self.office.take(content, now_s)
        match content:
            case Telemetry():
                view.telemetry = content
                self._reports.append(content)
                self._store.add(tables.telemetry, recording.telemetry_row(content, now_s))
                return
            case ControlResponse():
                if content.status in HELD:
                    self._ledger.acknowledge(content.sender, content.mrid)
                self._store.add(tables.responses, recording.response_row(content, now_s))
                return
            case Status():
                if content.state in (SafetyState.FAILSAFE, SafetyState.DEFAULT):
                    self._whole.add(content.sender)
                view.status = content
            case Forecast():
                if content.quantity == "load":
                    view.load = content
                else:
                    view.pv = content
            case Plan():
                view.plan = content
                if self.market is not None:
                    self.market.planned(content.sender, now_s)
            case MarketAnswer():
                if self.market is not None:
                    self.market.take(content)
                return
            case FlexibilityDeclaration():
                view.flexibility = content
            case _:
                return
        kind = type(content).__struct_config__.tag
        self._store.add(tables.messages, recording.message_row(str(kind), content, now_s))

    async def _compute(self, now_s: float) -> int:
        """Compute the intervals that need it, the nearest first; return how many. What has to be sent goes to `_unsent`."""
        for kind in ("infeasible", "unverified", "tightened"):
            self._conditions.pop(kind, None)
        self._ledger.forget(now_s)
        starts = self._ledger.starts(now_s)
        self._considered = {start_s: demand for start_s, demand in self._considered.items() if start_s >= starts[0]}
        computed = 0
        for start_s in starts:
            if self._default is None or computed >= self._config.envelopes.max_computations:
                break
            demand = self._demand(start_s)
            if self._ledger.published(start_s) and not demand_grew(self._considered.get(start_s, {}), demand):
                continue
            computed += 1
            box = await self._box(start_s, demand, now_s)
            if box is None:
                continue
            self._considered[start_s] = demand
            self._store.add(tables.envelopes, recording.envelope_row(box.result, start_s, self._config.envelopes.interval_s, now_s))
            for node, control in self._ledger.accept(start_s, box.limits, box.result.guarantee, now_s).items():
                self._unsent.setdefault(node, []).append(control)
                self._store.add(tables.controls, recording.control_row(node, control))
        return computed

    def _demand(self, start_s: float) -> dict[str, LimitPair]:
        end_s = start_s + self._config.envelopes.interval_s
        if self.office is not None:
            now_s = self._clock.now_s()
            return {node.name: self.office.wanted(node, now_s, start_s, end_s) for node in self._config.nodes}
        return {node.name: wanted(self._config, node, self.views[node.name], start_s, end_s) for node in self._config.nodes}

    async def _box(self, start_s: float, demand: Mapping[str, LimitPair], now_s: float) -> Box | None:
        """A box that contains everything outstanding; where there is none any more, one that contains the defaults."""
        assert self._default is not None
        defaults = self._default.limits
        outstanding = {node: self._ledger.floor(start_s, node, pair) for node, pair in defaults.items()}
        reason = ""
        for floors in (outstanding, defaults):
            try:
                box = await asyncio.to_thread(self._allocator.box, floors, demand)
            except (UnverifiedEnvelopeError, AllocationError) as error:
                self._event(now_s, "unverified", str(error))
                return None
            if isinstance(box, Infeasible):
                reason = box.reason
                continue
            if floors is defaults and outstanding != defaults:
                self._event(now_s, "tightened", f"interval {start_s:.0f}: earlier controls are no longer safe and were superseded")
            return box
        self._event(now_s, "infeasible", f"interval {start_s:.0f}: no envelope, the default holds: {reason}")
        return None

    def _publish(self, now_s: float) -> int:
        """Send what changed; everything pending to nodes that fell back to their default, and to all of them from time to time."""
        if self._clock.monotonic_s() >= self._refresh_due_s:
            self._whole.update(self.views)
            self._refresh_due_s = self._clock.monotonic_s() + self._config.envelopes.refresh_s
        count = 0
        for node in self.views:
            controls = self._ledger.pending(node, now_s) if node in self._whole else tuple(self._unsent.get(node, ()))
            if controls:
                self._send(node, controls, now_s)
                if self.office is not None:
                    self.office.standing.told(node, controls)
                count += len(controls)
        self._whole.clear()
        self._unsent.clear()
        return count

    def _send(self, node: str, controls: tuple[EnvelopeControl, ...], now_s: float) -> None:
        end_s = max(control.start_s + control.duration_s for control in controls)
        message = EnvelopeSchedule(sender=SENDER, time_s=now_s, sequence=self._sequencer.next(), node=node, controls=controls)
        topic = control_topic(self._config.identity.community, node, "envelope")
        expiry_s = max(1, min(int(end_s - now_s), MAX_DELIVERY_S))
        self._bus.publish(self._signer.seal(topic, message, expiry_s=expiry_s))

    def _publish_defaults(self, now_s: float) -> None:
        """Retained, so that a node which comes later has its default at once."""
        if self._default is None:
            return
        for node, pair in self._default.limits.items():
            message = DefaultControl(
                sender=SENDER,
                time_s=now_s,
                sequence=self._sequencer.next(),
                node=node,
                mrid=f"default-{node[:60]}",
                export_limit_w=pair.export_w,
                import_limit_w=pair.import_w,
                set_grad_w=self._config.defaults.set_grad_w,
                guarantee=self._default.result.guarantee,
            )
            topic = control_topic(self._config.identity.community, node, "default")
            self._bus.publish(self._signer.seal(topic, message, retain=True))

    def _publish_status(self, now_s: float, state: SafetyState) -> None:
        self._said = frozenset(self._conditions)
        self._status_due_s = self._clock.monotonic_s() + self._config.status_period_s
        community = self._config.identity.community
        reasons = tuple(self._conditions.values())
        self._bus.publish(status_message(self._signer, community, now_s, self._sequencer.next(), state, reasons))

    def _flush(self, now_s: float) -> int | None:
        """Bring the record to the disk; None while that is not possible, and then it waits and is tried again after a while."""
        if "store" in self._conditions and self._clock.monotonic_s() < self._store_due_s:
            return None
        try:
            written = self._store.flush(now_s)
        except StoreError as error:
            self._store_due_s = self._clock.monotonic_s() + STORE_RETRY_S
            self._condition("store", f"{error}; {self._store.waiting} rows wait, lost so far: {self._store.lost.total()}")
            return None
        self._conditions.pop("store", None)
        return written

    def _note_reduced_default(self, now_s: float, default: Box) -> None:
        section = self._config.defaults
        for node in self._config.nodes:
            pair = default.limits[node.name]
            asked = min(section.import_w, node.import_rating_w), min(section.export_w, node.export_rating_w)
            if pair.import_w < asked[0] - 1.0 or pair.export_w < asked[1] - 1.0:
                self._event(
                    now_s,
                    "default-reduced",
                    f"the configured default is not safe for all nodes at once; node {node.name} gets import {pair.import_w:.0f} W,"
                    f" export {pair.export_w:.0f} W",
                )
                return

    def _event(self, now_s: float, kind: str, message: str) -> None:
        """Record an event, at most so many per step, so that a flood of bad messages fills neither memory nor disk."""
        self._events += 1
        if self._events == MAX_EVENTS_PER_STEP:
            kind, message = "events-dropped", "more events in this step than are recorded"
        if self._events <= MAX_EVENTS_PER_STEP:
            self._store.add(tables.events, {"time_s": now_s, "kind": kind, "message": message[:2000]})
        if kind not in ("refused", "events-dropped"):
            self._condition(kind, message)

    def _condition(self, kind: str, message: str) -> None:
        """Something that the status has to say until it is over."""
        if kind not in self._conditions:
            log.warning("%s: %s", kind, message)
        self._conditions[kind] = f"{kind}: {message}"[:200]


def status_message(
    signer: Signer, community: str, now_s: float, sequence: int, state: SafetyState, reasons: tuple[str, ...] = ()
) -> BusMessage:
    """The coordinator's status as a sealed retained message; also its last will."""
    try:
        software = version("commonwatt")
    except PackageNotFoundError:
        software = "unknown"
    message = Status(
        sender=SENDER, time_s=now_s, sequence=sequence, state=state, software=f"commonwatt {software}"[:40], reasons=reasons[:16]
    )
    return signer.seal(coordinator_status_topic(community), message, retain=True)
