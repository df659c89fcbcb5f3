"""The bench says what it measured, in one shape, and means it."""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.guard import Decision, House
from hil import bench
from hil.bench_guard import avoidable_breach_w, guard_rows, random_house
from hil.bench_lockstep import lockstep_rows
from hil.broker import find_mosquitto
from hil.cli import main
from hil.errors import RunError

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


def quick(options: argparse.Namespace) -> list[dict[str, Any]]:
    sys.stdout.write("a measurement that chatters\n")
    return guard_rows(cases=1000)


def broken(options: argparse.Namespace) -> list[dict[str, Any]]:
    raise RunError("the broker fell over")


def wrong(options: argparse.Namespace) -> list[dict[str, Any]]:
    raise ZeroDivisionError("division by zero")


GUARD = bench.Group("the guard", ("guard_avoidable_breach", "guard_time"), 1.0, quick)
BROKEN = bench.Group("a broker", ("broken_one", "broken_two"), 1.0, broken)
WRONG = bench.Group("a mistake", ("mistaken",), 1.0, wrong)


def test_bench_prints_one_document_with_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "GROUPS", (GUARD,))
    status = main(["bench", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert status in (0, 1) and [set(row) for row in rows] == [FIELDS, FIELDS]


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_measurement_that_fails_stops_no_other(
    form: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "GROUPS", (BROKEN, WRONG, GUARD))
    assert main(["bench", *form]) == 1
    out = capsys.readouterr().out
    if form:
        rows = {row["name"]: row for row in json.loads(out)["rows"]}
        assert list(rows) == ["broken_one", "broken_two", "mistaken", "guard_avoidable_breach", "guard_time"]
        assert rows["broken_two"]["note"] == "failed: the broker fell over" and rows["broken_two"]["value"] is None
        assert rows["mistaken"]["note"] == "failed: ZeroDivisionError: division by zero"
        assert rows["guard_time"]["value"] > 0.0
    else:
        assert out.count("failed: the broker fell over") == 2 and "guard_time" in out and "chatters" not in out


def test_the_list_names_every_row_and_measures_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "GROUPS", (BROKEN, GUARD))
    assert main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for group in (BROKEN, GUARD) for name in group.names) and "failed" not in out
    assert main(["bench", "--list", "--only", "guard"]) == 0
    assert "broken_one" not in capsys.readouterr().out


def test_a_row_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "nonsense"]) == 2
    assert "no row of the bench has nonsense in its name" in capsys.readouterr().err


def test_every_row_has_a_name_of_its_own() -> None:
    names = [name for group in bench.GROUPS for name in group.names]
    assert len(names) == len(set(names)) and max(map(len, names)) <= bench.NAME_WIDTH


@needs_mosquitto
def test_every_request_of_a_run_can_be_asked_again_without_a_controller(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in lockstep_rows(hours=0.1)}
    assert set(rows) == {"lockstep_overhead", "lockstep_household_cycle", "sim_speed"}
    assert all(row["value"] > 0.0 for row in rows.values())
