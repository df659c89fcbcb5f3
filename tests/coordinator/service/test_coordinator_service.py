"""The service publishes rolling verified envelopes, remembers what it hears, and keeps its promises while things break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from coordinator import store as tables
from coordinator.config import DefaultsSection, EnvelopesSection, NodeSection
from coordinator.envelopes import EnvelopeProblem, EnvelopeResult, Infeasible, compute_envelopes
from coordinator.envelopes.certificate import Check, Extreme
from coordinator.errors import ConfigError, UnverifiedEnvelopeError
from coordinator.market.desk import Concluded
from coordinator.market.settings import MarketSection
from coordinator.mechanisms.dfe.negotiation import Agreement
from coordinator.powerflow.pgm import PgmEngine
from coordinator.speaking import status_message
from protocols.messages import (
    ControlResponse,
    DefaultControl,
    EnvelopeSchedule,
    Forecast,
    Guarantee,
    MarketAnswer,
    MarketAsk,
    Plan,
    ResponseStatus,
    SafetyState,
    Status,
    Telemetry,
)
from protocols.signing import Sequencer
from tests.coordinator.service.service_world import COMMUNITY, HOMES, KEYS, START_S, Feeder, settings, street, telemetry


async def test_every_node_gets_a_default_and_contiguous_verified_controls(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    record = await feeder.step()
    assert (record.computed, record.published, record.problems) == (6, 18, ())
    for home in feeder.homes.values():
        assert home.default().guarantee is Guarantee.ROBUST
        assert home.default().export_limit_w == 1500.0
        controls = home.controls()
        assert {control.guarantee for control in controls} == {Guarantee.ROBUST}
        assert controls[0].start_s <= feeder.clock.now_s()
        assert [a.start_s + a.duration_s for a in controls[:-1]] == [b.start_s for b in controls[1:]]
        assert all(control.import_limit_w >= 3000.0 and control.export_limit_w >= 1500.0 for control in controls)


async def test_a_market_whose_questions_cannot_be_said_ends_without_an_agreement_and_the_service_goes_on(tmp_path: Path) -> None:
    """Connections rated at the largest power that a message may hold let targets go beyond it."""
    nodes = tuple(msgspec.structs.replace(node, import_rating_w=1e9) for node in settings().nodes)
    section = MarketSection(mechanism="p2p", intervals=4, loss_per_kwh=0.0, patience_s=5.0)
    feeder = Feeder(tmp_path, settings(market=section, nodes=nodes))
    await feeder.service.start()
    for home in HOMES:
        feeder.say(home, "plan", Plan, start_s=START_S, step_s=900.0, net_import_w=(0.0,) * 4, soc_frac=None, made_by="solver")
    await feeder.step()
    asks = [message for home in feeder.homes.values() for message in home.said if isinstance(message, MarketAsk)]
    assert {ask.node for ask in asks} == set(HOMES)
    for ask in asks:
        fields = {"negotiation": ask.negotiation, "round": ask.round, "net_import_w": (1e9,) * 4, "own_cost": 0.0}
        feeder.say(ask.node, "answer", MarketAnswer, **fields)
    await feeder.step(1.0)
    record = await feeder.step(6.0)
    assert record.problems == ()
    feeder.service.ingest()
    words = [row["message"] for row in feeder.store.rows(tables.events) if row["kind"] == "market"]
    assert any("cannot be asked" in said for said in words)
    assert any("not agreed" in said and "h1: did not answer in time" in said for said in words)


def agreed_on(start_s: float, import_w: dict[str, float]) -> Concluded:
    """Import limits that were agreed for an hour, and nothing else."""
    series = np.array(list(import_w.values()))[:, None] * np.ones(4)
    extreme = Extreme(value=1.0, limit=1.1, margin=0.1, where="x")
    check = Check(
        engine="none", method="none", corners=0, converged=True, highest_voltage=extreme, lowest_voltage=extreme, line=None,
        transformer=None,
    )  # fmt: skip
    outcome = Agreement(
        names=tuple(import_w), net_w=0.0 * series, import_limit_w=series, export_limit_w=0.0 * series, price_per_kwh=0.0 * series,
        check=check, rounds=1,
    )  # fmt: skip
    return Concluded(number=1, start_s=start_s, mechanism=None, outcome=outcome, rounds=1, messages=0, left_out={})


async def test_what_was_agreed_is_in_the_next_envelopes_and_it_is_told_where_what_is_out_leaves_no_room_for_it(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path, settings(market=MarketSection(mechanism="dfe", intervals=4, step_s=900.0)))
    await feeder.service.start()
    await feeder.step()
    before = feeder.homes["h1"].controls()
    most_w = before[-1].import_limit_w
    assert most_w is not None and feeder.service.market is not None
    feeder.service.market.agreed = agreed_on(feeder.clock.now_s() // 900.0 * 900.0, {"h1": most_w + 200.0})
    await feeder.step(300.0)
    newest = {control.start_s: control.import_limit_w for control in feeder.homes["h1"].controls()}
    assert newest[before[-1].start_s] == most_w
    assert newest[before[-1].start_s + 300.0] == most_w + 200.0
    await feeder.step(300.0)
    words = [row["message"] for row in feeder.store.rows(tables.events) if row["kind"] == "market"]
    assert len(words) == 5, "once for each interval that was out already"
    assert all("what was agreed does not go with what is out: passive loads and floors alone can break" in said for said in words)


async def test_the_published_box_is_legal_at_all_corners_in_another_engine(tmp_path: Path) -> None:
    """All 2^4 corners of three homes and the lamp by power-grid-model, which the envelope computation does not use."""
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    await feeder.step()
    newest = [home.controls()[0] for home in feeder.homes.values()]
    low = np.array([*(-float(control.export_limit_w) for control in newest), 0.0])  # type: ignore[arg-type]
    high = np.array([*(float(control.import_limit_w) for control in newest), 900.0])  # type: ignore[arg-type]
    corner = (np.arange(16)[:, None] >> np.arange(4)) & 1
    p_w = np.where(corner == 1, high, low)
    q_var = np.zeros_like(p_w)
    q_var[:, 3] = p_w[:, 3] / 3.0
    result = PgmEngine(street()).solve(p_w, q_var)
    assert np.nanmax(result.voltage_pu[:, 1:]) <= 1.10 + 1e-6
    assert np.nanmin(result.voltage_pu[:, 1:]) >= 0.94 - 1e-6
    assert np.nanmax(result.line_current_a) <= 100.0 * (1 + 1e-6)
    worst = np.nanmax(result.voltage_pu[:, 1:]), np.nanmin(result.voltage_pu[:, 1:]), np.nanmax(result.line_current_a)
    assert worst[0] > 1.09 or worst[1] < 0.95 or worst[2] > 99.0, "the box uses the feeder"


async def test_a_period_later_only_the_new_interval_is_published(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    await feeder.step()
    assert (await feeder.step(150.0)).published == 0
    record = await feeder.step(150.0)
    assert (record.computed, record.published) == (1, 3)


async def test_everything_pending_is_said_again_from_time_to_time_unchanged(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    for _ in range(12):
        await feeder.step(300.0)
    controls = feeder.homes["h1"].controls()
    by_mrid = {control.mrid: control for control in controls}
    assert len(controls) > len(by_mrid)
    assert all(by_mrid[control.mrid] == control for control in controls)
    assert len({control.start_s for control in controls}) == len(by_mrid)


async def test_a_node_that_fell_back_to_its_default_is_told_everything_again(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    await feeder.step()
    feeder.homes["h2"].said.clear()
    feeder.say("h2", "status", Status, state=SafetyState.DEFAULT, software="edge 1")
    record = await feeder.step(1.0)
    assert record.published == 6
    assert len(feeder.homes["h2"].controls()) == 6


async def test_telemetry_is_recorded_once_with_units_and_nulls(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    feeder.say("h1", "telemetry", Telemetry, **telemetry(START_S - 60.0))
    assert (await feeder.step(1.0)).received == 1
    row = feeder.store.rows(tables.telemetry)[0]
    assert (row["node"], row["net_import_w"], row["voltage_1_v"], row["soc_frac"]) == ("h1", -500.0, 231.5, None)
    assert row["export_limit_w"] == 0.0


async def test_a_forged_or_replayed_message_changes_nothing_and_is_an_event(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    spy = feeder.broker.client()
    spy.subscribe(f"commonwatt/1/{COMMUNITY}/node/+/telemetry")
    spy.connect()
    feeder.say("h1", "telemetry", Telemetry, key="thief", **telemetry(START_S))
    feeder.say("h2", "telemetry", Telemetry, **telemetry(START_S))
    spy.publish(spy.receive()[1])
    record = await feeder.step(1.0)
    assert record.refused == {"UnknownSender": 1, "Replayed": 1}
    assert [row["node"] for row in feeder.store.rows(tables.telemetry)] == ["h2"]
    assert len(feeder.store.rows(tables.events)) == 2


async def test_a_flood_of_bad_messages_fills_neither_memory_nor_disk(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    for _ in range(500):
        feeder.say("h1", "telemetry", Telemetry, key="thief", **telemetry(START_S))
    assert (await feeder.step(1.0)).refused == {"UnknownSender": 500}
    assert len(feeder.store.rows(tables.events)) == 50


async def test_after_a_restart_nothing_is_forgotten_and_nothing_repeated(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    await feeder.step()
    before = feeder.homes["h1"].controls()
    feeder.say("h1", "telemetry", Telemetry, **telemetry(START_S))
    replay = feeder.bus.receive()
    await feeder.service.stop()
    feeder.boot()
    await feeder.service.start()
    feeder.homes["h1"].said.clear()
    await feeder.step(10.0)
    assert feeder.homes["h1"].controls() == before
    assert replay


async def test_a_full_disk_stops_new_controls_and_says_so_and_the_service_goes_on(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path, buffer_rows=100)
    await feeder.service.start()
    await feeder.step()
    pages = 1

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    feeder.store.close()
    sa.event.listen(feeder.store._engine, "connect", limit)
    for home in feeder.homes.values():
        home.said.clear()
    for minute in range(200):
        feeder.say("h1", "telemetry", Telemetry, **telemetry(START_S + 60.0 * minute))
        record = await feeder.step(60.0)
        if minute == 0:
            assert record.problems == ()
    assert any(problem.startswith("store: ") and "full" in problem for problem in record.problems)
    assert feeder.store.waiting <= 104, "the buffer, and the rows of the publication that was not stored"
    said = [message for message in feeder.homes["h1"].said if isinstance(message, Status)]
    assert any("full" in reason for reason in said[-1].reasons)
    stored = {row["mrid"] for row in feeder.store.rows(tables.controls)}
    assert {control.mrid for control in feeder.homes["h1"].controls()} <= stored
    pages = 1_000_000
    feeder.store.close()
    record = await feeder.step(60.0)
    assert record.problems == ()
    assert record.published > 0
    lost = [row["message"] for row in feeder.store.rows(tables.events) if row["kind"] == "rows-lost"]
    kept = len(feeder.store.rows(tables.telemetry))
    assert 0 < kept < 200
    assert lost and f"{200 - kept} of telemetry" in lost[0]


async def test_a_default_that_is_not_safe_for_all_at_once_is_reduced(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path, settings(defaults=DefaultsSection(export_w=10_000.0, import_w=14_000.0)))
    await feeder.service.start()
    record = await feeder.step()
    assert any(problem.startswith("default-reduced") for problem in record.problems)
    default = feeder.homes["h1"].default()
    assert isinstance(default.export_limit_w, float) and isinstance(default.import_limit_w, float)
    assert 0.0 < default.export_limit_w < 10_000.0 or 0.0 < default.import_limit_w < 14_000.0
    assert default.guarantee is Guarantee.ROBUST


async def test_a_feeder_that_cannot_carry_its_lamps_publishes_no_envelope(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path, network=street(ampacity_a=0.5))
    await feeder.service.start()
    record = await feeder.step()
    assert record.published == 0
    assert any(problem.startswith("no-default") for problem in record.problems)
    assert not any(isinstance(message, EnvelopeSchedule | DefaultControl) for message in feeder.homes["h1"].said)


async def test_a_result_of_another_class_than_asked_is_never_published(tmp_path: Path) -> None:
    def weaker(problem: EnvelopeProblem) -> EnvelopeResult | Infeasible:
        return compute_envelopes(msgspec.structs.replace(problem, guarantee=Guarantee.COINCIDENT))

    feeder = Feeder(tmp_path, compute=weaker)
    with pytest.raises(UnverifiedEnvelopeError, match="robust"):
        await feeder.service.start()


async def test_limits_grow_when_a_node_wants_more_and_contain_what_was_said(tmp_path: Path) -> None:
    section = EnvelopesSection(horizon_s=1800.0, demand="forecast", demand_step_w=500.0)
    feeder = Feeder(tmp_path, settings(envelopes=section))
    await feeder.service.start()

    def forecast(load_w: float) -> None:
        for home in HOMES:
            for quantity, value in (("load", load_w), ("pv", 0.0)):
                feeder.say(
                    home, "forecast", Forecast, quantity=quantity, start_s=START_S - 300.0, step_s=300.0, levels=(0.1, 0.9),
                    values_w=((-value if quantity == "pv" else value,) * 24, (value,) * 24), measured_coverage=None,
                )  # fmt: skip

    forecast(3200.0)
    await feeder.step()
    first = {control.start_s: control for control in feeder.homes["h1"].controls()}
    assert {control.import_limit_w for control in first.values()} <= {3499.0, 3500.0}
    forecast(4200.0)
    assert (await feeder.step(300.0)).computed > 0
    later = {control.start_s: control for control in feeder.homes["h1"].controls()}
    grown = [start_s for start_s in first if later[start_s].mrid != first[start_s].mrid]
    assert grown
    assert {later[start_s].import_limit_w for start_s in grown} <= {4499.0, 4500.0}


async def test_an_acknowledged_control_replaces_what_was_outstanding(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    await feeder.step()
    mrid = feeder.homes["h1"].controls()[0].mrid
    feeder.say("h1", "response", ControlResponse, mrid=mrid, status=ResponseStatus.RECEIVED)
    await feeder.step(1.0)
    assert feeder.store.rows(tables.responses)[0]["status"] == 1


async def test_a_new_session_brings_default_and_schedule_again(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    await feeder.service.start()
    await feeder.step()
    feeder.bus.cut()
    await feeder.step(1.0)
    feeder.bus.connect()
    feeder.homes["h3"].said.clear()
    await feeder.step(1.0)
    assert feeder.homes["h3"].default().import_limit_w == 3000.0
    assert len(feeder.homes["h3"].controls()) == 6


def test_a_node_without_a_connection_is_refused_before_anything_starts(tmp_path: Path) -> None:
    stranger = NodeSection(name="h9", connection="c9", import_rating_w=1.0, export_rating_w=1.0)
    with pytest.raises(ConfigError, match=r"'c9' does not exist in network street - at \$\.nodes\[0\]"):
        Feeder(tmp_path, settings(nodes=(stranger,)))


async def test_hundreds_of_envelopes_later_the_homes_still_believe_the_last_will(tmp_path: Path) -> None:
    """A will is signed when the connection is made, long before the broker publishes it."""
    feeder = Feeder(tmp_path)
    will = status_message(KEYS["coordinator"], COMMUNITY, START_S, Sequencer(START_S).next(), SafetyState.OFFLINE)
    feeder.boot()
    await feeder.service.start()
    for _ in range(40):
        await feeder.step(300.0)
    feeder.bus.publish(will)
    last = feeder.homes["h1"].hear()[-1]
    assert isinstance(last, Status)
    assert last.state is SafetyState.OFFLINE
