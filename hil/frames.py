"""What the bench knows of one plant step, and the record of a whole run.

Arrays are indexed by home, in the order of the run; powers are positive into the thing named. A frame describes the interval that
ends at `time_s`: powers are those that flowed in it, voltages and loadings those that they caused.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from hil.errors import RunError

Floats = npt.NDArray[np.float64]


class Frame(NamedTuple):
    """One plant step. See the module docstring; every array has shape (homes,)."""

    time_s: float
    step_s: float
    net_import_w: Floats
    p1_w: Floats
    p1_wanted_w: Floats
    p2_w: Floats
    p2_wanted_w: Floats
    pv_w: Floats
    pv_available_w: Floats
    battery_w: Floats
    ev_w: Floats
    shiftable_w: Floats
    soc_frac: Floats
    """NaN where there is no battery."""

    import_limit_w: Floats
    export_limit_w: Floats
    voltage_min_v: Floats
    voltage_max_v: Floats
    transformer_frac: float
    line_frac: float
    source_w: float
    losses_w: float
    edge_alive: npt.NDArray[np.bool_]


class Glance(Struct, frozen=True, kw_only=True):
    """The feeder in one plant step, for a person who watches the run."""

    time_s: float
    source_w: float
    transformer_frac: float
    voltage_min_v: float
    voltage_max_v: float
    homes_alive: int
    homes: int


def glance_of(frame: Frame) -> Glance:
    """What a person wants to know of a frame."""
    return Glance(
        time_s=frame.time_s,
        source_w=frame.source_w,
        transformer_frac=frame.transformer_frac,
        voltage_min_v=float(frame.voltage_min_v.min()),
        voltage_max_v=float(frame.voltage_max_v.max()),
        homes_alive=int(frame.edge_alive.sum()),
        homes=len(frame.edge_alive),
    )


HOME_SERIES = (
    "net_import_w",
    "p1_w",
    "p2_w",
    "p2_wanted_w",
    "pv_w",
    "pv_available_w",
    "battery_w",
    "ev_w",
    "shiftable_w",
    "soc_frac",
    "import_limit_w",
    "export_limit_w",
    "voltage_min_v",
    "voltage_max_v",
)
FEEDER_SERIES = ("transformer_frac", "line_frac", "source_w", "losses_w")


class Record:
    """Series of one run, one sample for each control cycle: the mean over its plant steps, and for voltages and loadings the extreme."""

    def __init__(self, homes: tuple[str, ...], start_s: float, sample_s: float, samples: int) -> None:
        self.homes = homes
        self.start_s = start_s
        self.sample_s = sample_s
        self.home = {name: np.zeros((samples, len(homes)), dtype=np.float32) for name in HOME_SERIES}
        self.feeder = {name: np.zeros(samples, dtype=np.float64) for name in FEEDER_SERIES}
        self.samples = 0

    def add(self, frames: list[Frame]) -> None:
        """Append the sample that the frames of one control cycle make."""
        row = self.samples
        for fold, names in _HOME_FOLDS.items():
            folded = fold(np.array([[getattr(frame, name) for name in names] for frame in frames]))
            for name, values in zip(names, folded, strict=True):
                self.home[name][row] = values
        for name, series in self.feeder.items():
            series[row] = _FOLDS.get(name, _mean)(np.array([getattr(frame, name) for frame in frames]))
        self.samples += 1

    @property
    def times_s(self) -> Floats:
        """Ends of the samples."""
        return self.start_s + self.sample_s * np.arange(1, self.samples + 1, dtype=np.float64)

    def save(self, path: Path) -> None:
        """Write all series into one compressed NumPy archive."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        arrays |= {f"home.{name}": series[: self.samples] for name, series in self.home.items()}
        arrays |= {f"feeder.{name}": series[: self.samples] for name, series in self.feeder.items()}
        arrays["homes"] = np.array(self.homes)
        arrays["grid"] = np.array([self.start_s, self.sample_s])
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_record(path: Path) -> Record:
    """Read what `Record.save` wrote."""
    try:
        archive = np.load(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not the record of a run: {error}") from error
    start_s, sample_s = archive["grid"].tolist()
    samples = len(archive["feeder.source_w"])
    record = Record(tuple(str(name) for name in archive["homes"]), start_s, sample_s, samples)
    record.home = {name: archive[f"home.{name}"] for name in HOME_SERIES}
    record.feeder = {name: archive[f"feeder.{name}"] for name in FEEDER_SERIES}
    record.samples = samples
    return record


def _mean(values: Floats) -> Floats:
    return np.asarray(values.mean(axis=0))


def _last(values: Floats) -> Floats:
    return np.asarray(values[-1])


def _lowest(values: Floats) -> Floats:
    return np.asarray(values.min(axis=0))


def _highest(values: Floats) -> Floats:
    return np.asarray(values.max(axis=0))


_FOLDS = {
    "soc_frac": _last,
    "import_limit_w": _last,
    "export_limit_w": _last,
    "voltage_min_v": _lowest,
    "voltage_max_v": _highest,
    "transformer_frac": _highest,
    "line_frac": _highest,
}
_HOME_FOLDS = {fold: [name for name in HOME_SERIES if _FOLDS.get(name, _mean) is fold] for fold in (_mean, _last, _lowest, _highest)}
"""Series of homes that are folded alike, so that each fold is one operation on [step, series, home]."""
