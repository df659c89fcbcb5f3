"""What a household reports of its plan, and how it answers a negotiation with its own schedule."""

from __future__ import annotations

import numpy as np
import pytest

from edge.forecast.values import QuantileForecast
from edge.leadership.household import PlannedHousehold
from edge.leadership.negotiator import Negotiator, negotiated, sampled
from edge.made_plan import Made
from edge.policy import PlanView
from edge.schedule.flexibility import flexibility
from edge.schedule.model import Battery, BatteryState, Household, ScheduleInputs
from edge.schedule.planner import Plan, Planner
from protocols import negotiation
from protocols.aggregation.content import flexibility_rows
from protocols.messages import CommunitySignal, RoundCall, RoundContent
from protocols.negotiation import State, Terms

START_S = 1_700_000_100.0
STEPS = 96


def clock_s() -> float:
    return START_S


def inputs(load_w: float = 800.0, sun_w: float = 4000.0, start_s: float = START_S) -> ScheduleInputs:
    hours = np.arange(STEPS) / 4.0
    steps = np.ones(STEPS)
    return ScheduleInputs(
        start_s=start_s,
        step_s=900.0,
        p1_load_w=load_w * steps,
        p2_load_w=0.0 * steps,
        pv_w=-sun_w * np.maximum(np.sin((hours - 6.0) / 12.0 * np.pi), 0.0),
        import_limit_w=10_000.0 * steps,
        export_limit_w=8000.0 * steps,
        buy_price_per_kwh=0.3 * steps,
        sell_price_per_kwh=0.05 * steps,
        batteries=(BatteryState(soc_frac=0.5, end_value_per_kwh=0.1),),
    )


def forecast(values_w: np.ndarray) -> QuantileForecast:
    levels = np.array([0.1, 0.5, 0.9])
    return QuantileForecast(
        issued_s=START_S,
        step_s=900.0,
        times_s=START_S + 900.0 * np.arange(STEPS),
        levels=levels,
        values_w=np.stack([values_w * (0.5 + level) for level in levels]),
        measured_coverage=(),
        method="given",
    )


def made(of: ScheduleInputs) -> Made:
    household = Household(
        pv_rated_w=6000.0, batteries=(Battery(name="battery", capacity_wh=10e3, max_charge_w=5000.0, max_discharge_w=5000.0),)
    )
    solved = Planner(household, monotonic_s=lambda: 0.0).plan(of, of.start_s)
    assert isinstance(solved, Plan)
    schedule = solved.schedule
    return Made(
        view=PlanView(
            start_s=of.start_s,
            step_s=900.0,
            net_import_w=schedule.net_import_w.tolist(),
            battery_w=[0.0] * STEPS,
            draw_w={},
            pv_limit_w=[None] * STEPS,
        ),
        household=household,
        inputs=of,
        solved=solved,
        flexibility=flexibility(household, of, schedule, 0),
        load=forecast(of.p1_load_w),
        pv=forecast(-of.pv_w),
        publish_forecasts=False,
    )


def call(content: RoundContent, *, start_s: float = START_S, iteration: int = 0) -> RoundCall:
    return RoundCall(
        round_name="1:1",
        epoch=1,
        key_id="0" * 16,
        seats="1",
        previous="0" * 64,
        content=content,
        start_s=start_s,
        step_s=900.0,
        iteration=iteration,
        closes_s=start_s,
    )


def house(plan: Made | None = None) -> PlannedHousehold:
    household = PlannedHousehold(intervals=STEPS, value_max=43_690, now_s=clock_s, monotonic_s=lambda: 0.0, size_w=14e3)
    if plan is not None:
        household.planned(plan)
    return household


def test_without_a_plan_a_household_sits_a_round_out() -> None:
    assert house().values(call(RoundContent.PLAN)) is None


def test_a_plan_that_begins_with_the_round_is_reported_as_it_is() -> None:
    plan = made(inputs())
    values = house(plan).values(call(RoundContent.PLAN))
    assert values == [round(value) for value in plan.solved.schedule.net_import_w.tolist()]


