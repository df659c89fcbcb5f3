"""The real homes of `victoria-lv28`: 114 customers of network 28, the 99 Victorian homes, their PV, their source voltage.

What is real: the network, who has PV (35 systems of 5 kW), the half-hour energy of every home on one day, the PV production of
that day from measured irradiance, the 5-minute voltage at the transformer's high side. What is not: reactive power and the split
inside the half hour are the source's own synthesis; the date is not published, so the day is laid on Tuesday 12 November 2019,
whose sun fits the PV curve and for which AEMO prices are at hand; batteries, cars and hot water are not in the data and are added
by share (`assets`); P2 is a fixed share of the load. The 28 days before exist for nobody: load history is drawn from the real
days of the homes that use about as much energy, scaled to the home; PV history is real (half-hours of another year). Everything
after the day repeats the day. `NeighbourhoodDay.notes` says so in the report.

Expected in `data`: `networks/au_vic_lv28/` (buses, lines, loads, pv, source, transformers .csv) and `profiles/` with the files
named in `FILES`. They come from github.com/Team-Nando (OE1-Ideal `LoadShapes.txt`, Tutorial-DERHostingCapacity-4; BSD-3) and are
not shipped here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from hil.errors import ScenarioError
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
    ShiftableLoad,
)
from hil.households.tables import read_columns, read_rows, resample_mean
from hil.households.tariffs import SpotTariff, Tariff, spot_tariff

LATITUDE_DEG, LONGITUDE_DEG = -37.8, 145.2
UTC_OFFSET_S = 39_600.0
START_S = 1_573_477_200.0
"""2019-11-12 00:00 local time (AEDT)."""
DAY_OF_YEAR = 316
DAY_S, HOUR_S, STEP_S = 86_400.0, 3600.0, 300.0

NETWORK = Path("networks/au_vic_lv28")
HOMES = Path("profiles/vic_homes99_5min_1day.parquet")
PV_DAY = Path("profiles/vic_pv_5min_1day.csv")
PV_YEAR = Path("profiles/vic_pv_30min_year_pu.csv")
PRICES = Path("profiles/aemo_30min_vic_2019_2020.parquet")
SOURCE_DAY = Path("profiles/vic_mv_source_5min_1day.csv")
FILES = {
    NETWORK / "loads.csv": "load, bus, phases, profile (one row per customer; profile names a home, e.g. vic138)",
    NETWORK / "pv.csv": "load, kva, pmpp_kw (one row per PV system)",
    HOMES: "step, home, p_kw, q_kvar (99 homes, 288 steps of 5 minutes)",
    PV_DAY: "step, pv_kw_per_kw (288 steps of 5 minutes)",
    PV_YEAR: "day, h00 .. h47 (365 days, standard time, per unit)",
    PRICES: "time_start_nem, vic1_rrp, vic1_demand_mw (AEMO half-hours of 2019 and 2020)",
    SOURCE_DAY: "step, va_pu, vb_pu, vc_pu (288 steps of 5 minutes)",
}


class Assets(msgspec.Struct, frozen=True, kw_only=True):
    """What is added to the real homes, as shares; which homes get them is drawn from `seed` alone, not from the run's.

    Cars at four homes in five are a street of the 2030s: with every second home, charging together in the cheapest half-hours loads the
    transformer to 78 %, and nothing has to be coordinated yet.
    """

    battery_share_of_pv_frac: float = 0.8
    ev_share_frac: float = 0.80
    tank_share_frac: float = 0.20
    p2_share_frac: float = 0.2
    seed: int = 28


def victoria_day(
    data: Path,
    seed: int = 1,
    *,
    start_s: float = START_S,
    step_s: float = 10.0,
    run_s: float = DAY_S,
    margin_s: float = DAY_S,
    history_days: int = 28,
    history_step_s: float = 300.0,
    assets: Assets = Assets(),
    synthetic_detail: bool = False,
    tariff: Tariff | SpotTariff | None = None,
) -> NeighbourhoodDay:
    """Network 28 over [start_s, start_s + run_s + margin_s).

    `synthetic_detail` breaks each 5-minute mean of the loads into pulses of the same energy (drawn from `seed`), for controllers
    that must see what a kettle looks like; without it the 5-minute mean is held. Raises `ScenarioError` naming the missing file.
    """
    for path, holds in FILES.items():
        if not (data / path).is_file():
            raise ScenarioError(f"victoria data: {data / path} is missing: expected {holds}; where to get it: hil/households/victoria.py")
    measured = _read(data)
    steps = round((run_s + margin_s) / step_s)
    offset_s = (start_s - START_S) % DAY_S
    households, history = [], []
    for index, home in enumerate(_equip(measured, assets, start_s, steps * step_s, seed)):
        own_w, own_var = measured.load_w[home.profile], measured.load_var[home.profile]
        rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
        load_w = resample_mean(own_w, STEP_S, step_s, offset_s, steps)
        if synthetic_detail:
            load_w = _pulses(load_w, step_s, float(np.quantile(own_w, 0.1)), rng)
        pv_w = np.zeros(steps)
        if home.site.pv is not None:
            pv_w = resample_mean(measured.pv_pu * home.site.pv.rated_w, STEP_S, step_s, offset_s, steps)
        households.append(
            HouseholdProfiles(
                site=home.site,
                start_s=start_s,
                step_s=step_s,
                p1_load_w=np.asarray(load_w * (1.0 - assets.p2_share_frac), dtype=np.float32),
                p2_load_w=np.asarray(load_w * assets.p2_share_frac, dtype=np.float32),
                load_var=np.asarray(resample_mean(own_var, STEP_S, step_s, offset_s, steps), dtype=np.float32),
                pv_available_w=np.asarray(pv_w, dtype=np.float32),
            )
        )
        if history_days > 0:
            history.append(_history(measured, home, start_s, history_days, history_step_s, rng))
    return NeighbourhoodDay(
        name="victoria-lv28",
        start_s=start_s,
        step_s=step_s,
        run_steps=round(run_s / step_s),
        utc_offset_s=UTC_OFFSET_S,
        latitude_deg=LATITUDE_DEG,
        longitude_deg=LONGITUDE_DEG,
        tariff=spot_tariff(data / PRICES.parent) if tariff is None else tariff,
        source_voltage_pu=np.asarray(resample_mean(measured.source_pu, STEP_S, step_s, offset_s, steps), dtype=np.float32),
        households=tuple(households),
        history=tuple(history),
        notes=_notes(synthetic_detail),
    )


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    customers: tuple[tuple[str, tuple[int, ...], int], ...]
    """(name in loads.csv, phases, row of the home's series)"""
    pv_rated_w: dict[str, float]
    load_w: Floats
    """(homes, 288)"""
    load_var: Floats
    pv_pu: Floats
    """Per watt of rating, (288,)"""
    pv_year_pu: Floats
    """(365, 48), standard time"""
    source_pu: Floats


class _Equipped(msgspec.Struct, frozen=True, kw_only=True):
    site: HouseholdSite
    profile: int


def _read(data: Path) -> _Measured:
    table = read_columns(data / HOMES, FILES[HOMES])
    names = sorted(set(table["home"].tolist()))
    row_of = {name: row for row, name in enumerate(names)}
    load_w, load_var = np.full((2, len(names), 288), np.nan)
    rows = np.array([row_of[name] for name in table["home"].tolist()])
    load_w[rows, table["step"]] = table["p_kw"] * 1e3
    load_var[rows, table["step"]] = table["q_kvar"] * 1e3
    if not (np.isfinite(load_w).all() and np.isfinite(load_var).all()):
        raise ScenarioError(f"{data / HOMES}: every home must have 288 finite values of p_kw and q_kvar")
    customers = []
    for row in read_rows(data / NETWORK / "loads.csv", FILES[NETWORK / "loads.csv"]):
        if row["profile"] not in row_of:
            raise ScenarioError(f"{data / NETWORK / 'loads.csv'}: profile {row['profile']!r} of {row['load']} is not a home of {HOMES}")
        customers.append((row["load"], tuple(int(phase) for phase in row["phases"].split(".")), row_of[row["profile"]]))
    pv_rows = read_rows(data / NETWORK / "pv.csv", FILES[NETWORK / "pv.csv"])
    source_rows = read_rows(data / SOURCE_DAY, FILES[SOURCE_DAY])
    year_rows = read_rows(data / PV_YEAR, FILES[PV_YEAR])
    return _Measured(
        customers=tuple(customers),
        pv_rated_w={row["load"]: float(row["kva"]) * 1e3 for row in pv_rows},
        load_w=load_w,
        load_var=load_var,
        pv_pu=np.array([float(row["pv_kw_per_kw"]) for row in read_rows(data / PV_DAY, FILES[PV_DAY])]),
        pv_year_pu=np.array([[float(row[f"h{half:02d}"]) for half in range(48)] for row in year_rows]),
        source_pu=np.array([np.mean([float(row[f"v{phase}_pu"]) for phase in "abc"]) for row in source_rows]),
    )


def _equip(measured: _Measured, assets: Assets, start_s: float, duration_s: float, seed: int) -> list[_Equipped]:
    fleet = np.random.default_rng(np.random.SeedSequence([assets.seed]))
    count = len(measured.customers)
    with_pv = [name for name, _, _ in measured.customers if name in measured.pv_rated_w]
    batteries = set(fleet.permutation(with_pv)[: round(assets.battery_share_of_pv_frac * len(with_pv))].tolist())
    cars = set(fleet.permutation(count)[: round(assets.ev_share_frac * count)].tolist())
    tanks = set(fleet.permutation(count)[: round(assets.tank_share_frac * count)].tolist())
    equipped = []
    for index, (name, phases, profile) in enumerate(measured.customers):
        rng = np.random.default_rng(np.random.SeedSequence([seed, index, 1]))
        rated_w = measured.pv_rated_w.get(name)
        site = HouseholdSite(
            name=f"home_{index + 1:03d}",
            connection=name,
            phases=phases,
            import_rating_w=14_500.0 * len(phases),
            export_rating_w=10_000.0 * len(phases),
            pv=PvAsset(rated_w=rated_w) if rated_w is not None else None,
            battery=_battery(fleet) if name in batteries else None,
            ev=_ev(start_s, duration_s, rng) if index in cars else None,
            shiftable=(_tank(start_s, duration_s, fleet),) if index in tanks else (),
        )
        equipped.append(_Equipped(site=site, profile=profile))
    return equipped


def _battery(fleet: np.random.Generator) -> BatteryAsset:
    return BatteryAsset(
        capacity_wh=float(fleet.choice([10_000.0, 13_500.0])),
        max_charge_w=5000.0,
        max_discharge_w=5000.0,
        initial_soc_frac=float(fleet.uniform(0.10, 0.35)),
    )


def _ev(start_s: float, duration_s: float, rng: np.random.Generator) -> EvAsset:
    midnight_s = start_s - (start_s - START_S) % DAY_S
    sessions = []
    for day in range(-1, int(duration_s // DAY_S) + 1):
        arrival_s = midnight_s + day * DAY_S + float(np.clip(rng.normal(18.0, 1.1), 16.0, 21.0)) * HOUR_S
        departure_s = midnight_s + (day + 1) * DAY_S + float(np.clip(rng.normal(7.6, 0.7), 6.0, 10.0)) * HOUR_S
        energy_wh = float(np.clip(rng.lognormal(np.log(12_000.0), 0.45), 5_000.0, 26_000.0))
        if departure_s > start_s and arrival_s < start_s + duration_s:
            sessions.append(EvSession(arrival_s=arrival_s, departure_s=departure_s, energy_needed_wh=energy_wh))
    return EvAsset(rated_w=7400.0, charge_efficiency_frac=0.90, sessions=tuple(sessions))


def _tank(start_s: float, duration_s: float, fleet: np.random.Generator) -> ShiftableLoad:
    midnight_s = start_s - (start_s - START_S) % DAY_S
    days = range(int(duration_s // DAY_S) + 1)
    windows = tuple((midnight_s + day * DAY_S, midnight_s + day * DAY_S + 16.0 * HOUR_S) for day in days)
    return ShiftableLoad(name="hot_water", rated_w=3600.0, energy_needed_wh=float(fleet.uniform(5000.0, 9000.0)), windows=windows)


def _pulses(load_w: Floats, step_s: float, floor_w: float, rng: np.random.Generator) -> Floats:
    """The part above `floor_w` of each 5-minute block in one pulse of random length, on whole steps, with the block's energy."""
    per_block = round(STEP_S / step_s)
    if per_block < 2:
        return load_w
    whole = len(load_w) // per_block * per_block
    blocks = load_w[:whole].reshape(-1, per_block)
    mean_w = blocks.mean(axis=1)
    base_w = np.minimum(mean_w, floor_w)
    # Short enough to look like an appliance, long enough that no pulse is stronger than a kettle where the mean allows that.
    shortest = np.clip((mean_w - base_w) / 2400.0, 1.0 / per_block, 1.0)
    length = np.maximum(np.round(per_block * rng.uniform(shortest, 1.0)), 1.0)
    first = np.floor(rng.random(len(blocks)) * (per_block - length + 1.0))
    position = np.arange(per_block)
    inside = (position >= first[:, None]) & (position < (first + length)[:, None])
    pulses = base_w[:, None] + inside * ((mean_w - base_w) * per_block / length)[:, None]
    return np.concatenate((pulses.ravel(), load_w[whole:]))


def _history(measured: _Measured, home: _Equipped, start_s: float, days: int, step_s: float, rng: np.random.Generator) -> HistorySeries:
    """The real days of the homes nearest in daily energy, in random order, scaled to this home and to a day that varies by 20 %."""
    daily_w = measured.load_w.mean(axis=1)
    nearest = np.argsort(np.abs(np.log(daily_w / daily_w[home.profile])), kind="stable")[:days]
    order = np.resize(rng.permutation(nearest), days)
    scale = daily_w[home.profile] / daily_w[order] * rng.lognormal(-0.02, 0.2, days)
    shift_s = (start_s - START_S) % DAY_S
    steps = round(days * DAY_S / step_s)
    load_w = resample_mean((measured.load_w[order] * scale[:, None]).ravel(), STEP_S, step_s, shift_s, steps)
    pv_w: npt.NDArray[np.float64] = np.zeros(steps)
    if home.site.pv is not None:
        rows = (DAY_OF_YEAR - 1 - days + np.arange(days)) % len(measured.pv_year_pu)
        # The year is in standard time, the day in daylight time: an hour later on the clock.
        clock_pu = np.roll(measured.pv_year_pu[rows].ravel(), 2)
        pv_w = resample_mean(clock_pu * home.site.pv.rated_w, 1800.0, step_s, shift_s, steps)
    return HistorySeries(
        start_s=start_s - days * DAY_S, step_s=step_s, load_w=np.asarray(load_w, np.float32), pv_w=np.asarray(pv_w, np.float32)
    )


def _notes(synthetic_detail: bool) -> tuple[str, ...]:
    inside = "pulses of the same energy inside each 5 minutes (synthetic)" if synthetic_detail else "5-minute means are held"
    return (
        "real: network 28, who has PV, half-hour energy of 99 homes on one day, PV and source voltage of that day",
        f"inside the half hour: the source's synthesis; {inside}; reactive power is the source's synthesis",
        "added: batteries at 80 % of the PV homes, cars at 80 % and hot water at 20 % of all homes",
        "P2 is a fixed share of the load; the date is assumed",
        "history: real days of homes of about the same energy, scaled; PV history is real, of another year",
        "AusNet Services / Team-Nando (BSD-3)",
    )
