"""The edge's one control cycle: hear, read everything, decide, write everything, tell. The caller owns the time.

`step` runs exactly one cycle at `clock.now_s()`. The order inside a cycle is fixed: what arrived is verified and handed to the control
scheduler; all devices are read; the snapshot is judged, the safety state moves, limits narrow, the guard chooses; setpoints are written,
and where a device does not take its own, the others are chosen again with that device as it is; only then is anything stored, said or
planned, so nothing slow stands between a measurement and its setpoint. The one broad `except` of the system is around the cycle, and
it enters failsafe.
"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Sequence

import msgspec

from edge.agent_settings import contract_limits, decide_settings, rating_limits, watch_for
from edge.config import EdgeConfig
from edge.correspondence import Community, Correspondent, is_from_coordinator, worth_saying
from edge.cycle_record import CycleRecord
from edge.decide import Chosen, Decider
from edge.devices.driver import Device
from edge.envelope_control import ControlScheduler, ControlState, Outcome, Ratings
from edge.field import Field, resumed_wear
from edge.limits import NO_LIMITS, LimitSet, narrow_limits
from edge.market import MarketPart
from edge.planning import PlanMaker
from edge.replanning import Replanner
from edge.reporting import TelemetryMeans
from edge.safety import Condition, SafetyMachine
from edge.store import Store
from edge.values import DeviceKind, Reading, Setpoint
from edge.watch import DeviceWatch
from protocols.bus import Bus
from protocols.clock import Clock
from protocols.messages import DefaultControl, EnvelopeSchedule, MarketAsk, ResponseStatus, SafetyState
from protocols.signing import Sequencer, Signer, Verifier

log = logging.getLogger(__name__)

_STRICTEST_PERIOD_S = 60.0


class EdgeAgent:
    """One household. `plan_maker` None means the one of the configuration, `background` plans in a thread instead of at the end of a
    cycle, and `seed` draws the random shifts of controls."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        bus: Bus,
        devices: Sequence[Device],
        clock: Clock,
        store: Store,
        signer: Signer,
        verifier: Verifier,
        plan_maker: PlanMaker | None = None,
        community: Community | None = None,
        background: bool = False,
        seed: int | None = None,
    ) -> None:
        self.config = config
        self.node = config.identity.node
        self._clock = clock
        self._bus = bus
        self._store = store
        control, site = config.control, config.site
        self._coordinated = control.mode == "coordinated"
        self._state, self.finding = store.load()
        self._wear = resumed_wear(devices, self._state.wear)
        self._state.wear = copy.deepcopy(self._wear)
        self._watches = {device.name: watch_for(device, config) for device in devices}
        self._meter = next(watch for watch in self._watches.values() if watch.kind is DeviceKind.METER)
        controlled = [watch for watch in self._watches.values() if watch.kind is not DeviceKind.METER]
        self._all_watches = tuple(self._watches.values())
        self._field = Field(
            devices, self._watches, response_s=control.response_s, stale_after_s=control.stale_after_s, concurrent=control.concurrent_io
        )
        self._decider = Decider(decide_settings(config), self._meter, controlled)
        self._ratings = rating_limits(site)
        contract = contract_limits(config) if self._coordinated else NO_LIMITS
        self._scheduler = self._make_scheduler(contract, random.Random(self.node if seed is None else seed))
        self._safety = SafetyMachine(
            contract=contract,
            stale_after_s=control.stale_after_s,
            coordinator_silent_s=control.coordinator_silent_s,
            clock_jump_s=control.clock_jump_s,
        )
        self.market = self._make_market()
        self._said = Correspondent(
            config.identity.community,
            self.node,
            bus=bus,
            signer=signer,
            verifier=verifier,
            sequencer=Sequencer(clock.now_s(), floor=self._state.sequence),
            community_part=self.market if community is None else community,
            discreet=config.aggregation.enabled,
        )
        self._said.resume(self._state.agreement)
        verifier.restore_windows(self._state.windows.encode("ascii"))
        self._means = TelemetryMeans([device.kind for device in devices], min(site.import_rating_w, site.export_rating_w))
        maker = PlanMaker(config, clock=clock) if plan_maker is None else plan_maker
        self._plans = Replanner(maker, config.schedule, self._state.plan, background=background)
        self._background = background
        self._unsaved = False
        self._ahead_s = control.cycle_s + control.response_s
        self._strictest: LimitSet | None = None
        self._strictest_until_s = -float("inf")
        self._status_said: tuple[SafetyState, tuple[str, ...]] | None = None
        self._status_due_s = -float("inf")
        self._store_trouble: str | None = None
        self._last_limits = NO_LIMITS

    def _make_market(self) -> MarketPart | None:
        if not (self._coordinated and self.config.market.enabled):
            return None
        site = self.config.site
        return MarketPart(
            now_s=self._clock.now_s,
            monotonic_s=self._clock.monotonic_s,
            deadline_s=self.config.schedule.deadline_s,
            ratings_w=(site.import_rating_w, site.export_rating_w),
        )

    def _make_scheduler(self, contract: LimitSet, rng: random.Random) -> ControlScheduler:
        """With what the disk remembers, where controls are obeyed at all. Ramps refer to the ratings of the connection."""
        site = self.config.site
        return ControlScheduler(
            ratings=Ratings(
                export_w=site.export_rating_w,
                import_w=site.import_rating_w,
                generation_w=site.export_rating_w,
                load_w=site.import_rating_w,
            ),
            contract=contract,
            draw_shift_s=rng.uniform,
            state=self._state.control if self._coordinated else None,
            tighten_at_once=self.config.control.tighten_at_once,
        )

    @property
    def state(self) -> SafetyState:
        """The safety state after the last cycle."""
        return self._safety.state

    @property
    def bus(self) -> Bus:
        """The connection to the broker, for whoever watches it."""
        return self._bus

    @property
    def watches(self) -> tuple[DeviceWatch, ...]:
        """What is believed of each device, the meter among them. To be looked at only."""
        return self._all_watches

    @property
    def control_state(self) -> ControlState:
        """The controls and the default that are known. To be looked at only."""
        return self._scheduler.state

    @property
    def coordinator_silent_s(self) -> float | None:
        """How long the coordinator was not heard; None before the first cycle."""
        return self._safety.silent_s(self._clock.monotonic_s())

    @property
    def plan_until_s(self) -> float | None:
        """The end of the plan in use."""
        return self._plans.until_s

    async def start(self) -> None:
        """Come up on the bus. The first cycle begins in failsafe with what the disk remembers."""
        if self.finding is not None:
            log.error("%s", self.finding)
        if self._coordinated:
            self._said.subscribe()
        await self._bus.start()

    async def step(self) -> CycleRecord:
        """One control cycle, now."""
        now_s, begun_s = self._clock.now_s(), self._clock.monotonic_s()
        try:
            record = await self._cycle(now_s)
        except Exception as error:
            log.exception("the control cycle failed")
            record = await self._fail(now_s, f"the control cycle failed: {type(error).__name__}: {error}")
        return msgspec.structs.replace(record, duration_s=self._clock.monotonic_s() - begun_s)

    async def stop(self) -> None:
        """Leave the devices in their safe stance, say so, and close."""
        now_s = self._clock.now_s()
        await self._field.write(self._decider.safe(self._strictest_limits(now_s)), now_s)
        self._said.say_status(now_s, SafetyState.OFFLINE, ("stopped",))
        self._save()
        await self._bus.stop()
        await self._field.close()

    async def _cycle(self, now_s: float) -> CycleRecord:
        outcomes, refusals = self._hear(now_s)
        await self._field.read(now_s)
        chosen, blind, limits = self._decide(now_s)
        failed = await self._field.write(chosen.setpoints, now_s)
        if failed and self._matters(chosen, failed):
            again = self._decider.choose(
                now_s,
                limits=limits,
                strictest=self._strictest_limits(now_s),
                blind=blind,
                plan=self._plans.plan,
                fixed=failed,
            )
            await self._field.write(_changed(chosen.setpoints, again.setpoints), now_s)
            chosen = again
        readings = tuple(watch.reading for watch in self._all_watches if watch.reading is not None)
        in_force = self._tell(now_s, readings)
        agreed = self._said.agreement != self._state.agreement
        if self._scheduler.changed or self._unsaved or agreed or self._wear != self._state.wear:
            self._save()
        self._said.say_outcomes(outcomes if self.config.control.respond_to_all else worth_saying(outcomes), now_s)
        self._make_plan(now_s, chosen)
        answer = None if self.market is None else self.market.step(self.node, self._said.sequencer, background=self._background)
        if answer is not None:
            self._said.say("answer", answer)
        meter = self._meter.reading
        if meter is not None:
            self._said.say_adherence(now_s, meter.power_w)
        return CycleRecord(
            time_s=now_s,
            state=self._safety.state,
            blind=chosen.blind,
            reasons=(*self._safety.reasons, *chosen.decision.reasons),
            limits=limits,
            setpoints=chosen.setpoints,
            readings=readings,
            net_import_w=None if meter is None else meter.power_w,
            refusals=tuple(refusals),
            export_breach_w=chosen.decision.export_breach_w,
            import_breach_w=chosen.decision.import_breach_w,
            in_force=in_force,
            outcomes=tuple(outcomes),
            conditions=self._conditions(chosen.blind),
            troubles=self._troubles(),
            foreign_masters=self._field.foreign_masters,
            plan_start_s=None if self._plans.plan is None else self._plans.plan.start_s,
        )

    def _hear(self, now_s: float) -> tuple[list[Outcome], list[str]]:
        messages, refusals = self._said.receive(now_s)
        outcomes: list[Outcome] = []
        if not self._coordinated:
            return outcomes, refusals
        for message in messages:
            if isinstance(message, EnvelopeSchedule):
                outcomes += self._scheduler.receive_schedule(message, now_s)
            elif isinstance(message, DefaultControl):
                refused = self._scheduler.receive_default(message)
                if refused is not None:
                    outcomes.append(refused)
            elif isinstance(message, MarketAsk) and self.market is not None:
                self.market.asked(message)
            if is_from_coordinator(message):
                self._safety.heard_coordinator(self._clock.monotonic_s())
        outcomes += self._scheduler.advance(now_s)
        refusals += [f"control {o.mrid}: {o.reason}" for o in outcomes if o.status is ResponseStatus.INVALID]
        return outcomes, refusals

    def _decide(self, now_s: float) -> tuple[Chosen, bool, LimitSet]:
        meter = self._meter
        scheduler = self._scheduler
        blind = self._safety.update(
            Condition(
                now_s=now_s,
                monotonic_s=self._clock.monotonic_s(),
                meter_believable=meter.reading is not None and not meter.doubtful,
                meter_lost=meter.reading is None or meter.stuck,
                control_active=self._coordinated and scheduler.has_active_control(now_s),
                default_known=not self._coordinated or scheduler.state.default is not None,
                troubles=self._troubles(),
            )
        )
        envelope = scheduler.limits(now_s, self._ahead_s)
        failsafe = self._safety.state is SafetyState.FAILSAFE
        limits = self._safety.narrow(self._ratings, envelope, scheduler.fallback() if failsafe else NO_LIMITS)
        self._last_limits = limits
        chosen = self._decider.choose(
            now_s, limits=limits, strictest=self._strictest_limits(now_s), blind=blind, plan=self._plans.plan
        )
        return chosen, blind, limits

    def _troubles(self) -> tuple[str, ...]:
        notes = self._field.notes
        if not notes and not any(watch.trouble for watch in self._all_watches):
            return ()
        found = [f"{watch.name}: {watch.trouble}" for watch in self._all_watches if watch.trouble]
        found += [f"{name}: {note}" for name, note in notes.items()]
        return tuple(found)

    def _matters(self, chosen: Chosen, failed: frozenset[str]) -> bool:
        """Whether a device that kept its old setpoint can carry the house out of its limits, so that the others must be chosen again."""
        return any(setpoint.name in failed and setpoint != self._watches[setpoint.name].commanded for setpoint in chosen.setpoints)

    def _strictest_limits(self, now_s: float) -> LimitSet:
        if self._strictest is None or now_s >= self._strictest_until_s or self._scheduler.changed:
            self._strictest = narrow_limits([self._ratings, self._scheduler.strictest(now_s)])
            self._strictest_until_s = now_s + _STRICTEST_PERIOD_S
        return self._strictest

    def _conditions(self, blind: bool) -> tuple[str, ...]:
        safety = self._safety
        held = ("blind", blind), ("clock_suspect", safety.clock_suspect), ("islanded", safety.islanded)
        return tuple(name for name, holds in (*held, ("store_failing", self._store_trouble is not None)) if holds)

    def _tell(self, now_s: float, readings: tuple[Reading, ...]) -> LimitSet:
        """Say what is due; returns the limits of the controls now."""
        control, safety = self.config.control, self._safety
        in_force = self._scheduler.limits(now_s, 0.0)
        self._means.add(now_s, readings, in_force)
        if self._means.due(now_s, control.telemetry_period_s):
            message = self._means.take(
                now_s, sender=self.node, sequence=self._said.sequencer.next(), limits=in_force, state=safety.state
            )
            self._said.say("telemetry", message)
        status = (safety.state, safety.reasons if self._store_trouble is None else (*safety.reasons, self._store_trouble))
        anew = self._said.announced_anew()
        if anew or now_s >= self._status_due_s or self._status_said is None or status[0] != self._status_said[0]:
            if self._status_said is None or status[0] != self._status_said[0]:
                log.info("state %s: %s", status[0].value, "; ".join(status[1]))
            self._said.say_status(now_s, *status)
            self._status_said = status
            self._status_due_s = now_s + control.status_period_s
        return in_force

    def _make_plan(self, now_s: float, chosen: Chosen) -> None:
        made = self._plans.step(now_s, self._all_watches, chosen.base_w, self._planned_limits, self._said.agreement)
        if made is not None:
            self._state.plan = made.view
            self._unsaved = True
            self._said.say_plan(made, now_s)

    def _planned_limits(self, times_s: Sequence[float]) -> list[LimitSet]:
        """What is known to hold at the given times, ratings included."""
        found: list[LimitSet] = []
        before: LimitSet | None = None
        for targets in self._scheduler.targets(times_s):
            found.append(found[-1] if targets is before else narrow_limits([self._ratings, targets]))
            before = targets
        return found

    def _save(self) -> None:
        self._state.control = self._scheduler.state
        self._state.agreement = self._said.agreement
        self._state.windows = self._said.verifier.save_windows().decode("ascii")
        self._state.sequence = self._said.sequencer.last
        self._state.wear = copy.deepcopy(self._wear)
        trouble = self._store.save(self._state)
        if trouble is not None and self._store_trouble is None:
            log.error("%s", trouble)
        self._store_trouble = trouble
        self._unsaved = trouble is not None
        if trouble is None:
            self._scheduler.changed = False

    async def _fail(self, now_s: float, reason: str) -> CycleRecord:
        """Safe setpoints to every device that can be reached."""
        self._safety.fail(reason)
        setpoints = self._decider.safe(self._strictest_limits(now_s))
        await self._field.write(setpoints, now_s)
        readings = tuple(watch.reading for watch in self._all_watches if watch.reading is not None)
        return CycleRecord(
            time_s=now_s,
            state=self._safety.state,
            blind=True,
            reasons=self._safety.reasons,
            limits=self._last_limits,
            setpoints=setpoints,
            readings=readings,
            net_import_w=None,
            refusals=(),
            conditions=self._conditions(True),
            troubles=self._troubles(),
            foreign_masters=self._field.foreign_masters,
            failed=True,
        )



def _changed(before: Sequence[Setpoint], after: Sequence[Setpoint]) -> list[Setpoint]:
    known = {setpoint.name: setpoint for setpoint in before}
    return [setpoint for setpoint in after if setpoint != known.get(setpoint.name)]
