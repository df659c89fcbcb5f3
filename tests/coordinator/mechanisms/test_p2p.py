"""Communities answer signals with feasible schedules; their market settles on the central optimum, priced from feed-in to retail.

Answers: the schedule and the whole market by cvxpy 1.9 (written again from the docstring of `coordinator.mechanisms.p2p.community`).
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import msgspec
import numpy as np
import pytest

from coordinator.mechanisms.conversation import ConversationError, converse
from coordinator.mechanisms.p2p.central import central_clearing
from coordinator.mechanisms.p2p.community import Community, CommunityAtBus, FlexibleLoad, Generator, Storage, Tariff
from coordinator.mechanisms.p2p.losses import LossModel, loss_model
from coordinator.mechanisms.p2p.market import Clearing, CommunityMarket
from coordinator.mechanisms.p2p.trades import bills, trades_w
from coordinator.mechanisms.signals import NetResponse, NetSignal
from coordinator.network.cases import load_case
from coordinator.network.model import Connection
from coordinator.reconfiguration import SwitchingCosts

PERIODS = 8
HOUR_S = 3600.0
BUSES = ("7", "18", "25", "33")


def community(seed: int, *, machine_w: float = 40e3) -> Community:
    rng = np.random.default_rng(seed)
    there = np.array([1.0] * 3 + [0.0] * 2 + [1.0] * 3)
    return Community(
        name=BUSES[seed % len(BUSES)], step_s=HOUR_S, fixed_w=rng.uniform(20e3, 90e3, PERIODS),
        renewable_w=rng.uniform(0.0, 150e3, PERIODS), generator=Generator(max_w=machine_w, first_per_kwh=0.1, rise_per_kwh_kw=5e-4),
        storage=Storage(capacity_wh=80e3, power_w=30e3, efficiency_frac=0.95, initial_frac=0.4, degradation_per_kwh=0.01),
        flexible=(
            FlexibleLoad(energy_wh=90e3, max_w=np.full(PERIODS, 40e3)),
            FlexibleLoad(energy_wh=60e3, max_w=there * 22e3),
        ),
    )  # fmt: skip


def tariff() -> Tariff:
    return Tariff(retail_per_kwh=np.linspace(0.2, 0.3, PERIODS), feed_in_per_kwh=np.full(PERIODS, 0.08))


def specification(item: Community) -> tuple[cp.Expression, cp.Expression, list[cp.Constraint]]:
    """Net load (kW), own cost and constraints of a community, from the docstring."""
    g, c, d, s, w = (cp.Variable(PERIODS, nonneg=True) for _ in range(5))
    f = [cp.Variable(PERIODS, nonneg=True) for _ in item.flexible]
    fixed, renewable = item.fixed_w / 1e3, item.renewable_w / 1e3
    store, machine = item.storage, item.generator
    soc = store.initial_frac * store.capacity_wh / 1e3 + cp.cumsum(store.efficiency_frac * c - d / store.efficiency_frac)
    limits = [
        g <= machine.max_w / 1e3, c <= store.power_w / 1e3, d <= store.power_w / 1e3, s <= fixed, w <= renewable, soc >= 0,
        soc <= store.capacity_wh / 1e3, soc[-1] == store.initial_frac * store.capacity_wh / 1e3,
        *(part <= load.max_w / 1e3 for part, load in zip(f, item.flexible, strict=True)),
        *(cp.sum(part) == load.energy_wh / 1e3 for part, load in zip(f, item.flexible, strict=True)),
    ]  # fmt: skip
    net = fixed + sum(f) + c - d - g - s - (renewable - w)
    cost = cp.sum(machine.first_per_kwh * g + machine.rise_per_kwh_kw * cp.square(g) / 2)
    cost += store.degradation_per_kwh * cp.sum(c + d) + item.lost_load_per_kwh * cp.sum(s)
    return net, cost, limits


def no_losses() -> LossModel:
    count = len(BUSES)
    return LossModel(square=np.zeros((PERIODS, count, count)), linear=np.zeros((PERIODS, count)), constant_w=np.zeros(PERIODS))


def feeder_losses() -> LossModel:
    network = load_case("ieee33")
    extra = tuple(Connection(id=f"community{bus}", bus=bus) for bus in BUSES)
    network = msgspec.structs.replace(network, connections=network.connections + extra)
    power = (network.base_power_w() + 1j * network.base_reactive_var())[:, None] * np.linspace(0.5, 1.0, PERIODS)
    costs = SwitchingCosts(network, power)
    nodes = costs.space.node_of_bus[[network.bus_index[bus] for bus in BUSES]]
    open_sets = np.repeat(costs.space.present_open[None], PERIODS, axis=0)
    return loss_model(costs.feeder, open_sets, costs.node_power_va, nodes, np.zeros((len(BUSES), PERIODS)))


def market(losses: LossModel, *, weight: float = 1e-6) -> CommunityMarket:
    return CommunityMarket(names=BUSES, tariff=tariff(), losses=losses, loss_per_kwh=0.2, weight=weight)


def members() -> tuple[CommunityAtBus, ...]:
    return tuple(CommunityAtBus(community=community(seed)) for seed in range(len(BUSES)))


def settled(of: CommunityMarket) -> Clearing:
    talk = converse(of, dict(zip(BUSES, members(), strict=True)), max_rounds=300)
    assert talk.outcome is not None
    return talk.outcome


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_what_the_specification_answers(seed: int) -> None:
    item = community(seed)
    rng = np.random.default_rng(seed)
    price, target_w, weight = rng.uniform(0.05, 0.3, PERIODS), rng.uniform(-5e4, 5e4, PERIODS), 2e-6
    answer = CommunityAtBus(community=item).respond(NetSignal(price_per_kwh=price, target_w=target_w, weight=weight))
    net, cost, limits = specification(item)
    wish = cost + price @ net + weight * 1e3 / 2 * cp.sum_squares(net - target_w / 1e3)
    cp.Problem(cp.Minimize(wish), limits).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(answer.net_w, 1e3 * net.value, atol=20.0)
    assert answer.own_cost == pytest.approx(cost.value, abs=1e-2)


@pytest.mark.parametrize("max_export_w", [0.0, 1e6])
def test_alone_a_community_pays_what_the_specification_pays(max_export_w: float) -> None:
    item, prices = community(1), tariff()
    answer = CommunityAtBus(community=item).alone(prices, max_export_w=max_export_w)
    net, cost, limits = specification(item)
    imported, exported = cp.Variable(PERIODS, nonneg=True), cp.Variable(PERIODS, nonneg=True)
    total = cost + prices.retail_per_kwh @ imported - prices.feed_in_per_kwh @ exported
    cp.Problem(cp.Minimize(total), [*limits, net == imported - exported, exported <= max_export_w / 1e3]).solve(solver=cp.CLARABEL)
    assert answer.own_cost + prices.cost(answer.net_w, HOUR_S) == pytest.approx(total.value, abs=1e-2)
    assert np.all(answer.net_w >= -max_export_w - 1.0)


def test_the_market_settles_on_the_optimum_of_the_whole() -> None:
    parts = [specification(community(seed)) for seed in range(len(BUSES))]
    whole = sum(net for net, _, _ in parts)
    bought, sold = cp.Variable(PERIODS, nonneg=True), cp.Variable(PERIODS, nonneg=True)
    prices = tariff()
    total = sum(cost for _, cost, _ in parts) + prices.retail_per_kwh @ bought - prices.feed_in_per_kwh @ sold
    cp.Problem(cp.Minimize(total), [whole == bought - sold, *(row for _, _, rows in parts for row in rows)]).solve(solver=cp.CLARABEL)
    mechanism = market(no_losses())
    assert mechanism.cost(settled(mechanism), HOUR_S) == pytest.approx(total.value, rel=5e-4)
    assert mechanism.cost(central_clearing(mechanism, members()), HOUR_S) == pytest.approx(total.value, rel=1e-5)


@pytest.mark.parametrize("weight", [1e-7, 1e-6, 1e-5])
def test_any_first_weight_leads_to_the_optimum_with_losses(weight: float) -> None:
    mechanism = market(feeder_losses(), weight=weight)
    best = mechanism.cost(central_clearing(mechanism, members()), HOUR_S)
    assert mechanism.cost(settled(mechanism), HOUR_S) == pytest.approx(best, rel=5e-4)


def test_the_price_of_trade_lies_between_feed_in_and_retail() -> None:
    """Source 002, equation 4; it is retail where the market is short and feed-in where it is long."""
    outcome, prices = settled(market(no_losses())), tariff()
    assert np.all(outcome.market_per_kwh >= prices.feed_in_per_kwh - 1e-12)
    assert np.all(outcome.market_per_kwh <= prices.retail_per_kwh + 1e-12)
    total = outcome.net_w.sum(axis=0)
    np.testing.assert_allclose(outcome.market_per_kwh[total > 2e3], prices.retail_per_kwh[total > 2e3])
    np.testing.assert_allclose(outcome.market_per_kwh[total < -2e3], prices.feed_in_per_kwh[total < -2e3])


def test_trading_costs_no_more_than_everybody_alone() -> None:
    prices = tariff()
    alone = [member.alone(prices, max_export_w=1e9) for member in members()]
    bills = sum(answer.own_cost + prices.cost(answer.net_w, HOUR_S) for answer in alone)
    mechanism = market(no_losses())
    assert mechanism.cost(settled(mechanism), HOUR_S) < bills


def test_losses_are_exact_at_the_reference_and_close_beside_it() -> None:
    network = load_case("ieee33")
    extra = tuple(Connection(id=f"community{bus}", bus=bus) for bus in BUSES)
    network = msgspec.structs.replace(network, connections=network.connections + extra)
    power = (network.base_power_w() + 1j * network.base_reactive_var())[:, None] * np.linspace(0.5, 1.0, PERIODS)
    model = feeder_losses()
    for shift_w, tolerance in ((0.0, 1e-9), (20e3, 0.01), (-100e3, 0.03)):
        moved = power.copy()
        moved[-len(BUSES) :] += shift_w
        costs = SwitchingCosts(network, moved)
        exact_w = costs.losses_w(costs.space.present_open[None])[0]
        np.testing.assert_allclose(model.loss_w(np.full((len(BUSES), PERIODS), shift_w)), exact_w, rtol=tolerance)


def test_trades_balance_and_cost_what_the_market_costs() -> None:
    """The shorter side trades in full, money between members cancels, and nobody would have done better with the retailer."""
    outcome, prices = settled(market(no_losses())), tariff()
    net_w, sold = outcome.net_w, trades_w(outcome.net_w)
    exports, imports = np.maximum(-net_w, 0.0), np.maximum(net_w, 0.0)
    np.testing.assert_allclose(sold.sum(axis=(0, 1)), np.minimum(exports.sum(axis=0), imports.sum(axis=0)))
    assert np.all(sold.sum(axis=1) <= exports + 1e-9) and np.all(sold.sum(axis=0) <= imports + 1e-9)
    paid = bills(outcome, prices, HOUR_S)
    assert paid.sum() == pytest.approx(outcome.own_cost + prices.cost(net_w.sum(axis=0), HOUR_S), rel=1e-9)
    retailer = np.array([prices.cost(row, HOUR_S) for row in net_w]) + outcome.own_costs
    assert np.all(paid <= retailer + 1e-9)


def test_no_trade_is_no_trade() -> None:
    assert not trades_w(np.zeros((3, 2))).any()
    assert not trades_w(np.ones((3, 2))).any()


class Silent:
    """Never answers."""

    def respond(self, signal: NetSignal, /) -> NetResponse | None:
        return None


def test_a_community_that_never_answers_is_left_out_by_name() -> None:
    responders = dict(zip(BUSES, members(), strict=True)) | {"25": Silent()}
    talk = converse(market(feeder_losses()), responders, max_rounds=300)
    assert talk.left_out == {"25": "did not answer"}
    assert talk.outcome is not None and talk.outcome.net_w.shape == (3, PERIODS)


def test_bad_input_is_named() -> None:
    item = community(0)
    with pytest.raises(ConversationError, match="community 7: fixed_w holds a value that is negative or not a finite number"):
        replace(item, fixed_w=item.fixed_w * np.nan)
    with pytest.raises(ConversationError, match="a flexible load needs 900000 Wh, and could take 320000 Wh"):
        replace(item, flexible=(FlexibleLoad(energy_wh=900e3, max_w=np.full(PERIODS, 40e3)),))
    with pytest.raises(ConversationError, match=r"prices out of order in interval 3: feed-in 0\.5000 per kWh is above retail"):
        Tariff(retail_per_kwh=np.full(PERIODS, 0.3), feed_in_per_kwh=np.where(np.arange(PERIODS) == 3, 0.5, 0.1))
    with pytest.raises(ConversationError, match="is not a finite number"):
        Tariff(retail_per_kwh=np.full(PERIODS, np.inf), feed_in_per_kwh=np.full(PERIODS, 0.1))
