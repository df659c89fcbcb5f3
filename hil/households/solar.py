"""What the sun and the clouds of one street allow its panels to give.

Clear sky: Haurwitz (1945) global irradiance G = 1098 cos z exp(-0.059 / cos z) [W/m2] in the form of Reno, Hansen and Stein
(Sandia report SAND2012-2389, eq. 15), with Cooper's (1969) declination; transposed to the panels with a constant clear-sky
diffuse part and an isotropic sky. Clouds: an alternating renewal process of clear and shaded spells that passes over all houses
of the street, each a few seconds later than the one before, and is smoothed over the time in which a shadow edge crosses an
array. It is the bench's own model: the edge's forecaster has a different one and must learn the difference.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DAY_S = 86_400.0
DIFFUSE_FRACTION = 0.13
PERFORMANCE_RATIO = 0.84
"""Heat, wiring, dirt and inverter losses between DC rating and AC power on a warm clear day (IEC 61724-1 performance ratio)."""
SHADOW_EDGE_S = 40.0
"""Steepest measured fall in `irradiance_1min_3days.csv` (Golden, Colorado, broken cloud): 339 W/m2 in a minute."""

Sky = Literal["clear", "broken", "overcast"]


class Panels(msgspec.Struct, frozen=True, kw_only=True):
    """`azimuth_deg` from north, clockwise; `dc_ratio` is panel rating over inverter rating."""

    rated_w: float
    dc_ratio: float
    tilt_deg: float
    azimuth_deg: float
    lag_s: float


def sun_direction(times_s: Floats, latitude_deg: float, longitude_deg: float) -> tuple[Floats, Floats, Floats]:
    """Unit vector to the sun (east, north, up) at Unix times; `up` is the cosine of the zenith angle. Without refraction."""
    day_of_year = np.floor(times_s / DAY_S) % 365.2425
    declination = np.radians(23.45) * np.sin(2.0 * np.pi * (284.0 + day_of_year + 1.0) / 365.0)
    angle_b = 2.0 * np.pi * (day_of_year - 80.0) / 364.0
    equation_of_time_s = 60.0 * (9.87 * np.sin(2.0 * angle_b) - 7.53 * np.cos(angle_b) - 1.5 * np.sin(angle_b))
    solar_s = times_s % DAY_S + equation_of_time_s + longitude_deg * 240.0
    hour_angle = 2.0 * np.pi * (solar_s / DAY_S - 0.5)
    latitude = np.radians(latitude_deg)
    east = -np.cos(declination) * np.sin(hour_angle)
    north = np.cos(latitude) * np.sin(declination) - np.sin(latitude) * np.cos(declination) * np.cos(hour_angle)
    up = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    return east, north, up


def clear_sky_power_w(times_s: Floats, panels: Panels, latitude_deg: float, longitude_deg: float) -> Floats:
    """DC-side power of the panels under a clear sky at the instants, before the inverter clips it, shape (len(times_s),)."""
    east, north, up = sun_direction(times_s, latitude_deg, longitude_deg)
    cosine = np.maximum(up, 1e-3)
    global_w_m2 = np.where(up > 0.0, 1098.0 * cosine * np.exp(-0.059 / cosine), 0.0)
    tilt, azimuth = np.radians(panels.tilt_deg), np.radians(panels.azimuth_deg)
    incidence = np.sin(tilt) * (np.sin(azimuth) * east + np.cos(azimuth) * north) + np.cos(tilt) * up
    # Near the horizon the ratio of cosines explodes while the beam has gone; 5 bounds it at about 11 degrees of elevation.
    beam = (1.0 - DIFFUSE_FRACTION) * global_w_m2 * np.clip(incidence / np.maximum(cosine, 0.2), 0.0, 5.0)
    diffuse = DIFFUSE_FRACTION * global_w_m2 * (1.0 + np.cos(tilt)) / 2.0
    return np.asarray(panels.rated_w * panels.dc_ratio * PERFORMANCE_RATIO * (beam + diffuse) / 1000.0)


class CloudField:
    """One day's clouds over the street: the share of clear-sky power that passes, averaged over any window exactly."""

    def __init__(self, start_s: float, duration_s: float, sky: Sky, rng: np.random.Generator) -> None:
        clear_s, shaded_s, low, high = {
            "clear": (9000.0, 60.0, 0.75, 0.95),
            "broken": (780.0, 300.0, 0.25, 0.65),
            "overcast": (150.0, 1500.0, 0.12, 0.40),
        }[sky]
        count = int(2.0 * duration_s / (clear_s + shaded_s)) + 16
        spells = np.empty((count, 2))
        spells[:, 0] = rng.exponential(clear_s, count) + 20.0
        spells[:, 1] = rng.exponential(shaded_s, count) + 20.0
        share = np.empty((count, 2))
        # Light reflected from the flanks of a cloud lifts the clear spells of a broken sky above the clear-sky value.
        share[:, 0] = rng.uniform(0.97, 1.06 if sky == "broken" else 1.0, count)
        share[:, 1] = rng.uniform(low, high, count)
        self._edges_s = np.concatenate(([start_s], start_s + np.cumsum(spells.ravel())))
        self._passed_s = np.concatenate(([0.0], np.cumsum(spells.ravel() * share.ravel())))

    def share(self, times_s: Floats, step_s: float, lag_s: float) -> Floats:
        """Mean share over each interval that starts at `times_s` at a place that the clouds reach `lag_s` later."""
        margin_s = max(SHADOW_EDGE_S - step_s, 0.0) / 2.0
        first, last = times_s - lag_s - margin_s, times_s - lag_s + step_s + margin_s
        passed = np.interp(last, self._edges_s, self._passed_s) - np.interp(first, self._edges_s, self._passed_s)
        return np.asarray(passed / (last - first))


def available_power_w(
    start_s: float,
    step_s: float,
    steps: int,
    panels: Panels,
    clouds: CloudField,
    latitude_deg: float,
    longitude_deg: float,
) -> npt.NDArray[np.float32]:
    """AC power that the inverter could give, mean over each step, shape (steps,), between 0 and `panels.rated_w`."""
    times_s = start_s + step_s * np.arange(steps, dtype=np.float64)
    clear_w = clear_sky_power_w(times_s + step_s / 2.0, panels, latitude_deg, longitude_deg)
    power_w = clear_w * clouds.share(times_s, step_s, panels.lag_s)
    return np.clip(power_w, 0.0, panels.rated_w).astype(np.float32)
