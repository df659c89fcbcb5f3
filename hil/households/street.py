"""The 30 homes of the `street` scenario: who has what, and what happens on any day, drawn from a seed.

The fleet is fixed (the table below is the street); weather, people and cars are drawn for each local day from (seed, purpose,
home, day), so that a day is the same whichever window of time is asked for and at whichever step. `street_day` is the one public
thing. Calibrated against the real Victorian homes of `vic_homes99_30min_wh_1day.csv` (mean 9.4 kWh a day, highest from 18:00 to
19:30, load factor of the sum 0.59): see `tests/hil/households/test_street.py`.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from hil.households.appliances import DayWeather, Habits, Segments, draw_day, draw_habits
from hil.households.profiles import (
    BatteryAsset,
    EvAsset,
    EvSession,
    Floats,
    HistorySeries,
    HouseholdProfiles,
    HouseholdSite,
    NeighbourhoodDay,
    PvAsset,
    Series,
    ShiftableLoad,
)
from hil.households.solar import CloudField, Panels, Sky, available_power_w, sun_direction
from hil.households.tariffs import STREET_EV_NIGHT, Tariff
from hil.networks.street import CUSTOMERS

LATITUDE_DEG, LONGITUDE_DEG = -37.8, 145.2
UTC_OFFSET_S = 39_600.0
"""Melbourne in summer (AEDT)."""
START_S = 1_736_773_200.0
"""2025-01-14 00:00 local time, a Tuesday in the school holidays: the sun of midsummer."""
DAY_S = 86_400.0
HOUR_S = 3600.0
FLEET_SEED = 2_330

# home: PV inverter kW, battery kWh, EV charger kW, hot-water element kW (0: none). 20 PV, 16 batteries, 9 cars, 8 tanks.
FLEET: dict[str, tuple[float, float, float, float]] = {
    "home_01": (5.0, 10.0, 0.0, 3.6),
    "home_02": (0.0, 0.0, 0.0, 0.0),
    "home_03": (6.0, 13.5, 7.4, 0.0),
    "home_04": (5.0, 0.0, 0.0, 0.0),
    "home_05": (8.0, 13.5, 0.0, 0.0),
    "home_06": (6.0, 0.0, 7.4, 3.6),
    "home_07": (0.0, 0.0, 0.0, 3.6),
    "home_08": (5.0, 10.0, 0.0, 0.0),
    "home_09": (10.0, 13.5, 7.4, 0.0),
    "home_10": (8.0, 13.5, 0.0, 0.0),
    "home_11": (5.0, 10.0, 0.0, 0.0),
    "home_12": (0.0, 0.0, 7.4, 0.0),
    "home_13": (6.0, 13.5, 0.0, 3.6),
    "home_14": (0.0, 0.0, 0.0, 0.0),
    "home_15": (5.0, 10.0, 0.0, 0.0),
    "home_16": (8.0, 13.5, 7.4, 0.0),
    "home_17": (10.0, 13.5, 0.0, 3.6),
    "home_18": (0.0, 0.0, 0.0, 0.0),
    "home_19": (6.0, 10.0, 7.4, 0.0),
    "home_20": (0.0, 0.0, 0.0, 3.6),
    "home_21": (8.0, 13.5, 0.0, 0.0),
    "home_22": (0.0, 0.0, 7.4, 0.0),
    "home_23": (6.0, 13.5, 0.0, 0.0),
    "home_24": (5.0, 0.0, 0.0, 0.0),
    "home_25": (8.0, 10.0, 7.4, 3.6),
    "home_26": (0.0, 0.0, 0.0, 0.0),
    "home_27": (5.0, 0.0, 0.0, 0.0),
    "home_28": (10.0, 13.5, 7.4, 0.0),
    "home_29": (0.0, 0.0, 0.0, 3.6),
    "home_30": (0.0, 0.0, 0.0, 0.0),
}

WEATHER, HOME, CAR, CLOUDS, SOURCE = range(5)
"""What a random stream is for; part of its seed."""


def street_day(
    seed: int = 1,
    *,
    start_s: float = START_S,
    step_s: float = 10.0,
    run_s: float = DAY_S,
    margin_s: float = DAY_S,
    utc_offset_s: float = UTC_OFFSET_S,
    sky: Sky | None = "broken",
    history_days: int = 28,
    history_step_s: float = 300.0,
    tariff: Tariff = STREET_EV_NIGHT,
) -> NeighbourhoodDay:
    """The street over [start_s, start_s + run_s + margin_s), with `history_days` of meter history before it (0: none).

    `sky` is imposed on the days of the run itself, so that the scenario is about the day it was chosen for; None draws it as
    well.
    """
    run_steps, steps = round(run_s / step_s), round((run_s + margin_s) / step_s)
    draw = _Draw(seed=seed, utc_offset_s=utc_offset_s, run_from_s=start_s, run_until_s=start_s + run_s, sky=sky)
    homes = _homes()
    households = tuple(_household(home, draw, start_s, step_s, steps) for home in homes)
    history_steps = round(history_days * DAY_S / history_step_s)
    history_start_s = start_s - history_steps * history_step_s
    past = homes if history_steps > 0 else ()
    history = tuple(_history(home, draw, history_start_s, history_step_s, history_steps) for home in past)
    return NeighbourhoodDay(
        name="street",
        start_s=start_s,
        step_s=step_s,
        run_steps=run_steps,
        utc_offset_s=utc_offset_s,
        latitude_deg=LATITUDE_DEG,
        longitude_deg=LONGITUDE_DEG,
        tariff=tariff,
        source_voltage_pu=_source_voltage_pu(draw, start_s, step_s, steps),
        households=households,
        history=history,
    )


class _Home(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change from day to day."""

    index: int
    name: str
    phases: tuple[int, ...]
    habits: Habits
    power_factor: float
    panels: Panels | None
    battery: BatteryAsset | None
    ev_w: float
    tank_w: float
    tank_wh: float


