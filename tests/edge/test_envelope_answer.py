# mypy: disable-error-code="attr-defined, no-untyped-call"
"""A household that is asked about its envelope answers with the best plan and limits together, whatever solver looks for them."""

from __future__ import annotations

import time
from typing import Any

import cvxpy as cp
import msgspec
import numpy as np
import pytest

from edge.envelope_answer import WIDTH_PER_KWH, Spread
from edge.market import Respondent
from edge.schedule.ladder import PriorityLadder
from edge.schedule.model import Battery, BatteryState, Household, ScheduleInputs
from edge.schedule.specification import KILO, Specification
from protocols.messages import LimitTerms, MarketAnswer, MarketAsk

STEPS = 24
WEIGHT = 4e-5
HOUSE = Household(
    pv_rated_w=6000.0, batteries=(Battery(name="b", capacity_wh=9000.0, max_charge_w=4000.0, max_discharge_w=4000.0, wear_per_kwh=0.02),)
)


def inputs() -> ScheduleInputs:
    hours = np.arange(STEPS) + 0.5
    return ScheduleInputs(
        start_s=0.0,
        step_s=3600.0,
        p1_load_w=400.0 + 900.0 * np.exp(-((hours - 19.0) ** 2) / 6.0),
        p2_load_w=np.zeros(STEPS),
        pv_w=-5500.0 * np.clip(np.sin((hours - 6.0) / 12.0 * np.pi), 0.0, None),
        import_limit_w=np.full(STEPS, 4000.0),
        export_limit_w=np.full(STEPS, 1500.0),
        buy_price_per_kwh=np.full(STEPS, 0.3),
        sell_price_per_kwh=np.full(STEPS, 0.05),
        batteries=(BatteryState(soc_frac=0.5, end_value_per_kwh=0.1),),
    )


def terms(seed: int, least_w: float, most_w: float) -> LimitTerms:
    rng = np.random.default_rng(seed)
    return LimitTerms(
        least_w=least_w,
        most_w=most_w,
        deviations=1.3,
        price_per_kwh=tuple(rng.uniform(0.0, 0.1, STEPS).tolist()),
        target_w=tuple(rng.uniform(0.0, 4000.0, STEPS).tolist()),
        weight_per_kwh_w=tuple(rng.choice([2e-6, WEIGHT], STEPS).tolist()),
    )


def ask(seed: int, least_w: float, most_w: float) -> MarketAsk:
    rng = np.random.default_rng(1000 + seed)
    return MarketAsk(
        sender="coordinator", time_s=0.0, sequence=1, node="a", mechanism="dfe", negotiation=1, round=0, start_s=0.0, step_s=3600.0,
        weight_per_kwh_w=WEIGHT, price_per_kwh=tuple(rng.uniform(0.02, 0.3, STEPS).tolist()),
        target_w=tuple(rng.uniform(-4000.0, 3000.0, STEPS).tolist()),
        import_limit=terms(seed, least_w, most_w), export_limit=terms(seed + 50, least_w, most_w),
    )  # fmt: skip


SPREAD = Spread(shift_w=np.full(STEPS, 20.0), above_w=np.full(STEPS, 300.0))


def answered(question: MarketAsk, spread: Spread | None = SPREAD) -> MarketAnswer:
    found = Respondent(HOUSE, inputs(), time.monotonic, 60.0, spread).reply(question, "a", 0.0, 1)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least_w", [0.0, 1500.0])
def test_plan_and_limits_are_what_clarabel_finds_for_both_together(seed: int, least_w: float) -> None:
    """The reference has the limits as variables of its own; the controller has only what they cost a plan."""
    question = ask(seed, least_w, 9000.0)
    wide = msgspec.structs.replace(
        inputs(), import_limit_w=np.full(STEPS, 9000.0), export_limit_w=np.full(STEPS, 9000.0), buy_price_per_kwh=np.zeros(STEPS),
        sell_price_per_kwh=np.zeros(STEPS),
    )  # fmt: skip
    reference: Any = Specification(HOUSE, wide, PriorityLadder())
    net = reference.variables["net_import"]
    cost = [
        np.array(question.price_per_kwh) @ net,
        WEIGHT / KILO / 2 * cp.sum_squares(net - KILO * np.array(question.target_w)),
    ]
    rules, limits = list(reference.rules), []
    margin_kw = KILO * SPREAD.margin_w(1.3)
    for wanted, towards, margin in ((question.import_limit, net, margin_kw), (question.export_limit, -net, 0.0)):
        assert wanted is not None
        limit = cp.Variable(STEPS)
        weight = np.array(wanted.weight_per_kwh_w) / KILO
        cost += [(np.array(wanted.price_per_kwh) + WIDTH_PER_KWH) @ limit]
        cost += [weight / 2 @ cp.square(limit - KILO * np.array(wanted.target_w))]
        rules += [limit >= towards + margin, limit >= KILO * least_w, limit <= 9.0]
        limits.append(limit)
    cp.Problem(cp.Minimize(sum(reference.cost) + sum(cost)), rules).solve(solver=cp.CLARABEL, tol_gap_rel=1e-11, tol_gap_abs=1e-11)
    got = answered(question)
    for ours, theirs in zip((got.net_import_w, got.import_limit_w, got.export_limit_w), (net, *limits), strict=True):
        assert theirs.value is not None
        assert ours == pytest.approx(1000.0 * theirs.value, abs=5.0)


def test_an_envelope_contains_its_plan_and_the_margin_of_the_forecast() -> None:
    got = answered(ask(1, 0.0, 20e3))
    assert got.import_limit_w is not None and got.export_limit_w is not None
    net_w = np.array(got.net_import_w)
    assert np.all(np.array(got.import_limit_w) >= net_w + SPREAD.margin_w(1.3) - 1e-6)
    assert np.all(np.array(got.export_limit_w) >= -net_w - 1e-6)


def test_a_connection_that_carries_less_ends_the_envelope_and_still_contains_the_plan() -> None:
    got = answered(ask(2, 500.0, 1200.0))
    assert got.import_limit_w is not None and got.export_limit_w is not None
    assert np.all(np.array(got.import_limit_w) >= np.array(got.net_import_w) - 1e-6)
    assert max(got.export_limit_w) <= 1200.0 + 1e-6


def test_a_dearer_limit_is_narrower() -> None:
    cheap = ask(3, 0.0, 9000.0)
    assert cheap.export_limit is not None
    dear = msgspec.structs.replace(cheap, export_limit=msgspec.structs.replace(cheap.export_limit, price_per_kwh=(0.5,) * STEPS))
    wide, narrow = answered(cheap).export_limit_w, answered(dear).export_limit_w
    assert wide is not None and narrow is not None
    assert np.sum(narrow) < 0.8 * np.sum(wide)


def test_without_terms_of_limits_there_are_no_limits_in_the_answer() -> None:
    got = answered(msgspec.structs.replace(ask(4, 0.0, 9000.0), import_limit=None, export_limit=None))
    assert got.import_limit_w is None and got.export_limit_w is None
