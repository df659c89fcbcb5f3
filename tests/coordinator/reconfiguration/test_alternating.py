"""Market and switching in turns: the potential falls with every step that is taken, and nothing is taken that breaks a limit."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from coordinator.network.cases import load_case
from coordinator.network.model import Network
from coordinator.reconfiguration import ReconfigurationError, SwitchingCosts, SwitchingTariff
from coordinator.reconfiguration.alternating import Cleared, alternate
from coordinator.reconfiguration.loops import IntArray

TARIFF = SwitchingTariff(step_s=3600.0, loss_price_per_kwh=0.2, operation_price=0.5)


def start(network: Network, factors: tuple[float, ...] = (0.6, 1.0, 0.8)) -> Cleared:
    base = network.base_power_w() + 1j * network.base_reactive_var()
    return Cleared(power_va=base[:, None] * np.array(factors), cost=100.0)


def test_switching_alone_takes_the_proven_optimum_where_operations_are_cheap() -> None:
    network = load_case("ieee33")
    end = alternate(network, start(network, (1.0,)), None, TARIFF)
    assert end.loss_wh == pytest.approx(139551, abs=1.0)
    assert end.operations == 8
    assert end.settled
    assert end.potential == pytest.approx(100.0 + 0.2 * 139.551 + 0.5 * 8, abs=1e-3)


def test_a_market_that_offers_worse_is_refused_and_the_potential_never_rises() -> None:
    network = load_case("ieee33")
    offers = iter((0.9, 1.2, 0.8, 1.0, 1.0, 1.0))

    def clear(open_sets: IntArray, present: Cleared) -> Cleared:
        factor = next(offers)
        return Cleared(power_va=factor * start(network).power_va, cost=100.0 * factor)

    end = alternate(network, start(network), clear, TARIFF)
    taken = [item.potential for item in end.history if item.accepted]
    assert all(later < earlier for earlier, later in itertools.pairwise(taken))
    assert {item.accepted for item in end.history if item.name == "market"} == {True, False}
    assert end.settled
    assert min(item.potential for item in end.history) == end.potential


def test_a_cheap_market_that_breaks_a_limit_is_refused() -> None:
    network = load_case("ieee33")

    def clear(open_sets: IntArray, present: Cleared) -> Cleared:
        return Cleared(power_va=1.6 * present.power_va, cost=0.0)

    end = alternate(network, start(network), clear, TARIFF, may_switch=False)
    assert [item.accepted for item in end.history] == [True, False]
    assert end.history[1].potential == float("inf")
    assert end.cleared.cost == 100.0


def test_an_iteration_that_is_cut_short_says_so() -> None:
    network = load_case("ieee33")
    assert not alternate(network, start(network), None, TARIFF, max_rounds=1).settled


def test_a_start_that_breaks_limits_is_refused_by_name() -> None:
    network = msgspec.structs.replace(load_case("ieee33"), vmin_pu=0.95)
    with pytest.raises(ReconfigurationError, match="ieee33: the present configuration breaks limits"):
        alternate(network, start(network), None, TARIFF)


def test_the_value_of_the_end_is_what_its_parts_cost() -> None:
    network = load_case("ieee69")
    end = alternate(network, start(network), None, TARIFF)
    costs = SwitchingCosts(network, end.cleared.power_va)
    losses_w = costs.losses_w(end.open_sets)[np.arange(3), np.arange(3)]
    assert end.loss_wh == pytest.approx(float(losses_w.sum()))
