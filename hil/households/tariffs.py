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

import datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from hil.errors import ScenarioError

Floats = npt.NDArray[np.float64]
DAY_S = 86_400
WH_PER_KWH = 1000.0


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


def _hours(
    name: str, from_h: int, until_h: int, price_per_kwh: float, weekdays: bool = True, weekends: bool = True
) -> TariffPeriod:
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

    def prices(self, times_s: Floats, network_price_per_kwh: float = 0.0) -> tuple[Floats, Floats]:
        """Import and feed-in price of the instants: the spot price, with `network_price_per_kwh` added to imports only."""
        index = np.floor_divide(np.asarray(times_s, dtype=np.float64) - self.start_s, self.step_s).astype(np.int64)
        if index.size and (index.min() < 0 or index.max() >= len(self.price_per_kwh)):
            first, last = self.start_s, self.start_s + self.step_s * len(self.price_per_kwh)
            raise ScenarioError(
                f"wholesale prices cover [{first:.0f}, {last:.0f}) s, asked for {np.min(times_s):.0f} to {np.max(times_s):.0f} s"
            )
        spot = self.price_per_kwh[index]
        return spot + network_price_per_kwh, spot


NEM_UTC_OFFSET_S = 36_000
"""The National Electricity Market keeps UTC+10 all year."""


def read_aemo_week(profiles_folder: Path, week: str) -> WholesalePrices:
    """One of the eight weeks of `aemo_5min_vic_8weeks.parquet` (e.g. "2024-08-05"); its times are the *ends* of the intervals."""
    import pyarrow.parquet as parquet

    path = profiles_folder / "aemo_5min_vic_8weeks.parquet"
    if not path.is_file():
        raise ScenarioError(
            f"{path} is missing: it holds AEMO 5-minute prices of VIC1 (week, settlementdate_nem, vic1_rrp, vic1_demand_mw)"
        )
    table = parquet.read_table(path)
    weeks = np.asarray(table["week"].to_pylist())
    rows = np.flatnonzero(weeks == week)
    if not rows.size:
        raise ScenarioError(f"{path} has no week {week!r}, it has {', '.join(sorted(set(weeks.tolist())))}")
    ends = table["settlementdate_nem"].to_pylist()
    first_end = ends[int(rows[0])].replace(tzinfo=datetime.UTC)
    dollars_per_mwh = table["vic1_rrp"].to_numpy()[rows].astype(np.float64)
    return WholesalePrices(
        start_s=first_end.timestamp() - NEM_UTC_OFFSET_S - 300.0,
        step_s=300.0,
        price_per_kwh=dollars_per_mwh / 1000.0,
        demand_w=table["vic1_demand_mw"].to_numpy()[rows].astype(np.float64) * 1e6,
    )
