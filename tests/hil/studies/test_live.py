"""A study's mechanism held live is refused by name where no scenario can hold it, and agrees with its twin where one can."""

from __future__ import annotations

import json

import pytest

from hil.broker import find_mosquitto
from hil.cli import main
from hil.scenario import load_scenario
from hil.studies.live import MECHANISM_OF, street_holding


@pytest.mark.parametrize("name", ["everything", "nothing"])
def test_a_study_without_a_live_form_is_refused_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", name, "--live"]) == 2
    said = capsys.readouterr().err
    assert f"study {name!r} has no live form" in said
    assert said.count("\n") == 1


def test_more_than_a_day_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "p2pdnr", "--live", "--hours", "25"]) == 2
    assert "at most 24, got 25" in capsys.readouterr().err


@pytest.mark.parametrize("mechanism", sorted(set(MECHANISM_OF.values())))
def test_the_live_street_holds_the_mechanism_of_the_study_without_faults(mechanism: str) -> None:
    scenario = street_holding(mechanism, 6.0).scenario
    assert scenario.coordinator.mechanism == mechanism
    assert not scenario.faults.enabled
    assert scenario.control == load_scenario("street").scenario.control


@pytest.mark.slow
@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto: run `commonwatt-hil broker --install`")
@pytest.mark.parametrize("name", ["doe", "p2pdnr", "disco33", "dfe69", "hierarchical594"])
def test_an_hour_over_sockets_ends_where_an_hour_without_them_ends(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", name, "--live", "--hours", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["met"] is not False for row in rows)
