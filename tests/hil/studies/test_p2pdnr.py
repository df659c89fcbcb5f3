"""Study `p2pdnr`: proven optima, and trade with switching below each alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli import main


def test_the_study_meets_its_targets_and_leaves_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "p2pdnr", "--json", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    document = json.loads(capsys.readouterr().out)
    ours = {row["quantity"]: row["ours"] for row in document["rows"]}
    assert ours["least loss, ieee33 [kW]"] == pytest.approx(139.551, abs=1e-3)
    assert ours["least loss, ieee69 [kW]"] == pytest.approx(98.605, abs=1e-3)
    assert ours["losses, neither [kWh]"] == pytest.approx(2929.0, rel=1e-3)
    assert ours["losses, both [kWh]"] < min(ours["losses, trade alone [kWh]"], ours["losses, switching alone [kWh]"])
    assert ours["potential, both [EUR]"] < min(ours["potential, trade alone [EUR]"], ours["potential, switching alone [EUR]"])
    assert ours["steps in which the potential rose"] == 0
    assert "not supplied: case118zh, case136ma" in document["inputs"]["larger cases"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"p2pdnr-potential.svg", "p2pdnr-switching.svg", "results.json"}
