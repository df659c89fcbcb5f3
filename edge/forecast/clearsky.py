"""How much of its rating a PV system could give under a clear sky, from date, hour and place alone.

Haurwitz (1945) global irradiance G = 1098 cos z exp(-0.059 / cos z) [W/m2] (Reno, Hansen and Stein, SAND2012-2389, eq. 15) with
Spencer's (1971) declination and equation of time. Tilt, orientation and losses are left out on purpose: they repeat from day to
day, so the 28-day quantiles of the *index* (power over this envelope, per time of day) learn them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DAY_S = 86_400.0
YEAR_DAYS = 365.2425


def clear_sky_frac(times_s: Floats, latitude_deg: float, longitude_deg: float) -> Floats:
    """Clear-sky global horizontal irradiance over 1000 W/m2 at Unix times, 0 while the sun is down."""
    gamma = 2.0 * np.pi * (times_s / DAY_S % YEAR_DAYS) / YEAR_DAYS
    declination = (
        0.006918
        - 0.399912 * np.cos(gamma)
        + 0.070257 * np.sin(gamma)
        - 0.006758 * np.cos(2.0 * gamma)
        + 0.000907 * np.sin(2.0 * gamma)
        - 0.002697 * np.cos(3.0 * gamma)
        + 0.00148 * np.sin(3.0 * gamma)
    )
    equation_s = (DAY_S / (2.0 * np.pi)) * (
        0.000075 + 0.001868 * np.cos(gamma) - 0.032077 * np.sin(gamma) - 0.014615 * np.cos(2.0 * gamma) - 0.04089 * np.sin(2.0 * gamma)
    )
    hour_angle = 2.0 * np.pi * ((times_s + equation_s + longitude_deg * 240.0) / DAY_S % 1.0 - 0.5)
    latitude = np.radians(latitude_deg)
    cosine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    above = np.maximum(cosine, 1e-4)
    return np.asarray(np.where(cosine > 0.0, 1.098 * above * np.exp(-0.059 / above), 0.0))
