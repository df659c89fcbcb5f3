"""The three rungs, the deadline, and what is refused or moved before planning."""

import msgspec
import numpy as np
import pytest
from schedule_worlds import START_S, quiet_inputs

from edge.schedule.arrays import Structure
from edge.schedule.check import check_schedule
from edge.schedule.model import (
    Appliance,
    ApplianceState,
    Battery,
    BatteryState,
    Departure,
    Household,
    ScheduleInputs,
    Tank,
    Vehicle,
    VehicleState,
)
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import AdjustmentReason, Refusal, RefusalReason
from edge.schedule.solve import PiqpBackend, Solution

HOUSE = Household(
    pv_rated_w=5000.0,
    batteries=(Battery(name="battery", capacity_wh=10_000.0, max_charge_w=5000.0, max_discharge_w=5000.0),),
    vehicles=(Vehicle(name="car", capacity_wh=40_000.0, max_charge_w=7000.0),),
    tanks=(Tank(name="tank", capacity_wh=10_000.0, max_heat_w=3000.0),),
    appliances=(Appliance(name="washer", max_w=2000.0),),
)


class SlowClock:
    """A monotonic clock that moves only when a solver works."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class SlowBackend(PiqpBackend):
    """Takes `cost_s` on the clock for each iteration."""

    cost_s = 0.0

    def __init__(self, structure: Structure, clock: SlowClock) -> None:
        super().__init__(structure, clock)
        self.clock = clock

    def solve(self, deadline_s: float) -> Solution:
        solution = super().solve(deadline_s)
        self.clock.now_s += self.cost_s * solution.iterations
        self._iteration_s = self.cost_s
        return solution


def sunny(**changes: object) -> ScheduleInputs:
    hour = np.arange(24) + 0.5
    sun = np.clip(np.sin((hour - 6.0) / 12.0 * np.pi), 0.0, None)
    return quiet_inputs(HOUSE, pv_w=-5000.0 * sun, **changes)


def slow_planner(**options: float) -> tuple[Planner, SlowClock]:
    clock = SlowClock()
    return Planner(HOUSE, monotonic_s=clock, backend=SlowBackend, **options), clock


def test_the_solver_s_plan_is_used_when_there_is_time() -> None:
    planner, _ = slow_planner()
    plan = planner.plan(sunny(), START_S)
    assert isinstance(plan, Plan)
    assert (plan.made_by, plan.reasons, plan.adjustments) == ("solver", (), ())
    assert plan.iterations > 0


def test_a_solver_that_became_too_slow_leaves_the_last_plan_shifted_by_the_time_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    planner, clock = slow_planner(deadline_s=1.0)
    first = planner.plan(sunny(), START_S)
    assert isinstance(first, Plan)
    monkeypatch.setattr(SlowBackend, "cost_s", 0.2)
    started_s = clock.now_s
    planner.plan(sunny(), START_S)
    later = sunny(start_s=START_S + 7200.0)
    later = msgspec.structs.replace(
        later,
        pv_w=np.roll(later.pv_w, -2),
        batteries=(BatteryState(soc_frac=first.schedule.battery_wh[0, 1] / 10_000.0),),
        vehicles=(VehicleState(soc_frac=first.schedule.flexible_wh[0, 1] / 40_000.0),),
    )
    started_s = clock.now_s
    plan = planner.plan(later, START_S + 7200.0)
    assert isinstance(plan, Plan)
    assert plan.made_by == "shifted"
    assert plan.reasons[0].startswith("solver: not_converged")
    assert clock.now_s - started_s <= 1.0
    assert plan.schedule.battery_w[0, :22] == pytest.approx(first.schedule.battery_w[0, 2:], abs=1.0)


def test_an_old_plan_is_not_shifted_but_replaced_by_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    planner, _ = slow_planner(deadline_s=1.0, max_plan_age_s=3600.0)
    assert isinstance(planner.plan(sunny(), START_S), Plan)
    monkeypatch.setattr(SlowBackend, "cost_s", 2.0)
    planner.plan(sunny(), START_S)
    plan = planner.plan(sunny(), START_S + 7300.0)
    assert isinstance(plan, Plan)
    assert plan.made_by == "rule"
    assert "3600 s are trusted" in plan.reasons[1]


def test_the_rule_uses_the_sun_for_the_battery_and_waits_with_the_car_until_it_must() -> None:
    planner, _ = slow_planner(deadline_s=0.0)
    leaves = Departure(depart_s=START_S + 6 * 3600.0, return_s=START_S + 20 * 3600.0, needed_soc_frac=0.8)
    inputs = sunny(vehicles=(VehicleState(soc_frac=0.5, departures=(leaves,)),))
    plan = planner.plan(inputs, START_S)
    assert isinstance(plan, Plan)
    assert plan.made_by == "rule"
    schedule = plan.schedule
    assert schedule.flexible_w[0, :4].max() == 0.0
    assert schedule.flexible_w[0, 4] == pytest.approx(12_000.0 / 0.9 - 7000.0)
    assert schedule.flexible_w[0, 5] == pytest.approx(7000.0)
    assert schedule.flexible_shortfall_wh.max() == pytest.approx(0.0, abs=1e-6)
    assert schedule.battery_w[0, 0] == pytest.approx(-500.0)
    assert schedule.battery_w[0, 8] > 0.0
    assert check_schedule(HOUSE, inputs, schedule) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"p1_load_w": np.zeros(0)}, RefusalReason.ZERO_LENGTH_HORIZON),
        ({"p1_load_w": np.zeros(577)}, RefusalReason.HORIZON_TOO_LONG),
        ({"step_s": 0.0}, RefusalReason.BAD_TIME),
        ({"step_s": float("nan")}, RefusalReason.BAD_TIME),
        ({"p2_load_w": np.zeros(23)}, RefusalReason.WRONG_SHAPE),
        ({"pv_w": np.zeros(24, dtype=np.int64)}, RefusalReason.WRONG_SHAPE),
        ({"pv_w": np.full(24, np.nan)}, RefusalReason.NOT_FINITE),
        ({"p1_load_w": np.full(24, np.inf)}, RefusalReason.NOT_FINITE),
        ({"import_limit_w": np.full(24, np.nan)}, RefusalReason.NOT_FINITE),
        ({"import_limit_w": np.full(24, -1.0)}, RefusalReason.NEGATIVE_LIMIT),
        ({"export_limit_w": np.full(24, -0.01)}, RefusalReason.NEGATIVE_LIMIT),
        ({"pv_w": np.full(24, 100.0)}, RefusalReason.WRONG_SIGN),
        ({"p1_load_w": np.full(24, -100.0)}, RefusalReason.WRONG_SIGN),
        ({"buy_price_per_kwh": np.full(24, 1e5)}, RefusalReason.IMPLAUSIBLE),
        ({"batteries": ()}, RefusalReason.STATE_MISMATCH),
        ({"batteries": (BatteryState(soc_frac=float("nan")),)}, RefusalReason.NOT_FINITE),
    ],
)
def test_what_no_honest_source_says_is_refused_by_name(changes: dict[str, object], reason: RefusalReason) -> None:
    planner, _ = slow_planner()
    answer = planner.plan(
        sunny(**{k: v for k, v in changes.items() if k != "pv_w"}) if "pv_w" not in changes else with_pv(changes), START_S
    )
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert answer.detail


def with_pv(changes: dict[str, object]) -> ScheduleInputs:
    return quiet_inputs(HOUSE, **changes)


def test_what_a_meter_gets_slightly_wrong_is_moved_with_a_named_reason() -> None:
    planner, _ = slow_planner()
    backwards = Departure(depart_s=START_S + 7200.0, return_s=START_S + 3600.0, needed_soc_frac=0.5)
    greedy = Departure(depart_s=START_S + 7200.0, return_s=START_S + 9000.0, needed_soc_frac=1.4)
    inputs = quiet_inputs(
        HOUSE,
        pv_w=np.full(24, -6000.0),
        batteries=(BatteryState(soc_frac=1.07, end_min_soc_frac=0.02),),
        vehicles=(VehicleState(soc_frac=-0.01, departures=(backwards, greedy)),),
        appliances=(ApplianceState(remaining_wh=-3.0, earliest_s=START_S, deadline_s=START_S),),
    )
    plan = planner.plan(inputs, START_S)
    assert isinstance(plan, Plan)
    assert {adjustment.reason for adjustment in plan.adjustments} == {
        AdjustmentReason.PV_CLAMPED_TO_RATING,
        AdjustmentReason.SOC_CLAMPED,
        AdjustmentReason.END_SOC_CLAMPED,
        AdjustmentReason.DEPARTURE_IGNORED,
        AdjustmentReason.DEPARTURE_CLAMPED,
        AdjustmentReason.APPLIANCE_CLAMPED,
    }


def test_a_limit_of_zero_is_a_limit_and_infinity_is_none() -> None:
    planner, _ = slow_planner()
    shut = planner.plan(sunny(export_limit_w=np.zeros(24)), START_S)
    free = planner.plan(sunny(export_limit_w=np.full(24, np.inf), import_limit_w=np.full(24, np.inf)), START_S)
    assert isinstance(shut, Plan) and isinstance(free, Plan)
    assert shut.schedule.net_import_w.min() >= -1e-3
    assert shut.schedule.pv_curtailed_w.max() > 100.0
    assert free.schedule.net_import_w.min() < -1000.0
