"""A day from the coordinator's own store, as each may see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import recording
from coordinator import store as tables
from coordinator.config import CoordinatorConfig, FeederSection, IdentitySection, NodeSection, PassiveSection
from coordinator.errors import StoreError
from coordinator.network.cases import load
from coordinator.page.diagram import make_diagram
from coordinator.page.estimate import Estimator
from coordinator.page.replay import STEP_S, Archive
from coordinator.store import Store
from hil.page_world import home_name, write_network
from protocols.messages import SafetyState, Status, Telemetry

HOMES = 8
START_S = 1_800_000_000.0 - 1_800_000_000.0 % STEP_S
PERIOD_S = 300.0


def telemetry(number: int, start_s: float, net_import_w: float) -> Telemetry:
    return Telemetry(
        sender=home_name(number), time_s=start_s + PERIOD_S, sequence=int(start_s), start_s=start_s, duration_s=PERIOD_S,
        net_import_w=net_import_w, load_w=net_import_w, pv_w=None, battery_w=None, ev_w=None, soc_frac=None, voltage_v=(),
        energy_import_wh=None, energy_export_wh=None, import_limit_w=5000.0, export_limit_w=1500.0, exceeded_s=0.0,
        state=SafetyState.CONTROLLED,
    )  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Two steps: in the first all homes report, in the second three of them."""
    write_network(tmp_path / "network", HOMES)
    network = load(str(tmp_path / "network"), vmin_pu=0.94, vmax_pu=1.1)
    config = CoordinatorConfig(
        identity=IdentitySection(community="talk"),
        feeder=FeederSection(network="network"),
        nodes=tuple(
            NodeSection(name=home_name(number), connection=home_name(number), import_rating_w=15e3, export_rating_w=10e3)
            for number in range(HOMES)
        ),
        passive=PassiveSection(high_frac=0.0),
    )
    url = f"sqlite:///{tmp_path / 'c.db'}"
    store = Store(url)
    for number in range(HOMES):
        for part in range(3):
            said = telemetry(number, START_S + part * PERIOD_S, 1000.0 + 300.0 * (part - 1))
            store.add(tables.telemetry, recording.telemetry_row(said, said.time_s))
    for number in range(3):
        said = telemetry(number, START_S + STEP_S, 2000.0)
        store.add(tables.telemetry, recording.telemetry_row(said, said.time_s))
    for sequence, state in enumerate((SafetyState.CONTROLLED, SafetyState.FAILSAFE)):
        status = Status(
            sender=home_name(1), time_s=START_S + 10.0 + sequence, sequence=sequence, state=state, software="x", reasons=("meter silent",)
        )
        store.add(tables.messages, recording.message_row("status", status, status.time_s))
    store.add(tables.events, {"time_s": START_S + 5.0, "kind": "tightened", "message": f"{home_name(4)} gets less"})
    store.flush(START_S)
    store.close()
    estimator = Estimator(config, network)
    return Archive(url, network, make_diagram(network, estimator.node_buses), estimator)


def test_everybody_sees_sums_of_enough_homes_and_no_names(archive: Archive) -> None:
    day = archive.day(START_S, START_S + 2 * STEP_S, all_of_it=False, name=None)
    assert day.net_import_w == [HOMES * 1000.0, None], "the mean of each home, summed; three homes are too few"
    assert day.reporting == [HOMES, 3] and day.own is None
    assert set(day.levels[1]) == {None} and None not in day.levels[0]
    assert not any(home_name(number) in event.text + event.who for event in day.events for number in range(HOMES))
    assert {event.kind for event in day.events} == {"tightened", "failsafe"}


def test_a_household_sees_itself_and_an_administrator_everything(archive: Archive) -> None:
    own = archive.day(START_S, START_S + 2 * STEP_S, all_of_it=False, name=home_name(1))
    assert own.own is not None and own.own["net_import_w"] == [1000.0, 2000.0]
    assert [event.text for event in own.events if event.who == home_name(1)] == ["failsafe: meter silent"]
    whole = archive.day(START_S, START_S + 2 * STEP_S, all_of_it=True, name=None)
    assert whole.net_import_w == [HOMES * 1000.0, 3 * 2000.0]
    assert any(home_name(4) in event.text for event in whole.events)
    assert archive.span() == (START_S + PERIOD_S, START_S + STEP_S + PERIOD_S)


def test_a_store_that_is_not_there_is_one_line(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "c.db").unlink()
    with pytest.raises(StoreError, match="the store cannot be read: unable to open database file"):
        archive.span()
