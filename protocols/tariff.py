"""Prices by the time of day, as households and their operator are configured with them. Pure."""

from __future__ import annotations

import bisect
import datetime as dt
import zoneinfo
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

HourOfDay = Annotated[float, Meta(ge=0.0, lt=24.0)]
PricePerKwh = Annotated[float, Meta(ge=-20.0, le=20.0)]


class PriceWindow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `from_h` (local time) until the next window, every day."""

    from_h: HourOfDay
    price_per_kwh: PricePerKwh


PriceWindows = Annotated[tuple[PriceWindow, ...], Meta(min_length=1, max_length=48)]


def local_hour(time_s: float, zone: dt.tzinfo) -> float:
    """Hours since local midnight, as clocks on the wall show them."""
    local = dt.datetime.fromtimestamp(time_s, zone)
    return local.hour + local.minute / 60.0 + local.second / 3600.0


def prices_per_kwh(windows: Sequence[PriceWindow], times_s: Sequence[float], zone: dt.tzinfo) -> list[float]:
    """The price at each of the times."""
    starts_h = [window.from_h for window in windows]
    return [windows[bisect.bisect_right(starts_h, local_hour(time_s, zone)) - 1].price_per_kwh for time_s in times_s]


def misplaced(windows: Sequence[PriceWindow]) -> str | None:
    """What is wrong with the order of the windows, or None."""
    hours = [window.from_h for window in windows]
    return None if hours[0] == 0.0 and sorted(set(hours)) == hours else f"must begin at from_h = 0 and ascend, got {hours}"


def unknown_zone(name: str) -> str | None:
    """Why this is no time zone here, or None."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return f"timezone {name!r} is not known here; expected an IANA name such as Australia/Melbourne"
    return None
