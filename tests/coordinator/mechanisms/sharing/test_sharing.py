"""Many households share one market within the limits of their feeder: the optimum, from sums, in few rounds.

Answers: the whole market by cvxpy 1.9 (written again from the docstrings of `coordinator.mechanisms.sharing`); a dense inverse for the
ladder; exact power flow for voltages; and properties.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from coordinator.envelopes.values import Limits
from coordinator.mechanisms.conversation import ConversationError, converse
from coordinator.mechanisms.dfe.feeder import OperatedFeeder, with_communities
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.sharing.central import CentralMarket
from coordinator.mechanisms.sharing.households import FloatArray, Households
from coordinator.mechanisms.sharing.ladder import Ladder
from coordinator.mechanisms.sharing.market import SharingMarket
from coordinator.mechanisms.sharing.messages import GroupSums, PriceSignal
from coordinator.mechanisms.sharing.proximal import AnsweringGroup
from coordinator.mechanisms.sharing.responder import RespondingHouseholds
from coordinator.mechanisms.sharing.settlement import settle
from coordinator.mechanisms.signals import NetSignal
from coordinator.network.cases import load_case

PERIODS = 8
HOUR_S = 3600.0
BUSES = ("6", "12", "18", "22", "25", "33")
OPERATOR_KNOWS = {"vmin_pu": 0.95, "vmax_pu": 1.05}


def households(count: int, seed: int = 1, *, load_times: float = 1.0) -> Households:
    rng = np.random.default_rng(seed)
    sun = np.maximum(np.sin(np.linspace(-0.4, np.pi + 0.4, PERIODS)), 0.0)
    has = rng.random((3, count)) < np.array([[0.7], [0.6], [0.7]])
    flexible_w = np.where(has[2], rng.uniform(2e4, 5e4, count), 0.0) * (rng.random((PERIODS, count)) < 0.8)
    return Households(
        step_s=HOUR_S, buses=len(BUSES), bus=rng.integers(0, len(BUSES), count), flexible_w=flexible_w,
        load_w=load_times * rng.uniform(1e4, 4e4, (PERIODS, count)),
        sun_w=np.outer(sun, np.where(has[0], rng.uniform(5e4, 2e5, count), 0.0)),
        battery_wh=np.where(has[1], rng.uniform(5e4, 2e5, count), 0.0), battery_w=rng.uniform(2e4, 5e4, count),
        initial_frac=rng.uniform(0.0, 1.0, count), flexible_wh=0.4 * flexible_w.sum(axis=0), efficiency_frac=0.95, wear_per_kwh=0.02,
        smooth_per_kwh_kw=1e-3, lost_load_per_kwh=5.0,
    )  # fmt: skip


def feeder(**limits: float) -> OperatedFeeder:
    plain = load_case("ieee33")
    network = with_communities(plain, [f"bus {bus}" for bus in BUSES], BUSES)
    load = (plain.base_power_w() + 1j * plain.base_reactive_var())[:, None] * np.full(PERIODS, 0.3)
    return OperatedFeeder(network=network, load_va=load, limits=Limits(**(OPERATOR_KNOWS | limits)))


def tariff() -> Tariff:
    return Tariff(retail_per_kwh=np.linspace(0.25, 0.4, PERIODS), feed_in_per_kwh=np.full(PERIODS, 0.06))


def groups(homes: Households, count: int = 2) -> dict[str, RespondingHouseholds]:
    return {f"group {place}": RespondingHouseholds(homes.part(np.arange(place, homes.count, count))) for place in range(count)}


def market(answering: dict[str, RespondingHouseholds], operated: OperatedFeeder) -> SharingMarket:
    return SharingMarket(
        feeder=operated, tariff=tariff(), step_s=HOUR_S, forecast_w={name: item.fixed_w for name, item in answering.items()},
        others_w=np.zeros((len(BUSES), PERIODS)),
    )  # fmt: skip


def modelled(homes: Households) -> tuple[cp.Expression, list[cp.Expression], list[cp.Constraint]]:
    """Own cost, net import at every bus in kilowatts, and constraints, household by household; nothing is unserved yet."""
    cost, total = 0.0, [np.zeros(PERIODS) for _ in BUSES]
    limits: list[cp.Constraint] = []
    for who in range(homes.count):
        c, d, f, w = (cp.Variable(PERIODS, nonneg=True) for _ in range(4))
        m = cp.Variable(nonneg=True)
        kwh, first = homes.battery_wh[who] / 1e3, homes.initial_frac[who] * homes.battery_wh[who] / 1e3
        power = homes.battery_w[who] / 1e3 if kwh > 0.0 else 0.0
        stored = first + cp.cumsum(0.95 * c - d / 0.95)
        limits += [
            c <= power, d <= power, f <= homes.flexible_w[:, who] / 1e3, w <= homes.sun_w[:, who] / 1e3, stored >= 0, stored <= kwh,
            stored[-1] >= min(first, 0.98 * kwh), cp.sum(f) + m == homes.flexible_wh[who] / 1e3,
        ]  # fmt: skip
        cost += 0.02 * cp.sum(c + d) + 5e-4 * sum(cp.sum_squares(part) for part in (c, d, f, w)) + 5.0 * m
        total[homes.bus[who]] = total[homes.bus[who]] + homes.fixed_w[:, who] / 1e3 + c - d + f + w
    return cost, total, limits


def specification(homes: Households, mechanism: SharingMarket, net_at_w: FloatArray) -> float:
    """The least cost of everybody together."""
    cost, total, limits = modelled(homes)
    load_kw = homes.at_buses(homes.load_w) / 1e3
    unserved = [cp.Variable(PERIODS, nonneg=True) for _ in BUSES]
    nets = cp.vstack([part - lost for part, lost in zip(total, unserved, strict=True)])
    limits += [lost <= most for lost, most in zip(unserved, load_kw, strict=True)]
    down, up = mechanism.rooms(net_at_w)
    fallen = mechanism.feeder.fall[1:] * 1e3 @ nets
    limits += [fallen <= down[1:], -fallen <= up[1:]]
    bought, sold = cp.Variable(PERIODS, nonneg=True), cp.Variable(PERIODS, nonneg=True)
    limits += [cp.sum(nets, axis=0) == bought - sold]
    money = tariff().retail_per_kwh @ bought - tariff().feed_in_per_kwh @ sold
    problem = cp.Problem(cp.Minimize(cost + money + 5.0 * sum(cp.sum(lost) for lost in unserved)), limits)
    return float(problem.solve(solver=cp.CLARABEL))


@pytest.mark.parametrize(("seed", "limits"), [(1, {}), (2, {"vmin_pu": 0.97}), (3, {"vmin_pu": 0.97, "vmax_pu": 1.002})])
def test_the_market_settles_on_the_optimum_of_everybody_together(seed: int, limits: dict[str, float]) -> None:
    homes = households(18, seed)
    answering = groups(homes)
    mechanism = market(answering, feeder(**limits))
    talk = converse(mechanism, answering, max_rounds=40)
    assert talk.outcome is not None
    best = specification(homes, mechanism, talk.outcome.net_w)
    assert talk.outcome.cost == pytest.approx(best, rel=5e-4)
    assert talk.outcome.cost - talk.outcome.gap <= best * (1.0 + 1e-6)
    assert bool(talk.outcome.bound.any()) is bool(limits)


def test_clarabel_at_once_agrees_with_the_specification() -> None:
    homes = households(12, 4)
    answering = groups(homes)
    mechanism = market(answering, feeder(vmin_pu=0.97, vmax_pu=1.01))
    net_w = homes.at_buses(homes.fixed_w)
    central = CentralMarket(households=homes, market=mechanism, rooms=mechanism.rooms(net_w))
    assert central.cost(central.program.solve("test")) == pytest.approx(specification(homes, mechanism, net_w), rel=1e-6)


def test_schedules_keep_every_limit_of_every_household_and_of_the_feeder() -> None:
    homes = households(40, 5)
    answering = groups(homes, 3)
    operated = feeder(vmin_pu=0.97, vmax_pu=1.01)
    talk = converse(market(answering, operated), answering, max_rounds=40)
    assert talk.outcome is not None
    total = np.zeros((len(BUSES), PERIODS))
    for item in answering.values():
        part, plan = item.households, item.schedules()
        stored = part.initial_frac * part.battery_wh + np.cumsum(0.95 * plan.charge_w - plan.discharge_w / 0.95, axis=0)
        assert np.all(stored >= -1e-3) and np.all(stored <= part.battery_wh + 1e-3)
        assert np.all(stored[-1] >= np.minimum(part.initial_frac, 0.98) * part.battery_wh - 1e-3)
        assert np.all((plan.charge_w >= 0.0) & (plan.charge_w <= part.battery_w))
        assert np.all((plan.discharge_w >= 0.0) & (plan.discharge_w <= part.battery_w))
        assert np.all((plan.flexible_w >= 0.0) & (plan.flexible_w <= part.flexible_w))
        assert np.all((plan.spilt_w >= 0.0) & (plan.spilt_w <= part.sun_w))
        np.testing.assert_allclose(plan.flexible_w.sum(axis=0) + plan.unmet_wh, part.flexible_wh, atol=1e-3)
        total += part.at_buses(plan.net_w(part))
    np.testing.assert_allclose(total, talk.outcome.net_w, atol=1e-2)
    voltage = np.sqrt(operated.square_pu(operated.flow(total)))
    assert voltage.min() >= 0.97 and voltage.max() <= 1.01


def test_rounds_do_not_depend_on_how_many_households_there_are() -> None:
    rounds = []
    for count in (30, 300):
        homes = replace(households(count, 6), bus=np.arange(count) % len(BUSES))
        answering = groups(homes)
        talk = converse(market(answering, feeder(vmin_pu=0.5, vmax_pu=1.5)), answering, max_rounds=40)
        assert talk.outcome is not None
        rounds.append(talk.rounds)
    assert abs(rounds[1] - rounds[0]) <= 3 and max(rounds) <= 20


def test_the_price_lies_between_feed_in_and_retail_and_trade_pays_everybody() -> None:
    homes = households(30, 7)
    answering = groups(homes, 1)
    talk = converse(market(answering, feeder(vmin_pu=0.5, vmax_pu=1.5)), answering, max_rounds=40)
    assert talk.outcome is not None
    price = talk.outcome.market_per_kwh
    assert np.all(price >= tariff().feed_in_per_kwh) and np.all(price <= tariff().retail_per_kwh)
    net_w = answering["group 0"].schedules().net_w(homes).T
    settlement = settle(net_w, homes.bus, talk.outcome, tariff(), HOUR_S)
    assert settlement.energy.sum() == pytest.approx(tariff().cost(net_w.sum(axis=0), HOUR_S), abs=1e-9)
    np.testing.assert_allclose(settlement.traded_w.sum(axis=0), 0.0, atol=1e-6)
    with_retailer_only = np.array([tariff().cost(row, HOUR_S) for row in net_w])
    assert np.all(settlement.energy <= with_retailer_only + 1e-9)
    assert settlement.rent == pytest.approx(0.0, abs=1e-9)


def test_what_the_network_cannot_serve_is_left_unserved_and_named() -> None:
    homes = households(18, 8, load_times=5.0)
    answering = groups(homes)
    operated = feeder()
    mechanism = market(answering, operated)
    hopeless = mechanism.hopeless(homes.least_w())
    assert hopeless
    talk = converse(mechanism, answering, max_rounds=60)
    assert talk.outcome is not None
    lost_w = talk.outcome.unserved_w.sum(axis=0)
    assert all(lost_w[interval] > 100.0 for interval in hopeless)
    assert talk.outcome.lowest_pu >= 0.95
    assert talk.outcome.cost == pytest.approx(specification(homes, mechanism, talk.outcome.net_w), rel=1e-3)


def test_no_hour_is_hopeless_on_a_strong_feeder() -> None:
    homes = households(18, 1)
    assert market(groups(homes), feeder(vmin_pu=0.8)).hopeless(homes.least_w()) == ()


def test_a_group_answers_price_target_and_weight_with_its_best_response() -> None:
    homes = households(8, 12)
    signal = NetSignal(price_per_kwh=np.linspace(0.1, 0.3, PERIODS), target_w=np.linspace(-2e5, 2e5, PERIODS), weight=1e-6)
    answer = AnsweringGroup(homes).respond(signal)
    cost, total, limits = modelled(homes)
    net = sum(total)
    pull = 0.5 * signal.weight * 1e3 * cp.sum_squares(net - signal.target_w / 1e3)
    best = cp.Problem(cp.Minimize(cost + signal.price_per_kwh @ net + pull), limits).solve(solver=cp.CLARABEL)
    pulled = signal.price_per_kwh @ answer.net_w + 0.5 * signal.weight * ((answer.net_w - signal.target_w) ** 2).sum()
    ours = answer.own_cost + pulled / 1e3
    assert ours == pytest.approx(best, rel=1e-4)
    np.testing.assert_allclose(answer.net_w / 1e3, net.value, atol=0.5)


class Silent:
    def respond(self, signal: PriceSignal, /) -> GroupSums | None:
        return None


class Nonsense:
    def __init__(self, group: RespondingHouseholds, **wrong: object) -> None:
        self.group, self.wrong = group, wrong

    def respond(self, signal: PriceSignal, /) -> GroupSums:
        return replace(self.group.respond(signal), **self.wrong)


def test_a_group_that_never_answers_is_left_out_and_keeps_its_place_in_the_network() -> None:
    homes = households(30, 2)
    answering = groups(homes)
    mechanism = market(answering, feeder())
    talk = converse(mechanism, {**answering, "group 1": Silent()}, max_rounds=60)
    assert talk.left_out == {"group 1": "did not answer"} and talk.outcome is not None
    alone = mechanism.without(frozenset({"group 1"}))
    np.testing.assert_array_equal(alone.others_w, mechanism.forecast_w["group 1"])
    served = answering["group 0"].households
    assert np.all(talk.outcome.unserved_w <= served.at_buses(served.load_w))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"net_w": np.full((len(BUSES), PERIODS), np.nan)}, "answered net_w"),
        ({"aim_w": np.zeros(3)}, "answered aim_w of shape"),
        ({"own_cost": float("inf")}, "not a finite number"),
        ({"slope_w": -np.ones((len(BUSES), PERIODS, PERIODS))}, "take more at a higher price"),
    ],
)
def test_a_group_that_answers_nonsense_is_left_out_by_name(wrong: dict[str, object], words: str) -> None:
    answering = groups(households(30, 2))
    talk = converse(market(answering, feeder()), {**answering, "group 0": Nonsense(answering["group 0"], **wrong)}, max_rounds=60)
    assert words in talk.left_out["group 0"] and talk.outcome is not None


def test_a_market_that_nobody_answers_is_refused() -> None:
    answering = groups(households(10))
    with pytest.raises(ConversationError, match="no group is left"):
        converse(market(answering, feeder()), dict.fromkeys(answering, Silent()), max_rounds=20)


def test_prices_out_of_order_are_refused() -> None:
    with pytest.raises(ConversationError, match="prices out of order in interval 0"):
        Tariff(retail_per_kwh=np.full(PERIODS, 0.05), feed_in_per_kwh=np.full(PERIODS, 0.06))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"load_w": np.full((PERIODS, 5), np.nan)}, "load_w of household 0 is nan"),
        ({"battery_wh": np.full(5, -1.0)}, "battery_wh of household 0 is -1.0"),
        ({"sun_w": np.zeros((PERIODS, 4))}, "sun_w has shape"),
        ({"flexible_wh": np.full(5, 1e9)}, "flexible load needs 1000000000 Wh"),
        ({"bus": np.full(5, 99)}, "a household is at bus 99"),
        ({"efficiency_frac": 1.2}, "an efficiency in"),
    ],
)
def test_households_that_cannot_be_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConversationError, match=words):
        replace(households(5), **change)


def test_the_ladder_inverts_whatever_the_scales() -> None:
    rng = np.random.default_rng(3)
    ground, rung = 10.0 ** rng.uniform(-6, 6, (2, PERIODS, 20))
    right = rng.normal(size=(PERIODS, 20))
    ladder = Ladder(ground, rung)
    summing = np.tril(np.ones((PERIODS, PERIODS)))
    for place in range(20):
        rung_inverse = np.diag(1.0 / rung[:, place])
        whole = np.diag(ground[:, place]) + np.linalg.inv(summing.T @ rung_inverse @ summing)
        residual = whole @ ladder.solve(right)[:, place] - right[:, place]
        assert np.abs(residual).max() <= 1e-4 * max(1.0, np.abs(right[:, place]).max())
        np.testing.assert_allclose(ladder.diagonal()[:, place], np.diag(np.linalg.inv(whole)), rtol=1e-3)


def test_the_slope_is_how_the_aim_changes_with_the_price() -> None:
    homes = households(25, 9)
    one = RespondingHouseholds(homes)
    price = np.full((len(BUSES), PERIODS), 0.2)
    told = one.respond(PriceSignal(price_per_kwh=price, barrier=0.05, certify=False))
    other = price.copy()
    other[2, 3] += 1e-3
    again = RespondingHouseholds(homes).respond(PriceSignal(price_per_kwh=other, barrier=0.05, certify=False))
    expected_w = np.zeros_like(price)
    expected_w[2] = -1e-3 * told.slope_w[2, 3]
    np.testing.assert_allclose(again.aim_w - told.aim_w, expected_w, atol=1e-6)
