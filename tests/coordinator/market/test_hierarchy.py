"""The four levels held over messages with the thirty homes of the shipped street: services, and homes that do not play along.

Voltages are judged by power-grid-model on the whole three-phase network.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.config import NodeSection
from coordinator.demand import NodeView
from coordinator.envelopes.values import Limits
from coordinator.market.assembly import HeldMechanism, Site, make_mechanism
from coordinator.market.desk import Concluded, MarketDesk
from coordinator.market.hierarchy import Ahead, planned
from coordinator.market.settings import MarketSection, out_of_order
from coordinator.mechanisms.hierarchical.households import HouseholdClearing
from coordinator.mechanisms.signals import FloatArray
from coordinator.network.cases import load
from coordinator.powerflow.pgm import PgmEngine
from protocols import codec
from protocols.messages import MarketAnswer, MarketAsk, Plan, SafetyState, Telemetry
from protocols.tariff import PriceWindow

PERIODS = 8
START_S = 999_993_600.0
SUN = np.array([0.0, 0.0, 0.5, 1.0, 0.9, 0.2, 0.0, 0.0])
NETWORK = load(Path(__file__).resolve().parents[3] / "hil" / "networks" / "street")
NAMES = tuple(connection.id for connection in NETWORK.connections)
VMAX_PU = 251.5 / 230.0
SECTION = MarketSection(
    mechanism="hierarchical",
    intervals=PERIODS,
    step_s=3600.0,
    rounds_max=120,
    buy=(PriceWindow(from_h=0.0, price_per_kwh=0.20), PriceWindow(from_h=3.0, price_per_kwh=0.40)),
    sell=(PriceWindow(from_h=0.0, price_per_kwh=0.05),),
)


@dataclass
class Home:
    """Wants its own profile and dislikes moving from it; it may give any part of its sun away."""

    wish_w: FloatArray
    sun_w: FloatArray

    def reply(self, ask: MarketAsk) -> FloatArray:
        weight, target_w, price = ask.weight_per_kwh_w, np.array(ask.target_w), np.array(ask.price_per_kwh)
        return np.clip(target_w - price / weight, self.wish_w, self.wish_w + self.sun_w)


def people(panels_w: float) -> dict[str, Home]:
    rng = np.random.default_rng(3)
    loads = rng.uniform(300.0, 900.0, (len(NAMES), PERIODS))
    return {
        name: Home(wish_w=load_w - panels_w * SUN, sun_w=panels_w * SUN) for name, load_w in zip(NAMES, loads, strict=True)
    }


def plan_of(name: str, net_w: FloatArray) -> Plan:
    return Plan(
        sender=name, time_s=START_S, sequence=1, start_s=START_S, step_s=3600.0, net_import_w=tuple(net_w.tolist()), soc_frac=None,
        made_by="solver",
    )  # fmt: skip


def desk_for(homes: dict[str, Home], section: MarketSection = SECTION, views: dict[str, NodeView] | None = None) -> MarketDesk:
    site = Site(
        connections={name: row for row, name in enumerate(NAMES)},
        losses_per_w2=np.zeros((len(NAMES), len(NAMES))),
        network=NETWORK,
        limits=Limits(vmin_pu=0.94, vmax_pu=VMAX_PU),
        nodes={name: NodeSection(name=name, connection=name, import_rating_w=15e3, export_rating_w=15e3) for name in NAMES},
        views={name: NodeView(plan=plan_of(name, home.wish_w)) for name, home in homes.items()} if views is None else views,
        q_per_w=0.0,
    )

    def make(names: tuple[str, ...], start_s: float) -> HeldMechanism:
        return make_mechanism(section, site, names, start_s)

    return MarketDesk(section, dict.fromkeys(NAMES, 15e3), make, itertools.count(1).__next__)


def hold(
    desk: MarketDesk, homes: dict[str, Home], *, planning: tuple[str, ...] = NAMES, silent: frozenset[str] = frozenset(),
    answering: dict[str, float] | None = None,
) -> Concluded:  # fmt: skip
    """Play rounds every 10 s; every message goes through its bytes. `answering` are homes that say one figure whatever they are asked."""
    now_s, stubborn = START_S, answering or {}
    for name in planning:
        desk.planned(name, now_s)
    for _ in range(400):
        for ask in desk.step(now_s):
            heard = codec.decode(codec.encode(ask), topic=f"commonwatt/1/street/control/{ask.node}/ask")
            assert isinstance(heard, MarketAsk)
            assert heard.secures
            if heard.final or heard.node in silent:
                continue
            net_w = np.full(PERIODS, stubborn[heard.node]) if heard.node in stubborn else homes[heard.node].reply(heard)
            desk.take(
                MarketAnswer(
                    sender=heard.node, time_s=now_s, sequence=heard.sequence, negotiation=heard.negotiation, round=heard.round,
                    net_import_w=tuple(net_w.tolist()), own_cost=0.0,
                )
            )  # fmt: skip
        if desk.latest is not None:
            return desk.latest
        now_s += 10.0
    raise AssertionError("the negotiation never ended")


def highest_v(names: tuple[str, ...], net_w: FloatArray) -> float:
    power = np.zeros((PERIODS, len(NAMES)))
    power[:, [NAMES.index(name) for name in names]] = net_w.T
    low_side = [NETWORK.bus_index[connection.bus] for connection in NETWORK.connections]
    return float(230.0 * np.nanmax(PgmEngine(NETWORK).solve(power, np.zeros_like(power)).voltage_pu[:, low_side]))


def cleared(done: Concluded) -> HouseholdClearing:
    assert isinstance(done.outcome, HouseholdClearing), done.refusal
    return done.outcome


def test_a_street_with_too_much_sun_is_paid_for_what_it_does_not_export() -> None:
    homes = people(5000.0)
    outcome = cleared(hold(desk_for(homes), homes))
    assert highest_v(outcome.names, outcome.market_w) > 253.0, "what was contracted for is not legal"
    assert highest_v(outcome.names, outcome.net_w) < 253.0
    assert outcome.levels.service_w.max() > 1000.0
    assert outcome.service_paid.sum() > 0.5
    given_up_kwh = float(np.maximum(outcome.net_w - outcome.market_w, 0.0).sum()) / 1e3
    assert outcome.service_paid.sum() >= 0.05 * given_up_kwh * 0.95, "no less than what selling it would have earned"


def test_a_street_within_its_limits_is_left_alone() -> None:
    homes = people(1000.0)
    outcome = cleared(hold(desk_for(homes), homes))
    assert not outcome.service_paid.any()
    assert np.allclose(outcome.net_w, outcome.market_w)


def test_a_home_that_never_answers_is_left_out_by_name_and_counted_with_its_plan() -> None:
    homes = people(5000.0)
    done = hold(desk_for(homes), homes, silent=frozenset({"home_05"}))
    outcome = cleared(done)
    assert done.left_out == {"home_05": "did not answer in time"}
    everybody = np.vstack((outcome.net_w, homes["home_05"].wish_w))
    assert outcome.levels.secure.sums.net_w[0] == pytest.approx(everybody.sum(axis=0))
    assert highest_v((*outcome.names, "home_05"), everybody) < 253.0, "the others make room for it"


def test_a_home_that_answers_more_than_its_connection_carries_is_left_out_by_name() -> None:
    homes = people(1000.0)
    done = hold(desk_for(homes), homes, answering={"home_11": 90e3})
    assert cleared(done).names == tuple(name for name in NAMES if name != "home_11")
    assert done.left_out == {"home_11": "answered 90000 W, more than the 15000 W that its connection carries"}


def test_too_few_homes_are_no_community_and_that_is_said() -> None:
    homes = people(1000.0)
    done = hold(desk_for(homes), homes, planning=NAMES[:9])
    assert done.outcome is None
    assert done.mechanism is None
    assert done.refusal is not None
    assert "at most 9 households behind a transformer take part, expected at least 10" in done.refusal
    assert len(done.left_out) == 21


def test_a_community_that_falls_silent_ends_without_an_agreement_and_that_is_said() -> None:
    homes = people(1000.0)
    done = hold(desk_for(homes), homes, silent=frozenset(NAMES[4:]))
    assert done.outcome is None
    assert done.refusal == "community street_tx has 4 members, expected at least 10: its sums would give them away"
    assert set(done.left_out) == set(NAMES[4:])


def test_what_no_price_moves_ends_without_an_agreement_and_that_is_said() -> None:
    homes = people(0.0)
    stubborn = dict.fromkeys(NAMES, -8000.0)
    section = msgspec.structs.replace(SECTION, weight_per_kwh_w=3e-3)
    done = hold(desk_for(homes, section), homes, answering=stubborn)
    assert done.outcome is None
    assert done.refusal is not None
    assert "is not kept within limits at 10 per kWh" in done.refusal


def test_a_home_without_a_plan_counts_with_its_meter_and_one_that_never_spoke_with_the_network_s_file() -> None:
    homes = people(1000.0)
    views = {name: NodeView(plan=plan_of(name, home.wish_w)) for name, home in homes.items()}
    told = Telemetry(
        sender="home_02", time_s=START_S, sequence=1, start_s=START_S, duration_s=300.0, net_import_w=-1234.0, load_w=None, pv_w=None,
        battery_w=None, ev_w=None, soc_frac=None, voltage_v=(), energy_import_wh=None, energy_export_wh=None, import_limit_w=None,
        export_limit_w=None, exceeded_s=0.0, state=SafetyState.ONLINE,
    )  # fmt: skip
    views |= {"home_01": NodeView(), "home_02": NodeView(telemetry=told)}
    done = hold(desk_for(homes, views=views), homes, planning=NAMES[2:])
    outcome = cleared(done)
    base_w = NETWORK.connections[NETWORK.connection_index["home_01"]].p_w
    assert outcome.levels.secure.sums.net_w[0] == pytest.approx(outcome.net_w.sum(axis=0) + base_w - 1234.0)
    assert set(done.left_out) == {"home_01", "home_02"}


def test_a_plan_is_read_at_its_own_times_and_not_after_its_end() -> None:
    plan = plan_of("home_01", np.arange(4.0))
    ahead = Ahead(start_s=START_S + 3600.0, step_s=1800.0, intervals=8)
    found = planned(plan, ahead)
    assert found is not None
    assert found.tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    assert planned(plan, msgspec.structs.replace(ahead, start_s=START_S + 4 * 3600.0)) is None


def test_prices_out_of_order_are_named_with_their_hours_and_selling_earns_no_more_than_buying_costs() -> None:
    wrong = msgspec.structs.replace(SECTION, sell=(PriceWindow(from_h=0.0, price_per_kwh=0.25),))
    assert out_of_order(SECTION) is None
    assert out_of_order(wrong) == "feed-in is above retail (0.25 above 0.2 from 0 h): selling is taken to earn what buying costs"
    homes = people(1000.0)
    outcome = cleared(hold(desk_for(homes, wrong), homes))
    assert np.allclose(outcome.inside_per_kwh[:, :3], 0.2), "nobody is paid the feed-in that is above retail"
    assert np.all(outcome.inside_per_kwh[:, 3:] >= 0.25 - 1e-9)
