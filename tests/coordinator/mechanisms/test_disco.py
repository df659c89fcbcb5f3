"""Source 003: its equations as published, and the negotiation that replaces them.

Answers: linear programs and projections by scipy 1.17 (HiGHS) and Clarabel 0.11.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from coordinator.mechanisms.conversation import ConversationError, converse
from coordinator.mechanisms.disco.central import central_optimum, loss_matrix
from coordinator.mechanisms.disco.market import DiscoMarket, FlexibleLoads, Trade, accounts, money_identity
from coordinator.mechanisms.disco.negotiated import BusOfUsers, NegotiatedPricing, settle
from coordinator.mechanisms.disco.published import PublishedPricing, RegionOfUsers
from coordinator.mechanisms.signals import NetResponse, NetSignal
from coordinator.network.cases import load_case
from coordinator.powerflow.balanced import solve_balanced

PERIODS = 6


def market(seed: int = 1) -> DiscoMarket:
    rng = np.random.default_rng(seed)
    wholesale = rng.uniform(0.2, 0.7, PERIODS)
    return DiscoMarket(
        regions=("north", "south"), regional_per_kwh=wholesale * rng.uniform(0.3, 0.9, (2, PERIODS)), wholesale_per_kwh=wholesale,
        retail_per_kwh=0.65, margin_frac=1.1, step_s=3600.0,
    )  # fmt: skip


def users(seed: int, count: int, *, shiftable: bool) -> FlexibleLoads:
    load_w = np.random.default_rng(seed).uniform(0.0, 5e3, (count, PERIODS))
    return FlexibleLoads(load_w=load_w, flexibility_frac=0.1, is_shiftable=shiftable)


def published(prices: DiscoMarket, seed: int, *, shiftable: bool, capped: bool) -> Trade:
    loads = {region: users(seed + place, 3, shiftable=shiftable) for place, region in enumerate(prices.regions)}
    cap_w = np.array([item.load_w.sum(axis=0) for item in loads.values()])
    mechanism = PublishedPricing(market=prices, load_w=cap_w if capped else np.zeros_like(cap_w))
    talk = converse(mechanism, {region: RegionOfUsers(loads=item) for region, item in loads.items()}, max_rounds=20)
    assert talk.outcome is not None
    return talk.outcome


def negotiation(prices: DiscoMarket, *, weight: float = 1e-4) -> NegotiatedPricing:
    buses = ("5", "12", "18", "30")
    return NegotiatedPricing(
        market=prices, buses=buses, region_of_bus=np.array([0, 0, 1, 1]), loss_per_w=1e3 * loss_matrix(load_case("ieee33"), buses),
        weight=weight, tolerance_w=0.05,
    )  # fmt: skip


def rows(loads: FlexibleLoads, names: tuple[str, ...]) -> dict[str, BusOfUsers]:
    return {name: BusOfUsers(loads=replace(loads, load_w=loads.load_w[[place]])) for place, name in enumerate(names)}


@pytest.mark.parametrize("shiftable", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_problem_e_is_solved_as_a_linear_program_solves_it(seed: int, shiftable: bool) -> None:
    loads = users(seed, 1, shiftable=shiftable)
    price = np.random.default_rng(seed + 50).uniform(-0.1, 0.6, PERIODS)
    room = loads.room_w[0]
    equal = {"A_eq": np.ones((1, PERIODS)), "b_eq": [0.0]} if shiftable else {}
    best = linprog(price, bounds=list(zip(-room, room, strict=True)), **equal)
    assert price @ loads.cheapest(price)[0] == pytest.approx(best.fun, abs=1e-6)


@given(st.integers(0, 10**6), st.booleans())
def test_the_nearest_answer_is_a_projection(seed: int, shiftable: bool) -> None:
    """Idempotent, allowed, and at an angle of at least ninety degrees to every other allowed point."""
    rng = np.random.default_rng(seed)
    loads = users(seed, 2, shiftable=shiftable)
    wish = rng.normal(0.0, 800.0, (2, PERIODS))
    near, other = loads.nearest(wish), loads.nearest(rng.normal(0.0, 800.0, (2, PERIODS)))
    assert np.all(np.abs(near) <= loads.room_w + 1e-9)
    if shiftable:
        np.testing.assert_allclose(near.sum(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(loads.nearest(near), near, atol=1e-6)
    assert np.all(np.sum((wish - near) * (other - near), axis=1) <= 1e-2)


@pytest.mark.parametrize("shiftable", [False, True])
@pytest.mark.parametrize("capped", [False, True])
def test_prices_cancel_in_the_sum_of_all_costs(shiftable: bool, capped: bool) -> None:
    prices = market()
    trade = published(prices, 7, shiftable=shiftable, capped=capped)
    assert accounts(prices, trade).total == pytest.approx(money_identity(prices, trade), rel=1e-12)


def test_aggregators_earn_the_margin_where_they_only_sell() -> None:
    """Case 1 of scenario 1 in Table 2: EC_a is a tenth of EC_e."""
    prices = market()
    money = accounts(prices, published(prices, 7, shiftable=False, capped=False))
    assert money.aggregators == pytest.approx(0.1 * money.users, rel=1e-12)
    assert money.users < 0.0


def test_the_published_algorithm_moves_no_load() -> None:
    """Neither what the DisCo sells nor its price enters problem E: there is nothing to negotiate."""
    prices = market()
    alone = published(prices, 7, shiftable=True, capped=False)
    played = published(prices, 7, shiftable=True, capped=True)
    np.testing.assert_allclose(played.net_w, alone.net_w, atol=1e-9)
    assert accounts(prices, played).users > accounts(prices, alone).users


def test_problem_d_has_no_bound_without_a_cap() -> None:
    """Ten times the cap is about ten times the profit: (4) bounds the purchase from below only."""
    prices = market()
    loads = users(7, 3, shiftable=False)
    responders = {region: RegionOfUsers(loads=loads) for region in prices.regions}
    profit = []
    for factor in (1.0, 10.0, 100.0):
        cap_w = factor * np.array([loads.load_w.sum(axis=0)] * 2)
        talk = converse(PublishedPricing(market=prices, load_w=cap_w), responders, max_rounds=20)
        assert talk.outcome is not None
        profit.append(-accounts(prices, talk.outcome).disco)
    assert profit[1] > 9.0 * profit[0] > 0.0
    assert profit[2] > 9.0 * profit[1]


@pytest.mark.parametrize("shiftable", [False, True])
@pytest.mark.parametrize("weight", [1e-5, 1e-4, 1e-3])
def test_the_negotiation_reaches_the_central_optimum_from_any_weight(shiftable: bool, weight: float) -> None:
    mechanism = negotiation(market(), weight=weight)
    loads = users(3, 4, shiftable=shiftable)
    talk = converse(mechanism, rows(loads, mechanism.buses), max_rounds=400)
    assert talk.outcome is not None
    price = mechanism.market.wholesale_per_kwh

    def cost(net_w: np.ndarray) -> float:
        return float(price @ (net_w.sum(axis=0) + mechanism.loss_w(net_w)))

    assert cost(talk.outcome.net_w) == pytest.approx(cost(central_optimum(mechanism, loads)), rel=5e-4)
    assert talk.rounds <= 60


def test_the_agreed_price_is_the_marginal_cost_of_net_load() -> None:
    mechanism = negotiation(market())
    talk = converse(mechanism, rows(users(3, 4, shiftable=True), mechanism.buses), max_rounds=400)
    assert talk.outcome is not None
    marginal = mechanism.market.wholesale_per_kwh * (1.0 + 2.0 * mechanism.loss_per_w @ talk.outcome.net_w)
    np.testing.assert_allclose(talk.outcome.price_per_kwh, marginal, rtol=1e-3)


def test_both_sides_gain_the_same_and_nobody_pays_to_trade() -> None:
    prices = market()
    opposite = replace(prices, regional_per_kwh=np.repeat(0.9 * prices.wholesale_per_kwh.min() / 1.1 * np.ones((1, PERIODS)), 2, axis=0))
    mechanism = negotiation(opposite)
    loads = users(3, 4, shiftable=True)
    talk = converse(mechanism, rows(loads, mechanism.buses), max_rounds=400)
    assert talk.outcome is not None
    still = Trade(
        net_w=np.zeros((4, PERIODS)), purchase_w=np.zeros((4, PERIODS)), regional_per_kwh=np.zeros((4, PERIODS)),
        a2d_per_kwh=np.zeros((4, PERIODS)), loss_w=np.zeros(PERIODS),
    )  # fmt: skip
    alone = accounts(opposite, still)
    settlement = settle(mechanism, talk.outcome, alone)
    money = settlement.accounts
    assert settlement.gain > 0.0
    assert alone.users - money.users == pytest.approx(settlement.gain, rel=1e-9)
    assert money.aggregators + money.disco == pytest.approx(-settlement.gain, rel=1e-9)
    assert money.aggregators < 0.0
    assert money.total == pytest.approx(money_identity(opposite, settlement.trade), rel=1e-12)


def test_a_split_that_no_price_gives_is_refused() -> None:
    mechanism = negotiation(market())
    talk = converse(mechanism, rows(users(3, 4, shiftable=True), mechanism.buses), max_rounds=400)
    assert talk.outcome is not None
    rich = accounts(mechanism.market, published(market(), 7, shiftable=False, capped=False))
    with pytest.raises(ConversationError, match="no price factor"):
        settle(mechanism, talk.outcome, replace(rich, users=-1e6))


class Liar:
    """Answers nonsense."""

    def respond(self, signal: NetSignal, /) -> NetResponse:
        return NetResponse(net_w=np.full_like(signal.target_w, np.nan))


def test_a_bus_that_answers_nonsense_trades_nothing_and_is_named() -> None:
    mechanism = negotiation(market())
    loads = users(3, 4, shiftable=True)
    talk = converse(mechanism, rows(loads, mechanism.buses) | {"12": Liar()}, max_rounds=400)
    assert set(talk.left_out) == {"12"}
    assert talk.outcome is not None and talk.outcome.net_w.shape == (3, PERIODS)


def test_prices_out_of_order_are_named() -> None:
    prices = market()
    high = prices.regional_per_kwh.copy()
    high[1, 3] = 0.7
    with pytest.raises(ConversationError, match=r"regional price of south in interval 3 is 0\.7000 per kWh, above the retail price"):
        replace(prices, regional_per_kwh=high)
    with pytest.raises(ConversationError, match=r"above the wholesale price \(7\)"):
        replace(prices, wholesale_per_kwh=prices.wholesale_per_kwh * 0.2)
    with pytest.raises(ConversationError, match="a wholesale price is not a finite number"):
        replace(prices, wholesale_per_kwh=prices.wholesale_per_kwh * np.nan)
    with pytest.raises(ConversationError, match="a load is negative or not a finite number"):
        FlexibleLoads(load_w=np.array([[np.nan]]), flexibility_frac=0.1, is_shiftable=True)


def test_losses_of_small_net_loads_are_those_of_the_exact_power_flow() -> None:
    network = load_case("ieee33")
    buses = tuple(connection.bus for connection in network.connections)
    net_w = 0.05 * network.base_power_w()
    exact_w = float(solve_balanced(network, (net_w + 0j)[:, None]).source_power_va()[0].real) - net_w.sum()
    assert net_w @ loss_matrix(network, buses) @ net_w == pytest.approx(exact_w, rel=0.01)
