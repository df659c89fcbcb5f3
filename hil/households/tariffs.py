"""What households pay and are paid, as time-of-use tariffs; and wholesale prices of Victoria as a pass-through.

Prices are in Australian dollars per kWh (the one place where energy is not in Wh). Sources:

* `VIC_MOMENTUM_2019`, `VIC_AGL_2019`: Momentum Energy and AGL offers for Victoria of November 2018, CitiPower area, as
  transcribed by UNSW-CEEM/Bill_Calculator (MIT), `AllTariffs_Retail.json` entries TR0030 and TR0031.
* `STREET_EV_NIGHT`: Victorian network windows since August 2021 (peak 15:00 to 21:00 every day, everything else off-peak; Energy
  Locals, "Victoria Time Of Use Changes") with the 00:00 to 04:00 vehicle window that Powershop offered in Victoria
  (wattever.com.au, "Where are the daytime saver EV plans", 2023). The windows are real, the prices our round figures; 12 c was
  the minimum feed-in price of 2019-20, which lies above the price of the night window, as it does in `VIC_MOMENTUM_2019`: every
  optimiser of a single bill fills its battery at night, at the same hours as all others, and exports the whole of its PV at noon.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from hil.errors import ScenarioError
from hil.households.tables import read_columns

Floats = npt.NDArray[np.float64]
DAY_S = 86_400
WH_PER_KWH = 1000.0
KWH_PER_MWH = 1000.0


class TariffPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """Half-open [from_s, until_s) seconds after local midnight; a period that crosses midnight is given as two."""

    name: str
    from_s: int
    until_s: int
    import_price_per_kwh: float
    weekdays: bool = True
    weekends: bool = True


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """Later periods of the tuple win where two overlap; hours without a period cost `base_import_price_per_kwh`."""

    name: str
    source: str
    base_import_price_per_kwh: float
    feed_in_price_per_kwh: float
    supply_charge_per_day: float
    periods: tuple[TariffPeriod, ...]

    def prices(self, times_s: Floats, utc_offset_s: float) -> tuple[Floats, Floats]:
        """Import and feed-in prices per kWh of the instants `times_s` (Unix), each of the shape of `times_s`."""
        local_s = np.asarray(times_s, dtype=np.float64) + utc_offset_s
        second = local_s % DAY_S
        # 1 January 1970 was a Thursday: day 2 of the epoch is the first Saturday.
        weekend = (np.floor_divide(local_s, DAY_S) + 3) % 7 >= 5
        price = np.full(local_s.shape, self.base_import_price_per_kwh)
        for period in self.periods:
            inside = (second >= period.from_s) & (second < period.until_s)
            inside &= np.where(weekend, period.weekends, period.weekdays)
            price[inside] = period.import_price_per_kwh
        return price, np.full(local_s.shape, self.feed_in_price_per_kwh)


def bill(net_import_w: Floats, step_s: float, import_price_per_kwh: Floats, feed_in_price_per_kwh: Floats) -> float:
    """What one household pays for the energy of a series, without the supply charge; negative if it earns."""
    kwh = np.asarray(net_import_w, dtype=np.float64) * step_s / 3600.0 / WH_PER_KWH
    return float(np.maximum(kwh, 0.0) @ import_price_per_kwh - np.maximum(-kwh, 0.0) @ feed_in_price_per_kwh)


def _hours(name: str, from_h: int, until_h: int, price_per_kwh: float, weekdays: bool = True, weekends: bool = True) -> TariffPeriod:
    return TariffPeriod(
        name=name,
        from_s=from_h * 3600,
        until_s=until_h * 3600,
        import_price_per_kwh=price_per_kwh,
        weekdays=weekdays,
        weekends=weekends,
    )


STREET_EV_NIGHT = Tariff(
    name="street-ev-night",
    source="windows: Victorian network tariffs since 2021 and Powershop's vehicle window; prices: our round figures",
    base_import_price_per_kwh=0.25,
    feed_in_price_per_kwh=0.12,
    supply_charge_per_day=1.00,
    periods=(_hours("vehicle night", 0, 4, 0.08), _hours("peak", 15, 21, 0.42)),
)

VIC_MOMENTUM_2019 = Tariff(
    name="vic-momentum-2019",
    source="UNSW-CEEM/Bill_Calculator TR0030 (Momentum Energy, Victoria, accessed 2018-11-28)",
    base_import_price_per_kwh=0.11,
    feed_in_price_per_kwh=0.15,
    supply_charge_per_day=1.0843,
    periods=(
        _hours("shoulder", 7, 22, 0.2263, weekends=False),
        _hours("peak", 15, 21, 0.2344, weekends=False),
        _hours("weekend shoulder", 7, 22, 0.1959, weekdays=False),
    ),
)

VIC_AGL_2019 = Tariff(
    name="vic-agl-2019",
    source="UNSW-CEEM/Bill_Calculator TR0031 (AGL, Victoria, accessed 2018-11-28)",
    base_import_price_per_kwh=0.152,
    feed_in_price_per_kwh=0.113,
    supply_charge_per_day=1.135,
    periods=(_hours("shoulder", 7, 22, 0.198), _hours("peak", 15, 21, 0.238, weekends=False)),
)

TARIFFS = {tariff.name: tariff for tariff in (STREET_EV_NIGHT, VIC_MOMENTUM_2019, VIC_AGL_2019)}


class WholesalePrices(msgspec.Struct, frozen=True, kw_only=True):
    """Victorian spot prices as AEMO published them ("Source: AEMO"); `price_per_kwh` holds from each time for `step_s`."""

    start_s: float
    step_s: float
    price_per_kwh: Floats
    demand_w: Floats

    def prices(self, times_s: Floats) -> Floats:
        """Spot price per kWh at the instants."""
        index = np.floor_divide(np.asarray(times_s, dtype=np.float64) - self.start_s, self.step_s).astype(np.int64)
        if index.size and (index.min() < 0 or index.max() >= len(self.price_per_kwh)):
            first, last = self.start_s, self.start_s + self.step_s * len(self.price_per_kwh)
            raise ScenarioError(
                f"wholesale prices cover [{first:.0f}, {last:.0f}) s, asked for {np.min(times_s):.0f} to {np.max(times_s):.0f} s"
            )
        return self.price_per_kwh[index]


class SpotTariff(msgspec.Struct, frozen=True, kw_only=True):
    """The spot price passed through: an import costs it plus the network's price, an export earns it (and pays when it is negative).

    Same face as `Tariff`. `network` gives the network's part and the supply charge; its feed-in price is not used.
    """

    name: str
    source: str
    wholesale: WholesalePrices
    network: Tariff

    @property
    def supply_charge_per_day(self) -> float:
        return self.network.supply_charge_per_day

    def prices(self, times_s: Floats, utc_offset_s: float) -> tuple[Floats, Floats]:
        network, _ = self.network.prices(times_s, utc_offset_s)
        spot = self.wholesale.prices(times_s)
        return spot + network, spot


AUSNET_NSP20_OTHER_MONTHS_2019 = Tariff(
    name="ausnet-nsp20-2019-other-months",
    source="UNSW-CEEM/Bill_Calculator TN201921 (AusNet NSP20, 2019/20, network use of system), April, May, September to November",
    base_import_price_per_kwh=0.0454179,
    feed_in_price_per_kwh=0.0,
    supply_charge_per_day=0.346575,
    periods=(),
)


def spot_tariff(profiles_folder: Path) -> SpotTariff:
    """AEMO half-hours of 2019 and 2020 with AusNet's network price of the months without a seasonal peak."""
    return SpotTariff(
        name="vic-spot-2019",
        source="Source: AEMO (VIC1 regional reference price); network: AusNet NSP20 2019/20",
        wholesale=read_aemo_30min(profiles_folder),
        network=AUSNET_NSP20_OTHER_MONTHS_2019,
    )


