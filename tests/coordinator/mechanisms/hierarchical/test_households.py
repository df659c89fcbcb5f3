"""Four levels with households that answer for themselves: the central optimum, a secure network, services, and whoever does not play along.

Answers: the central optimum by cvxpy 1.9 (Clarabel), written again from the docstrings; power flow by power-grid-model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pytest
from answering import KWH_PER_W, MOST_W, Household, central, households, market
from region import CUSTOMERS, PERIODS, TRANSFORMERS, region, tariff

from coordinator.mechanisms.conversation import ConversationError, Talk, converse
from coordinator.mechanisms.hierarchical.households import HouseholdClearing, HouseholdMarket
from coordinator.mechanisms.hierarchical.market import HierarchicalMarket
from coordinator.mechanisms.hierarchical.operator import MarketResponse
from coordinator.mechanisms.signals import NetResponse, NetSignal
from coordinator.powerflow.pgm import PgmEngine

STIFF = region(backbone_ohm=1e-6 + 1e-6j, section_ohm=0.04 + 0.016j, source_pu=1.03)
SUNNY_W = 6000.0


def clear(own: HouseholdMarket, homes: Mapping[str, Household]) -> tuple[Talk[HouseholdClearing], HouseholdClearing]:
    talk = converse(own, homes, max_rounds=200)
    assert talk.outcome is not None
    return talk, talk.outcome


def turnover(homes: Mapping[str, Household]) -> float:
    return sum(float((tariff().retail_per_kwh * np.abs(home.base_w)).sum()) * KWH_PER_W for home in homes.values())


@pytest.mark.parametrize("weight", [3e-5, 1e-4, 3e-4])
def test_households_that_answer_for_themselves_find_the_central_optimum(weight: float) -> None:
    homes = households()
    own = replace(market(homes), weight=weight)
    talk, outcome = clear(own, homes)
    assert own.cost(outcome) - central(own, homes) <= 1e-3 * turnover(homes)
    assert talk.left_out == {}
    assert talk.rounds <= 60


def test_what_one_community_has_over_another_buys_through_the_retailer_within_its_offers() -> None:
    homes = households()
    _, outcome = clear(market(homes), homes)
    offers = tariff()
    assert np.all(outcome.inside_per_kwh >= offers.feed_in_per_kwh - 1e-9)
    assert np.all(outcome.inside_per_kwh <= offers.retail_per_kwh + 1e-9)


def test_a_secure_market_buys_no_service() -> None:
    homes = households(panels_w=2000.0)
    _, outcome = clear(market(homes), homes)
    assert not outcome.service_paid.any()
    assert not outcome.levels.service_w.any()
    assert outcome.levels.voltage_excess_pu <= 0.0


def test_services_keep_the_network_secure_at_the_cost_of_the_central_optimum_and_pay_more_than_they_cost() -> None:
    homes = households(panels_w=SUNNY_W)
    own = market(homes, STIFF)
    _, outcome = clear(own, homes)
    best = central(own, homes, head_pu=1.03)
    assert best > central(own, homes), "the network is in the way"
    assert abs(own.cost(outcome) - best) <= 2e-3 * turnover(homes)
    rows = [STIFF.connection_index[name] for name in outcome.names]
    for nets_w, secure in ((outcome.market_w, False), (outcome.net_w, True)):
        power = np.zeros((PERIODS, len(STIFF.connections)))
        power[:, rows] = nets_w.T
        highest = float(np.nanmax(PgmEngine(STIFF).solve(power, np.zeros_like(power)).voltage_pu))
        assert (highest <= STIFF.vmax_pu) == secure
    assert np.all(outcome.levels.service_paid > 0.0)
    assert outcome.service_paid.sum() == pytest.approx(outcome.levels.service_paid.sum(), rel=1e-6)
    costlier = own.cost(outcome) - (central(own, homes) - 2e-3 * turnover(homes))
    assert outcome.service_paid.sum() >= best - central(own, homes) and costlier > 0.0


def test_levels_3_and_4_hear_sums_of_communities_and_nothing_of_a_household(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[MarketResponse] = []
    listen = HierarchicalMarket.hear

    def overheard(self: HierarchicalMarket, state: object, responses: Mapping[str, MarketResponse]) -> object:
        assert set(responses) == {f"t{number}" for number in range(TRANSFORMERS)}
        heard.extend(responses.values())
        return listen(self, state, responses)  # type: ignore[arg-type]

    monkeypatch.setattr(HierarchicalMarket, "hear", overheard)
    homes = households(panels_w=SUNNY_W)
    own = market(homes, STIFF)
    clear(own, homes)
    ends = {len(area.ends) for area in own.network.areas}
    shapes = {np.shape(getattr(response, item.name)) for response in heard for item in fields(MarketResponse)}
    assert heard
    assert shapes <= {(), (PERIODS,), *((count, PERIODS) for count in ends), *((count,) for count in ends)}


class Silent:
    def respond(self, signal: NetSignal, /) -> NetResponse | None:
        return None


class Nonsense:
    def __init__(self, net_w: float) -> None:
        self.net_w = net_w

    def respond(self, signal: NetSignal, /) -> NetResponse:
        return NetResponse(net_w=np.full(PERIODS, self.net_w), own_cost=0.0)


@pytest.mark.parametrize(
    ("stranger", "words"),
    [
        (Silent(), "did not answer"),
        (Nonsense(float("nan")), "expected 8 finite values"),
        (Nonsense(1e6), "answered 1000000 W, more than the 15000 W that its connection carries"),
    ],
)
def test_whoever_does_not_play_along_is_left_out_by_name_and_counted_with_its_own_plan(stranger: Silent | Nonsense, words: str) -> None:
    homes = households(panels_w=SUNNY_W)
    own = replace(market(homes, STIFF), least_members=CUSTOMERS - 1)
    talk, outcome = clear(own, homes | {"home1_3": stranger})  # type: ignore[dict-item]
    assert set(talk.left_out) == {"home1_3"}
    assert words in talk.left_out["home1_3"]
    assert "home1_3" not in outcome.names
    rows = [outcome.names.index(f"home1_{number}") for number in range(CUSTOMERS) if number != 3]
    together = outcome.net_w[rows].sum(axis=0) + homes["home1_3"].base_w
    assert outcome.levels.secure.sums.net_w[1] == pytest.approx(together)


def test_a_community_that_gets_too_small_is_refused_by_name() -> None:
    homes = households()
    gone = {f"home1_{number}": Silent() for number in range(3)}
    with pytest.raises(ConversationError, match="community t1 has 9 members, expected at least 10: its sums would give them away"):
        converse(market(homes), homes | gone, max_rounds=50)  # type: ignore[arg-type]


def test_more_sun_than_anybody_can_move_is_refused_by_name() -> None:
    homes = households(panels_w=9000.0)
    with pytest.raises(ConversationError, match="is not kept within limits at 10 per kWh"):
        converse(replace(market(homes, STIFF), weight=1e-3), homes, max_rounds=400)


def test_a_plan_that_is_not_a_number_is_refused_with_its_place() -> None:
    own = market(households())
    alone_w = own.alone_w.copy()
    alone_w[4, 2] = np.nan
    with pytest.raises(ConversationError, match=r"\(household home0_4, interval 2\)"):
        replace(own, alone_w=alone_w)


def test_an_answer_at_the_rating_of_the_connection_is_no_flaw() -> None:
    own = market(households())
    assert own.flaw("home0_0", NetResponse(net_w=np.full(PERIODS, -MOST_W))) is None
    assert own.flaw("home0_0", NetResponse(net_w=np.zeros(PERIODS - 1))) is not None
