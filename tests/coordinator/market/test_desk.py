"""A mechanism held over messages ends as it does in one process, and goes on without homes that are silent or answer nonsense."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.config import decode_config
from coordinator.envelopes.values import Limits
from coordinator.errors import ConfigError
from coordinator.market.assembly import HeldMechanism, Site, loss_form, make_mechanism, outcome_cost, tariff_of
from coordinator.market.desk import Concluded, MarketDesk
from coordinator.market.settings import MarketSection
from coordinator.mechanisms.conversation import converse
from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal
from coordinator.network.cases import load
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.unbalanced import unbalanced_feeder
from protocols import codec
from protocols.messages import MarketAnswer, MarketAsk
from protocols.tariff import PriceWindow

STREET = Path(__file__).resolve().parents[3] / "hil" / "networks" / "street"
SECTION = MarketSection(
    mechanism="p2p",
    intervals=8,
    step_s=3600.0,
    buy=(PriceWindow(from_h=0.0, price_per_kwh=0.20), PriceWindow(from_h=3.0, price_per_kwh=0.40)),
    sell=(PriceWindow(from_h=0.0, price_per_kwh=0.05),),
)
NAMES = ("a", "b", "c", "d")


@dataclass
class Home:
    """Wants its own profile, dislikes moving from it, and may move by 2 kW."""

    wish_w: FloatArray
    dislike: float

    def respond(self, signal: NetSignal, /) -> NetResponse:
        best = (self.dislike * self.wish_w + signal.weight * signal.target_w - signal.price_per_kwh) / (self.dislike + signal.weight)
        net_w = np.clip(best, self.wish_w - 2000.0, self.wish_w + 2000.0)
        return NetResponse(net_w=net_w, own_cost=float(0.5 * self.dislike * ((net_w - self.wish_w) ** 2).sum() / 1e3))


def homes() -> dict[str, Home]:
    rng = np.random.default_rng(4)
    return {name: Home(wish_w=rng.uniform(-3000.0, 3000.0, 8), dislike=float(rng.uniform(2e-5, 2e-4))) for name in NAMES}


def desk_for(section: MarketSection) -> MarketDesk:
    site = Site(
        connections={name: place for place, name in enumerate(NAMES)}, losses_per_w2=1e-6 * np.eye(len(NAMES)), network=load("ieee33"),
        limits=Limits(), nodes={}, views={}, q_per_w=0.0,
    )  # fmt: skip

    def make(names: tuple[str, ...], start_s: float) -> HeldMechanism:
        return make_mechanism(section, site, names, start_s)

    return MarketDesk(section, dict.fromkeys(NAMES, 8e3), make, itertools.count(1).__next__)


def hold(
    desk: MarketDesk, people: dict[str, Home], *, silent: frozenset[str] = frozenset(), wrong: frozenset[str] = frozenset()
) -> Concluded:
    """Play rounds every 10 s; every message goes through its bytes."""
    now_s = 1000.0
    for name in NAMES:
        desk.planned(name, now_s)
    for _ in range(400):
        for ask in desk.step(now_s):
            heard = codec.decode(codec.encode(ask), topic="commonwatt/1/street/control/a/ask")
            assert isinstance(heard, MarketAsk)
            if heard.final or heard.node in silent:
                continue
            target_w, price = np.array(heard.target_w), np.array(heard.price_per_kwh)
            found = people[heard.node].respond(NetSignal(price_per_kwh=price, target_w=target_w, weight=heard.weight_per_kwh_w))
            net_w = found.net_w[:3] if heard.node in wrong else found.net_w
            desk.take(answer(heard, net_w, found.own_cost))
        if desk.latest is not None:
            return desk.latest
        now_s += 10.0
    raise AssertionError("the negotiation never ended")


def answer(ask: MarketAsk, net_w: FloatArray, own_cost: float) -> MarketAnswer:
    return MarketAnswer(
        sender=ask.node, time_s=ask.time_s, sequence=ask.sequence, negotiation=ask.negotiation, round=ask.round,
        net_import_w=tuple(net_w.tolist()), own_cost=own_cost,
    )  # fmt: skip


@pytest.mark.parametrize("mechanism", ["p2p", "disco"])
def test_what_is_agreed_over_messages_is_what_is_agreed_in_one_process(mechanism: str) -> None:
    section = msgspec.structs.replace(SECTION, mechanism=mechanism)
    done = hold(desk_for(section), homes())
    assert done.outcome is not None
    assert done.left_out == {}
    alone = converse(done.mechanism, homes(), max_rounds=section.rounds_max)
    assert alone.outcome is not None
    assert done.rounds == alone.rounds
    live, study = (outcome_cost(done.mechanism, outcome, section.step_s) for outcome in (done.outcome, alone.outcome))
    assert live == pytest.approx(study, rel=1e-12)
    assert np.allclose(done.outcome.net_w, alone.outcome.net_w, atol=1e-9)


def test_prices_of_an_agreement_lie_between_feed_in_and_retail() -> None:
    done = hold(desk_for(SECTION), homes())
    tariff = tariff_of(SECTION, done.start_s)
    market = getattr(done.outcome, "market_per_kwh")  # noqa: B009
    assert np.all(market >= tariff.feed_in_per_kwh - 1e-12)
    assert np.all(market <= tariff.retail_per_kwh + 1e-12)


def test_a_home_that_never_answers_is_left_out_by_name_and_the_others_agree() -> None:
    done = hold(desk_for(SECTION), homes(), silent=frozenset({"b"}))
    assert done.outcome is not None
    assert done.left_out == {"b": "did not answer in time"}
    assert done.mechanism.groups == ("a", "c", "d")


def test_a_home_that_answers_too_few_values_is_left_out_by_name() -> None:
    done = hold(desk_for(SECTION), homes(), wrong=frozenset({"c"}))
    assert done.outcome is not None
    assert "expected 8 finite values" in done.left_out["c"]


def test_nothing_is_agreed_where_only_one_home_answers() -> None:
    done = hold(desk_for(SECTION), homes(), silent=frozenset({"a", "b", "d"}))
    assert done.outcome is None
    assert set(done.left_out) == {"a", "b", "d"}


def test_a_negotiation_that_does_not_settle_in_time_ends_without_an_agreement() -> None:
    done = hold(desk_for(msgspec.structs.replace(SECTION, rounds_max=2)), homes())
    assert done.outcome is None
    assert done.rounds == 2


def test_an_answer_to_another_round_changes_nothing() -> None:
    desk = desk_for(SECTION)
    for name in NAMES:
        desk.planned(name, 0.0)
    first = desk.step(0.0)
    for ask in first[1:]:
        desk.take(answer(ask, np.full(8, 900.0), 0.0))
    desk.take(answer(msgspec.structs.replace(first[0], round=7), np.zeros(8), 0.0))
    assert desk.step(10.0) == []
    desk.take(answer(first[0], np.full(8, 900.0), 0.0))
    assert {ask.round for ask in desk.step(20.0)} == {1}


def test_homes_whose_plan_is_unknown_are_waited_for_after_a_start_and_then_not_asked() -> None:
    desk = desk_for(SECTION)
    assert desk.step(0.0) == []
    for name in ("a", "c"):
        desk.planned(name, 10.0)
    assert desk.step(10.0) == [], "a market of the first two that have planned would leave everybody else out for a whole period"
    assert {ask.node for ask in desk.step(900.0)} == {"a", "c"}


@pytest.mark.parametrize("power_w", [9e3, -1e9])
def test_a_home_that_answers_more_than_its_connection_carries_is_left_out_by_name(power_w: float) -> None:
    people = homes() | {"c": Home(wish_w=np.full(8, power_w), dislike=1.0)}
    done = hold(desk_for(SECTION), people)
    assert done.outcome is not None
    assert "W, more than the 8000 W that its connection carries" in done.left_out["c"]
    assert np.abs(done.outcome.net_w).max() < 8e3


def test_what_arrives_while_a_round_is_computed_waits_for_the_next_step() -> None:
    desk = desk_for(SECTION)
    for name in NAMES:
        desk.planned(name, 0.0)
    asks = desk.step(0.0)
    for ask in asks:
        desk.take(answer(ask, np.full(8, 900.0), 0.0))
    following = desk.step(10.0)
    desk.take(answer(asks[0], np.full(8, -900.0), 0.0))
    for ask in following:
        desk.take(answer(ask, np.full(8, 900.0), 0.0))
    assert {ask.round for ask in desk.step(20.0)} == {2}, "a late answer is to another round, and is nobody's"


@pytest.mark.parametrize("case", ["ieee33", "street"])
def test_the_loss_form_is_what_power_flow_loses_at_small_loads(case: str) -> None:
    network = load(case if case == "ieee33" else STREET)
    feeder = balanced_feeder(network) if network.is_balanced else unbalanced_feeder(network)
    rng = np.random.default_rng(1)
    size_w = 2e3 if case == "ieee33" else 50.0
    power_w = rng.uniform(-size_w, size_w, (len(network.connections), 6))
    form = loss_form(feeder)
    flow = feeder.solve(power_w.astype(np.complex128), tolerance_pu=1e-13)
    none = feeder.solve(np.zeros((power_w.shape[0], 1), dtype=np.complex128), tolerance_pu=1e-13)
    # What the source gives, and loses in its own impedance, beyond what is drawn and what nothing loses already.
    behind = np.sum(np.abs(flow.feed_current_a[0]) ** 2 * feeder.z_ohm[0].real.diagonal()[:, None], axis=0) * feeder.conductors
    lost_w = flow.source_power_va().real + behind - power_w.sum(axis=0) - none.source_power_va().real
    assert np.einsum("it,ij,jt->t", power_w, form, power_w) == pytest.approx(lost_w, rel=0.15, abs=0.05)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('mechanism = "auction"', "Invalid enum value 'auction'"),
        ('mechanism = "p2p"\ntimezone = "Nowhere"', "at $.market.timezone"),
        ('mechanism = "p2p"\nbuy = [{ from_h = 3.0, price_per_kwh = 0.3 }]', "at $.market.buy"),
        ('mechanism = "p2p"\n[aggregation]\nenabled = true', "at $.market.mechanism"),
    ],
)
def test_a_market_that_makes_no_sense_is_refused_in_one_line(lines: str, words: str) -> None:
    text = (
        '[identity]\ncommunity = "c"\n[feeder]\nnetwork = "ieee33"\n[[nodes]]\nname = "a"\nconnection = "x"\n'
        'import_rating_w = 5e3\nexport_rating_w = 5e3\nkey_files = ["a.pem"]\n[market]\n' + lines
    )
    with pytest.raises(ConfigError) as refusal:
        decode_config(text.encode(), "feeder.toml")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
