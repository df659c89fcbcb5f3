"""Envelopes that a coordinator agrees with households over messages: as in one process, verified, and without whoever makes no sense."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.demand import LimitPair
from coordinator.envelopes.compute import prepare
from coordinator.envelopes.values import Limits, Participant, PassiveLoad
from coordinator.market.agreed import agreed_limits
from coordinator.market.assembly import HeldMechanism, LimitedSite, Site, loss_form, make_mechanism, outcome_cost
from coordinator.market.desk import Concluded, MarketDesk
from coordinator.market.settings import MarketSection
from coordinator.market.wire import Heading
from coordinator.mechanisms.conversation import converse
from coordinator.mechanisms.dfe.negotiation import Agreement, EnvelopeNegotiation
from coordinator.mechanisms.dfe.searched import SearchedFeeder
from coordinator.network.cases import load
from coordinator.powerflow.unbalanced import unbalanced_feeder
from edge.envelope_answer import Spread
from edge.market import Respondent
from edge.schedule.model import Battery, BatteryState, Household, ScheduleInputs
from hil.market_ledger import Twin
from protocols import codec
from protocols.messages import Guarantee, MarketAnswer, MarketAsk
from protocols.tariff import PriceWindow

STREET = Path(__file__).resolve().parents[2] / "hil" / "networks" / "street"
NETWORK = load(STREET)
NAMES = tuple(item.id for item in NETWORK.connections[10:16])
STEPS = 8
SECTION = MarketSection(
    mechanism="dfe",
    intervals=STEPS,
    step_s=3600.0,
    buy=(PriceWindow(from_h=0.0, price_per_kwh=0.25),),
    sell=(PriceWindow(from_h=0.0, price_per_kwh=0.10),),
)
NARROW = Limits(vmax_pu=1.09)
"""So low that six homes under the sun cannot all export what they like."""


def site(limits: Limits, default_w: float = 500.0) -> Site:
    index = NETWORK.connection_index
    people = {
        name: Participant(
            connection=name, max_import_w=14e3, max_export_w=20e3, import_floor_w=default_w, export_floor_w=default_w, q_per_w=0.1
        )
        for name in NAMES
    }
    others = tuple(PassiveLoad(connection=item.id, low_w=0.0, high_w=600.0) for item in NETWORK.connections if item.id not in people)
    prepared = prepare(NETWORK, limits)
    return Site(
        connections={name: index[name] for name in NAMES},
        losses_per_w2=loss_form(unbalanced_feeder(NETWORK)),
        network=NETWORK,
        limits=limits,
        nodes={},
        views={},
        q_per_w=0.1,
        limited=lambda: LimitedSite(prepared=prepared, participants=people, passive=others, guarantee=Guarantee.ROBUST),
    )


def desk_for(section: MarketSection, where: Site) -> MarketDesk:
    def make(names: tuple[str, ...], start_s: float) -> HeldMechanism:
        return make_mechanism(section, where, names, start_s)

    return MarketDesk(section, dict.fromkeys(NAMES, 20e3), make, itertools.count(1).__next__)


def homes() -> dict[str, Respondent]:
    """Half of them with batteries, all with sun that has to go somewhere."""
    found = {}
    for place, name in enumerate(NAMES):
        batteries = (Battery(name="b", capacity_wh=8e3, max_charge_w=4e3, max_discharge_w=4e3),) if place % 2 else ()
        household = Household(pv_rated_w=16e3, batteries=batteries)
        inputs = ScheduleInputs(
            start_s=0.0,
            step_s=3600.0,
            p1_load_w=np.linspace(300.0, 1500.0, STEPS) + 100.0 * place,
            p2_load_w=np.zeros(STEPS),
            pv_w=-np.linspace(15e3, 0.0, STEPS),
            import_limit_w=np.full(STEPS, 4000.0),
            export_limit_w=np.full(STEPS, 500.0),
            buy_price_per_kwh=np.full(STEPS, 0.25),
            sell_price_per_kwh=np.full(STEPS, 0.10),
            batteries=(BatteryState(soc_frac=0.2, end_value_per_kwh=0.05),) * len(batteries),
        )
        spread = Spread(shift_w=np.zeros(STEPS), above_w=np.full(STEPS, 100.0))
        found[name] = Respondent(household, inputs, time.monotonic, 60.0, spread)
    return found


def hold(desk: MarketDesk, *, silent: str = "", few: str = "", narrow: str = "", wide: str = "") -> Concluded:
    """Play rounds every 10 s from midnight on; every message goes through its bytes."""
    people, now_s = homes(), 0.0
    for name in NAMES:
        desk.planned(name, now_s)
    for _ in range(400):
        for ask in desk.step(now_s):
            heard = codec.decode(codec.encode(ask), topic="commonwatt/1/street/control/a/ask")
            assert isinstance(heard, MarketAsk)
            if heard.final or heard.node == silent:
                continue
            answer = people[heard.node].reply(heard, heard.node, now_s, heard.sequence)
            assert answer is not None and answer.import_limit_w is not None
            if heard.node == few:
                answer = msgspec.structs.replace(answer, export_limit_w=None)
            if heard.node == narrow:
                answer = msgspec.structs.replace(answer, import_limit_w=tuple(value - 9e3 for value in answer.net_import_w))
            if heard.node == wide:
                answer = msgspec.structs.replace(answer, import_limit_w=(19e3,) * STEPS)
            spoken = codec.decode(codec.encode(answer), topic="commonwatt/1/street/node/a/answer")
            assert isinstance(spoken, MarketAnswer)
            desk.take(spoken)
        if desk.latest is not None:
            return desk.latest
        now_s += 10.0
    raise AssertionError("the negotiation never ended")


@pytest.fixture(scope="module")
def done() -> Concluded:
    return hold(desk_for(SECTION, site(NARROW)))


def agreement(concluded: Concluded) -> Agreement:
    assert isinstance(concluded.outcome, Agreement)
    return concluded.outcome


def test_what_is_agreed_over_messages_is_what_is_agreed_in_one_process(done: Concluded) -> None:
    assert done.left_out == {}
    mechanism = make_mechanism(SECTION, site(NARROW), NAMES, 0.0)
    heading = Heading(mechanism="dfe", negotiation=1, round=0, start_s=0.0, step_s=3600.0, time_s=0.0)
    alone = converse(mechanism, {name: Twin(name, home, heading) for name, home in homes().items()}, max_rounds=SECTION.rounds_max)
    assert alone.outcome is not None
    assert done.rounds == alone.rounds
    live, study = (outcome_cost(mechanism, outcome, 3600.0) for outcome in (agreement(done), alone.outcome))
    assert live == pytest.approx(study, rel=1e-9)
    assert np.allclose(agreement(done).export_limit_w, alone.outcome.export_limit_w, atol=1e-6)


def test_agreed_envelopes_hold_contain_plans_and_are_held_back_by_the_network(done: Concluded) -> None:
    found = agreement(done)
    assert found.check.holds
    assert found.check.highest_voltage.margin < 0.005
    assert np.all(found.net_w <= found.import_limit_w + 1.0)
    assert np.all(-found.net_w <= found.export_limit_w + 1.0)
    assert found.export_limit_w[:, 0].sum() < 0.8 * 6 * 15e3
    assert found.export_limit_w.min() >= 500.0 - 1.0


def test_the_limits_of_an_hour_are_those_agreed_for_it_and_there_are_none_beyond_the_agreement(done: Concluded) -> None:
    limits = agreed_limits(done, 3600.0, 1800.0, 5400.0)
    found = agreement(done)
    assert limits[NAMES[0]] == LimitPair(
        import_w=float(found.import_limit_w[0, :2].max()), export_w=float(found.export_limit_w[0, :2].max())
    )
    assert agreed_limits(done, 3600.0, 7.5 * 3600.0, 8.5 * 3600.0) == {}
    assert agreed_limits(done, 3600.0, -900.0, 0.0) == {}
    assert agreed_limits(None, 3600.0, 0.0, 900.0) == {}


def test_a_home_that_never_answers_is_left_out_by_name_and_keeps_room_for_its_default() -> None:
    concluded = hold(desk_for(SECTION, site(NARROW)), silent=NAMES[2])
    assert concluded.left_out == {NAMES[2]: "did not answer in time"}
    found = agreement(concluded)
    assert found.check.holds and NAMES[2] not in found.names
    assert isinstance(concluded.mechanism, EnvelopeNegotiation) and isinstance(concluded.mechanism.feeder, SearchedFeeder)
    band = next(item for item in concluded.mechanism.feeder.passive if item.connection == NAMES[2])
    assert (band.low_w, band.high_w) == (-500.0, 500.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"few": NAMES[1]}, "expected (3, 8) finite ones"),
        ({"narrow": NAMES[1]}, "does not contain its own net import"),
        ({"wide": NAMES[1]}, "answered import limits from 19000 to 19000 W, asked for 500 to 14000 W"),
    ],
)
def test_a_home_that_answers_nonsense_is_left_out_by_name_and_the_others_agree(wrong: dict[str, str], words: str) -> None:
    concluded = hold(desk_for(SECTION, site(NARROW)), **wrong)
    assert words in concluded.left_out[NAMES[1]]
    assert agreement(concluded).check.holds


def test_a_network_that_the_defaults_alone_break_is_refused_by_name_and_nothing_is_agreed() -> None:
    concluded = hold(desk_for(SECTION, site(NARROW, default_w=18e3)))
    assert concluded.outcome is None
    assert concluded.refusal is not None
    assert "the defaults alone break the network's limits: voltage at bus" in concluded.refusal
