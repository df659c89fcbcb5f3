"""Study `disco33`: Table 2 of source 003 where it can be reached, and a derived reason where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import main

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def data() -> Path:
    if not (DATA / "seed003").is_dir():
        pytest.skip(f"the data of source 003 are not at {DATA}")
    return DATA


def test_the_study_meets_its_targets_and_leaves_plots(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "disco33", "--json", "--data", str(data), "--out", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["quantity"]: row for row in document["rows"]}
    assert all(set(row) == {"quantity", "paper", "ours", "target", "met", "note"} for row in document["rows"])
    case_1 = [row for name, row in rows.items() if ", case 1, " in name]
    assert len(case_1) == 6
    assert all(abs(row["ours"] - row["paper"]) <= 0.005 * abs(row["paper"]) for row in case_1)
    assert rows["money identity, worst relative error"]["ours"] <= 1e-6
    assert rows["least possible EC_e + EC_a + EC_d, S1 [EUR]"]["ours"] == pytest.approx(-4907.70, abs=0.01)
    assert rows["least possible EC_e + EC_a + EC_d, S2 [EUR]"]["ours"] == pytest.approx(-3637.5, abs=0.1)
    assert [item["word"] for item in document["verdicts"]] == ["reproduced", "not reproducible", "beaten"]
    assert {path.name for path in tmp_path.iterdir()} == {"disco33-net-load.svg", "disco33-costs.svg", "results.json"}


def test_the_table_is_readable(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "disco33", "--data", str(data)]) == 0
    words = capsys.readouterr().out
    assert "not reproducible" in words
    assert "INFERRED" in words


def test_missing_data_and_unknown_studies_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "disco33", "--data", str(tmp_path)]) == 2
    assert "needs the folder seed003" in capsys.readouterr().err
    assert main(["study", "nothing"]) == 2
    words = capsys.readouterr().err
    assert "expected one of" in words and "disco33" in words


def test_prices_out_of_order_are_refused_by_name(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "seed003"
    folder.mkdir()
    for path in (data / "seed003").iterdir():
        text = path.read_text(encoding="utf-8")
        (folder / path.name).write_text(text.replace("0.6,\n", "0.05,\n") if path.suffix == ".json" else text, encoding="utf-8")
    assert main(["study", "disco33", "--data", str(tmp_path)]) == 2
    assert "prices out of order" in capsys.readouterr().err
