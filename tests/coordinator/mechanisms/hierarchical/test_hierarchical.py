"""Four levels clear a small region at the central optimum, keep it secure, pay for that, and tell each other nothing of a household.

Answers: the central optimum by cvxpy 1.9 (Clarabel), written again from the docstrings; power flow by power-grid-model.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import msgspec
import numpy as np
import pytest
from region import CUSTOMERS, PERIODS, STEP_S, TRANSFORMERS, customer_rows, fleet, region, tariff
from scipy.linalg import null_space

from coordinator.mechanisms.conversation import ConversationError, Talk, converse
from coordinator.mechanisms.hierarchical.alone import alone
from coordinator.mechanisms.hierarchical.areas import Area, split
from coordinator.mechanisms.hierarchical.market import Clearing, HierarchicalMarket
from coordinator.mechanisms.hierarchical.members import Fleet, Members
from coordinator.mechanisms.hierarchical.operator import CommunityOperator, MarketResponse, MarketSignal
from coordinator.mechanisms.hierarchical.retailer import Retailer
from coordinator.mechanisms.hierarchical.security import NetworkOperator
from coordinator.mechanisms.hierarchical.settlement import settle_community
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.p2p.trades import trades_w
from coordinator.network.model import Network
from coordinator.powerflow.pgm import PgmEngine

STIFF_OHM = 1e-6 + 1e-6j
STEP_W = 3e4
KWH_PER_W = STEP_S / 3.6e6
VMAX_PU, MARGIN_PU = 1.10, 0.002


class World:
    """A region with a community at every transformer."""

    def __init__(self, network: Network, fleets: list[Fleet], *, margin_pu: float = MARGIN_PU, share_frac: float = 0.5) -> None:
        self.network = network
        backbone, self.areas = split(network, least_of_phase=4)
        self.fleets = fleets
        self.operator = NetworkOperator(
            backbone=backbone, areas=self.areas, background_va=np.zeros((TRANSFORMERS, PERIODS), dtype=np.complex128),
            margin_pu=margin_pu, rating_frac=1.0,
        )  # fmt: skip
        self.market = HierarchicalMarket(
            names=tuple(area.transformer.id for area in self.areas), retailer=Retailer(tariff=tariff(), share_frac=share_frac),
            network=self.operator, step_s=STEP_S, step_w=STEP_W, gap_frac=2e-4, tolerance_frac=5e-4, tolerance_pu=2e-4,
        )  # fmt: skip
        self.members = [
            Members(fleet=item, end_weight=area.weight, end_var_weight=area.var_weight)
            for item, area in zip(fleets, self.areas, strict=True)
        ]

    def clear(self) -> tuple[Talk[Clearing], Clearing]:
        talk = converse(self.market, self.responders(), max_rounds=4000)
        assert talk.outcome is not None
        return talk, talk.outcome

    def responders(self) -> dict[str, CommunityOperator]:
        return {name: CommunityOperator(members=own) for name, own in zip(self.market.names, self.members, strict=True)}

    def cost(self) -> float:
        """Wear and what communities pay, at the schedules that members have now."""
        nets = np.array([own.fleet.net_w(own.schedule).sum(axis=0) for own in self.members])
        wear = sum(float(own.fleet.wear(own.schedule).sum()) for own in self.members)
        return wear + self.market.retailer.cost(nets, KWH_PER_W)

    def voltages_pu(self) -> np.ndarray:
        """Exact voltages (T, buses, phases) of the present schedules."""
        count = len(self.network.connections)
        power, reactive = np.zeros((PERIODS, count)), np.zeros((PERIODS, count))
        for area, own in zip(self.areas, self.members, strict=True):
            rows = customer_rows(self.network, area)
            power[:, rows], reactive[:, rows] = own.fleet.net_w(own.schedule).T, own.fleet.load_var.T
        return PgmEngine(self.network).solve(power, reactive).voltage_pu


def sunny(**changes: float) -> list[Fleet]:
    return [fleet(seed, **changes) for seed in range(TRANSFORMERS)]


def central(fleets: list[Fleet], retailer: Retailer, areas: tuple[Area, ...] | None = None, head_pu: float = 1.0) -> float:
    """The least cost over all schedules together; with areas, linear ends must stay below vmax where the backbone holds `head_pu`."""
    hours, offers = STEP_S / 3600.0, retailer.tariff
    cost, limits, nets = 0.0, [], []
    for place, item in enumerate(fleets):
        sun, cars, own = item.panels, item.vehicles, item.batteries
        panels, taken = cp.Variable(sun.available_w.shape), cp.Variable(cars.max_w.shape)
        charge, discharge = (cp.Variable((own.member.size, PERIODS)) for _ in range(2))
        limits += [part >= 0.0 for part in (panels, taken, charge, discharge)]
        stored = own.initial_wh[:, None] / 1e3 + hours * cp.cumsum(own.efficiency_frac * charge - discharge / own.efficiency_frac, axis=1)
        limits += [
            panels <= sun.available_w / 1e3, taken <= cars.max_w / 1e3, hours * cp.sum(taken, axis=1) == cars.energy_wh / 1e3,
            charge <= own.power_w[:, None] / 1e3, discharge <= own.power_w[:, None] / 1e3, stored >= 0.0,
            stored <= own.capacity_wh[:, None] / 1e3, stored[:, -1] == own.initial_wh / 1e3,
        ]  # fmt: skip
        at = [np.eye(CUSTOMERS)[:, owner.member] for owner in (sun, cars, own)]
        net = item.load_w / 1e3 - at[0] @ panels + at[1] @ taken + at[2] @ (charge - discharge)
        cost += own.wear_per_kwh * hours * cp.sum(charge + discharge)
        nets.append(cp.sum(net, axis=0))
        if areas is not None:
            area = areas[place]
            falls = area.weight.T @ net * 1e3 + area.var_weight.T @ item.load_var
            limits.append(
                cp.multiply(area.fall_pu_per_w[:, None], falls)
                >= (head_pu * area.no_load_pu - VMAX_PU + MARGIN_PU)[:, None] @ np.ones((1, PERIODS))
            )
    total, half = sum(nets), 0.5 * retailer.fee_per_kwh
    rest = cp.maximum(cp.multiply(offers.retail_per_kwh - half, total), cp.multiply(offers.feed_in_per_kwh + half, total))
    cost += hours * (cp.sum(rest) + sum(cp.sum(cp.multiply(half, cp.abs(net))) for net in nets))
    problem = cp.Problem(cp.Minimize(cost), limits)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(problem.value)


def test_without_a_binding_network_the_levels_find_the_central_optimum() -> None:
    world = World(region(section_ohm=1e-4 + 1e-4j), sunny())
    _, clearing = world.clear()
    best = central(world.fleets, world.market.retailer)
    assert world.cost() == pytest.approx(best, rel=2e-3)
    assert clearing.rounds == clearing.market_rounds
    assert not clearing.service_paid.any()
    offers, half = tariff(), 0.5 * clearing.fee_per_kwh
    price = clearing.secure.price_per_kwh
    assert np.all(price >= offers.feed_in_per_kwh + half - 1e-12)
    assert np.all(price <= offers.retail_per_kwh - half + 1e-12)
    assert np.all(np.abs(clearing.secure.inside_per_kwh - price) <= half + 1e-12)


def test_with_a_binding_network_they_find_it_too_and_no_voltage_is_broken() -> None:
    network = region(backbone_ohm=STIFF_OHM, source_pu=1.03)
    world = World(network, sunny(panels_w=9000.0))
    _, clearing = world.clear()
    free, best = central(world.fleets, world.market.retailer), central(world.fleets, world.market.retailer, world.areas, 1.03)
    assert best > free * 1.01
    assert world.cost() == pytest.approx(best, rel=5e-3)
    assert clearing.rounds > clearing.market_rounds
    assert clearing.voltage_excess_pu <= 2e-4
    volts = world.voltages_pu()
    assert float(np.nanmax(volts)) <= network.vmax_pu
    assert float(np.nanmin(volts)) >= network.vmin_pu


def test_a_weak_backbone_is_priced_to_everybody_behind_it() -> None:
    world = World(region(backbone_ohm=12.0 + 8.0j, section_ohm=0.008 + 0.003j, source_pu=1.04), sunny(panels_w=9000.0))
    _, clearing = world.clear()
    assert float(np.nanmax(world.voltages_pu())) <= world.network.vmax_pu
    noon = clearing.network_per_kwh[:, 4]
    assert np.all(noon < 0.0), "nobody is paid to take more at noon"
    assert abs(noon[2]) > abs(noon[0]), "who sits farther out moves ends more"


def test_a_transformer_is_never_loaded_beyond_its_rating() -> None:
    network = region(section_ohm=1e-4 + 1e-4j)
    small = msgspec.structs.replace(
        network, transformers=tuple(msgspec.structs.replace(item, rated_va=14e3) for item in network.transformers)
    )
    world = World(small, sunny(panels_w=9000.0))
    _, clearing = world.clear()
    apparent = np.hypot(clearing.secure.sums.net_w, clearing.secure.sums.reactive_var)
    assert clearing.rounds > clearing.market_rounds
    assert float(apparent.max()) <= 14e3 * (1.0 + 1e-3)


def test_every_community_is_paid_at_least_what_moving_cost_it() -> None:
    world = World(region(source_pu=1.03), sunny(panels_w=9000.0))
    _, clearing = world.clear()
    assert clearing.service_paid.sum() > 0.0
    inside = clearing.secure.inside_per_kwh
    for place, own in enumerate(world.members):
        assert own.contracted is not None
        before, after = (own.fleet.net_w(item).sum(axis=0) for item in (own.contracted, own.schedule))
        wear = own.fleet.wear(own.schedule).sum() - own.fleet.wear(own.contracted).sum()
        moving = float(inside[place] @ (after - before)) * KWH_PER_W + float(wear)
        assert clearing.service_paid[place] >= moving - 0.02


def test_money_is_conserved_and_no_community_pays_more_than_without() -> None:
    world = World(region(source_pu=1.03), sunny(panels_w=9000.0))
    _, clearing = world.clear()
    for place, own in enumerate(world.members):
        nets = own.contracted_w, own.fleet.net_w(own.schedule)
        bills = settle_community(clearing, place, own.fleet, nets, own.end_weight, world.operator.ends_of(place))
        assert bills.bill.sum() + bills.service.sum() == pytest.approx(bills.to_retailer, abs=1e-9)
        assert bills.service.sum() == pytest.approx(clearing.service_paid[place], abs=1e-9)
        pairs_w = trades_w(nets[1])
        assert pairs_w.sum() * STEP_S / 3600.0 == pytest.approx(bills.traded_wh)
        without = alone(own.fleet, tariff())
        worn = own.fleet.wear(own.schedule).sum() - own.fleet.wear(without.schedule).sum()
        assert bills.bill.sum() + worn <= without.bill.sum() + 0.02


def test_the_fee_takes_its_share_and_no_more_than_all() -> None:
    costs = []
    for share in (0.0, 0.5, 1.0):
        mixed = [fleet(0), fleet(1, panels_w=0.0), fleet(2, panels_w=8000.0)]
        world = World(region(section_ohm=1e-4 + 1e-4j), mixed, share_frac=share)
        world.clear()
        costs.append(world.cost())
    assert costs[0] < costs[1] < costs[2]
    with pytest.raises(ConversationError, match=r"keeps 1.5 of the margin, expected 0 to 1"):
        Retailer(tariff=tariff(), share_frac=1.5)


def test_linear_ends_are_exact_or_on_the_safe_side() -> None:
    network = region()
    _, areas = split(network, least_of_phase=4)
    rng = np.random.default_rng(1)
    engine = PgmEngine(network)
    for low_w, high_w, upper in ((-3000.0, 500.0, True), (0.0, 2500.0, False)):
        power = rng.uniform(low_w, high_w, len(network.connections))
        volts = engine.solve(power[None], 0.2 * np.abs(power)[None]).voltage_pu[0]
        for area in areas:
            rows = customer_rows(network, area)
            head = float(volts[network.bus_index[area.transformer.from_bus]].mean())
            fall = area.fall_pu_per_w * (area.weight.T @ power[rows] + area.var_weight.T @ (0.2 * np.abs(power[rows])))
            factor = 1.0 if upper else area.no_load_pu / network.vmin_pu
            model = area.no_load_pu * head - factor * fall
            exact = np.array([volts[network.bus_index[name.split(" ")[0]], int(name[-1]) - 1] for name in area.ends])
            error = model - exact if upper else exact - model
            assert error.min() >= -1e-3
            assert error.max() <= 0.15 * float(np.abs(exact - area.no_load_pu * head).max()) + 1e-3


def test_answers_do_not_determine_what_any_household_takes() -> None:
    """Other households with the same sums answer the same in every round: so nobody who hears the answers can tell them apart."""
    area = split(region(), least_of_phase=4)[1][0]
    one = replace(fleet(0), load_var=np.zeros((CUSTOMERS, PERIODS)))
    hidden = null_space(np.vstack((np.ones(CUSTOMERS), area.weight.T)))
    change_w = hidden @ np.random.default_rng(3).uniform(-150.0, 150.0, (hidden.shape[1], PERIODS))
    other = replace(one, load_w=one.load_w + change_w)
    assert np.abs(change_w).max(axis=1).min() > 1.0, "no household is the same in both"
    assert np.median(np.abs(change_w).max(axis=1)) > 50.0
    signal = MarketSignal(
        is_first=True, is_contract=False, price_per_kwh=np.full(PERIODS, 0.15), fee_per_kwh=np.full(PERIODS, 0.05),
        network_per_kwh=np.zeros(PERIODS), end_per_kwh=np.full((len(area.ends), PERIODS), -0.02), step_w=STEP_W, common=3.0, end_scale=10.0,
    )  # fmt: skip
    operators = [
        CommunityOperator(members=Members(fleet=item, end_weight=area.weight, end_var_weight=area.var_weight)) for item in (one, other)
    ]
    for number in range(5):
        answers = [operator.respond(replace(signal, is_first=number == 0)) for operator in operators]
        for name in ("net_w", "reactive_var", "end_w", "inside_per_kwh", "end_reach"):
            np.testing.assert_allclose(getattr(answers[0], name), getattr(answers[1], name), rtol=0.0, atol=1e-6)


def test_a_community_too_small_to_hide_anybody_is_refused() -> None:
    item = fleet(0)
    few = Fleet(
        name="few", step_s=STEP_S, load_w=item.load_w[:5], load_var=item.load_var[:5],
        panels=replace(item.panels, member=np.zeros(0, dtype=np.int64), available_w=np.zeros((0, PERIODS))),
        vehicles=replace(item.vehicles, member=np.zeros(0, dtype=np.int64), max_w=np.zeros((0, PERIODS)), energy_wh=np.zeros(0)),
        batteries=replace(
            item.batteries, member=np.zeros(0, dtype=np.int64), capacity_wh=np.zeros(0), power_w=np.zeros(0), initial_wh=np.zeros(0)
        ),
    )  # fmt: skip
    with pytest.raises(ConversationError, match="community few has 5 members, expected at least 10: its sums would give them away"):
        CommunityOperator(members=Members(fleet=few, end_weight=np.zeros((5, 0)), end_var_weight=np.zeros((5, 0))))


class Faulty:
    """An operator that falls silent, or raves, from some round on."""

    def __init__(self, operator: CommunityOperator, after: int, spoil: str) -> None:
        self.operator, self.after, self.spoil, self.heard = operator, after, spoil, 0

    def respond(self, signal: MarketSignal, /) -> MarketResponse | None:
        self.heard += 1
        answer = self.operator.respond(signal)
        if self.heard <= self.after:
            return answer
        if self.spoil == "silent":
            return None
        bad = np.full(PERIODS, np.nan) if self.spoil == "nan" else np.full(PERIODS, 1e9)
        return replace(answer, net_w=bad)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [("silent", "did not answer"), ("nan", "expected (8,) finite values"), ("huge", "more than 5 times what its transformer")],
)
def test_a_community_that_is_silent_or_raves_is_left_out_by_name(spoil: str, why: str) -> None:
    world = World(region(section_ohm=1e-4 + 1e-4j), sunny())
    responders = world.responders()
    responders["t1"] = Faulty(responders["t1"], 7, spoil)  # type: ignore[assignment]
    talk = converse(world.market, responders, max_rounds=4000)
    assert talk.outcome is not None
    assert talk.outcome.names == ("t0", "t2")
    assert why in talk.left_out["t1"]
    kept = [world.fleets[0], world.fleets[2]]
    cost = sum(float(own.fleet.wear(own.schedule).sum()) for own in (world.members[0], world.members[2]))
    cost += world.market.retailer.cost(talk.outcome.secure.sums.net_w, KWH_PER_W)
    assert cost == pytest.approx(central(kept, world.market.retailer), rel=2e-3)


def test_an_interval_that_nobody_can_make_secure_is_refused_by_name() -> None:
    world = World(region(source_pu=0.97), sunny(load_factor=12.0, panels_w=0.0))
    with pytest.raises(ConversationError, match=r"interval \d is infeasible: .* is not kept within limits at 10 per kWh"):
        converse(world.market, world.responders(), max_rounds=4000)


def test_profiles_and_prices_that_cannot_be_are_refused_by_name() -> None:
    item = fleet(0)
    bad = item.load_w.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ConversationError, match=r"community t0: load_w is not a finite number \(member 3, interval 2\)"):
        replace(item, load_w=bad)
    with pytest.raises(ConversationError, match="prices out of order in interval 1: feed-in"):
        Tariff(retail_per_kwh=np.array([0.2, 0.1]), feed_in_per_kwh=np.array([0.1, 0.15]))
    world = World(region(), sunny())
    with pytest.raises(ConversationError, match="what a transformer without a community takes is not a finite number"):
        replace(world.operator, background_va=np.full((TRANSFORMERS, PERIODS), np.nan + 0j))
    with pytest.raises(ConversationError, match="expected a three-phase network with transformers"):
        split(msgspec.structs.replace(region(), transformers=()))


def test_alone_is_the_least_bill_of_each_member() -> None:
    """A member whose devices are taken away pays more, and everybody together pays what a central program with no trade would."""
    item = fleet(1)
    found = alone(item, tariff())
    hours, offers = STEP_S / 3600.0, tariff()
    worn = item.wear(found.schedule)
    for member in range(CUSTOMERS):
        own = [np.flatnonzero(kind.member == member) for kind in (item.panels, item.vehicles, item.batteries)]
        charge, discharge = (cp.Variable((own[2].size, PERIODS), nonneg=True) for _ in range(2))
        taken = cp.Variable((own[1].size, PERIODS), nonneg=True)
        net = item.load_w[member] / 1e3 - item.panels.available_w[own[0]].sum(axis=0) / 1e3
        limits = []
        cost = 0.0
        if own[1].size:
            net = net + cp.sum(taken, axis=0)
            limits += [taken <= item.vehicles.max_w[own[1]] / 1e3, hours * cp.sum(taken, axis=1) == item.vehicles.energy_wh[own[1]] / 1e3]
        if own[2].size:
            kept = item.batteries.initial_wh[own[2]][:, None] / 1e3 + hours * cp.cumsum(0.95 * charge - discharge / 0.95, axis=1)
            net = net + cp.sum(charge - discharge, axis=0)
            limits += [charge <= 3.0, discharge <= 3.0, kept >= 0.0, kept <= 10.0, kept[:, -1] == 2.0]
            cost = 0.01 * hours * cp.sum(charge + discharge)
        cost += hours * cp.sum(cp.maximum(cp.multiply(offers.retail_per_kwh, net), cp.multiply(offers.feed_in_per_kwh, net)))
        problem = cp.Problem(cp.Minimize(cost), limits)
        problem.solve(solver=cp.CLARABEL)
        assert found.bill[member] + worn[member] == pytest.approx(problem.value, abs=1e-5)
