"""What is assumed before anything was measured: declared shapes, scaled by ratings.

Load: hourly means of 99 real Victorian homes relative to their own mean, and the spread of their quarter hours around it
(computed from the smart-meter day published with Team-Nando/OE1-Ideal, BSD-3). PV: the clear-sky index of a temperate climate, a
round guess.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.forecast.quantiles import PROBABILITIES

Floats = npt.NDArray[np.float64]

LOAD_HOURLY: Floats = np.array(
    [
        [0.83, 0.71, 0.61, 0.56, 0.54, 0.61, 0.66, 0.79, 0.84, 0.95, 0.98, 1.01],
        [1.04, 0.93, 0.91, 1.01, 1.15, 1.34, 1.58, 1.62, 1.47, 1.37, 1.37, 1.12],
    ]
).ravel()
SPREAD_LEVELS = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
LOAD_SPREAD = (0.19, 0.32, 0.40, 0.58, 0.85, 1.24, 1.74, 2.26, 3.61)
PV_INDEX = (0.05, 0.12, 0.18, 0.40, 0.70, 0.88, 0.96, 1.00, 1.05)


def load_prior(per_day: int, utc_offset_s: float, typical_day_wh: float, rated_w: float) -> Floats:
    """Table (per_day, scores) in W; rows are slots of the UTC day."""
    local_h = ((np.arange(per_day) + 0.5) * 24.0 / per_day + utc_offset_s / 3600.0) % 24.0
    shape = np.interp(local_h, np.arange(-1, 25) + 0.5, np.concatenate((LOAD_HOURLY[-1:], LOAD_HOURLY, LOAD_HOURLY[:1])))
    spread = np.interp(PROBABILITIES, SPREAD_LEVELS, LOAD_SPREAD)
    return np.minimum(typical_day_wh / 24.0 * shape[:, None] * spread, rated_w)


def pv_prior(per_day: int) -> Floats:
    """Table (per_day, scores) of the clear-sky index; the same at all hours."""
    return np.tile(np.interp(PROBABILITIES, SPREAD_LEVELS, PV_INDEX), (per_day, 1))
