"""Network 28 with its real homes: energy is that of the meters, and what is missing is said in one line."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from hil.errors import ScenarioError
from hil.households.street_check import check_day
from hil.households.tables import resample_mean
from hil.households.tariffs import read_aemo_week
from hil.households.victoria import FILES, NETWORK, PRICES, START_S, Assets, victoria_day

DATA = Path(os.environ.get("COMMONWATT_DATA", Path(__file__).parents[4] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not all((DATA / name).is_file() for name in FILES), reason=f"no real Victorian data at {DATA} (set COMMONWATT_DATA)"
)


def test_absent_data_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        victoria_day(tmp_path)
    message = str(caught.value)
    assert "loads.csv is missing: expected load, bus, phases, profile" in message
    assert "\n" not in message


@needs_data
def test_every_home_uses_the_energy_that_its_meter_counted() -> None:
    """The half-hour readings are real integers of Wh; the run's 10 s steps must add up to them."""
    with (DATA / "profiles/vic_homes99_30min_wh_1day.csv").open(newline="", encoding="utf-8") as file:
        metered = {row["home"]: [float(row[f"h{half:02d}"]) for half in range(48)] for row in csv.DictReader(file)}
    with (DATA / NETWORK / "loads.csv").open(newline="", encoding="utf-8") as file:
        home_of = {row["load"]: row["profile"] for row in csv.DictReader(file)}
    for detail in (False, True):
        day = victoria_day(DATA, margin_s=0.0, history_days=0, synthetic_detail=detail)
        assert len(day.households) == 114
        for household in day.households:
            ours_wh = household.load_w.astype(np.float64).reshape(48, -1).sum(axis=1) * 10.0 / 3600.0
            np.testing.assert_allclose(ours_wh, metered[home_of[household.site.connection]], atol=0.02)


@needs_data
def test_the_fleet_is_real_where_it_can_be() -> None:
    day = victoria_day(DATA, step_s=300.0, history_days=28)
    pv = [household for household in day.households if household.site.pv is not None]
    assert len(pv) == 35 and all(household.site.pv.rated_w == 5000.0 for household in pv if household.site.pv is not None)
    assert sum(household.site.battery is not None for household in day.households) == 28
    assert sum(household.site.ev is not None for household in day.households) == 91
    assert pv[0].pv_available_w[:288].sum() / 12e3 == pytest.approx(5 * 5.5021, rel=1e-3)
    assert (pv[0].pv_available_w[:288] == pv[0].pv_available_w[288:]).all(), "the margin repeats the day"
    history = day.history[0]
    assert history.start_s == START_S - 28 * 86_400.0
    daily = history.load_w.reshape(28, -1).mean(axis=1)
    assert daily.mean() == pytest.approx(day.households[0].load_w.mean(), rel=0.15)
    assert daily.std() > 0.05 * daily.mean()
    assert any("added: batteries" in note for note in day.notes)


@needs_data
def test_the_same_seed_gives_the_same_cars_and_the_fleet_does_not_follow_the_seed() -> None:
    one, two, three = (victoria_day(DATA, seed, step_s=300.0, history_days=0) for seed in (1, 1, 2))
    assert [household.site for household in one.households] == [household.site for household in two.households]
    assert [household.site.battery for household in one.households] == [household.site.battery for household in three.households]
    assert [household.site.ev for household in one.households] != [household.site.ev for household in three.households]


@needs_data
def test_only_an_uncoordinated_day_breaks_network_28() -> None:
    essential, load, at_once, _, held = check_day(victoria_day(DATA, step_s=600.0, history_days=0), DATA / NETWORK)
    assert essential.legal and load.legal and held.legal
    assert at_once.transformer_overload_minutes > 0.0
    assert at_once.under_voltage_minutes > 0.0


@needs_data
def test_the_spot_price_is_the_day_s_own() -> None:
    """00:00 in Melbourne on 12 November (AEDT) is 23:00 of the day before in NEM time (UTC+10)."""
    day = victoria_day(DATA, step_s=300.0, history_days=0)
    table = parquet.read_table(DATA / PRICES).to_pydict()
    row = next(index for index, start in enumerate(table["time_start_nem"]) if start.isoformat().startswith("2019-11-11T23:00"))
    price, feed_in = day.tariff.prices(day.households[0].times_s, day.utc_offset_s)
    np.testing.assert_allclose(feed_in[:288], np.repeat(np.array(table["vic1_rrp"][row : row + 48]) / 1000.0, 6))
    np.testing.assert_allclose(price - feed_in, 0.0454179)


@needs_data
def test_a_profile_that_names_no_home_is_refused(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / name, tmp_path / name)
    loads = tmp_path / NETWORK / "loads.csv"
    loads.write_text(loads.read_text(encoding="utf-8").replace("vic138", "vic9999"), encoding="utf-8")
    with pytest.raises(ScenarioError, match="'vic9999' of hv_f0_lv28_f0_c0 is not a home"):
        victoria_day(tmp_path)


@needs_data
def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aemo_5min_vic_8weeks.parquet").write_bytes(b"not parquet")
    with pytest.raises(ScenarioError, match="not a readable parquet file"):
        read_aemo_week(tmp_path, "2024-08-05")
    with pytest.raises(ScenarioError, match="has no week '1999-01-01', it has 2024-08-05"):
        read_aemo_week(DATA / "profiles", "1999-01-01")


@pytest.mark.parametrize("to_step_s", [10.0, 60.0, 300.0, 900.0, 1800.0])
def test_resampling_preserves_energy(to_step_s: float) -> None:
    values = np.random.default_rng(1).gamma(2.0, 100.0, 288)
    resampled = resample_mean(values, 300.0, to_step_s, 0.0, round(2 * 86_400 / to_step_s))
    assert resampled.mean() == pytest.approx(values.mean())
    np.testing.assert_allclose(resampled.reshape(96, -1).mean(axis=1), np.tile(values.reshape(48, -1).mean(axis=1), 2))


def test_shares_are_shares() -> None:
    assert 0.0 < Assets().p2_share_frac < 1.0
