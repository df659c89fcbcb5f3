"""The command line says what a person or a program needs, in one document or one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = run(capsys, *arguments, "--json")
    assert out.count("\n") == 1, "exactly one document"
    return status, json.loads(out)


def test_powerflow_of_the_33_bus_feeder_gives_the_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = run_json(capsys, "powerflow", "ieee33")
    assert status == 0
    assert document["loss_w"] == pytest.approx(202677, abs=1.0)
    assert (document["vmin_at"], document["vmin_pu"]) == ("18", pytest.approx(0.91309, abs=1e-5))


def test_both_engines_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    _, ours = run_json(capsys, "powerflow", "ieee69")
    _, theirs = run_json(capsys, "powerflow", "ieee69", "--engine", "opendss")
    assert ours["loss_w"] == pytest.approx(theirs["loss_w"], rel=1e-6)


def test_a_broken_limit_is_a_no(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "powerflow", "ieee33", "--vmin-pu", "0.95")
    assert status == 1
    assert "BROKEN" in out


def test_loads_from_a_table_replace_the_base_loads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    loads = tmp_path / "loads.csv"
    loads.write_text("connection,p_w,q_var\nload18,0,0\n", encoding="utf-8")
    _, document = run_json(capsys, "powerflow", "ieee33", "--loads", str(loads))
    assert document["loss_w"] < 202677


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("connection,p_w\nload99,1\n", "line 2 column connection: 'load99' does not exist"),
        ("connection,p_w\nload18,x\n", "line 2 column p_w: expected a finite number"),
        ("bus,p\n", "line 1: expected columns connection,p_w,q_var"),
    ],
)
def test_a_bad_load_table_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, table: str, message: str) -> None:
    loads = tmp_path / "loads.csv"
    loads.write_text(table, encoding="utf-8")
    status, out, err = run(capsys, "powerflow", "ieee33", "--loads", str(loads))
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_load_beyond_the_feeder_is_a_no(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    loads = tmp_path / "loads.csv"
    loads.write_text("connection,p_w,q_var\nload18,90000000,0\n", encoding="utf-8")
    status, _, err = run(capsys, "powerflow", "ieee33", "--loads", str(loads))
    assert status == 1
    assert "no solution" in err


def test_check_network_prints_every_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "buses.csv").write_text("id,kv,p_kw,q_kvar\n1,12.66,0,0\n2,12.66,1,0\n3,0.4,1,0\n", encoding="utf-8")
    (tmp_path / "branches.csv").write_text("branch,from_bus,to_bus,r_ohm,x_ohm\na,1,2,-1,1\nb,1,2,1,1\n", encoding="utf-8")
    status, document = run_json(capsys, "check-network", str(tmp_path), "--radial")
    assert status == 1
    assert {finding["code"] for finding in document["findings"]} == {"negative-impedance", "disconnected", "looped"}
    assert run(capsys, "check-network", "ieee33", "--radial")[:2] == (0, "ieee33: valid\n")


def test_envelopes_are_printed_with_their_class_and_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("envelopes", "ieee33", "--rule", "equal", "--vmin-pu", "0.95", "--vmax-pu", "1.05", "--max-export-w", "300000")
    status, document = run_json(capsys, *arguments)
    assert status == 0
    assert (document["guarantee"], document["rule"]) == ("robust", "equal")
    assert len(document["envelopes"]) == 32
    assert document["check"]["lowest_voltage"]["value"] >= 0.95
    assert document["check"]["highest_voltage"]["value"] <= 1.05
    status, out, _ = run(capsys, *arguments)
    assert "class robust: verified by exact AC power flow" in out


def test_envelopes_that_do_not_exist_are_a_no(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = run_json(capsys, "envelopes", "ieee33", "--vmin-pu", "0.99", "--import-floor-w", "200000")
    assert (status, document["feasible"]) == (1, False)


@pytest.mark.parametrize("arguments", [("powerflow", "/nowhere"), ("run", "--config", "/nowhere.toml")])
def test_a_missing_file_is_one_line_and_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert "nowhere" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("envelopes", "ieee33", "--max-import-w", "-1"), ("envelopes", "ieee33", "--class", "unverified")]
)
def test_wrong_usage_is_status_two(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
