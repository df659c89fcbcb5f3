"""What a kilowatt hour costs and earns at a given time, by the local clock of the site. Pure."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Sequence
from typing import Protocol

from edge.config import SiteSection
from protocols.tariff import prices_per_kwh


class PriceSource(Protocol):
    """Prices per kWh at given times; a tariff, or a forecast of the wholesale price."""

    def buy_sell_per_kwh(self, times_s: Sequence[float]) -> tuple[list[float], list[float]]:
        """Buying and selling price at each of the times."""
        ...


class WindowTariff:
    """The windows of the configuration, the same every day."""

    def __init__(self, site: SiteSection) -> None:
        self._zone = zoneinfo.ZoneInfo(site.timezone)
        self._site = site

    def buy_sell_per_kwh(self, times_s: Sequence[float]) -> tuple[list[float], list[float]]:
        """See `PriceSource`."""
        buy, sell = self._site.buy, self._site.sell
        return prices_per_kwh(buy, times_s, self._zone), prices_per_kwh(sell, times_s, self._zone)


def next_local_time_s(now_s: float, hour: float, zone: dt.tzinfo) -> float:
    """The next instant at which the local clock shows `hour`, strictly after `now_s`."""
    local = dt.datetime.fromtimestamp(now_s, zone)
    whole = int(hour)
    wanted = local.replace(hour=whole, minute=round((hour - whole) * 60.0) % 60, second=0, microsecond=0)
    if wanted.timestamp() <= now_s:
        wanted += dt.timedelta(days=1)
    return wanted.timestamp()
