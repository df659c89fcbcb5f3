"""Running a part of a scenario's day."""

from __future__ import annotations

import json

import pytest

from hil.cli import main


def test_a_sweep_can_begin_in_the_middle_of_the_day(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "street", "--from", "12", "--hours", "0.01", "--seeds", "3:4", "--jobs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and found["hours"] == pytest.approx(40.0 / 3600.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--from", "24"], "--from must be"), (["--from", "20", "--hours", "5"], "--hours must be")],
)
def test_a_part_outside_the_day_is_refused_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "street", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
