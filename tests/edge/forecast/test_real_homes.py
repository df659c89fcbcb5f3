"""Forecasts of real homes: better than yesterday's value, and intervals that hold as often as they say.

The reference figures of research (learning.md section 5, ten NSW homes): 28-day quantiles .197, coverage of the best calibrated
method .775 for 80 %. The data are not part of this repository; set COMMONWATT_DATA to the folder that holds `profiles/`.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hil.households.forecast_study import METHODS, NSW, PV, StudyRow, averages, read_series, study

DATA = Path(os.environ.get("COMMONWATT_DATA", Path(__file__).parents[4] / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not ((DATA / NSW).is_file() and (DATA / PV).is_file()), reason=f"no measured homes at {DATA / 'profiles'} (set COMMONWATT_DATA)"
)


def _rows(*names: str) -> dict[str, StudyRow]:
    chosen = [series for series in read_series(DATA, 3600) if not names or series.name in names]
    if names:
        chosen = [msgspec.structs.replace(series, power_w=series.power_w[: 200 * 24]) for series in chosen]
    rows = [row for series in chosen for row in study(series)]
    loads = [row for row in averages(rows) if row.kind == "load"] or list(averages(rows))
    return {row.method: row for row in loads}


@pytest.mark.parametrize(("name", "worst_ratio"), [("sgsc05", 0.80), ("vic_pv", 0.80)])
def test_one_real_series_beats_the_seasonal_naive_and_holds_its_intervals(name: str, worst_ratio: float) -> None:
    rows = _rows(name)
    published, naive, plain = rows[METHODS[4]], rows[METHODS[0]], rows[METHODS[1]]
    assert published.pinball < worst_ratio * naive.pinball
    assert published.pinball < 1.04 * plain.pinball
    assert published.coverage80_frac == pytest.approx(0.80, abs=0.03)
    assert published.coverage90_frac == pytest.approx(0.90, abs=0.03)
    assert abs(published.coverage80_frac - 0.80) < abs(plain.coverage80_frac - 0.80)


@pytest.mark.slow
def test_ten_real_homes_are_covered_within_a_point_of_nominal() -> None:
    rows = _rows()
    published, naive, plain = rows[METHODS[4]], rows[METHODS[0]], rows[METHODS[1]]
    assert published.coverage80_frac == pytest.approx(0.80, abs=0.01)
    assert published.coverage90_frac == pytest.approx(0.90, abs=0.01)
    assert published.pinball < 0.70 * naive.pinball
    assert published.pinball < 1.015 * plain.pinball
