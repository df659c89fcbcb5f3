"""The street on the wall clock, every edge a process of its own. Slow, because a minute takes a minute."""

from pathlib import Path

import msgspec
import pytest

from hil.broker import find_mosquitto
from hil.orchestrate import Order, run_order
from hil.results import WITH_ENVELOPES
from hil.scenario import load_scenario


@pytest.mark.slow
@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")
def test_thirty_processes_keep_their_street_legal_for_two_minutes(tmp_path: Path) -> None:
    loaded = load_scenario("street")
    scenario = loaded.scenario
    short = msgspec.structs.replace(
        scenario,
        day=msgspec.structs.replace(scenario.day, duration_h=120.0 / 3600.0),
        faults=msgspec.structs.replace(scenario.faults, enabled=False),
    )
    order = Order(
        loaded=msgspec.structs.replace(loaded, scenario=short), mode="realtime", seed=1, out=tmp_path, variants=(WITH_ENVELOPES,)
    )
    results = run_order(order, lambda run, done, total: None)
    checkers = {entry.name: entry for entry in results.checkers}
    assert checkers["signed_only"].checks > 0
    assert results.passed, [entry.details for entry in results.checkers if entry.violations > 0]
