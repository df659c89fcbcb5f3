"""Reading the measured data files, and laying a measured series on another time grid without losing energy."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet as parquet

from hil.errors import ScenarioError

Floats = npt.NDArray[np.float64]


def read_columns(path: Path, holds: str) -> dict[str, npt.NDArray[Any]]:
    """All columns of a parquet file as arrays; `holds` says in the error what the file should have contained."""
    if not path.is_file():
        raise ScenarioError(f"{path} is missing: expected a parquet file with {holds}")
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ScenarioError(f"{path} is not a readable parquet file with {holds}: {error}") from error
    return {
        name: np.asarray(column.to_pylist()) if pyarrow.types.is_dictionary(column.type) else column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def read_rows(path: Path, holds: str) -> list[dict[str, str]]:
    """Rows of a CSV file with a header."""
    if not path.is_file():
        raise ScenarioError(f"{path} is missing: expected a CSV table with {holds}")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def resample_mean(means: npt.ArrayLike, from_step_s: float, to_step_s: float, offset_s: float, steps: int) -> Floats:
    """Means over steps of `to_step_s` of a series of means over steps of `from_step_s`, repeated without end, from `offset_s` on.

    The power is taken as constant within each of its own steps, so energy is preserved over every common multiple of both steps.
    """
    values = np.asarray(means, dtype=np.float64)
    period_s = from_step_s * len(values)
    energy_ws = np.concatenate(([0.0], np.cumsum(values) * from_step_s))
    edges_s = offset_s + to_step_s * np.arange(steps + 1)
    turns, within_s = np.floor_divide(edges_s, period_s), edges_s % period_s
    at_edges_ws = turns * energy_ws[-1] + np.interp(within_s, from_step_s * np.arange(len(values) + 1), energy_ws)
    return np.asarray(np.diff(at_edges_ws) / to_step_s)
