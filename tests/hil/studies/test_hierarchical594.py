"""Study `hierarchical594`: on a small feeder in the form of HPK11 always, on HPK11 itself where its data are at hand (slow)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from coordinator.mechanisms.hierarchical.retailer import Retailer
from hil.cli import main
from hil.studies import hierarchical594 as study
from hil.studies import hierarchical594_clearing as clearing
from hil.studies.hpk11 import PERIODS, chosen, load_feeder_day

REAL = Path(__file__).parents[4] / "shared" / "data"
CODES = {
    "2-3ph": (0.211, 0.106, 70.0, 0.257, 0.801, 70.0, 315.0),
    "247-3ph": (0.127, 0.072, 0.0001, 0.342, 0.089, 0.0001, 280.0),
    "248-3ph": (1.149, 0.08, 0.0001, 4.26, 0.092, 0.0001, 107.0),
}
AREAS = (30, 33, 1)
"""Customers of each transformer; the last is no community."""


def write(path: Path, columns: str, rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([tuple(columns.split(",")), *rows])


def small_feeder(data: Path) -> None:
    """Three transformers on three kilometres, with made-up homes and sun in the format of the real files."""
    folder, rng = data / "networks" / "au_vic_hpk11", np.random.default_rng(5)
    write(
        folder / "linecodes.csv",
        "linecode,r1_ohm_km,x1_ohm_km,b1_us_km,r0_ohm_km,x0_ohm_km,b0_us_km,amp_a",
        [(name, *values) for name, values in CODES.items()],
    )
    write(folder / "mv_nodes.csv", "node,kv,x_m,y_m,is_head", [(node, 22.0, 0, 0, int(node == 1)) for node in range(1, 5)])
    write(folder / "mv_lines.csv", "line,from_node,to_node,length_km,linecode", [(n, n + 1, n + 2, 1.0, "2-3ph") for n in range(3)])
    write(
        folder / "transformers.csv",
        "lv,mv_node,kva,kv_mv,kv_lv,xhl_pct,loadloss_pct,noloadloss_pct,tap,type,customers,existing_pv,feeders",
        [(n, n + 2, 200, 22, 0.433, 3.78, 1.47, 0.13, 1, "RES", homes, 0, 1) for n, homes in enumerate(AREAS)],
    )
    write(folder / "lv_feeders.csv", "lv,feeder,customers,section_m", [(n, 0, homes, 19.0) for n, homes in enumerate(AREAS)])
    customers = [(n, 0, position, "ABC"[position % 3], 0.95, 0.23) for n, homes in enumerate(AREAS) for position in range(homes)]
    write(folder / "customers.csv", "lv,feeder,pos,phase,pf,kv", customers)
    hours = [f"h{index:02d}" for index in range(PERIODS)]
    homes = rng.integers(100, 700, (20, PERIODS))
    write(data / "profiles" / "vic_homes99_30min_wh_1day.csv", ",".join(["home", *hours]), [(n, *row) for n, row in enumerate(homes)])
    sun = np.maximum(np.sin(np.linspace(-0.5 * np.pi, 1.5 * np.pi, 288)), 0.0) * 0.8
    write(data / "profiles" / "vic_pv_5min_1day.csv", "step,pv_kw_per_kw", list(enumerate(sun.tolist())))
    times = np.datetime64("2019-11-11T00:00:00") + np.arange(4 * PERIODS) * np.timedelta64(30, "m")
    table = pyarrow.table({"time_start_nem": times, "vic1_rrp": np.full(times.size, 60.0), "vic1_demand_mw": np.full(times.size, 5e3)})
    pyarrow.parquet.write_table(table, data / "profiles" / "aemo_30min_vic_2019_2020.parquet")


def test_a_small_feeder_goes_through_the_whole_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_feeder(tmp_path)
    monkeypatch.setattr(study, "SWEPT", {"no battery": {"battery_frac": 0.0}})
    monkeypatch.setattr(study, "SHARES", {})
    main(["study", "hierarchical594", "--json", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    document = json.loads(capsys.readouterr().out)
    rows = {row["quantity"]: row for row in document["rows"]}
    assert rows["members' bills below those without a community [%]"]["ours"] > 0.0
    assert rows["highest voltage, secure, power-grid-model [pu]"]["ours"] == pytest.approx(
        rows["highest voltage, secure, OpenDSS [pu]"]["ours"], abs=1e-5
    )
    assert rows["highest voltage, secure, OpenDSS [pu]"]["met"]
    assert rows["fewest members behind a figure"]["ours"] == min(AREAS[:2])
    assert "1 transformer with a single customer" in document["inputs"]["left out"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".svg", ".json"}


def test_a_sweep_that_does_not_settle_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_feeder(tmp_path)
    monkeypatch.setattr(clearing, "MAX_ROUNDS", 3)
    day = load_feeder_day(tmp_path, 1)
    (row,) = study._swept("three rounds", day, Retailer(tariff=day.tariff), {}, lambda words: None)
    assert np.isnan(row.ours)
    assert row.note == "the clearing was not settled within 3 rounds"


def test_choices_change_who_owns_what_and_nothing_else(tmp_path: Path) -> None:
    small_feeder(tmp_path)
    day = load_feeder_day(tmp_path, 1)
    other = chosen(day, vehicle_frac=0.8)
    assert (day.owners["panels"] == other.owners["panels"]).all()
    assert other.owners["vehicles"].sum() > day.owners["vehicles"].sum()
    assert other.owners["vehicles"][day.owners["vehicles"]].all(), "whoever had a vehicle keeps it"
    assert (day.home_of == other.home_of).all()


def test_missing_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "hierarchical594", "--data", str(tmp_path)]) == 2
    assert "vic_homes99_30min_wh_1day.csv cannot be read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not (REAL / "networks" / "au_vic_hpk11").is_dir(), reason="the data set of HPK11 is not at hand")
def test_the_real_feeder_meets_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "hierarchical594", "--json", "--data", str(REAL)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["quantity"] for row in document["rows"] if row["met"] is False] == []
