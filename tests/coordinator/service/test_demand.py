"""What a node could use is read from what it said about that time, and is its rating where it said nothing."""

from __future__ import annotations

import pytest

from coordinator.config import CoordinatorConfig, EnvelopesSection, FeederSection, IdentitySection, NodeSection, PassiveSection
from coordinator.demand import LimitPair, NodeView, demand_grew, participant, passive_loads, wanted
from coordinator.network.cases import load
from protocols.messages import FlexibilityDeclaration, Forecast, Plan

START_S = 1_700_000_100.0
NODE = NodeSection(name="east", connection="load18", import_rating_w=14_000.0, export_rating_w=10_000.0)
RATING = LimitPair(import_w=14_000.0, export_w=10_000.0)


def config(demand: str = "forecast") -> CoordinatorConfig:
    return CoordinatorConfig(
        identity=IdentitySection(community="c"),
        feeder=FeederSection(network="ieee33"),
        nodes=(NODE,),
        envelopes=EnvelopesSection(demand=demand),
        passive=PassiveSection(low_frac=0.2, high_frac=1.1),
    )


def forecast(quantity: str, low_w: float, high_w: float, steps: int = 12) -> Forecast:
    return Forecast(
        sender="east", time_s=START_S, sequence=1, quantity=quantity, start_s=START_S, step_s=300.0, levels=(0.1, 0.9),  # type: ignore[arg-type]
        values_w=((low_w,) * steps, (high_w,) * steps), measured_coverage=0.9,
    )  # fmt: skip


def view(net_import_w: float = -1000.0) -> NodeView:
    return NodeView(
        load=forecast("load", 200.0, 2300.0),
        pv=forecast("pv", -4000.0, -1000.0),
        plan=Plan(
            sender="east", time_s=START_S, sequence=1, start_s=START_S, step_s=900.0, net_import_w=(net_import_w,) * 4, soc_frac=None,
            made_by="solver",
        ),
        flexibility=FlexibilityDeclaration(
            sender="east", time_s=START_S, sequence=1, start_s=START_S, increase_w=5000.0, decrease_w=5000.0, increase_duration_s=3600.0,
            decrease_duration_s=3600.0, availability_frac=1.0,
        ),
    )  # fmt: skip


def ask(seen: NodeView, start_s: float = START_S, demand: str = "forecast") -> LimitPair:
    return wanted(config(demand), NODE, seen, start_s, start_s + 300.0)


def test_a_node_that_said_nothing_may_want_its_rating() -> None:
    assert ask(NodeView()) == RATING


def test_by_rating_nothing_that_a_node_says_matters() -> None:
    assert ask(view(), demand="rating") == RATING


def test_demand_is_the_most_of_forecast_and_of_plan_with_flexibility_in_steps() -> None:
    """Export: 4000 W PV less 200 W load = 3800 W, or 1000 + 5000 W planned with flexibility. Import: 2300 W load, or 4000 W."""
    assert ask(view()) == LimitPair(import_w=4000.0, export_w=6000.0)
    assert ask(NodeView(load=view().load, pv=view().pv)) == LimitPair(import_w=2500.0, export_w=4000.0)


def test_demand_never_exceeds_the_rating_and_is_never_negative() -> None:
    assert ask(view(net_import_w=13_000.0)).import_w == 14_000.0
    sunless = NodeView(load=forecast("load", 500.0, 900.0), pv=forecast("pv", 0.0, 0.0))
    assert ask(sunless) == LimitPair(import_w=1000.0, export_w=0.0)


@pytest.mark.parametrize("start_s", [START_S - 300.0, START_S + 3600.0])
def test_a_forecast_says_nothing_about_times_that_it_does_not_cover(start_s: float) -> None:
    assert ask(view(), start_s) == RATING


def test_what_must_be_granted_is_granted_even_to_a_node_that_wants_less() -> None:
    floor, little = LimitPair(import_w=3000.0, export_w=1500.0), LimitPair(import_w=10.0, export_w=0.0)
    asked = participant(config(), NODE, floor, little)
    assert (asked.import_floor_w, asked.max_import_w) == (3000.0, 3000.0)
    assert (asked.export_floor_w, asked.max_export_w) == (1500.0, 1500.0)


def test_connections_without_a_node_lie_in_their_band_with_their_power_factor() -> None:
    network = load("ieee33")
    loads = {item.connection: item for item in passive_loads(config(), network)}
    assert "load18" not in loads
    assert len(loads) == 31
    assert (loads["load30"].low_w, loads["load30"].high_w) == (40_000.0, pytest.approx(220_000.0))
    assert loads["load30"].q_per_w == 3.0


def test_demand_that_shrinks_needs_no_new_envelope() -> None:
    small, big = LimitPair(import_w=1.0, export_w=1.0), LimitPair(import_w=2.0, export_w=1.0)
    assert demand_grew({"a": small}, {"a": big})
    assert not demand_grew({"a": big}, {"a": small})
    assert demand_grew({}, {"a": small})
