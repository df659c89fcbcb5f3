"""What people switch on: one household's appliances over one day, as segments of constant power.

A bottom-up model in the manner of Richardson et al. (2010), "Domestic electricity use: a high-resolution energy demand model",
Energy and Buildings 42: occupancy decides when appliances start, appliances have the shape that they have. A day is a list of
segments (start, end, power) in continuous time, so that its mean over any step is exact: the same seed gives the same energy at
10 s and at 5 min. P1 (essential): cold, standby, light, cooking, kettle, small appliances, entertainment. P2 (may be reduced):
laundry, dishwasher, pool pump, air conditioning.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DAY_S = 86_400.0
HOUR_S = 3600.0


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same from day to day: people, rhythm (local seconds of the day) and equipment."""

    occupants: int
    intensity: float
    """How much this household uses compared with others of its size; median 1."""
    wake_s: float
    leave_s: float | None
    """None: somebody is at home all day."""
    return_s: float
    sleep_s: float
    standby_w: float
    fridge_w: float
    second_fridge: bool
    light_w: float
    entertainment_w: float
    electric_cooking: bool
    dryer: bool
    dishwasher: bool
    pool_pump_w: float
    air_conditioner_w: float
    comfort_c: float


class DayWeather(msgspec.Struct, frozen=True, kw_only=True):
    """Outdoor temperature as a sinusoid with its minimum at 05:00 and its maximum at 16:00 local time."""

    minimum_c: float
    maximum_c: float
    sunrise_s: float
    sunset_s: float


class Segments:
    """Collects (start, end, power) triples; overlapping ones add up."""

    def __init__(self) -> None:
        self._starts: list[Floats] = []
        self._ends: list[Floats] = []
        self._powers: list[Floats] = []

    def add(self, starts_s: npt.ArrayLike, durations_s: npt.ArrayLike, powers_w: npt.ArrayLike) -> None:
        starts, durations, powers = np.broadcast_arrays(np.atleast_1d(starts_s), durations_s, powers_w)
        self._starts.append(starts.astype(np.float64))
        self._ends.append(starts.astype(np.float64) + durations)
        self._powers.append(powers.astype(np.float64))

    def mean_power_w(self, start_s: float, step_s: float, steps: int) -> Floats:
        """Mean of the sum of all segments over each step, shape (steps,)."""
        edges = start_s + step_s * np.arange(steps + 1)
        if sum(len(starts) for starts in self._starts) == 0:
            return np.zeros(steps)
        times = np.concatenate(self._starts + self._ends)
        changes_w = np.concatenate(self._powers + [-power for power in self._powers])
        order = np.argsort(times, kind="stable")
        times, level_w = times[order], np.cumsum(changes_w[order])
        energy_ws = np.concatenate(([0.0], np.cumsum(level_w[:-1] * np.diff(times))))
        return np.asarray(np.maximum(np.diff(np.interp(edges, times, energy_ws)) / step_s, 0.0))


def draw_habits(rng: np.random.Generator) -> Habits:
    occupants = int(rng.choice([1, 2, 3, 4, 5], p=[0.25, 0.34, 0.16, 0.17, 0.08]))
    intensity = float(np.clip(rng.lognormal(0.0, 0.45), 0.4, 2.6))
    employed = rng.random() < 0.45
    wake_s = rng.normal(6.7, 0.7) * HOUR_S
    return Habits(
        occupants=occupants,
        intensity=intensity,
        wake_s=wake_s,
        leave_s=wake_s + rng.uniform(1.0, 2.0) * HOUR_S if employed else None,
        return_s=rng.normal(17.4, 1.0) * HOUR_S,
        sleep_s=min(rng.normal(22.6, 0.8), 23.9) * HOUR_S,
        standby_w=intensity * (rng.uniform(45.0, 95.0) + 12.0 * occupants),
        fridge_w=rng.uniform(100.0, 170.0),
        second_fridge=bool(rng.random() < 0.35),
        light_w=intensity * (rng.uniform(25.0, 60.0) + 15.0 * occupants),
        entertainment_w=intensity * (rng.uniform(90.0, 200.0) + 25.0 * occupants),
        electric_cooking=bool(rng.random() < 0.6),
        dryer=bool(rng.random() < 0.35),
        dishwasher=bool(rng.random() < 0.55),
        pool_pump_w=float(rng.choice([0.0, 900.0], p=[0.9, 0.1])),
        air_conditioner_w=float(rng.choice([0.0, 1100.0, 1800.0, 2600.0], p=[0.25, 0.3, 0.3, 0.15])),
        comfort_c=rng.uniform(23.5, 26.5),
    )


