"""Whatever the meters, forecasts and operators say: a legal plan or a named refusal, and in time.

The states are drawn by hypothesis from a random house and day that is then corrupted: states of charge out of range, limits that
contradict the load or each other, numbers that are not numbers, horizons of no length, arrays of the wrong length, prices from
another world, deadlines in the past, solvers that fail.
"""

import math
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_worlds import START_S, random_household, random_inputs

from edge.schedule.check import check_schedule
from edge.schedule.model import Departure, ScheduleInputs
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Refusal, RefusalReason, Sanitised, sanitise
from edge.schedule.solve import PiqpBackend, Solution, SolveStatus

DEADLINE_S = 1.0
ARRAYS = ("p1_load_w", "p2_load_w", "pv_w", "import_limit_w", "export_limit_w", "buy_price_per_kwh", "sell_price_per_kwh")
ODD = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-300, 1e9, -1e9, 1e308, -1e308]),
    st.floats(-2e4, 2e4),
)
FRACTION = st.one_of(st.floats(-1.0, 2.0), ODD)


@st.composite
def corruptions(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Up to four things that are wrong at once; an empty list leaves the day as it was."""
    kinds = st.one_of(
        st.tuples(st.just("spot"), st.tuples(st.sampled_from(ARRAYS), st.integers(0, 95), ODD)),
        st.tuples(st.just("whole"), st.tuples(st.sampled_from(ARRAYS), ODD)),
        st.tuples(st.just("scale"), st.tuples(st.sampled_from(ARRAYS), st.floats(-2.0, 50.0))),
        st.tuples(st.just("soc"), FRACTION),
        st.tuples(st.just("end_soc"), FRACTION),
        st.tuples(st.just("car_soc"), FRACTION),
        st.tuples(st.just("trip"), st.tuples(FRACTION, ODD, st.floats(-2e5, 2e5), st.floats(-2e5, 2e5))),
        st.tuples(st.just("tank"), ODD),
        st.tuples(st.just("appliance"), st.tuples(ODD, st.floats(-2e5, 2e5), st.floats(-2e5, 2e5))),
        st.tuples(st.just("rho"), ODD),
        st.tuples(st.just("length"), st.integers(0, 3)),
        st.tuples(st.just("ragged"), st.sampled_from(ARRAYS)),
        st.tuples(st.just("shut"), st.sampled_from(["import", "export", "both"])),
        st.tuples(st.just("time"), st.tuples(ODD, ODD)),
        st.tuples(st.just("forget_states"), st.none()),
    )
    return draw(st.lists(kinds, max_size=4))


def corrupted(inputs: ScheduleInputs, wrong: list[tuple[str, Any]]) -> ScheduleInputs:
    for kind, what in wrong:
        inputs = msgspec.structs.replace(inputs, **changes_for(inputs, kind, what))
    return inputs


def changes_for(inputs: ScheduleInputs, kind: str, what: Any) -> dict[str, Any]:
    """The fields that one corruption replaces."""
    steps, replace = inputs.steps, msgspec.structs.replace
    if kind == "spot" and steps > 0:
        values = getattr(inputs, what[0]).copy()
        values[what[1] % max(len(values), 1) :][:1] = what[2]
        return {what[0]: values}
    if kind == "whole":
        return {what[0]: np.full(steps, what[1])}
    if kind == "scale":
        with np.errstate(over="ignore", invalid="ignore"):
            return {what[0]: getattr(inputs, what[0]) * what[1]}
    if kind in ("soc", "end_soc"):
        field = {"soc": "soc_frac", "end_soc": "end_min_soc_frac"}[kind]
        return {"batteries": tuple(replace(state, **{field: what}) for state in inputs.batteries)}
    if kind == "car_soc":
        return {"vehicles": tuple(replace(state, soc_frac=what) for state in inputs.vehicles)}
    if kind == "trip":
        trip = Departure(depart_s=START_S + what[2], return_s=START_S + what[3], needed_soc_frac=what[0], trip_wh=what[1])
        return {"vehicles": tuple(replace(state, departures=(*state.departures, trip)) for state in inputs.vehicles)}
    if kind == "tank":
        return {"tanks": tuple(replace(state, energy_wh=what) for state in inputs.tanks)}
    if kind == "appliance":
        fields = {"remaining_wh": what[0], "earliest_s": START_S + what[1], "deadline_s": START_S + what[2]}
        return {"appliances": tuple(replace(state, **fields) for state in inputs.appliances)}
    if kind == "rho" and inputs.negotiation is not None:
        return {"negotiation": replace(inputs.negotiation, rho_per_kwh_w=what)}
    if kind == "length":
        short = {name: getattr(inputs, name)[:what] for name in ARRAYS}
        return short | {"tanks": tuple(replace(s, draw_w=s.draw_w[:what]) for s in inputs.tanks), "negotiation": None}
    if kind == "ragged":
        return {what: getattr(inputs, what)[:-1]}
    if kind == "shut":
        shut = {"import": ["import_limit_w"], "export": ["export_limit_w"], "both": ["import_limit_w", "export_limit_w"]}[what]
        return {name: np.zeros(steps) for name in shut}
    if kind == "time":
        return {"start_s": what[0], "step_s": what[1]}
    if kind == "forget_states":
        return {"batteries": (), "vehicles": ()}
    return {}


class Failing:
    """A backend that fails in a chosen way, on the arrays of the real one."""

    def __init__(self, how: str, inner: PiqpBackend) -> None:
        self.how, self.inner, self.vectors = how, inner, inner.vectors

    def solve(self, deadline_s: float) -> Solution:
        if self.how == "garbage":
            return Solution(status=SolveStatus.SOLVED, x=np.full(len(self.vectors.q), 3.0), iterations=1)
        if self.how == "nan":
            return Solution(status=SolveStatus.SOLVED, x=np.full(len(self.vectors.q), np.nan), iterations=1)
        if self.how == "stalls":
            return Solution(status=SolveStatus.NOT_CONVERGED, x=self.vectors.q, iterations=100)
        return self.inner.solve(deadline_s)


def assert_never_absent(seed: int, wrong: list[tuple[str, Any]], how: str) -> None:
    rng = np.random.default_rng(seed)
    household = random_household(rng)
    day = random_inputs(rng, household, steps=int(rng.choice([4, 24, 96])))
    mode = {"how": "works"}

    def backend(structure: Any, monotonic_s: Any) -> Failing:
        failing = Failing(mode["how"], PiqpBackend(structure, monotonic_s))
        failing.how = mode["how"]
        return failing

    planner = Planner(household, monotonic_s=time.monotonic, deadline_s=DEADLINE_S, backend=backend)
    first = planner.plan(day, START_S)
    assert isinstance(first, Plan), first
    assert first.elapsed_s <= DEADLINE_S
    mode["how"] = how
    if planner._backend is not None:
        planner._backend.how = how
    inputs = corrupted(day, wrong)
    started_s = time.monotonic()
    answer = planner.plan(inputs, START_S + float(rng.choice([0.0, 900.0, 1e6])))
    assert time.monotonic() - started_s <= DEADLINE_S
    if isinstance(answer, Refusal):
        assert answer.reason in RefusalReason
        assert answer.reason is not RefusalReason.NO_LEGAL_PLAN, answer
        assert answer.detail
        return
    clean = sanitise(household, inputs)
    assert isinstance(clean, Sanitised)
    assert check_schedule(household, clean.inputs, answer.schedule) == []
    if how in ("nan", "stalls"):
        assert answer.made_by in ("shifted", "rule")


HOWS = st.sampled_from(["works", "works", "works", "garbage", "nan", "stalls"])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), wrong=corruptions(), how=HOWS)
def test_a_drawn_state_gets_a_legal_plan_or_a_named_refusal_in_time(seed: int, wrong: list[tuple[str, Any]], how: str) -> None:
    assert_never_absent(seed, wrong, how)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), wrong=corruptions(), how=HOWS)
def test_ten_thousand_drawn_states_get_legal_plans_or_named_refusals_in_time(seed: int, wrong: list[tuple[str, Any]], how: str) -> None:
    assert_never_absent(seed, wrong, how)
