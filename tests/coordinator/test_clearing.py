"""One clearing from two files: at the optimum, at prices that make sense, and refused by name where the files do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.cli import main

FILE = """
step_s = 3600.0
retail_per_kwh = [0.2, 0.2, 0.2, 0.4, 0.4, 0.4]
feed_in_per_kwh = [0.05, 0.05, 0.05, 0.05, 0.05, 0.05]
[[participants]]
name = "sunny"
bus = "18"
fixed_w = [50e3, 50e3, 50e3, 60e3, 60e3, 60e3]
renewable_w = [0.0, 200e3, 300e3, 200e3, 50e3, 0.0]
margin_w = 10e3
storage = { capacity_wh = 400e3, power_w = 100e3 }
[[participants]]
name = "shady"
bus = "33"
fixed_w = [80e3, 80e3, 90e3, 150e3, 150e3, 120e3]
renewable_w = [0.0, 20e3, 20e3, 20e3, 0.0, 0.0]
margin_w = 10e3
flexible = [{ energy_wh = 100e3, max_w = [40e3, 40e3, 40e3, 40e3, 40e3, 40e3] }]
[[participants]]
name = "works"
bus = "25"
fixed_w = [100e3, 100e3, 100e3, 100e3, 100e3, 100e3]
renewable_w = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
margin_w = 10e3
generator = { max_w = 150e3, first_per_kwh = 0.15 }
"""
STREET = Path(__file__).resolve().parents[2] / "hil" / "networks" / "street"


def cleared(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, text: str = FILE) -> dict[str, Any]:
    path = folder / "participants.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["clear", "ieee33", str(path), "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("mechanism", ["p2p", "disco", "dfe"])
def test_every_mechanism_settles_with_everybody_and_balances_energy(
    mechanism: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = cleared(tmp_path, capsys, "--mechanism", mechanism)
    assert day["settled"]
    assert day["left_out"] == {}
    assert [item["name"] for item in day["participants"]] == ["sunny", "shady", "works"]
    shady = np.array(day["participants"][1]["net_w"])
    # It has nothing to choose but when to take its flexible energy.
    assert shady.sum() == pytest.approx(670e3 - 60e3 + 100e3, rel=1e-3)


def test_trades_are_what_sellers_and_buyers_share_at_a_price_between_feed_in_and_retail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = cleared(tmp_path, capsys, "--mechanism", "p2p")
    sold = np.array([item["sold_w"] for item in day["participants"]]).sum(axis=0)
    bought = np.array([item["bought_w"] for item in day["participants"]]).sum(axis=0)
    net = np.array([item["net_w"] for item in day["participants"]])
    assert sold == pytest.approx(bought)
    assert sold == pytest.approx(np.minimum(net.clip(0.0).sum(axis=0), (-net).clip(0.0).sum(axis=0)), abs=1e-6)
    assert sold.sum() > 100e3


def test_an_agreed_envelope_contains_the_plan_and_its_margin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for item in cleared(tmp_path, capsys, "--mechanism", "dfe")["participants"]:
        net = np.array(item["net_w"])
        assert np.all(net + 10e3 <= np.array(item["import_limit_w"]) + 1.0)
        assert np.all(-net + 10e3 <= np.array(item["export_limit_w"]) + 1.0)


def test_too_few_rounds_are_an_answer_of_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "participants.toml"
    path.write_text(FILE, encoding="utf-8")
    assert main(["clear", "ieee33", str(path), "--max-rounds", "2"]) == 1
    assert "NOT settled after 2 rounds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('bus = "18"', 'bus = "99"', "sunny is at bus '99', which ieee33 does not have"),
        ('name = "shady"', 'name = "sunny"', "participant 'sunny' is named twice - at $.participants[1].name"),
        ("0.05, 0.05]", "0.05]", "6 retail prices and 5 feed-in prices - at $.feed_in_per_kwh"),
        ("[0.05, 0.05, 0.05", "[0.05, 0.30, 0.05", "prices out of order in interval 1"),
        ("150e3, 150e3, 120e3]", "150e3, 120e3]", "5 values, expected 6, one for each price - at $.participants[1].fixed_w"),
        ("[50e3, 50e3, 50e3", "[nan, 50e3, 50e3", "community sunny: fixed_w holds a value that is negative or not a finite number"),
        ("energy_wh = 100e3", "energy_wh = 999e3", "could take 240000 Wh"),
        ("margin_w = 10e3\nstorage", "colour = 3\nmargin_w = 10e3\nstorage", "unknown field colour"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(
    old: str, new: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "participants.toml"
    path.write_text(FILE.replace(old, new, 1), encoding="utf-8")
    assert main(["clear", "ieee33", str(path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_dfe_refuses_a_network_with_phases_and_more_participants_than_it_can_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "participants.toml"
    text = FILE.replace('"18"', '"street_a1"').replace('"33"', '"street_a2"').replace('"25"', '"street_a3"')
    path.write_text(text, encoding="utf-8")
    assert main(["clear", str(STREET), str(path), "--mechanism", "dfe"]) == 2
    assert "needs a balanced network" in capsys.readouterr().err
    more = "".join(
        f'[[participants]]\nname = "p{number}"\nbus = "5"\nfixed_w = [1e3, 1e3, 1e3, 1e3, 1e3, 1e3]\n'
        "renewable_w = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]\n"
        for number in range(8)
    )
    path.write_text(FILE + more, encoding="utf-8")
    assert main(["clear", "ieee33", str(path), "--mechanism", "dfe"]) == 2
    assert "at most 10 participants, got 11" in capsys.readouterr().err


def test_files_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clear", "ieee33", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err