NEM_UTC_OFFSET_S = 36_000
"""The National Electricity Market keeps UTC+10 all year."""


def read_aemo_week(profiles_folder: Path, week: str) -> WholesalePrices:
    """One of the eight weeks of `aemo_5min_vic_8weeks.parquet` (e.g. "2024-08-05"); its times are the *ends* of the intervals."""
    path = profiles_folder / "aemo_5min_vic_8weeks.parquet"
    table = read_columns(path, "AEMO 5-minute prices of VIC1: week, settlementdate_nem, vic1_rrp, vic1_demand_mw")
    rows = np.flatnonzero(table["week"].astype(str) == week)
    if not rows.size:
        raise ScenarioError(f"{path} has no week {week!r}, it has {', '.join(sorted(set(table['week'].astype(str))))}")
    return _wholesale(table, rows, _unix_s(table["settlementdate_nem"][rows]) - 300.0, 300.0)


def read_aemo_30min(profiles_folder: Path) -> WholesalePrices:
    """Victorian half-hours of 2019 and 2020 from `aemo_30min_vic_2019_2020.parquet`; its times are the *starts*."""
    path = profiles_folder / "aemo_30min_vic_2019_2020.parquet"
    table = read_columns(path, "AEMO half-hour prices of VIC1: time_start_nem, vic1_rrp, vic1_demand_mw")
    rows = np.arange(len(table["vic1_rrp"]))
    return _wholesale(table, rows, _unix_s(table["time_start_nem"]), 1800.0)


def _unix_s(nem_times: npt.NDArray[Any]) -> Floats:
    """NEM wall-clock times (UTC+10 all year) as Unix seconds."""
    return np.asarray(nem_times.astype("datetime64[s]").astype(np.int64) - NEM_UTC_OFFSET_S, dtype=np.float64)


def _wholesale(table: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64], starts_s: Floats, step_s: float) -> WholesalePrices:
    if not np.all(np.diff(starts_s) == step_s):
        raise ScenarioError(f"AEMO prices must be contiguous intervals of {step_s:.0f} s")
    return WholesalePrices(
        start_s=float(starts_s[0]),
        step_s=step_s,
        price_per_kwh=table["vic1_rrp"][rows].astype(np.float64) / KWH_PER_MWH,
        demand_w=table["vic1_demand_mw"][rows].astype(np.float64) * 1e6,
    )
