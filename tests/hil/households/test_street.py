"""The street looks like real homes, is drawn from its seed alone, and its feeder is worth coordinating."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hil.households import NeighbourhoodDay
from hil.households.solar import sun_direction
from hil.households.street import FLEET, START_S, street_day
from hil.households.street_check import check_day
from hil.households.street_check import main as check_main
from hil.networks.street import CUSTOMERS, FOLDER, tables

DATA = Path(os.environ.get("COMMONWATT_DATA", Path(__file__).parents[4] / "shared" / "data"))
REAL = DATA / "profiles" / "vic_homes99_30min_wh_1day.csv"


@pytest.fixture(scope="module")
def street() -> NeighbourhoodDay:
    return street_day(1)


@pytest.fixture(scope="module")
def four_weeks() -> np.ndarray:
    """(homes, days, 48) half-hour means in W."""
    day = street_day(1, step_s=1800.0, margin_s=0.0, history_step_s=1800.0)
    return np.array([history.load_w for history in day.history], dtype=np.float64).reshape(30, 28, 48)


def test_homes_draw_what_real_victorian_homes_draw(four_weeks: np.ndarray) -> None:
    """Against 99 real homes of one day: 9.36 kWh mean, 3.2 to 18.5 kWh from the 5th to the 95th percentile, load factor of the sum .588."""
    daily_kwh = four_weeks.sum(axis=2) * 0.5e-3
    assert daily_kwh.mean() == pytest.approx(9.36, rel=0.15)
    assert np.quantile(daily_kwh.mean(axis=1), 0.95) > 1.5 * daily_kwh.mean()
    total_w = four_weeks.sum(axis=0).mean(axis=0)
    assert 17.0 <= total_w.argmax() / 2.0 <= 21.0
    assert total_w.mean() / total_w.max() == pytest.approx(0.588, abs=0.12)
    assert total_w[4:10].mean() < 0.75 * total_w.mean()


@pytest.mark.skipif(not REAL.is_file(), reason=f"no measured homes at {REAL} (set COMMONWATT_DATA)")
def test_the_daily_shape_follows_the_real_homes(four_weeks: np.ndarray) -> None:
    with REAL.open(newline="", encoding="utf-8") as file:
        real_w = np.array([[2.0 * float(value) for value in row[1:]] for row in list(csv.reader(file))[1:]])
    ours, theirs = four_weeks.mean(axis=(0, 1)), real_w.mean(axis=0)
    assert float(np.corrcoef(ours, theirs)[0, 1]) > 0.85
    assert ours.max() == pytest.approx(theirs.max(), rel=0.25)
    assert np.median(four_weeks.max(axis=(1, 2))) > np.median(real_w.max(axis=1))
    own_factor = np.median(four_weeks.mean(axis=2) / four_weeks.max(axis=2))
    assert own_factor == pytest.approx(np.median(real_w.mean(axis=1) / real_w.max(axis=1)), abs=0.1)


def test_the_same_seed_gives_the_same_day_and_another_seed_another(street: NeighbourhoodDay) -> None:
    again, other = street_day(1), street_day(2)
    for one, two, three in zip(street.households, again.households, other.households, strict=True):
        np.testing.assert_array_equal(one.p1_load_w, two.p1_load_w)
        np.testing.assert_array_equal(one.pv_available_w, two.pv_available_w)
        assert one.site == two.site
        assert not np.array_equal(one.p1_load_w, three.p1_load_w)


def test_energy_does_not_depend_on_the_step(street: NeighbourhoodDay) -> None:
    coarse = street_day(1, step_s=300.0, history_days=0)
    for fine, rough in zip(street.households, coarse.households, strict=True):
        np.testing.assert_allclose(fine.load_w.reshape(-1, 30).mean(axis=1), rough.load_w, atol=0.5)
        assert rough.pv_available_w.sum() * 30.0 == pytest.approx(fine.pv_available_w.sum(), rel=0.02)


def test_a_window_of_a_day_is_that_part_of_the_day(street: NeighbourhoodDay) -> None:
    part = street_day(1, start_s=START_S + 6 * 3600.0, run_s=3600.0, margin_s=0.0, history_days=0)
    for whole, window in zip(street.households, part.households, strict=True):
        np.testing.assert_allclose(window.load_w, whole.load_w[2160:2520], atol=0.05)
        np.testing.assert_allclose(window.pv_available_w, whole.pv_available_w[2160:2520], atol=0.05)


def test_history_ends_where_the_day_begins_and_is_of_the_same_home(street: NeighbourhoodDay) -> None:
    for household, history in zip(street.households, street.history, strict=True):
        assert history.start_s + history.step_s * len(history.load_w) == household.start_s
        assert len(history.load_w) == 28 * 288
        assert (history.pv_w.max() > 0.0) == (household.site.pv is not None)
        assert history.load_w.mean() == pytest.approx(household.load_w.mean(), rel=0.6)


def test_series_are_physical(street: NeighbourhoodDay) -> None:
    assert street.run_steps == 8640
    for household in street.households:
        site = household.site
        assert household.steps == 2 * 8640
        assert household.times_s[0] == START_S
        for series in (household.p1_load_w, household.p2_load_w, household.pv_available_w):
            assert np.isfinite(series).all() and (series >= 0.0).all()
        assert household.pv_available_w.max() <= (site.pv.rated_w if site.pv is not None else 0.0) + 1e-3
        assert household.load_w.max() < site.import_rating_w
        assert (np.abs(np.diff(household.p1_load_w)) > 1500.0).any(), "somebody boils water"
        night = slice(0, 5 * 360)
        assert household.pv_available_w[night].max() == 0.0
    assert np.abs(street.source_voltage_pu - 1.0).max() < 0.015


def test_clouds_pass_over_neighbours_a_little_later(street: NeighbourhoodDay) -> None:
    noon = slice(11 * 360, 15 * 360)
    series = [
        household.pv_available_w[noon] / household.site.pv.rated_w for household in street.households if household.site.pv is not None
    ]
    correlation = np.corrcoef(np.array(series))
    assert correlation.min() > 0.3
    steepest = max(float(np.abs(np.diff(one)).max()) for one in series)
    assert 0.02 < steepest < 0.30, "an array is not shaded at once"


def test_sessions_are_evenings_and_windows_hold_their_energy(street: NeighbourhoodDay) -> None:
    cars = [household.site.ev for household in street.households if household.site.ev is not None]
    assert len(cars) == 9
    for car in cars:
        assert all(before.departure_s < after.arrival_s for before, after in zip(car.sessions, car.sessions[1:], strict=False))
        for session in car.sessions:
            assert session.energy_needed_wh <= car.rated_w * (session.departure_s - session.arrival_s) / 3600.0
        assert car.connected_at(START_S) is not None
        assert car.connected_at(START_S + 12 * 3600.0) is None
    for tank in (tank for household in street.households for tank in household.site.shiftable):
        assert tank.energy_needed_wh <= tank.rated_w * 16.0


@pytest.mark.parametrize(
    ("time_s", "east", "north", "up"),
    [
        (1734834000, -0.0057, 0.2481, 0.9687),
        (1734813000, 0.9163, -0.2860, 0.2802),
        (1718937000, -0.0327, 0.8763, 0.4807),
        (1736839800, -0.9013, -0.1407, 0.4097),
        (1742511600, 0.7859, 0.3822, 0.4861),
    ],
)
def test_the_sun_stands_where_pvlib_sees_it(time_s: int, east: float, north: float, up: float) -> None:
    """pvlib 0.16.1 `get_solarposition` at 37.8 S 145.0 E; Cooper's declination is good to about a degree at the equinoxes."""
    found = np.array(sun_direction(np.array([float(time_s)]), -37.8, 145.0))[:, 0]
    np.testing.assert_allclose(found, [east, north, up], atol=0.015)