class _Draw(msgspec.Struct, frozen=True, kw_only=True):
    """The seed, and how to get from it to any day's circumstances."""

    seed: int
    utc_offset_s: float
    run_from_s: float
    run_until_s: float
    sky: Sky | None

    def stream(self, purpose: int, day: int, home: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, purpose, day, home]))

    def days(self, start_s: float, duration_s: float) -> range:
        """Numbers of the local days that [start_s, start_s + duration_s) touches."""
        first = math.floor((start_s + self.utc_offset_s) / DAY_S)
        return range(first, math.ceil((start_s + duration_s + self.utc_offset_s) / DAY_S))

    def midnight_s(self, day: int) -> float:
        return day * DAY_S - self.utc_offset_s

    def weather(self, day: int) -> tuple[DayWeather, Sky]:
        rng = self.stream(WEATHER, day)
        midnight_s = self.midnight_s(day)
        season = math.cos(2.0 * math.pi * (day % 365.2425 - 20.0) / 365.2425)
        sky: Sky = ("clear", "broken", "overcast")[int(rng.choice(3, p=[0.35, 0.45, 0.20]))]
        warmth_c = float(np.clip(rng.normal(0.0, 3.5), -6.0, 8.0))
        if self.run_from_s < midnight_s + DAY_S and midnight_s < self.run_until_s and self.sky is not None:
            sky, warmth_c = self.sky, min(warmth_c, 1.5)
        times_s = midnight_s + 300.0 * np.arange(288, dtype=np.float64)
        light = np.flatnonzero(sun_direction(times_s, LATITUDE_DEG, LONGITUDE_DEG)[2] > 0.0) * 300.0
        mean_c = 14.8 + 5.2 * season + warmth_c - (1.5 if sky == "overcast" else 0.0)
        weather = DayWeather(minimum_c=mean_c - 5.0, maximum_c=mean_c + 6.0, sunrise_s=float(light[0]), sunset_s=float(light[-1]))
        return weather, sky


def _homes() -> tuple[_Home, ...]:
    homes = []
    for index, customer in enumerate(CUSTOMERS):
        rng = np.random.default_rng(np.random.SeedSequence([FLEET_SEED, index]))
        habits = draw_habits(rng)
        power_factor = float(rng.uniform(0.93, 0.99))
        pv_kw, battery_kwh, ev_kw, tank_kw = FLEET[customer.name]
        panels = Panels(
            rated_w=pv_kw * 1e3,
            dc_ratio=float(rng.uniform(1.15, 1.33)),
            tilt_deg=float(rng.uniform(18.0, 26.0)),
            azimuth_deg=float(rng.normal(0.0, 25.0)),
            lag_s=float(rng.uniform(0.0, 45.0)),
        )
        battery = BatteryAsset(
            capacity_wh=battery_kwh * 1e3,
            max_charge_w=5000.0,
            max_discharge_w=5000.0,
            initial_soc_frac=float(rng.uniform(0.10, 0.35)),
        )
        homes.append(
            _Home(
                index=index,
                name=customer.name,
                phases=customer.phases,
                habits=habits,
                power_factor=power_factor,
                panels=panels if pv_kw > 0.0 else None,
                battery=battery if battery_kwh > 0.0 else None,
                ev_w=ev_kw * 1e3,
                tank_w=tank_kw * 1e3,
                tank_wh=float(rng.uniform(3000.0, 5000.0)) + 1200.0 * habits.occupants,
            )
        )
    return tuple(homes)


def _household(home: _Home, draw: _Draw, start_s: float, step_s: float, steps: int) -> HouseholdProfiles:
    essential_w, flexible_w = _loads(home, draw, start_s, step_s, steps)
    var_per_w = math.tan(math.acos(home.power_factor))
    site = HouseholdSite(
        name=home.name,
        connection=home.name,
        phases=home.phases,
        import_rating_w=14_500.0 * len(home.phases),
        export_rating_w=10_000.0 * len(home.phases),
        pv=PvAsset(rated_w=home.panels.rated_w) if home.panels is not None else None,
        battery=home.battery,
        ev=_ev(home, draw, start_s, steps * step_s) if home.ev_w > 0.0 else None,
        shiftable=(_tank(home, draw, start_s, steps * step_s),) if home.tank_w > 0.0 else (),
    )
    return HouseholdProfiles(
        site=site,
        start_s=start_s,
        step_s=step_s,
        p1_load_w=essential_w.astype(np.float32),
        p2_load_w=flexible_w.astype(np.float32),
        load_var=((essential_w + flexible_w) * var_per_w).astype(np.float32),
        pv_available_w=_pv(home, draw, start_s, step_s, steps),
    )


