"""Money and fairness, against hand calculation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.figures import gini
from hil.settlement import Settlement
from tests.hil.test_checkers import frame


def test_a_home_pays_for_imports_and_earns_for_exports_at_the_prices_of_the_interval() -> None:
    settlement = Settlement(("h1",), 300.0)
    for step in range(60):
        settlement.watch(frame(5.0 * step, net_w=3600.0 if step < 30 else -7200.0), 0.30, 0.10)
    # 3600 W over 150 s are 0.15 kWh at 0.30; 7200 W over 150 s are 0.3 kWh at 0.10.
    assert settlement.home_micro.tolist() == [45_000 - 30_000]
    assert settlement.retailer_micro == -15_000
    assert settlement.import_wh[0] == pytest.approx(150.0) and settlement.export_wh[0] == pytest.approx(300.0)


def test_money_that_vanishes_is_found() -> None:
    settlement = Settlement(("h1",), 5.0)
    settlement.watch(frame(0.0, net_w=3600.0), 0.30, 0.10)
    settlement.retailer_micro += 1
    settlement.watch(frame(5.0, net_w=3600.0), 0.30, 0.10)
    assert settlement.result().violations == 1


@given(st.lists(st.floats(0.0, 1e6, allow_subnormal=False), min_size=1, max_size=30))
def test_gini_is_the_mean_difference_over_twice_the_mean(values: list[float]) -> None:
    array = np.round(np.array(values), 3)
    expected = 0.0 if array.sum() == 0.0 else float(np.abs(array[:, None] - array).mean() / (2.0 * array.mean()))
    assert gini(array) == pytest.approx(expected, abs=1e-9)