def test_the_fleet_is_as_announced() -> None:
    assert [name for name, *_ in FLEET.items()] == [customer.name for customer in CUSTOMERS]
    owned = np.array(list(FLEET.values())) > 0.0
    assert owned.sum(axis=0).tolist() == [20, 16, 9, 8]


def test_the_tables_in_the_repository_are_those_that_the_script_writes() -> None:
    for name, rows in tables().items():
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        assert (FOLDER / f"{name}.csv").read_text(encoding="utf-8") == text.getvalue()


def test_mains_agree_with_the_measured_conductor_data() -> None:
    """AS/NZS 3560.1: 95 mm2 0.320 ohm/km at 20 C, so 0.359 at 50 C; catalogue reactances of ABC lie between 0.08 and 0.10 ohm/km."""
    line = next(row for row in tables()["lines"] if row["line"] == "mains_a1")
    length_km = float(str(line["length_m"])) / 1000.0
    r1 = (float(str(line["r_self_ohm"])) - float(str(line["r_mut_ohm"]))) / length_km
    x1 = (float(str(line["x_self_ohm"])) - float(str(line["x_mut_ohm"]))) / length_km
    assert r1 == pytest.approx(0.3587, abs=1e-3)
    assert 0.08 < x1 < 0.10


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_an_uncoordinated_day_breaks_the_street(seed: int) -> None:
    essential, load, at_once, spread, held = check_day(street_day(seed, step_s=600.0, history_days=0), FOLDER)
    assert essential.legal and load.legal and held.legal
    assert at_once.over_voltage_minutes > 60.0
    assert at_once.transformer_overload_minutes > 0.0 and at_once.under_voltage_minutes > 0.0
    assert spread.over_voltage_minutes > 60.0, "PV breaks the limit even where charging is spread"


def test_the_check_prints_one_json_document() -> None:
    out = io.StringIO()
    assert check_main(["--json", "--step", "1800"], out) == 0
    assert json.loads(out.getvalue())["sound"] is True
