"""A power cycle does not cost what was learned; foreign or damaged bytes are refused whole."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import StoreError
from edge.forecast import Forecaster
from edge.forecast.state import restore, save

START_S = 1_700_006_400.0
NOW_S = START_S + 65 * 86_400.0


def _learned() -> Forecaster:
    forecaster = Forecaster("load", 14_500.0, step_s=3600)
    powers = np.random.default_rng(1).gamma(2.0, 300.0, 65 * 24)
    for index, power_w in enumerate(powers):
        forecaster.observe(START_S + 3600.0 * index, float(power_w))
        forecaster.train()
    forecaster.observe(NOW_S, 1.0)
    return forecaster


def test_a_restored_forecaster_forecasts_the_same_and_goes_on_learning() -> None:
    before = _learned()
    while before.train():
        pass
    after = Forecaster("load", 14_500.0, step_s=3600)
    restore(after, save(before))
    np.testing.assert_array_equal(after.forecast(NOW_S, 900.0, 96).values_w, before.forecast(NOW_S, 900.0, 96).values_w)
    assert after.forecast(NOW_S, 900.0, 96).measured_coverage == before.forecast(NOW_S, 900.0, 96).measured_coverage
    for index in range(1, 60):
        after.observe(NOW_S + 3600.0 * index, 500.0)
    assert np.isfinite(after.forecast(NOW_S + 60 * 3600.0, 900.0, 96).values_w).all()


def test_a_fresh_forecaster_survives_the_round_trip() -> None:
    after = Forecaster("load", 14_500.0)
    restore(after, save(Forecaster("load", 14_500.0)))
    assert after.forecast(NOW_S, 900.0, 4).method == "prior"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda saved: b"", "cannot be read"),
        (lambda saved: saved[: len(saved) // 2], "cannot be read"),
        (lambda saved: b"\xff" + saved[1:], "cannot be read"),
        (lambda saved: save(Forecaster("load", 14_500.0)), "another forecaster"),
        (lambda saved: save(Forecaster("load", 14_500.0, step_s=3600, levels=(0.1, 0.5, 0.9))), "another forecaster"),
    ],
)
def test_bytes_that_do_not_fit_are_refused_and_change_nothing(damage, complaint: str) -> None:  # type: ignore[no-untyped-def]
    saved = damage(save(_learned()))
    forecaster = Forecaster("load", 14_500.0, step_s=3600)
    before = forecaster.forecast(NOW_S, 3600.0, 24).values_w
    with pytest.raises(StoreError, match=complaint):
        restore(forecaster, saved)
    np.testing.assert_array_equal(forecaster.forecast(NOW_S, 3600.0, 24).values_w, before)


def test_saved_bytes_are_small() -> None:
    assert len(save(Forecaster("load", 14_500.0))) < 300_000
