"""What a forecast is."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How often a central interval really held over the last 28 days; `measured_frac` is None before the first target was
    observed.
    """

    nominal_frac: float
    measured_frac: float | None
    targets: int


class QuantileForecast(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of the mean power over the intervals [times_s[k], times_s[k] + step_s).

    `levels` has shape (levels,), ascending; `values_w` (levels, steps), ascending along the first axis, >= 0. PV is given as a
    magnitude of what will be available: the caller who needs signed power writes -values_w. `method` says which model made it.
    """

    issued_s: float
    step_s: float
    times_s: Floats
    levels: Floats
    values_w: Floats
    measured_coverage: tuple[Coverage, ...]
    method: str

    @property
    def median_w(self) -> Floats:
        return self.at_level(0.5)

    def at_level(self, level: float) -> Floats:
        """Quantile at any level between the outermost ones, by linear interpolation; shape (steps,)."""
        place = float(np.interp(level, self.levels, np.arange(len(self.levels))))
        below = min(int(place), len(self.levels) - 2)
        return np.asarray(self.values_w[below] + (place - below) * (self.values_w[below + 1] - self.values_w[below]))