def test_energy_is_kept_where_plan_and_round_begin_at_different_times() -> None:
    """Means over shifted intervals: the integral over what both cover is the plan's own."""
    of = inputs(start_s=START_S + 300.0)
    series_w = np.random.default_rng(1).uniform(-5000.0, 5000.0, STEPS)
    means_w = sampled(of, series_w, call(RoundContent.PLAN), STEPS)
    assert means_w[0] == pytest.approx(series_w[0])
    assert means_w[5] == pytest.approx((series_w[4] * 300.0 + series_w[5] * 600.0) / 900.0)
    assert sum(means_w) * 900.0 == pytest.approx(series_w[0] * 300.0 + series_w[:-1].sum() * 900.0 + series_w[-1] * 600.0)


def test_flexibility_is_what_the_schedule_declares_and_reach_covers_plan_and_margin() -> None:
    plan = made(inputs())
    values = house(plan).values(call(RoundContent.FLEXIBILITY))
    assert values is not None and len(values) == STEPS
    rows = flexibility_rows(values)
    for step in range(24):
        declared = flexibility(plan.household, plan.inputs, plan.solved.schedule, step)
        net_w = float(plan.solved.schedule.net_import_w[step])
        assert rows.increase_w[step] == round(declared.increase_w)
        assert rows.decrease_w[step] == round(declared.decrease_w)
        assert rows.import_reach_w[step] >= round(net_w + declared.increase_w) - 1
        assert rows.export_reach_w[step] >= round(declared.decrease_w - net_w) - 1


def test_values_beyond_what_a_slot_holds_are_cut_to_it() -> None:
    of = inputs(load_w=9900.0, sun_w=0.0)
    household = PlannedHousehold(intervals=STEPS, value_max=1000, now_s=clock_s, monotonic_s=lambda: 0.0, size_w=14e3)
    household.planned(made(of))
    values = household.values(call(RoundContent.PLAN))
    assert values is not None and max(values) == 1000


def signal(state: State, terms: Terms, number: int = 1) -> CommunitySignal:
    return CommunitySignal(
        sender="coordinator",
        time_s=START_S,
        sequence=1,
        negotiation=number,
        term=1,
        iteration=state.iteration,
        final=state.final,
        start_s=START_S,
        step_s=900.0,
        rho_per_kwh_w=terms.rho_per_kwh_w,
        price_per_kwh=tuple(state.price_per_kwh.tolist()),
        excess_w=tuple(state.excess_w.tolist()),
    )


def test_households_agree_on_a_price_between_feed_in_and_retail_by_their_own_schedules() -> None:
    """Shipped schedules as the members of a negotiation; the sums are all that it sees (Li et al. 2026, equation (4))."""
    homes = [house(made(inputs(load_w=300.0 + 500.0 * index, sun_w=6000.0 - 1900.0 * index))) for index in range(4)]
    terms = Terms(
        retail_per_kwh=np.full(STEPS, 0.3),
        feed_in_per_kwh=np.full(STEPS, 0.05),
        import_limit_w=np.full(STEPS, 1e9),
        export_limit_w=np.full(STEPS, 1e9),
        rho_per_kwh_w=5e-5,
        tolerance_w=60.0,
        iterations_max=80,
    )
    state = negotiation.told(negotiation.opening(terms))
    while not state.final:
        answers = []
        for home in homes:
            home.signal(signal(state, terms))
            answers.append(home.values(call(RoundContent.NEGOTIATION, iteration=state.iteration)))
        assert None not in answers
        state = negotiation.told(negotiation.advance(terms, state, np.sum(answers, axis=0), len(homes)))
    exchange, surcharge = negotiation.community_price(terms, state)
    assert state.gap_w <= 60.0, f"not agreed after {state.iteration} iterations"
    assert np.all((exchange >= 0.05) & (exchange <= 0.3)) and np.abs(surcharge).max() < 0.01


def test_an_answer_is_to_the_newest_signal_only_and_the_same_when_asked_again() -> None:
    terms = Terms(
        retail_per_kwh=np.full(STEPS, 0.3),
        feed_in_per_kwh=np.full(STEPS, 0.05),
        import_limit_w=np.full(STEPS, 1e9),
        export_limit_w=np.full(STEPS, 1e9),
        rho_per_kwh_w=5e-5,
    )
    plan = made(inputs())
    negotiator = Negotiator(1, plan, lambda: 0.0, 1.0)
    state = negotiation.opening(terms)
    negotiator.take(signal(state, terms))
    first = negotiator.answer(0)
    assert first is not None and negotiator.answer(0) is first and negotiator.answer(1) is None
    assert negotiated(plan.inputs, signal(state, terms), first).negotiation is not None
