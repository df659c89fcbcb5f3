"""The negotiation over rounds: members are told a price, answer in secret with their own schedules, and plan by what was agreed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.aggregation.bargain import replayed
from coordinator.aggregation.settings import AggregationSection as DeskSection
from coordinator.aggregation.settings import NegotiationSection
from edge.agreement import Agreement
from edge.leadership.household import PlannedHousehold
from edge.leadership.negotiator import resampled
from edge.schedule.agreed import under_agreement
from edge.schedule.planner import Plan, Planner
from hil.simulation.street import START_S, Street
from protocols import negotiation
from protocols.tariff import PriceWindow
from tests.edge.leadership.test_household import inputs, made

ITERATIONS = 4
STEPS = 96
STARTS_S = START_S // 900.0 * 900.0
NIGHT = (PriceWindow(from_h=0.0, price_per_kwh=0.30), PriceWindow(from_h=22.25, price_per_kwh=0.08))
"""UTC; the street's clock shows 22:15: batteries are filled until midnight, by everybody at once."""


def bargain(iterations: int, **more: float) -> DeskSection:
    section = NegotiationSection(iterations_max=iterations, buy=NIGHT, **more)  # type: ignore[arg-type]
    return DeskSection(enabled=True, members_min=3, negotiation=section)


async def bargaining(folder: Path) -> Street:
    street = Street(folder, 8, desk=bargain(ITERATIONS))
    await street.start()
    street.run(30.0)
    return street


class Planned:
    """A house of the street with a schedule of its own instead of numbers that are drawn; what it says is remembered."""

    def __init__(self, street: Street, name: str, load_w: float, sun_w: float) -> None:
        tariff = np.where(np.arange(STEPS) < 7, 0.08, 0.30)
        self.inputs = inputs(load_w=load_w, sun_w=sun_w, start_s=STARTS_S + 300.0)
        self.inputs.buy_price_per_kwh[:] = tariff
        self.made = made(self.inputs)
        self.house = PlannedHousehold(
            intervals=STEPS, value_max=43_690, now_s=street.clock.now_s, monotonic_s=street.clock.monotonic_s, deadline_s=10.0, size_w=14e3
        )
        self.house.planned(self.made)
        member = street.members[name]
        member._household = self.house
        member.member._values = self.house.values

    def plan_again(self) -> Plan:
        """The plan that the controller makes next, from the same forecasts."""
        agreement = self.house.agreement
        given = self.inputs if agreement is None else under_agreement(self.inputs, agreement)
        solved = Planner(self.made.household, monotonic_s=lambda: 0.0).plan(given, given.start_s)
        assert isinstance(solved, Plan)
        return solved


def total_w(plans: list[Plan]) -> np.ndarray:
    """What all houses plan together, on the intervals of the community."""
    return np.sum(
        [resampled(plan.schedule.net_import_w, plan.schedule.start_s, 900.0, STARTS_S, 900.0, STEPS) for plan in plans], axis=0
    )


async def agreed_street(folder: Path, section: DeskSection) -> tuple[Street, list[Planned]]:
    street = Street(folder, 8, desk=section)
    await street.start()
    planned = [Planned(street, name, 300.0 + 250.0 * index, 6000.0 - 700.0 * index) for index, name in enumerate(street.names)]
    while street.desk.bargain.state is None or not street.desk.bargain.state.final:
        street.step()
        assert street.clock.now_s() < START_S + 600.0
    street.run(2.0)
    return street, planned


async def test_every_member_hears_every_signal_and_the_coordinator_replays_the_negotiation(tmp_path: Path) -> None:
    street = await bargaining(tmp_path)
    for house in street.houses.values():
        assert [signal.iteration for signal in house.signals] == list(range(ITERATIONS + 1))
        assert [signal.final for signal in house.signals] == [False] * ITERATIONS + [True]
    record = street.desk.bargain.record()
    assert record is not None
    said = street.houses["h000"].signals
    for state, signal in zip(replayed(record), said, strict=True):
        assert np.array_equal(state.price_per_kwh, np.asarray(signal.price_per_kwh))
        assert np.array_equal(state.excess_w, np.asarray(signal.excess_w))
        assert (state.final, state.agreed) == (signal.final, signal.agreed)


async def test_the_answers_are_exact_sums_of_what_the_members_said(tmp_path: Path) -> None:
    street = await bargaining(tmp_path)
    transcript = street.desk.bargain.transcript
    assert transcript is not None
    rounds = [name for name in street.houses["h000"].said if name not in ("1:1", "1:2")]
    expected = [tuple(street.expected(name, street.names)) for name in rounds]
    assert all(values in expected for values, _ in transcript.answers)