def draw_day(
    essential: Segments,
    flexible: Segments,
    habits: Habits,
    weather: DayWeather,
    midnight_s: float,
    weekend: bool,
    rng: np.random.Generator,
) -> None:
    """Adds the P1 and P2 segments of the local day that begins at `midnight_s` (Unix)."""
    shift_s = rng.normal(0.0, 0.4 * HOUR_S)
    wake_s = habits.wake_s + shift_s + (1.2 * HOUR_S if weekend else 0.0)
    away = habits.leave_s is not None and (not weekend or rng.random() < 0.3) and rng.random() < 0.92
    leave_s = habits.leave_s + shift_s if away and habits.leave_s is not None else habits.return_s
    leave_s = max(leave_s, wake_s + 0.5 * HOUR_S)
    return_s = max(habits.return_s + rng.normal(0.0, 0.6 * HOUR_S), leave_s) if away else leave_s
    awake = (wake_s, leave_s, return_s, max(habits.sleep_s + rng.normal(0.0, 0.5 * HOUR_S), return_s + HOUR_S))
    _always_on(essential, habits, midnight_s, rng)
    _presence(essential, habits, weather, midnight_s, awake, rng)
    _kitchen(essential, habits, midnight_s, awake, rng)
    _laundry_and_dishes(flexible, habits, midnight_s, awake, weekend, rng)
    _climate(flexible, habits, weather, midnight_s, awake, rng)


Awake = tuple[float, float, float, float]
"""Local seconds of the day: wake, leave, return, sleep; leave == return on a day at home."""


def _within(awake: Awake, from_h: float, until_h: float, rng: np.random.Generator) -> float | None:
    """A moment between the two hours at which somebody is at home and awake; None where there is none."""
    wake_s, leave_s, return_s, sleep_s = awake
    morning_s = max(wake_s, from_h * HOUR_S)
    evening_s = max(return_s, from_h * HOUR_S)
    before_s = max(min(leave_s, until_h * HOUR_S) - morning_s, 0.0)
    after_s = max(min(sleep_s, until_h * HOUR_S) - evening_s, 0.0)
    moment_s = rng.random() * (before_s + after_s)
    if before_s + after_s <= 0.0:
        return None
    return morning_s + moment_s if moment_s < before_s else evening_s + moment_s - before_s


def _always_on(segments: Segments, habits: Habits, midnight_s: float, rng: np.random.Generator) -> None:
    segments.add(midnight_s, DAY_S, habits.standby_w)
    for _ in range(2 if habits.second_fridge else 1):
        period_s = rng.uniform(2700.0, 4200.0)
        count = int(DAY_S / period_s)
        starts = midnight_s + (np.arange(count) + rng.uniform(0.0, 0.4, count)) * (DAY_S / count)
        segments.add(starts, period_s * rng.uniform(0.30, 0.50, count), habits.fridge_w * rng.uniform(0.9, 1.1, count))
        # The compressor's start and the defrost heater are what a 10 s meter sees of a fridge.
        segments.add(starts, 3.0, 4.0 * habits.fridge_w)
        segments.add(midnight_s + rng.uniform(0.0, DAY_S - 1500.0), 900.0, 200.0)


def _presence(
    segments: Segments,
    habits: Habits,
    weather: DayWeather,
    midnight_s: float,
    awake: Awake,
    rng: np.random.Generator,
) -> None:
    """Light follows people and darkness; screens follow people, most of all in the evening."""
    wake_s, leave_s, return_s, sleep_s = awake
    quarter_s = np.arange(96) * 900.0
    present = ((quarter_s >= wake_s) & (quarter_s < leave_s)) | ((quarter_s >= return_s) & (quarter_s < sleep_s))
    dark = (quarter_s < weather.sunrise_s + 1200.0) | (quarter_s > weather.sunset_s - 1800.0)
    light_w = habits.light_w * rng.uniform(0.3, 1.4, 96) * np.where(dark, 1.0, 0.2) * present
    evening = np.clip((quarter_s / HOUR_S - 16.0) / 3.0, 0.6, 1.0)
    screens_w = habits.entertainment_w * evening * (rng.random(96) < 0.85) * rng.uniform(0.6, 1.2, 96) * present
    starts = midnight_s + quarter_s + rng.uniform(0.0, 300.0, 96)
    segments.add(starts, 900.0, light_w)
    segments.add(starts, 900.0, screens_w)


