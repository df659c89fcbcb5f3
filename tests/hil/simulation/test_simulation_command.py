"""Sweeps and planted bugs from the command line."""

from __future__ import annotations

import json

import pytest

from hil.cli import main
from hil.simulation.aggregation_mutants import AGGREGATION_MUTANTS
from hil.simulation.mutants import MUTANTS


@pytest.mark.parametrize(("world", "seeds"), [("election", "0:6"), ("aggregation", "0:3")])
def test_a_sweep_sums_its_checkers(world: str, seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", world, "--seeds", seeds, "--jobs", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is True
    assert document["runs"] == int(seeds[2:])
    assert document["failing_seeds"] == document["replay"] == []
    assert all(row["checks"] > 0 and row["violations"] == 0 for row in document["checkers"] if row["name"] != "lies_are_provable")


def test_a_failing_seed_is_named_with_the_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "quorum of half")
    with mutant.plant():
        seeds = f"{mutant.seed}:{mutant.seed + 1}"
        assert main(["sweep", "election", "--seeds", seeds, "--jobs", "1"]) == 1
    told = capsys.readouterr()
    assert f"replay: commonwatt-hil sweep election --seeds {seeds}" in told.out
    assert "one_leader_per_term: t = " in told.out
    assert f"seed {mutant.seed} violates" in told.err


def test_two_processes_sweep_as_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for jobs in ("1", "2"):
        assert main(["sweep", "election", "--seeds", "0:30", "--jobs", jobs, "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out) | {"took_s": 0.0})
    assert documents[0] == documents[1]


def test_mutants_names_seed_and_checker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants", "--only", "pads of the pair", "--only", "stale fence", "--jobs", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(row["world"], row["name"], row["checkers"]) for row in document["mutants"]] == [
        ("election", "stale fence", ["no_actuation_under_an_old_term"]),
        ("aggregation", "pads of the pair alone", ["nothing_used_twice"]),
    ]
    assert main(["mutants", "--only", "pads of the pair", "--jobs", "1"]) == 0
    assert "1 of 1 planted bugs are caught" in capsys.readouterr().out


def test_a_planted_bug_that_survives_is_an_answer_of_no(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from hil.simulation import command

    tame = next(mutant for mutant in AGGREGATION_MUTANTS if mutant.name == "decoys unbounded")
    monkeypatch.setattr(command, "AGGREGATION_MUTANTS", (type(tame)(name=tame.name, rule=tame.rule, seed=0, plant=tame.plant),))
    assert main(["mutants", "--only", "decoys unbounded", "--seeds", "1", "--jobs", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["survivors"] == ["decoys unbounded"]


@pytest.mark.parametrize("words", [["sweep", "election", "--seeds", "5:5"], ["mutants", "--only", "none"]])
def test_a_wrong_command_says_so_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("commonwatt-hil: ")