async def test_a_new_leader_goes_on_where_the_negotiation_stood(tmp_path: Path) -> None:
    street = Street(tmp_path, 9, desk=bargain(60))
    await street.start()
    while street.desk.bargain.state is None or street.desk.bargain.state.iteration < 3:
        street.step()
    reached, begun = street.desk.bargain.state.iteration, street.desk.bargain.transcript
    street.kill(street.leader())
    street.run(25.0)
    transcript, state = street.desk.bargain.transcript, street.desk.bargain.state
    assert transcript is begun and state is not None
    assert state.iteration > reached


async def test_what_is_agreed_moves_every_plan_and_keeps_the_limit_of_the_feeder(tmp_path: Path) -> None:
    """Alone, every battery is filled in the same cheap hours; under the agreement the sum of all plans fits through the transformer."""
    limit_w = 15_000.0
    street, planned = await agreed_street(tmp_path, bargain(120, import_limit_w=limit_w, export_limit_w=60_000.0))
    state, transcript = street.desk.bargain.state, street.desk.bargain.transcript
    assert state is not None and state.agreed and transcript is not None
    alone = [house.made.solved for house in planned]
    together = [house.plan_again() for house in planned]
    assert total_w(alone).max() > 1.5 * limit_w
    assert max(transcript.answers[-1][0]) <= limit_w
    parts_w = np.sum([house.house.agreement.net_import_w for house in planned if house.house.agreement is not None], axis=0)
    assert parts_w.max() <= limit_w
    assert total_w(together).max() <= limit_w + len(planned) * transcript.tolerance_w
    for before, after in zip(alone, together, strict=True):
        assert np.abs(before.schedule.net_import_w - after.schedule.net_import_w).max() > 500.0


async def test_the_prices_that_are_negotiated_about_are_those_of_the_tariff(tmp_path: Path) -> None:
    street, _ = await agreed_street(tmp_path, bargain(120))
    transcript, state = street.desk.bargain.transcript, street.desk.bargain.state
    assert transcript is not None and state is not None
    assert transcript.retail_per_kwh[0] == 0.08 and transcript.retail_per_kwh[7] == 0.30 and transcript.retail_per_kwh[95] == 0.30
    exchange, surcharge = negotiation.community_price(transcript.terms, state)
    assert np.all(exchange >= transcript.terms.feed_in_per_kwh) and np.all(exchange <= transcript.terms.retail_per_kwh)
    assert np.abs(surcharge).max() < 0.01, "no limit binds"


async def test_a_negotiation_that_did_not_agree_moves_no_plan(tmp_path: Path) -> None:
    street, planned = await agreed_street(tmp_path, bargain(2))
    assert street.desk.bargain.state is not None and not street.desk.bargain.state.agreed
    assert all(house.house.agreement is None for house in planned)


async def test_an_agreement_ends_with_the_intervals_it_covers(tmp_path: Path) -> None:
    street, planned = await agreed_street(tmp_path, bargain(120))
    agreed = planned[0].house.agreement
    assert agreed is not None
    started_again = PlannedHousehold(
        intervals=STEPS, value_max=43_690, now_s=street.clock.now_s, monotonic_s=street.clock.monotonic_s, size_w=14e3
    )
    started_again.resume(agreed)
    assert started_again.agreement == agreed
    street.clock.advance(86400.0)
    assert planned[0].house.agreement is None and started_again.agreement is None


def test_a_plan_under_an_agreement_goes_by_its_price_at_the_same_time_of_day() -> None:
    given = inputs(start_s=STARTS_S + 450.0)
    price = tuple(0.01 * index for index in range(STEPS))
    agreement = Agreement(
        number=1, start_s=STARTS_S, step_s=900.0, price_per_kwh=price, net_import_w=(500.0,) * STEPS, rho_per_kwh_w=1e-4
    )
    terms = under_agreement(given, agreement).negotiation
    assert terms is not None
    assert terms.extra_price_per_kwh[0] == pytest.approx(0.005)
    assert terms.extra_price_per_kwh[94] == pytest.approx(0.945)
    assert terms.extra_price_per_kwh[95] == pytest.approx(0.5 * (0.95 + 0.0)), "beyond its end the day repeats"
    assert terms.target_w == pytest.approx(np.full(STEPS, 500.0))
