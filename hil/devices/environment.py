"""A day for devices that are served alone: how much sun, load and vehicle there is at a time of day. Plain curves, no claim to a place."""

import math

DAY_S = 86_400.0
SUNRISE_S = 6.0 * 3600.0
SUNSET_S = 20.0 * 3600.0
VEHICLE_LEAVES_S = 7.5 * 3600.0
VEHICLE_RETURNS_S = 17.5 * 3600.0
NIGHT_LOAD_W = 250.0
MORNING_PEAK_W = 1200.0
EVENING_PEAK_W = 2200.0


def sun_frac(time_of_day_s: float) -> float:
    """Share of the rated power that the sun offers: half a sine wave between sunrise and sunset, raised to 1.3."""
    if not SUNRISE_S < time_of_day_s < SUNSET_S:
        return 0.0
    return float(math.sin(math.pi * (time_of_day_s - SUNRISE_S) / (SUNSET_S - SUNRISE_S)) ** 1.3)


def load_w(time_of_day_s: float) -> float:
    """Household load: a base with a morning and an evening peak."""
    morning = math.exp(-(((time_of_day_s - 7.5 * 3600.0) / 3600.0) ** 2))
    evening = math.exp(-(((time_of_day_s - 19.0 * 3600.0) / 5400.0) ** 2))
    return NIGHT_LOAD_W + MORNING_PEAK_W * morning + EVENING_PEAK_W * evening


def vehicle_plugged(time_of_day_s: float) -> bool:
    """The vehicle is away during working hours."""
    return not VEHICLE_LEAVES_S <= time_of_day_s < VEHICLE_RETURNS_S
