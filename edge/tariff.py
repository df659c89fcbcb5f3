"""What a kilowatt hour costs and earns at a given time, by the local clock of the site. Pure."""

from __future__ import annotations

import bisect
import datetime as dt
import zoneinfo
from collections.abc import Sequence
from typing import Protocol

from edge.config import PriceWindow, SiteSection


class PriceSource(Protocol):
    """Prices per kWh at given times; a tariff, or a forecast of the wholesale price."""

    def buy_sell_per_kwh(self, times_s: Sequence[float]) -> tuple[list[float], list[float]]:
        """Buying and selling price at each of the times."""
        ...


class WindowTariff:
    """The windows of the configuration, the same every day."""

    def __init__(self, site: SiteSection) -> None:
        self._zone = zoneinfo.ZoneInfo(site.timezone)
        self._buy = _columns(site.buy)
        self._sell = _columns(site.sell)

    def buy_sell_per_kwh(self, times_s: Sequence[float]) -> tuple[list[float], list[float]]:
        """See `PriceSource`."""
        hours = [local_hour(time_s, self._zone) for time_s in times_s]
        return [_at(self._buy, hour) for hour in hours], [_at(self._sell, hour) for hour in hours]


def local_hour(time_s: float, zone: dt.tzinfo) -> float:
    """Hours since local midnight, as clocks on the wall show them."""
    local = dt.datetime.fromtimestamp(time_s, zone)
    return local.hour + local.minute / 60.0 + local.second / 3600.0


def next_local_time_s(now_s: float, hour: float, zone: dt.tzinfo) -> float:
    """The next instant at which the local clock shows `hour`, strictly after `now_s`."""
    local = dt.datetime.fromtimestamp(now_s, zone)
    whole = int(hour)
    wanted = local.replace(hour=whole, minute=round((hour - whole) * 60.0) % 60, second=0, microsecond=0)
    if wanted.timestamp() <= now_s:
        wanted += dt.timedelta(days=1)
    return wanted.timestamp()


def _columns(windows: Sequence[PriceWindow]) -> tuple[list[float], list[float]]:
    return [window.from_h for window in windows], [window.price_per_kwh for window in windows]


def _at(columns: tuple[list[float], list[float]], hour: float) -> float:
    return columns[1][bisect.bisect_right(columns[0], hour) - 1]
