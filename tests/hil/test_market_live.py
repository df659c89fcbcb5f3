"""Mechanisms held by the coordinator with thirty controllers end where the same conversation in one process ends."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from coordinator.market.settings import HeldName
from hil.broker import find_mosquitto
from hil.errors import ScenarioError
from hil.market_ledger import MarketReport
from hil.orchestrate import Mode, Order, run_variant
from hil.results import WITH_ENVELOPES
from hil.scenario import FaultMixEntry, FaultsSection, LoadedScenario, decode_scenario, find_scenario, load_scenario


def negotiating(mechanism: str, hours: float) -> LoadedScenario:
    loaded = load_scenario("street")
    scenario = loaded.scenario
    return msgspec.structs.replace(
        loaded,
        scenario=msgspec.structs.replace(
            scenario,
            day=msgspec.structs.replace(scenario.day, duration_h=hours),
            faults=msgspec.structs.replace(scenario.faults, enabled=False),
            coordinator=msgspec.structs.replace(scenario.coordinator, mechanism=mechanism),
        ),
    )


def played(mechanism: str, hours: float, mode: Mode, folder: Path) -> MarketReport:
    order = Order(loaded=negotiating(mechanism, hours), mode=mode, seed=1, out=folder)
    outcome = run_variant(order, WITH_ENVELOPES, lambda done, total: None)
    assert [check.name for check in outcome.checks if check.violations] == []
    assert outcome.summary.market is not None
    return outcome.summary.market


@pytest.mark.parametrize(
    "mechanism", [pytest.param(name, marks=[pytest.mark.slow] if name == "dfe" else []) for name in get_args(HeldName)]
)
def test_what_thirty_controllers_agree_is_what_their_twins_agree_in_one_process(mechanism: str, tmp_path: Path) -> None:
    report = played(mechanism, 0.2 if mechanism in ("dfe", "hierarchical") else 0.1, "sim", tmp_path)
    assert (report.negotiations, report.agreed) == (1, 1)
    assert report.left_out == ()
    assert report.worst_gap_frac is not None and report.worst_gap_frac <= 0.01
    assert report.worst_apart_w is not None and report.worst_apart_w <= 10.0


@pytest.mark.slow
@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run `commonwatt-hil broker --install`")
@pytest.mark.parametrize("mechanism", get_args(HeldName))
def test_the_same_holds_over_a_real_broker_and_real_modbus(mechanism: str, tmp_path: Path) -> None:
    report = played(mechanism, 0.25, "lockstep", tmp_path)
    assert report.agreed == report.negotiations == 1
    assert report.worst_gap_frac is not None and report.worst_gap_frac <= 0.01


def test_a_mechanism_beside_a_community_that_sums_in_secret_is_refused() -> None:
    text = find_scenario("leaderless").read_text(encoding="utf-8").replace("[coordinator]\n", '[coordinator]\nmechanism = "p2p"\n', 1)
    with pytest.raises(ScenarioError, match="sums in secret") as refusal:
        decode_scenario(text.encode(), "x.toml")
    assert "\n" not in str(refusal.value)


def test_homes_that_lose_their_power_while_they_are_asked_are_left_out_by_name_and_the_others_agree(tmp_path: Path) -> None:
    loaded = negotiating("hierarchical", 0.25)
    cycles = FaultMixEntry(kind="edge_power_cycle", max_per_day=40.0, shortest_s=100.0, longest_s=300.0)
    faults = FaultsSection(quiet_h=0.0, mix=(cycles,))
    loaded = msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(loaded.scenario, faults=faults))
    outcome = run_variant(Order(loaded=loaded, mode="sim", seed=2, out=tmp_path), WITH_ENVELOPES, lambda done, total: None)
    report = outcome.summary.market
    assert report is not None
    cut_off = {fault.target for fault in outcome.plan.faults}
    named = dict(words.split(": ", 1) for words in report.left_out)
    assert named
    assert set(named) <= cut_off
    assert set(named.values()) <= {"did not answer in time", "no plan of it is known"}
    assert (report.agreed, report.refusals) == (1, ())
    assert report.services is not None
    assert report.flow is not None
    assert report.flow.voltage_max_v <= loaded.scenario.limits.voltage_max_v
