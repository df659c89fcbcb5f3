"""The inputs of source 003: its prices as printed, and the loads that it does not print, inferred and labelled so.

The folder holds the prices of Table 1, an assignment of the 33-bus loads to the three regions of figure 6 and a system load of 24 hours
that was *calibrated* to the six figures of case 1: the paper publishes none, so case 1 is reproduced by construction of this load, and
what is shown is that one load explains all six.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.mechanisms.disco.market import DiscoMarket
from hil.errors import ScenarioError

FloatArray = NDArray[np.float64]

HOUR_S = 3600.0
HOURS = 24
REGIONS = ("A1", "A2", "A3")
FIGURES = ("EC_e", "EC_a", "EC_d")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoCase:
    """`load_w` is (buses, hours), `published` holds Table 2 by (scenario, case, figure)."""

    market: DiscoMarket
    buses: tuple[str, ...]
    region_of_bus: NDArray[np.int64]
    load_w: FloatArray
    flexibility_frac: float
    published: dict[tuple[int, int, str], float]


def load_disco_case(data: Path) -> DiscoCase:
    """Read `seed003` in the folder of public data sets."""
    folder = data / "seed003"
    if not folder.is_dir():
        raise ScenarioError(f"study disco33 needs the folder seed003, and {folder} is none; give its parent with --data DIR")
    prices = _table(folder / "table1_prices_eur_kwh.csv", ("lambda_A1", "lambda_A2", "lambda_A3", "lambda_M"))
    regions = _table(folder / "assumed_regions_33bus.csv", ("bus", "region", "p_nominal_kw"))
    system = _table(folder / "calibrated_system_load_24h.csv", ("system_load_kw",))
    if len(prices) != HOURS or len(system) != HOURS:
        raise ScenarioError(f"{folder}: expected {HOURS} hours of prices and loads, got {len(prices)} and {len(system)}")
    facts = _facts(folder / "identities.json")
    nominal = regions[:, 2]
    return DiscoCase(
        market=DiscoMarket(
            regions=REGIONS,
            regional_per_kwh=prices[:, :3].T.copy(),
            wholesale_per_kwh=prices[:, 3].copy(),
            retail_per_kwh=facts["lambda_D2L"],
            margin_frac=facts["delta"],
            step_s=HOUR_S,
        ),
        buses=tuple(str(int(bus)) for bus in regions[:, 0]),
        region_of_bus=regions[:, 1].astype(np.int64) - 1,
        load_w=nominal[:, None] / nominal.sum() * system[:, 0] * 1e3,
        flexibility_frac=facts["gamma"],
        published={
            (scenario, case, figure): float(facts["table2"][f"S{scenario}"][f"{figure}_case{case}"])
            for scenario in (1, 2)
            for case in (1, 2)
            for figure in FIGURES
        },
    )


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("lambda_D2L", "delta", "gamma", "table2")}
    except (OSError, ValueError, KeyError) as error:
        raise ScenarioError(f"{path}: cannot be read ({error!r})") from error


def _table(path: Path, columns: tuple[str, ...]) -> FloatArray:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[_number(path, row, column) for column in columns] for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError(f"{path}: cannot be read ({error})") from error
    return np.array(rows)


def _number(path: Path, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ScenarioError(f"{path}: expected a finite number in column {column}, got {row.get(column)!r}")
    return value
