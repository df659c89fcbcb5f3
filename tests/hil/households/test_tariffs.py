"""Prices at the hours that matter, and bills."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import ScenarioError
from hil.households.tariffs import STREET_EV_NIGHT, TARIFFS, VIC_AGL_2019, VIC_MOMENTUM_2019, Tariff, WholesalePrices, bill

MELBOURNE = ZoneInfo("Australia/Melbourne")
SUMMER_OFFSET_S = 39_600.0


def _price(tariff: Tariff, day: int, hour: int) -> float:
    """January 2025 in Melbourne: the 14th is a Tuesday, the 18th a Saturday."""
    moment = datetime.datetime(2025, 1, day, hour, tzinfo=MELBOURNE).timestamp()
    return float(tariff.prices(np.array([moment]), SUMMER_OFFSET_S)[0][0])


@pytest.mark.parametrize(
    ("tariff", "day", "hour", "price"),
    [
        (STREET_EV_NIGHT, 14, 0, 0.08),
        (STREET_EV_NIGHT, 14, 3, 0.08),
        (STREET_EV_NIGHT, 14, 4, 0.25),
        (STREET_EV_NIGHT, 14, 15, 0.42),
        (STREET_EV_NIGHT, 18, 20, 0.42),
        (STREET_EV_NIGHT, 18, 21, 0.25),
        (VIC_MOMENTUM_2019, 14, 6, 0.11),
        (VIC_MOMENTUM_2019, 14, 7, 0.2263),
        (VIC_MOMENTUM_2019, 14, 15, 0.2344),
        (VIC_MOMENTUM_2019, 14, 21, 0.2263),
        (VIC_MOMENTUM_2019, 18, 15, 0.1959),
        (VIC_MOMENTUM_2019, 18, 23, 0.11),
        (VIC_AGL_2019, 14, 16, 0.238),
        (VIC_AGL_2019, 18, 16, 0.198),
    ],
)
def test_published_prices_hold_in_their_windows(tariff: Tariff, day: int, hour: int, price: float) -> None:
    assert _price(tariff, day, hour) == price


def test_every_tariff_names_its_source_and_pays_less_than_the_peak_costs() -> None:
    for tariff in TARIFFS.values():
        assert tariff.source
        assert tariff.feed_in_price_per_kwh < max(period.import_price_per_kwh for period in tariff.periods)


def test_a_bill_is_imports_bought_and_exports_sold() -> None:
    net_import_w = np.array([1000.0, -2000.0, 0.0])
    assert bill(net_import_w, 3600.0, np.full(3, 0.3), np.full(3, 0.1)) == pytest.approx(0.3 - 0.2)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50))
def test_netting_before_billing_is_never_dearer_than_billing_parts(powers: list[float]) -> None:
    """Buying is dearer than selling, so a shared meter can only save (002 eq. 4)."""
    net, count = np.array(powers), len(powers)
    buy, sell = np.full(count, 0.3), np.full(count, 0.1)
    parts = bill(np.maximum(net, 0.0), 300.0, buy, sell) + bill(np.minimum(net, 0.0), 300.0, buy, sell)
    assert bill(net, 300.0, buy, sell) <= parts + 1e-9


def test_wholesale_prices_are_not_invented_outside_their_time() -> None:
    wholesale = WholesalePrices(start_s=0.0, step_s=300.0, price_per_kwh=np.array([0.1, -0.05]), demand_w=np.zeros(2))
    assert wholesale.prices(np.array([0.0, 299.0, 300.0])).tolist() == [0.1, 0.1, -0.05]
    with pytest.raises(ScenarioError, match=r"cover \[0, 600\) s, asked for 600 to 600 s"):
        wholesale.prices(np.array([600.0]))
