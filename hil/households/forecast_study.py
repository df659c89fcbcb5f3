"""How good are the edge's forecasts on real homes? `python -m hil.households.forecast_study --data PATH`.

Each series is replayed once through the forecaster as a controller would see it: observe, train, forecast 24 h ahead every three
hours, never looking ahead. Scored are the last third of the series (chronological split): pinball loss over all levels and lead
times divided by the mean of the series, and how often the central 80 % and 90 % intervals held. Beside it, on the same targets:
the seasonal naive (yesterday's value with the quantiles of its own 28-day errors) and the plain quantiles of the last 28 days at
that time of day. Data: `profiles/nsw_sgsc10_30min_wh_year.parquet` (10 homes, a year) and `profiles/vic_pv_30min_year_pu.csv`
(PV, a year).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np
import numpy.typing as npt

from edge.forecast import Forecaster
from edge.forecast.scoreboard import pinball
from edge.forecast.values import LEVELS
from hil.errors import ScenarioError
from hil.households.profiles import Floats
from hil.households.solar import sun_direction
from hil.households.tables import read_columns, read_rows

NSW = Path("profiles/nsw_sgsc10_30min_wh_year.parquet")
PV = Path("profiles/vic_pv_30min_year_pu.csv")
FIRST_DAY_S = 1_357_084_800.0 - 86_400.0
"""2013-01-01 00:00 UTC; local clock times are taken as UTC, which only names the hours differently."""
ISSUE_S = 3.0 * 3600.0
HORIZON_S = 86_400.0
PLACE = (-37.8, 145.0)
PV_RATED_W = 5000.0
Flags = npt.NDArray[np.bool_]
METHODS = ("seasonal naive", "28-day quantiles", "forecaster, uncalibrated", "forecaster, untrained", "forecaster")
"""The last three: quantiles carried by the recent level; the same, calibrated online; the whole, with the regression beside it.
"""


class MeasuredSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Means over `step_s` from `start_s` on, magnitudes, NaN where missing."""

    name: str
    kind: str
    start_s: float
    step_s: int
    power_w: Floats


class StudyRow(msgspec.Struct, frozen=True, kw_only=True):
    series: str
    kind: str
    method: str
    pinball: float
    """Mean pinball loss over all levels and targets / mean power of the scored targets."""
    coverage80_frac: float
    coverage90_frac: float
    targets: int


def read_series(data: Path, step_s: int) -> list[MeasuredSeries]:
    """The ten NSW homes and the Victorian PV year at `step_s` (a multiple of 1800)."""
    table = read_columns(data / NSW, "time_local and ten homes sgsc00 .. sgsc09 in Wh per half hour")
    start_s = float(table["time_local"][0].astype("datetime64[s]").astype(np.int64))
    series = [
        MeasuredSeries(
            name=name, kind="load", start_s=start_s, step_s=step_s, power_w=_coarser(table[name].astype(np.float64) * 2.0, step_s)
        )
        for name in sorted(table)
        if name.startswith("sgsc")
    ]
    rows = read_rows(data / PV, "day and h00 .. h47 in per unit, standard time")
    pv_w = np.array([[float(row[f"h{half:02d}"]) for half in range(48)] for row in rows]).ravel() * PV_RATED_W
    # Melbourne keeps UTC+10; so that the clear-sky envelope stands over the right hours the series is laid on true UTC.
    series.append(MeasuredSeries(name="vic_pv", kind="pv", start_s=FIRST_DAY_S - 36_000.0, step_s=step_s, power_w=_coarser(pv_w, step_s)))
    return series


def study(series: MeasuredSeries, scored_share: float = 1.0 / 3.0) -> list[StudyRow]:
    """One row per method; all methods are scored on the same targets."""
    forecasters = {name: _forecaster(series, calibrate=name != METHODS[2]) for name in METHODS[2:]}
    steps, every = round(HORIZON_S / series.step_s), round(ISSUE_S / series.step_s)
    per_day = round(86_400 / series.step_s)
    first_scored = round(len(series.power_w) * (1.0 - scored_share))
    counted = np.isfinite(series.power_w) & _daylight(series)
    sheets = {name: _Sheet() for name in METHODS}
    for index, power_w in enumerate(series.power_w):
        now_s = series.start_s + index * series.step_s
        if index >= first_scored and index % every == 0 and index + steps <= len(series.power_w):
            window = slice(index, index + steps)
            actual, known = series.power_w[window], counted[window]
            sheets[METHODS[0]].score(_naive(series.power_w, index, steps, per_day), actual, known)
            sheets[METHODS[1]].score(_plain(series.power_w, index, steps, per_day), actual, known)
            for name, forecaster in forecasters.items():
                sheets[name].score(forecaster.forecast(now_s, float(series.step_s), steps).values_w, actual, known)
        for name, forecaster in forecasters.items():
            forecaster.observe(now_s, float(power_w))
            if name == METHODS[-1]:
                forecaster.train()
    return [sheet.row(series, name) for name, sheet in sheets.items()]


