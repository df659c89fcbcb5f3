"""What the page makes of messages, without any of its shells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from coordinator.config import CoordinatorConfig, FeederSection, IdentitySection, NodeSection, PassiveSection
from coordinator.network.cases import load
from coordinator.network.model import Network
from coordinator.page.board import Board
from coordinator.page.diagram import make_diagram
from coordinator.page.estimate import Estimator, Report
from coordinator.page.settings import PageSection, check_page
from coordinator.page.views import MIN_GROUP
from hil.page_world import home_name, write_network
from protocols import codec
from protocols.bus import BusMessage
from protocols.election.values import Certificate
from protocols.messages import CommunitySignal, ElectionNotice, RoundCall, RoundContent, RoundNotice, SafetyState, Status, Telemetry
from protocols.topics import coordinator_topic, election_topic, node_topic, round_topic

HOMES = 20


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("network")
    write_network(folder, HOMES)
    return load(str(folder), vmin_pu=0.94, vmax_pu=1.1)


def config(*, open_page: bool = False) -> CoordinatorConfig:
    names = [home_name(number) for number in range(HOMES)]
    return CoordinatorConfig(
        identity=IdentitySection(community="talk"),
        feeder=FeederSection(network="network"),
        nodes=tuple(NodeSection(name=name, connection=name, import_rating_w=15e3, export_rating_w=10e3) for name in names),
        passive=PassiveSection(high_frac=0.0),
        page=PageSection(open=open_page),
    )


def board(network: Network, *, open_page: bool = False) -> Board:
    settings = config(open_page=open_page)
    return Board(settings, Estimator(settings, network))


def said(number: int, net_import_w: float, time_s: float) -> BusMessage:
    name = home_name(number)
    message = Telemetry(
        sender=name, time_s=time_s, sequence=int(time_s), start_s=time_s - 60.0, duration_s=60.0, net_import_w=net_import_w, load_w=None,
        pv_w=None, battery_w=None, ev_w=None, soc_frac=None, voltage_v=(), energy_import_wh=None, energy_export_wh=None,
        import_limit_w=5000.0, export_limit_w=1500.0, exceeded_s=0.0, state=SafetyState.CONTROLLED,
    )  # fmt: skip
    return BusMessage(topic=node_topic("talk", name, "telemetry"), payload=codec.encode(message))


def test_a_sum_moves_only_when_enough_homes_reported_anew(network: Network) -> None:
    """Two sums that differ by one report give that report away."""
    shown = board(network)
    for number in range(MIN_GROUP):
        assert shown.public_view().total is None
        shown.take(said(number, 1000.0, 100.0))
    first = shown.public_view().total
    assert first is not None and first.net_import_w == MIN_GROUP * 1000.0
    shown.take(said(0, 9000.0, 160.0))
    assert shown.public_view().total == first
    for number in range(1, MIN_GROUP):
        shown.take(said(number, 1000.0, 161.0))
    second = shown.public_view().total
    assert second is not None and second.net_import_w == 9000.0 + (MIN_GROUP - 1) * 1000.0


def test_the_public_picture_shows_no_branch_to_a_few_homes(network: Network) -> None:
    shown, all_of_it = board(network), board(network, open_page=True)
    for number in range(HOMES):
        for one in (shown, all_of_it):
            one.take(said(number, 3000.0, 100.0))
    public, open_view = shown.public_view(), all_of_it.feeder_view()
    for drawn, hidden, known in zip(shown.diagram.buses, public.loading_pct, open_view.loading_pct, strict=True):
        if drawn.homes_below < MIN_GROUP:
            assert hidden is None
        elif known is not None:
            assert hidden is not None and hidden % 5 == 0 and known <= hidden < known + 5.1
        if drawn.drop:
            assert drawn.parent is not None
            assert public.levels[shown.diagram.buses.index(drawn)] == public.levels[drawn.parent]


def test_what_cannot_be_read_changes_nothing(network: Network) -> None:
    shown = board(network)
    good = said(0, 1000.0, 100.0)
    assert not shown.take(BusMessage(topic=good.topic, payload=b"{}"))
    assert not shown.take(BusMessage(topic="commonwatt/1/talk/nobody/x", payload=good.payload))
    assert not shown.take(BusMessage(topic=node_topic("talk", home_name(1), "telemetry"), payload=good.payload)), "another's name"
    assert shown.refused == 3 and shown.now_s == 0.0


def test_events_without_names_say_what_happened_to_some_home(network: Network) -> None:
    shown = board(network)
    for sequence, state in enumerate((SafetyState.CONTROLLED, SafetyState.FAILSAFE)):
        reasons = ("the meter is silent",)
        status = Status(sender=home_name(3), time_s=100.0 + sequence, sequence=sequence, state=state, software="x", reasons=reasons)
        shown.take(BusMessage(topic=node_topic("talk", home_name(3), "status"), payload=codec.encode(status)))
    (event,) = shown.public_view().facts.events
    assert event.kind == "failsafe" and event.who == "" and "meter" not in event.text and home_name(3) not in event.text
    (whole,) = shown.feeder_view().facts.events
    assert whole.who == home_name(3) and "the meter is silent" in whole.text


def test_a_home_that_fell_silent_no_longer_counts(network: Network) -> None:
    shown = board(network, open_page=True)
    shown.take(said(0, 1000.0, 100.0))
    shown.take(said(1, 500.0, 100.0))
    shown.take(said(1, 500.0, 5000.0))
    view = shown.feeder_view()
    assert view.facts.reporting == 1 and view.total is not None and view.total.net_import_w == 500.0


def test_the_estimate_is_the_power_flow_of_what_was_said(network: Network) -> None:
    """Told the voltages of a grid that stands 3 % higher, the estimate finds the 3 %."""
    estimator = Estimator(config(), network)
    reports = {home_name(number): Report(net_import_w=2500.0) for number in range(HOMES)}
    (plain,) = estimator.at([reports]) or []
    row = estimator.bus_of(home_name(7))
    assert plain.low_v[row] < 0.25 * 1000.0 and np.isfinite(plain.transformer_frac).all()
    measured = {
        name: Report(net_import_w=2500.0, voltage_v=(float(plain.low_v[estimator.bus_of(name)]) * 1.03,)) for name in reports
    }
    (higher,) = estimator.at([measured]) or []
    assert higher.low_v[row] / plain.low_v[row] == pytest.approx(1.03, abs=0.003)
    assert estimator.at([{name: Report(net_import_w=5e6) for name in reports}]) is None, "no power flow, no picture"


@pytest.mark.parametrize("name", ["ieee33", "ieee69", "street"])
def test_every_place_is_drawn_once_and_stands_alone(name: str) -> None:
    where = str(Path(__file__).parents[2] / "hil" / "networks" / "street") if name == "street" else name
    network = load(where, vmin_pu=None, vmax_pu=None)
    nodes = frozenset(network.bus_index[connection.bus] for connection in network.connections)
    diagram = make_diagram(network, nodes)
    drawn = [bus.bus for bus in diagram.buses]
    assert len(set(drawn)) == len(drawn) and nodes <= set(drawn)
    places = [(bus.along, bus.across) for bus in diagram.buses]
    closest = min(math.dist(one, other) for index, one in enumerate(places) for other in places[:index])
    assert closest > 0.25
    assert [index for index, bus in enumerate(diagram.buses) if bus.parent is None] == [0]
    assert all(bus.parent is None or bus.parent < index for index, bus in enumerate(diagram.buses))
    assert diagram.buses[0].homes_below == len(nodes)


def test_the_page_does_not_send_tokens_in_the_clear() -> None:
    assert check_page(PageSection()) is None
    assert "tokens must not cross a network" in (check_page(PageSection(address="0.0.0.0")) or "")
    assert check_page(PageSection(address="0.0.0.0", tls_cert_file="a.pem", tls_key_file="a.key")) is None
    assert "belong together" in (check_page(PageSection(tls_cert_file="a.pem")) or "")
    assert "expected an IP address" in (check_page(PageSection(address="example.org")) or "")


def test_leader_round_and_price_are_what_was_said_last(network: Network) -> None:
    shown = board(network)
    votes = Certificate(epoch=1, term=3, leader=home_name(2), held=1, backups=(), votes=())
    older = Certificate(epoch=1, term=2, leader=home_name(5), held=1, backups=(), votes=())
    for number, certificate in ((2, votes), (5, older)):
        notice = ElectionNotice(sender=home_name(number), time_s=100.0, sequence=1, body=certificate)
        shown.take(BusMessage(topic=election_topic("talk", home_name(number), "certificate"), payload=codec.encode(notice)))
    call = RoundCall(
        round_name="3:7", epoch=1, key_id="0" * 16, seats="ff", previous="0" * 64, content=RoundContent.PLAN, start_s=100.0, step_s=900.0,
        closes_s=160.0,
    )  # fmt: skip
    notice_of_call = RoundNotice(sender=home_name(2), time_s=101.0, sequence=2, body=call)
    shown.take(BusMessage(topic=round_topic("talk", home_name(2), "call"), payload=codec.encode(notice_of_call)))
    signal = CommunitySignal(
        sender="coordinator", time_s=102.0, sequence=3, negotiation=1, term=3, iteration=4, final=True, start_s=100.0, step_s=900.0,
        rho_per_kwh_w=0.0, price_per_kwh=(0.21, 0.19), excess_w=(0.0, 0.0),
    )  # fmt: skip
    shown.take(BusMessage(topic=coordinator_topic("talk", "signal"), payload=codec.encode(signal)))
    facts = shown.public_view().facts
    assert (facts.term, facts.round_name, facts.round_state) == (3, "3:7", "called")
    assert facts.price is not None and facts.price.per_kwh == (0.21, 0.19) and facts.price.final
    assert shown.feeder_view().leader == home_name(2)
    assert home_name(2) not in str(shown.public_view()), "a leader is a household too"