def _kitchen(segments: Segments, habits: Habits, midnight_s: float, awake: Awake, rng: np.random.Generator) -> None:
    for from_h, until_h, mean in ((5.0, 10.0, 1.0), (10.0, 17.0, 1.1), (17.0, 23.0, 1.0)):
        for _ in range(int(rng.poisson(mean * (0.6 + 0.3 * habits.occupants)))):
            start = _within(awake, from_h, until_h, rng)
            if start is not None:
                segments.add(midnight_s + start, rng.uniform(90.0, 240.0), rng.uniform(1900.0, 2300.0))
    for from_h, until_h, mean in ((6.0, 9.5, 0.9), (11.5, 14.0, 0.5), (17.5, 21.0, 0.9)):
        for _ in range(int(rng.poisson(mean))):
            start = _within(awake, from_h, until_h, rng)
            if start is not None:
                segments.add(midnight_s + start, rng.uniform(60.0, 300.0), rng.uniform(900.0, 1500.0))
    if rng.random() < 0.35:
        start = _within(awake, 6.0, 9.0, rng)
        if start is not None:
            segments.add(midnight_s + start, rng.uniform(180.0, 480.0), rng.uniform(1200.0, 1900.0))
    if habits.electric_cooking and rng.random() < 0.75:
        start = _within(awake, 16.5, 20.5, rng)
        if start is not None:
            _thermostat(segments, midnight_s + start, rng.uniform(1200.0, 3300.0), rng.uniform(1500.0, 2600.0), rng)
            if rng.random() < 0.45:
                _thermostat(segments, midnight_s + start + 300.0, rng.uniform(900.0, 1800.0), rng.uniform(1000.0, 1800.0), rng)


def _thermostat(segments: Segments, start_s: float, duration_s: float, power_w: float, rng: np.random.Generator) -> None:
    """Heats up at full power for a third of the time, then cycles at about 45 %."""
    heat_s = duration_s / 3.0
    segments.add(start_s, heat_s, power_w)
    period_s = rng.uniform(60.0, 120.0)
    starts = np.arange(start_s + heat_s + 0.55 * period_s, start_s + duration_s - period_s, period_s)
    segments.add(starts, period_s * 0.45, power_w)


def _laundry_and_dishes(
    segments: Segments,
    habits: Habits,
    midnight_s: float,
    awake: Awake,
    weekend: bool,
    rng: np.random.Generator,
) -> None:
    if rng.random() < (0.18 + 0.08 * habits.occupants) * (1.5 if weekend else 1.0):
        start = _within(awake, 7.0, 20.0, rng)
        if start is not None:
            heats = rng.random() < 0.4
            segments.add(midnight_s + start + 300.0, 900.0 if heats else 1.0, 1900.0)
            segments.add(midnight_s + start, 3600.0, rng.uniform(120.0, 250.0))
            if habits.dryer and rng.random() < 0.6:
                _thermostat(segments, midnight_s + start + 4200.0, rng.uniform(2400.0, 4500.0), 2100.0, rng)
    if habits.dishwasher and rng.random() < 0.6:
        start = _within(awake, 18.5, 23.0, rng)
        if start is not None:
            segments.add(midnight_s + start + np.array([300.0, 3000.0]), np.array([1080.0, 840.0]), 1900.0)
            segments.add(midnight_s + start, 5400.0, 60.0)
    if habits.pool_pump_w > 0.0:
        segments.add(midnight_s + rng.uniform(9.0, 11.0) * HOUR_S, 5.0 * HOUR_S, habits.pool_pump_w)


def _climate(
    segments: Segments,
    habits: Habits,
    weather: DayWeather,
    midnight_s: float,
    awake: Awake,
    rng: np.random.Generator,
) -> None:
    """An inverter air conditioner that follows the outdoor temperature while people are at home, and cycles below 30 %."""
    if habits.air_conditioner_w <= 0.0:
        return
    wake_s, leave_s, return_s, sleep_s = awake
    block_s = 600.0 * np.arange(144, dtype=np.float64)
    outdoor_c = outdoor_temperature_c(weather, block_s)
    present = ((block_s >= wake_s) & (block_s < leave_s)) | ((block_s >= return_s) & (block_s < sleep_s))
    cooling = np.clip((outdoor_c - habits.comfort_c) / 12.0, 0.0, 1.0)
    heating = np.clip((14.0 - outdoor_c) / 16.0, 0.0, 1.0) * 0.7
    wanted = (cooling + heating) * present * (rng.random(144) < 0.8)
    on = wanted > 0.02
    duty = np.where(wanted >= 0.3, 1.0, wanted / 0.3)
    power_w = habits.air_conditioner_w * np.maximum(wanted, 0.3) * rng.uniform(0.9, 1.1, 144)
    segments.add(midnight_s + block_s[on], 600.0 * duty[on], power_w[on])


def outdoor_temperature_c(weather: DayWeather, second_of_day: Floats) -> Floats:
    """Rises from 05:00 to 16:00 and falls over the other thirteen hours, both as half cosines."""
    rising = (second_of_day >= 5 * HOUR_S) & (second_of_day < 16 * HOUR_S)
    phase = np.where(
        rising,
        (second_of_day - 5 * HOUR_S) / (11 * HOUR_S),
        1.0 + ((second_of_day - 16 * HOUR_S) % DAY_S) / (13 * HOUR_S),
    )
    share = (1.0 - np.cos(np.pi * phase)) / 2.0
    return np.asarray(weather.minimum_c + (weather.maximum_c - weather.minimum_c) * share)
