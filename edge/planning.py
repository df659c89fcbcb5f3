"""From what was measured to the plan of the hours ahead: the wiring of forecast and schedule. A shell that counts sessions and time.

`observe` is called in every cycle and only adds numbers up. `prepare` gathers, in the control cycle, what a plan needs to know;
`PlanJob.run` forecasts and solves, in the same cycle after its writes or in a thread. The numerical libraries are imported with the
first plan, so the first control cycle does not wait for them.
"""

from __future__ import annotations

import math
import zoneinfo
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from edge.config import EdgeConfig, VehicleConfig
from edge.curtailable import CurtailableShare
from edge.history import History
from edge.limits import Limit, LimitSet
from edge.made_plan import Made
from edge.policy import PlanView
from edge.sessions import ApplianceNeed, ApplianceWindow, Session
from edge.tariff import PriceSource, WindowTariff, next_local_time_s
from edge.values import DeviceKind, Reading
from edge.watch import DeviceWatch
from protocols.clock import Clock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge.agreement import Agreement
    from edge.forecast import Forecaster
    from edge.schedule.model import Departure, Household, ScheduleInputs
    from edge.schedule.planner import Plan as SolvedPlan
    from edge.schedule.planner import Planner

SAMPLE_S = 300.0
"""Prices and limits are looked up this finely and then averaged, or narrowed, over an interval of the plan."""

OBSERVE_S = 60.0
NO_LIMIT_W = 1e6

LimitsAt = Callable[[Sequence[float]], list[LimitSet]]


class PlanJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one plan needs, gathered; `run` is heavy and touches nothing that the control cycle touches.

    `given` replaces the forecasts: load and generation, both as magnitudes, one mean for each interval [W].
    """

    maker: PlanMaker
    now_s: float
    readings: tuple[Reading, ...]
    sessions: tuple[tuple[VehicleConfig, bool, float], ...]
    appliances: tuple[ApplianceNeed, ...]
    samples: tuple[list[float], list[float], list[float], list[float]]
    agreement: Agreement | None = None
    given: tuple[Sequence[float], Sequence[float]] | None = None

    def run(self) -> Made | None:
        """Forecast and solve; None where there is nothing to plan or no legal plan, with the reason in `maker.refusal`."""
        return self.maker.solve(self)


class PlanMaker:
    """Forecasters, planner, vehicle sessions and appliance windows of one household."""

    def __init__(
        self, config: EdgeConfig, *, clock: Clock, prices: PriceSource | None = None, history: History | None = None
    ) -> None:
        """`history` is where the means of the last weeks survive a restart; without one every start learns anew."""
        self.refusal = ""
        self.load_forecaster: Forecaster | None = None
        self.pv_forecaster: Forecaster | None = None
        self.busy = False
        self._config = config
        self._clock = clock
        self._history = history
        self._prices: PriceSource = WindowTariff(config.site) if prices is None else prices
        self._zone = zoneinfo.ZoneInfo(config.site.timezone)
        self._sessions = {vehicle.device: Session(vehicle) for vehicle in config.vehicles}
        self._appliances = {entry.device: ApplianceWindow(entry, self._zone) for entry in config.appliances}
        self._share = CurtailableShare()
        self._window_s = -math.inf
        self._load_sum_w = self._pv_sum_w = 0.0
        self._load_count = self._pv_count = 0
        self._curtailable_sum_w = 0.0
        self._curtailed = False
        self._planner: Planner | None = None
        self._household: Household | None = None

    def observe(self, now_s: float, watches: Sequence[DeviceWatch], base_w: float | None) -> None:
        """Count one cycle: load, what the sun gave where it was not curtailed, and what vehicles and appliances got."""
        load_w = base_w
        pv_w: float | None = 0.0
        for watch in watches:
            kind, reading = watch.kind, watch.reading
            if kind is DeviceKind.PV:
                if pv_w is not None:
                    pv_w = None if reading is None or _curtailed(watch) else pv_w - reading.power_w
            elif reading is None:
                continue
            elif kind is DeviceKind.LOAD and watch.name in self._appliances:
                self._appliances[watch.name].observe(now_s, reading, watch)
            elif kind is DeviceKind.LOAD and load_w is not None:
                load_w += reading.power_w
                self._curtailable_sum_w += reading.power_w
                self._curtailed = self._curtailed or _held_back(watch)
            elif kind is DeviceKind.EV_CHARGER:
                session = self._sessions.get(watch.name)
                if session is not None:
                    session.observe(now_s, reading, watch)
        if load_w is not None:
            self._load_sum_w += load_w
            self._load_count += 1
        if pv_w is not None:
            self._pv_sum_w += pv_w
            self._pv_count += 1
        if self.busy:
            return
        if now_s - self._window_s >= OBSERVE_S:
            self._flush(now_s)
        for forecaster in (self.load_forecaster, self.pv_forecaster):
            if forecaster is not None and forecaster.train():
                break

    def prepare(
        self, now_s: float, watches: Sequence[DeviceWatch], limits_at: LimitsAt, agreement: Agreement | None = None
    ) -> PlanJob:
        """Gather what a plan that starts now needs. An `agreement` of the community takes the place of the tariff."""
        schedule = self._config.schedule
        count = round(schedule.horizon_s / SAMPLE_S)
        times_s = [now_s + SAMPLE_S * index for index in range(count)]
        buy, sell = self._prices.buy_sell_per_kwh(times_s)
        limits = limits_at(times_s)
        agreed = [(None, None) if agreement is None else agreement.limits_w(time_s) for time_s in times_s]
        import_w = [_expected_w(limit.import_, pair[0]) for limit, pair in zip(limits, agreed, strict=True)]
        export_w = [_expected_w(limit.export, pair[1]) for limit, pair in zip(limits, agreed, strict=True)]
        return PlanJob(
            maker=self,
            now_s=now_s,
            readings=tuple(watch.last_reading for watch in watches if watch.last_reading is not None),
            sessions=tuple(session.need() for session in self._sessions.values()),
            appliances=tuple(window.need(now_s) for window in self._appliances.values()),
            samples=(buy, sell, import_w, export_w),
            agreement=agreement,
        )

    def solve(self, job: PlanJob) -> Made | None:
        """See `PlanJob.run`."""
        import numpy as np

        from edge.schedule.agreed import under_agreement
        from edge.schedule.flexibility import flexibility
        from edge.schedule.planner import Plan as SolvedPlan

        config = self._config.schedule
        pv_rated_w = sum(_first(reading.rated_w, None) for reading in job.readings if reading.kind is DeviceKind.PV)
        load_forecaster, pv_forecaster = self.forecasters(pv_rated_w)
        steps = round(config.horizon_s / config.step_s)
        load = load_forecaster.forecast(job.now_s, config.step_s, steps)
        pv = None if pv_forecaster is None else pv_forecaster.forecast(job.now_s, config.step_s, steps)
        planner, household = self._planner_for(job, pv_rated_w)
        level = self._config.forecast
        load_w = load.at_level(level.load_level_frac)
        pv_w = np.zeros(steps) if pv is None else -pv.at_level(level.pv_level_frac)
        if job.given is not None:
            load_w, pv_w = np.asarray(job.given[0], dtype=np.float64), -np.asarray(job.given[1], dtype=np.float64)
        inputs = self._inputs(job, load_w, pv_w)
        if job.agreement is not None:
            inputs = under_agreement(inputs, job.agreement)
        solved = planner.plan(inputs, job.now_s)
        if not isinstance(solved, SolvedPlan):
            self.refusal = f"{solved.reason.value}: {solved.detail}"
            return None
        self.refusal = ""
        return Made(
            view=_view(solved, household, inputs),
            household=household,
            inputs=inputs,
            solved=solved,
            flexibility=flexibility(household, inputs, solved.schedule, 0),
            load=load,
            pv=pv,
            publish_forecasts=level.publish,
        )

    def forecasters(self, pv_rated_w: float) -> tuple[Forecaster, Forecaster | None]:
        """The forecasters, made when they are first needed; whoever has a history may give it to them (`warm_start`)."""
        from edge.forecast import Forecaster

        config = self._config
        site = config.site
        if self.load_forecaster is None:
            self.load_forecaster = Forecaster(
                "load",
                site.import_rating_w,
                step_s=900,
                utc_offset_s=self._utc_offset_s(),
                typical_day_wh=config.forecast.typical_day_wh,
            )
            _warm_start(self.load_forecaster, self._history, "load_w")
        if self.pv_forecaster is None and pv_rated_w > 0.0:
            self.pv_forecaster = Forecaster(
                "pv",
                pv_rated_w,
                step_s=900,
                latitude_deg=site.latitude_deg,
                longitude_deg=site.longitude_deg,
                utc_offset_s=self._utc_offset_s(),
            )
            _warm_start(self.pv_forecaster, self._history, "pv_w")
        return self.load_forecaster, self.pv_forecaster

    def _utc_offset_s(self) -> float:
        import datetime as dt

        offset = dt.datetime.fromtimestamp(self._clock.now_s(), self._zone).utcoffset()
        return 0.0 if offset is None else offset.total_seconds()

    def _flush(self, now_s: float) -> None:
        """Hand the means of the last minute to the forecasters, where they exist already."""
        middle_s = now_s if self._window_s == -math.inf else 0.5 * (self._window_s + now_s)
        load_w = self._load_sum_w / self._load_count if self._load_count > 0 else math.nan
        pv_w = self._pv_sum_w / self._pv_count if self._pv_count > 0 else math.nan
        if self.load_forecaster is not None:
            self.load_forecaster.observe(middle_s, load_w)
        if self.pv_forecaster is not None:
            self.pv_forecaster.observe(middle_s, pv_w)
        if self._history is not None:
            self._history.add(middle_s, load_w, pv_w)
        if self._load_count > 0 and not self._curtailed:
            self._share.observe(middle_s, load_w, self._curtailable_sum_w / self._load_count)
        self._window_s = now_s
        self._load_sum_w = self._pv_sum_w = self._curtailable_sum_w = 0.0
        self._load_count = self._pv_count = 0
        self._curtailed = False

    def _planner_for(self, job: PlanJob, pv_rated_w: float) -> tuple[Planner, Household]:
        """The planner of the household as it is rated now; made anew when a rating changes."""
        from edge.schedule.model import Appliance, Battery, Household, Vehicle
        from edge.schedule.planner import Planner

        config = self._config.schedule
        batteries = tuple(
            Battery(
                name=reading.name,
                capacity_wh=reading.capacity_wh,
                max_charge_w=_first(reading.max_charge_w, reading.rated_w),
                max_discharge_w=_first(reading.max_discharge_w, reading.rated_w),
                min_soc_frac=config.min_soc_frac,
                max_soc_frac=config.max_soc_frac,
                wear_per_kwh=config.battery_wear_per_kwh,
            )
            for reading in job.readings
            if _plannable(reading) and reading.capacity_wh is not None
        )
        vehicles = tuple(
            Vehicle(
                name=vehicle.device,
                capacity_wh=vehicle.session_wh,
                max_charge_w=vehicle.max_w,
                charge_efficiency_frac=vehicle.charge_efficiency_frac,
            )
            for vehicle, _, _ in job.sessions
        )
        appliances = tuple(Appliance(name=need.appliance.device, max_w=need.appliance.max_w) for need in job.appliances)
        household = Household(pv_rated_w=pv_rated_w, batteries=batteries, vehicles=vehicles, appliances=appliances)
        if self._planner is None or household != self._household:
            self._planner = Planner(household, monotonic_s=self._clock.monotonic_s, deadline_s=config.deadline_s)
            self._household = household
        assert self._household is not None
        return self._planner, self._household

    def _inputs(self, job: PlanJob, load_w: npt.NDArray[np.float64], pv_w: npt.NDArray[np.float64]) -> ScheduleInputs:
        import numpy as np

        from edge.schedule.model import ApplianceState, BatteryState, ScheduleInputs, VehicleState

        config = self._config.schedule
        steps = len(load_w)
        samples = [np.asarray(column).reshape(steps, -1) for column in job.samples]
        buy, sell = samples[0].mean(axis=1), samples[1].mean(axis=1)
        load_w = np.maximum(load_w, 0.0)
        middles_s = job.now_s + config.step_s * (np.arange(steps) + 0.5)
        p2_load_w = load_w * np.array([self._share.at(time_s) for time_s in middles_s.tolist()])
        end_value = min(0.5 * float(buy.mean() + sell.mean()), 0.95 * float(buy.min()))
        return ScheduleInputs(
            start_s=job.now_s,
            step_s=config.step_s,
            p1_load_w=load_w - p2_load_w,
            p2_load_w=p2_load_w,
            pv_w=np.minimum(pv_w, 0.0),
            import_limit_w=samples[2].min(axis=1),
            export_limit_w=samples[3].min(axis=1),
            buy_price_per_kwh=buy,
            sell_price_per_kwh=sell,
            batteries=tuple(
                BatteryState(soc_frac=reading.soc_frac, end_value_per_kwh=max(end_value, 0.0))
                for reading in job.readings
                if _plannable(reading) and reading.soc_frac is not None
            ),
            vehicles=tuple(
                VehicleState(
                    soc_frac=1.0 - remaining_wh / vehicle.session_wh,
                    connected=connected,
                    departures=(self._departure(job.now_s, vehicle),) if connected else (),
                )
                for vehicle, connected, remaining_wh in job.sessions
            ),
            appliances=tuple(
                ApplianceState(remaining_wh=need.remaining_wh, earliest_s=need.earliest_s, deadline_s=need.deadline_s)
                for need in job.appliances
            ),
        )

    def _departure(self, now_s: float, vehicle: VehicleConfig) -> Departure:
        from edge.schedule.model import Departure

        depart_s = next_local_time_s(now_s, vehicle.ready_by_h, self._zone)
        return Departure(depart_s=depart_s, return_s=depart_s + 2.0 * 86400.0, needed_soc_frac=1.0)


def _expected_w(limit: Limit | None, agreed_w: float | None) -> float:
    """The limit to plan by: what holds at that time; where no control is known yet, the agreed one that it will bring."""
    if limit is None:
        return NO_LIMIT_W
    return max(limit.limit_w, agreed_w) if limit.source == "default" and agreed_w is not None else limit.limit_w


def _warm_start(forecaster: Forecaster, history: History | None, column: Literal["load_w", "pv_w"]) -> None:
    if history is None:
        return
    means_w = getattr(history, column)
    if len(means_w) > 0:
        forecaster.warm_start(history.start_s, history.step_s, means_w)


def _view(solved: SolvedPlan, household: Household, inputs: ScheduleInputs) -> PlanView:
    schedule = solved.schedule
    battery_w = schedule.battery_w.sum(axis=0).tolist() if len(household.batteries) > 0 else [0.0] * schedule.steps
    limits: list[float | None] = []
    for curtailed_w, pv_w, sell in zip(
        schedule.pv_curtailed_w.tolist(), inputs.pv_w.tolist(), inputs.sell_price_per_kwh.tolist(), strict=True
    ):
        wanted = sell < 0.0 or inputs.negotiation is not None
        limits.append(-pv_w - curtailed_w if wanted and curtailed_w > 1.0 else None)
    return PlanView(
        start_s=schedule.start_s,
        step_s=schedule.step_s,
        net_import_w=schedule.net_import_w.tolist(),
        battery_w=battery_w,
        draw_w={name: schedule.flexible_w[row].tolist() for row, name in enumerate(household.flexible_names)},
        pv_limit_w=limits,
    )


def _plannable(reading: Reading) -> bool:
    """A battery whose energy is known; another one follows the meter only."""
    return reading.kind is DeviceKind.BATTERY and reading.soc_frac is not None and reading.capacity_wh is not None


def _first(value_w: float | None, otherwise_w: float | None) -> float:
    if value_w is not None:
        return value_w
    return 0.0 if otherwise_w is None else otherwise_w


def _held_back(watch: DeviceWatch) -> bool:
    """Whether a load draws what its limit leaves it, so that it might draw more."""
    reading, told_w = watch.reading, None if watch.commanded is None else watch.commanded.limit_w
    if reading is None or told_w is None or (watch.rated_w is not None and told_w >= watch.rated_w):
        return False
    return reading.power_w >= told_w - max(0.05 * told_w, 20.0)


def _curtailed(watch: DeviceWatch) -> bool:
    """Whether the reading says less than the sun would give, because the limit holds it back."""
    told_w = None if watch.commanded is None else watch.commanded.limit_w
    return told_w is not None and watch.reading is not None and -watch.reading.power_w >= told_w - max(0.05 * told_w, 20.0)