def _history(home: _Home, draw: _Draw, start_s: float, step_s: float, steps: int) -> HistorySeries:
    essential_w, flexible_w = _loads(home, draw, start_s, step_s, steps)
    load_w = (essential_w + flexible_w).astype(np.float32)
    return HistorySeries(start_s=start_s, step_s=step_s, load_w=load_w, pv_w=_pv(home, draw, start_s, step_s, steps))


def _loads(home: _Home, draw: _Draw, start_s: float, step_s: float, steps: int) -> tuple[Floats, Floats]:
    essential, flexible = Segments(), Segments()
    # Somebody who goes to bed after midnight belongs to the day before.
    for day in draw.days(start_s - 4.0 * HOUR_S, steps * step_s + 4.0 * HOUR_S):
        weather, _ = draw.weather(day)
        weekend = (day + 3) % 7 >= 5
        rng = draw.stream(HOME, day, home.index)
        draw_day(essential, flexible, home.habits, weather, draw.midnight_s(day), weekend, rng)
    return essential.mean_power_w(start_s, step_s, steps), flexible.mean_power_w(start_s, step_s, steps)


def _pv(home: _Home, draw: _Draw, start_s: float, step_s: float, steps: int) -> Series:
    power_w = np.zeros(steps, dtype=np.float32)
    if home.panels is None:
        return power_w
    for day in draw.days(start_s, steps * step_s):
        midnight_s = draw.midnight_s(day)
        first = max(math.ceil((midnight_s - start_s) / step_s), 0)
        last = min(math.ceil((midnight_s + DAY_S - start_s) / step_s), steps)
        _, sky = draw.weather(day)
        # The cloud field begins half an hour early, so that the house it reaches last has one at midnight as well.
        clouds = CloudField(midnight_s - 1800.0, DAY_S + 3600.0, sky, draw.stream(CLOUDS, day))
        power_w[first:last] = available_power_w(
            start_s + first * step_s, step_s, last - first, home.panels, clouds, LATITUDE_DEG, LONGITUDE_DEG
        )
    return power_w


def _ev(home: _Home, draw: _Draw, start_s: float, duration_s: float) -> EvAsset:
    """One session per evening: home between 16:00 and 21:00, away in the morning, with the energy of that day's driving."""
    sessions = []
    for day in draw.days(start_s - DAY_S, duration_s + DAY_S):
        rng = draw.stream(CAR, day, home.index)
        arrival_s = draw.midnight_s(day) + float(np.clip(rng.normal(18.0, 1.1), 16.0, 21.0)) * HOUR_S
        departure_s = draw.midnight_s(day + 1) + float(np.clip(rng.normal(7.6, 0.7), 6.0, 10.0)) * HOUR_S
        energy_wh = float(np.clip(rng.lognormal(math.log(14_000.0), 0.45), 5_000.0, 26_000.0))
        if departure_s > start_s and arrival_s < start_s + duration_s:
            sessions.append(EvSession(arrival_s=arrival_s, departure_s=departure_s, energy_needed_wh=energy_wh))
    return EvAsset(
        rated_w=home.ev_w,
        charge_efficiency_frac=0.90,
        sessions=tuple(sessions),
    )


def _tank(home: _Home, draw: _Draw, start_s: float, duration_s: float) -> ShiftableLoad:
    """The tank must be hot by 16:00 for the evening; it may heat from midnight on, at night or on the home's own PV."""
    days = draw.days(start_s, duration_s)
    windows = tuple((draw.midnight_s(day), draw.midnight_s(day) + 16.0 * HOUR_S) for day in days)
    return ShiftableLoad(name="hot_water", rated_w=home.tank_w, energy_needed_wh=home.tank_wh, windows=windows)


def _source_voltage_pu(draw: _Draw, start_s: float, step_s: float, steps: int) -> Series:
    """Sags by 0.6 % in the evening peak of the whole district, and wanders by about 0.2 % from quarter hour to quarter hour."""
    times_s = start_s + step_s * np.arange(steps)
    local_h = (times_s + draw.utc_offset_s) % DAY_S / HOUR_S
    sag = 0.006 * np.exp(-(((local_h - 18.5) / 2.2) ** 2))
    knots_s = start_s + 900.0 * np.arange(math.ceil(steps * step_s / 900.0) + 1)
    noise = draw.stream(SOURCE, draw.days(start_s, 1.0)[0]).normal(0.0, 0.001, len(knots_s))
    return np.asarray(1.0 - sag + np.interp(times_s, knots_s, noise), dtype=np.float32)
