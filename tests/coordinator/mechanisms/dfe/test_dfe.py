"""Communities and operator agree on envelopes: margins, refusals, the optimum, and what the network allows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from coordinator.envelopes.values import Limits
from coordinator.mechanisms.conversation import ConversationError, converse
from coordinator.mechanisms.dfe.asked import Answer, Asked
from coordinator.mechanisms.dfe.central import CentralProblem
from coordinator.mechanisms.dfe.community import EnergyCommunity
from coordinator.mechanisms.dfe.feeder import OperatedFeeder, with_communities
from coordinator.mechanisms.dfe.negotiation import EnvelopeNegotiation, Tariff
from coordinator.mechanisms.dfe.uncertainty import Uncertainty, deviations, discarded, margins_w
from coordinator.network.cases import load_case

HOURS = 6
SUN = np.array([0.0, 0.2, 0.9, 1.0, 0.4, 0.0])
LOAD = np.array([0.6, 0.5, 0.4, 0.5, 0.8, 1.0])


def community(name: str, bus: str, *, load_w: float, sun_w: float) -> EnergyCommunity:
    return EnergyCommunity(
        name=name, bus=bus, step_s=3600.0, connection_w=1.5e6, fixed_load_w=load_w * LOAD, flexible_max_w=np.full(HOURS, 0.3 * load_w),
        flexible_wh=0.5 * load_w, sun_w=sun_w * SUN, wind_w=np.full(HOURS, 0.1 * sun_w), generator_w=100e3, generator_per_kwh=0.12,
        generator_per_kwh_kw=0.0001, storage_wh=400e3, storage_w=100e3, storage_efficiency_frac=0.95, storage_initial_frac=0.5,
        wear_per_kwh=0.01, unserved_per_kwh=5.0, width_per_kwh=0.002, margin_above_w=np.full(HOURS, 20e3),
        margin_below_w=np.full(HOURS, 30e3),
    )  # fmt: skip


COMMUNITIES = (
    community("north", "32", load_w=200e3, sun_w=600e3),
    community("east", "49", load_w=500e3, sun_w=100e3),
    community("south", "60", load_w=200e3, sun_w=800e3),
)
NAMES = tuple(item.name for item in COMMUNITIES)


def feeder(*, vmin_pu: float = 0.92, vmax_pu: float = 1.05, members: tuple[EnergyCommunity, ...] = COMMUNITIES) -> OperatedFeeder:
    plain = load_case("ieee69")
    network = with_communities(plain, [item.name for item in members], [item.bus for item in members])
    load = np.outer(plain.base_power_w() + 1j * plain.base_reactive_var(), 0.7 * LOAD)
    return OperatedFeeder(network=network, load_va=load, limits=Limits(vmin_pu=vmin_pu, vmax_pu=vmax_pu))


def tariff() -> Tariff:
    return Tariff(buy_per_kwh=np.array([0.2, 0.2, 0.2, 0.2, 0.35, 0.35]), sell_per_kwh=np.full(HOURS, 0.08))


def negotiation(operated: OperatedFeeder, weight: float = 2e-7) -> EnvelopeNegotiation:
    return EnvelopeNegotiation(
        names=NAMES, feeder=operated, tariff=tariff(), loss_per_kwh=0.2, weight=weight, tolerance_w=60.0, tolerance_per_kwh=8.5e-5,
        clearance_pu=1e-4,
    )  # fmt: skip


def central(operated: OperatedFeeder) -> CentralProblem:
    return CentralProblem(communities=COMMUNITIES, feeder=operated, tariff=tariff(), loss_per_kwh=0.2, clearance_pu=1e-4)


RESPONDERS = {item.name: item for item in COMMUNITIES}


@pytest.mark.parametrize(("weight", "vmax_pu"), [(2e-8, 1.05), (2e-5, 1.05), (2e-7, 1.0015)])
def test_the_agreement_is_the_central_optimum_and_every_corner_of_it_holds(weight: float, vmax_pu: float) -> None:
    operated = feeder(vmax_pu=vmax_pu)
    talk = converse(negotiation(operated, weight), RESPONDERS, max_rounds=100)
    agreed = talk.outcome
    assert agreed is not None
    assert agreed.check.holds
    assert agreed.check.corners == 2 ** len(COMMUNITIES) * HOURS
    problem = central(operated)
    optimum = problem.cost(problem.optimum())
    ours = problem.exchange_cost(agreed.net_w) + sum(
        item.cost(item.inside(agreed.net_w[place])) for place, item in enumerate(COMMUNITIES)
    )
    assert ours <= optimum + 1e-3 * abs(optimum)
    for place, item in enumerate(COMMUNITIES):
        assert np.all(agreed.net_w[place] + item.margin_above_w <= agreed.import_limit_w[place] + 1.0)
        assert np.all(-agreed.net_w[place] + item.margin_below_w <= agreed.export_limit_w[place] + 1.0)


def test_a_tight_voltage_limit_narrows_what_is_agreed() -> None:
    wide, tight = (converse(negotiation(feeder(vmax_pu=limit)), RESPONDERS, max_rounds=100).outcome for limit in (1.05, 1.0015))
    assert wide is not None
    assert tight is not None
    assert wide.check.highest_voltage.value > 1.0015
    assert tight.export_limit_w.sum() < wide.export_limit_w.sum() - 1e4


def test_the_price_lies_between_feed_in_and_retail_where_losses_cost_nothing() -> None:
    talk = converse(replace(negotiation(feeder()), loss_per_kwh=0.0), RESPONDERS, max_rounds=100)
    assert talk.outcome is not None
    assert np.all(talk.outcome.price_per_kwh <= tariff().buy_per_kwh + 2e-3)
    assert np.all(talk.outcome.price_per_kwh >= tariff().sell_per_kwh - 2e-3)


def test_trades_between_communities_cancel() -> None:
    agreed = converse(negotiation(feeder()), RESPONDERS, max_rounds=100).outcome
    assert agreed is not None
    sold = agreed.sold_to_peers_w
    assert np.allclose(sold.sum(axis=0), 0.0, atol=1e-6)
    assert np.all(sold <= (-agreed.net_w).clip(min=0.0) + 1e-6)
    assert np.all(-sold <= agreed.net_w.clip(min=0.0) + 1e-6)


@dataclass(frozen=True)
class Liar:
    answer: Answer | None

    def respond(self, asked: Asked, /) -> Answer | None:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "did not answer"),
        (Answer(wish_w=np.full((3, HOURS), np.nan)), "finite"),
        (Answer(wish_w=np.array([np.full(HOURS, 5e3), np.zeros(HOURS), np.zeros(HOURS)])), "does not contain"),
    ],
)
def test_a_community_that_answers_nothing_or_nonsense_is_left_out_and_named(answer: Answer | None, words: str) -> None:
    talk = converse(negotiation(feeder()), {**RESPONDERS, "east": Liar(answer)}, max_rounds=100)
    assert words in talk.left_out["east"]
    assert talk.outcome is not None
    assert talk.outcome.names == ("north", "south")
    assert talk.outcome.net_w.shape == (2, HOURS)


def test_losses_are_modelled_as_the_exact_power_flow_has_them() -> None:
    operated = feeder()
    net = np.outer([-200e3, 150e3, -300e3], np.ones(HOURS))
    quadratic, linear = operated.loss_form
    model = operated.base_losses_w + np.einsum("it,tij,jt->t", net, quadratic, net) + (linear * net).sum(axis=0)
    assert np.allclose(model, operated.losses_va(net).real, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sun_w": np.full(HOURS, np.nan)}, "sun_w is negative or not a finite number"),
        ({"storage_wh": -1.0}, "storage_wh is negative"),
        ({"flexible_wh": 1e9}, "flexible load needs"),
        ({"margin_above_w": np.full(HOURS, 2e6)}, "does not fit a connection"),
    ],
)
def test_a_community_with_impossible_data_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConversationError, match=words):
        replace(COMMUNITIES[0], **change)  # type: ignore[arg-type]


def test_prices_out_of_order_are_refused_with_their_interval() -> None:
    with pytest.raises(ConversationError, match="interval 2"):
        Tariff(buy_per_kwh=np.full(HOURS, 0.2), sell_per_kwh=np.array([0.1, 0.1, 0.3, 0.1, 0.1, 0.1]))


def test_a_bus_that_does_not_exist_and_a_feeder_without_solution_are_refused() -> None:
    with pytest.raises(ConversationError, match="no bus 99"):
        with_communities(load_case("ieee69"), ["lost"], ["99"])
    plain = load_case("ieee69")
    with pytest.raises(ConversationError, match="no power-flow solution in interval 0"):
        OperatedFeeder(
            network=with_communities(plain, ["a"], ["22"]), load_va=np.full((len(plain.connections), 1), 1e6 + 0j), limits=Limits()
        )


def test_margins_are_those_of_the_inequalities() -> None:
    assert deviations(Uncertainty.GAUSSIAN, 0.9) == pytest.approx(1.281552, abs=1e-6)
    assert deviations(Uncertainty.UNIMODAL, 0.9) == pytest.approx(np.sqrt(4.0 / 0.9 - 1.0))
    assert deviations(Uncertainty.CANTELLI, 0.9) == pytest.approx(3.0)


def test_the_unimodal_bound_is_continuous_where_its_formula_changes() -> None:
    below, above = deviations(Uncertainty.UNIMODAL, 5 / 6 - 1e-9), deviations(Uncertainty.UNIMODAL, 5 / 6 + 1e-9)
    assert below == pytest.approx(above, abs=1e-6)


def test_discarded_samples_keep_the_promise_of_the_binomial_tail() -> None:
    for samples, confidence in ((1000, 0.9), (459, 0.99), (300, 0.8)):
        left_out = discarded(samples, confidence)
        assert stats.binom.cdf(left_out, samples, 1.0 - confidence) <= 0.01
        assert stats.binom.cdf(left_out + 1, samples, 1.0 - confidence) > 0.01
    with pytest.raises(ConversationError, match="at least 459"):
        discarded(458, 0.99)


def test_margins_from_samples_cover_fresh_errors() -> None:
    rng = np.random.default_rng(4)
    above, below = margins_w(Uncertainty.SAMPLES, 0.95, rng.exponential(1.0, (3, 2000)) - 1.0)
    fresh = rng.exponential(1.0, 100_000) - 1.0
    assert all(np.mean(fresh > margin) <= 0.055 for margin in above)
    assert all(np.mean(fresh < -margin) <= 0.055 for margin in below)


@pytest.mark.parametrize("confidence", [0.2, 1.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ConversationError, match="confidence"):
        deviations(Uncertainty.GAUSSIAN, confidence)