class _Sheet:
    """The scores of one method."""

    def __init__(self) -> None:
        self._losses: list[Floats] = []
        self._held: list[Floats] = []
        self._powers: list[Floats] = []

    def score(self, values_w: Floats, actual_w: Floats, known: Flags) -> None:
        values_w, actual_w = values_w[:, known], actual_w[known]
        self._powers.append(actual_w)
        self._losses.append(pinball(values_w, actual_w, np.asarray(LEVELS)).mean(axis=0))
        held = [(actual_w >= values_w[low]) & (actual_w <= values_w[-1 - low]) for low in (1, 0)]
        self._held.append(np.array(held, dtype=np.float64))

    def row(self, series: MeasuredSeries, method: str) -> StudyRow:
        held = np.concatenate(self._held, axis=1)
        return StudyRow(
            series=series.name,
            kind=series.kind,
            method=method,
            pinball=float(np.concatenate(self._losses).mean() / np.concatenate(self._powers).mean()),
            coverage80_frac=float(held[0].mean()),
            coverage90_frac=float(held[1].mean()),
            targets=held.shape[1],
        )


def _forecaster(series: MeasuredSeries, calibrate: bool) -> Forecaster:
    if series.kind == "pv":
        return Forecaster("pv", PV_RATED_W, step_s=series.step_s, latitude_deg=PLACE[0], longitude_deg=PLACE[1], calibrate=calibrate)
    return Forecaster("load", 14_500.0, step_s=series.step_s, calibrate=calibrate)


def _daylight(series: MeasuredSeries) -> Flags:
    """Nights teach nothing about PV and would only flatter the averages."""
    if series.kind != "pv":
        return np.ones(len(series.power_w), dtype=np.bool_)
    middles_s = series.start_s + (np.arange(len(series.power_w), dtype=np.float64) + 0.5) * series.step_s
    return np.asarray(sun_direction(middles_s, *PLACE)[2] > 0.02)


def _days_before(power_w: Floats, index: int, steps: int, per_day: int, days: int) -> Floats:
    """The same times of day on the `days` days before `index`, shape (days, steps); steps <= per_day."""
    return np.array([power_w[index - day * per_day : index - day * per_day + steps] for day in range(1, days + 1)])


def _plain(power_w: Floats, index: int, steps: int, per_day: int) -> Floats:
    return np.asarray(np.nan_to_num(np.nanquantile(_days_before(power_w, index, steps, per_day, 28), LEVELS, axis=0)))


def _naive(power_w: Floats, index: int, steps: int, per_day: int) -> Floats:
    days = _days_before(power_w, index, steps, per_day, 29)
    errors = np.nanquantile(days[:-1] - days[1:], LEVELS, axis=0)
    return np.asarray(np.maximum(np.nan_to_num(days[0]) + np.nan_to_num(errors), 0.0))


def _coarser(power_w: Floats, step_s: int) -> Floats:
    parts = step_s // 1800
    return np.asarray(power_w[: len(power_w) // parts * parts].reshape(-1, parts).mean(axis=1))


def averages(rows: list[StudyRow]) -> Iterator[StudyRow]:
    """Mean over the series of each kind, one row per method."""
    for kind in sorted({row.kind for row in rows}):
        for method in METHODS:
            chosen = [row for row in rows if (row.kind, row.method) == (kind, method)]
            yield StudyRow(
                series=f"mean of {len(chosen)}",
                kind=kind,
                method=method,
                pinball=float(np.mean([row.pinball for row in chosen])),
                coverage80_frac=float(np.mean([row.coverage80_frac for row in chosen])),
                coverage90_frac=float(np.mean([row.coverage90_frac for row in chosen])),
                targets=sum(row.targets for row in chosen),
            )


def main(argv: list[str] | None = None, out: TextIO = sys.stdout, log: TextIO = sys.stderr) -> int:
    parser = argparse.ArgumentParser(prog="python -m hil.households.forecast_study", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds profiles/")
    parser.add_argument("--step", type=int, default=3600, choices=(1800, 3600), help="seconds")
    parser.add_argument("--series", nargs="*", help="names of the series to use; all without it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(argv)
    try:
        chosen = [series for series in read_series(options.data, options.step) if not options.series or series.name in options.series]
    except ScenarioError as error:
        log.write(f"{error}\n")
        return 2
    rows: list[StudyRow] = []
    for number, series in enumerate(chosen, start=1):
        log.write(f"[{number}/{len(chosen)}] {series.name}\n")
        rows += study(series)
    means = list(averages(rows))
    if options.json:
        out.write(
            json.dumps({"rows": [msgspec.to_builtins(row) for row in rows], "means": [msgspec.to_builtins(row) for row in means]}) + "\n"
        )
        return 0
    out.write(f"{'series':12}{'kind':6}{'method':28}{'pinball':>9}{'cov80':>8}{'cov90':>8}{'targets':>10}\n")
    for row in rows + means:
        out.write(
            f"{row.series:12}{row.kind:6}{row.method:28}{row.pinball:9.4f}{row.coverage80_frac:8.3f}{row.coverage90_frac:8.3f}{row.targets:10}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
