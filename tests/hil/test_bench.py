"""The bench says what it measured, in one shape, and means it."""

import json
import random
from pathlib import Path

import pytest

from edge.guard import Decision, House
from hil import bench
from hil.bench_guard import avoidable_breach_w, guard_rows, random_house
from hil.bench_lockstep import lockstep_rows
from hil.broker import find_mosquitto
from hil.cli import main

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")
FIELDS = {"name", "value", "unit", "target", "met", "note"}


def test_the_guard_breaks_nothing_that_it_could_keep() -> None:
    rows = {row["name"]: row for row in guard_rows(cases=5000)}
    assert set(rows["guard_time"]) == FIELDS
    assert rows["guard_avoidable_breach"]["value"] <= 1e-6


def test_a_careless_guard_would_be_found_out() -> None:
    """The measure itself: doing nothing at all is an avoidable breach in many houses."""
    rng = random.Random(5)
    found = 0
    for _ in range(500):
        house, bounds = random_house(rng)
        found += avoidable_breach_w(house, bounds, doing_nothing(house)) > 1.0
    assert found > 50


def doing_nothing(house: House) -> Decision:
    return Decision(
        battery_w=tuple(0.0 for _ in house.batteries),
        pv_limit_w=tuple(None for _ in house.pvs),
        charger_limit_w=tuple(port.rated_w for port in house.chargers),
        load_limit_w=tuple(port.rated_w for port in house.loads),
        low_w=0.0,
        high_w=0.0,
        export_breach_w=0.0,
        import_breach_w=0.0,
    )


def test_bench_prints_one_document_with_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ("the guard", ("guard_avoidable_breach", "guard_time"), lambda mosquitto: guard_rows(cases=1000))
    monkeypatch.setattr(bench, "GROUPS", (quick,))
    status = main(["bench", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert status in (0, 1) and [set(row) for row in rows] == [FIELDS, FIELDS]


@needs_mosquitto
def test_every_request_of_a_run_can_be_asked_again_without_a_controller(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in lockstep_rows(hours=0.1)}
    assert set(rows) == {"lockstep_overhead", "lockstep_household_cycle", "sim_speed"}
    assert all(row["value"] > 0.0 for row in rows.values())
