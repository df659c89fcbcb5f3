"""What the edge believes of a device: a stale, stuck or impossible reading is a fault, never zero."""

from __future__ import annotations

import math

import pytest
from msgspec import structs

from edge.values import DeviceKind, Reading, Setpoint
from edge.watch import DeviceWatch


def meter(time_s: float, power_w: float, **more: object) -> Reading:
    values: dict[str, object] = {"voltage_v": (231.2,), "energy_import_wh": 1000.0, "energy_export_wh": 5.0}
    return Reading(name="meter", kind=DeviceKind.METER, time_s=time_s, power_w=power_w, **{**values, **more})  # type: ignore[arg-type]


def battery(time_s: float, power_w: float) -> Reading:
    return Reading(name="b", kind=DeviceKind.BATTERY, time_s=time_s, power_w=power_w, rated_w=5000.0, soc_frac=0.5)


def see(watch: DeviceWatch, reading: Reading, now_s: float | None = None) -> None:
    watch.observe(reading, reading.time_s if now_s is None else now_s, response_s=5.0, stale_after_s=15.0)


def tell(watch: DeviceWatch, now_s: float, power_w: float) -> None:
    setpoint = Setpoint(name="b", kind=DeviceKind.BATTERY, power_w=power_w, revert_power_w=0.0, revert_after_s=14.0)
    watch.accept(setpoint, now_s, reverts=True)


@pytest.mark.parametrize(
    "broken",
    [
        {"power_w": math.nan},
        {"power_w": math.inf},
        {"power_w": 1e9},
        {"voltage_v": (0.0,)},
        {"voltage_v": (math.nan,)},
        {"energy_import_wh": 0.0},
        {"time_s": 80.0},
    ],
)
def test_a_reading_that_cannot_be_true_is_no_reading(broken: dict[str, object]) -> None:
    """Home Assistant issues 51103 and 54345: a busy device was recorded as zero. All registers zero means no voltage, old counters."""
    watch = DeviceWatch("meter", DeviceKind.METER, 20_000.0)
    see(watch, meter(90.0, 500.0))
    watch.observe(structs.replace(meter(100.0, 0.0), **broken), 100.0, response_s=5.0, stale_after_s=15.0)
    assert watch.reading is None
    assert watch.trouble
    assert watch.last_reading is not None
    assert watch.last_reading.power_w == 500.0


@pytest.mark.parametrize("rated_w", [0.0, 1e7, math.inf, math.nan])
def test_a_rating_that_cannot_be_true_excuses_nothing(rated_w: float) -> None:
    watch = DeviceWatch("b", DeviceKind.BATTERY, None)
    see(watch, structs.replace(battery(1.0, 0.0), rated_w=rated_w))
    tell(watch, 1.0, 0.0)
    see(watch, structs.replace(battery(9.0, 2000.0), rated_w=rated_w))
    assert watch.rated_w is None and watch.deaf
    see(watch, structs.replace(battery(10.0, math.inf), rated_w=rated_w))
    assert watch.reading is None
    see(watch, battery(11.0, 0.0))
    assert watch.rated_w == 5000.0


def test_a_meter_that_stands_still_is_doubted_at_once_and_stuck_when_its_counters_should_have_moved() -> None:
    watch = DeviceWatch("meter", DeviceKind.METER, 20_000.0)
    see(watch, meter(0.0, 2000.0))
    assert not watch.doubtful
    see(watch, meter(1.0, 2000.0))
    assert watch.doubtful
    assert not watch.stuck
    see(watch, meter(10.0, 2000.0))
    assert watch.stuck
    see(watch, meter(20.0, 2000.0, energy_import_wh=1011.0))
    assert not watch.doubtful


def test_an_idle_house_is_doubted_but_not_called_stuck() -> None:
    watch = DeviceWatch("meter", DeviceKind.METER, 20_000.0)
    for step in range(60):
        see(watch, meter(10.0 * step, 0.0))
    assert watch.doubtful
    assert not watch.stuck


def test_a_meter_that_gives_power_alone_is_stuck_after_half_a_minute() -> None:
    watch = DeviceWatch("meter", DeviceKind.METER, 20_000.0)
    bare = {"voltage_v": None, "energy_import_wh": None, "energy_export_wh": None}
    see(watch, meter(0.0, 700.0, **bare))
    see(watch, meter(10.0, 700.0, **bare))
    assert not watch.doubtful
    see(watch, meter(30.0, 700.0, **bare))
    assert watch.stuck


def test_a_battery_that_does_less_is_counted_on_for_what_it_does() -> None:
    watch = DeviceWatch("b", DeviceKind.BATTERY, 5000.0)
    see(watch, battery(0.0, 0.0))
    tell(watch, 0.0, 3000.0)
    see(watch, battery(10.0, 1000.0))
    assert watch.usable
    assert watch.charge_cap_w == pytest.approx(1100.0)
    tell(watch, 10.0, 1100.0)
    see(watch, battery(20.0, 1100.0))
    assert watch.charge_cap_w == pytest.approx(1200.0)


def test_a_battery_that_does_something_else_is_deaf_until_it_follows() -> None:
    watch = DeviceWatch("b", DeviceKind.BATTERY, 5000.0)
    tell(watch, 0.0, 1000.0)
    see(watch, battery(10.0, -4000.0))
    assert watch.deaf
    assert not watch.usable
    tell(watch, 10.0, 0.0)
    see(watch, battery(20.0, 10.0))
    assert watch.usable


def test_a_device_on_its_way_to_a_new_setpoint_is_not_deaf() -> None:
    watch = DeviceWatch("b", DeviceKind.BATTERY, 5000.0)
    tell(watch, 0.0, 0.0)
    for second in range(1, 7):
        see(watch, battery(float(second), 0.0))
    tell(watch, 6.0, 4000.0)
    see(watch, battery(7.0, 800.0))
    see(watch, battery(8.0, 1600.0))
    assert watch.usable
    assert watch.charge_cap_w == math.inf


def test_a_silent_device_may_do_anything_between_its_setpoint_and_what_it_reverts_to() -> None:
    watch = DeviceWatch("pv", DeviceKind.PV, 8000.0)
    assert watch.silent_range_w(0.0) == (-8000.0, 0.0)
    setpoint = Setpoint(name="pv", kind=DeviceKind.PV, limit_w=5000.0, revert_limit_w=1500.0, revert_after_s=14.0)
    watch.accept(setpoint, 0.0, reverts=True)
    assert watch.silent_range_w(10.0) == (-5000.0, 0.0)
    assert watch.silent_range_w(14.0) == (-1500.0, 0.0)
    watch.accept(setpoint, 0.0, reverts=False)
    assert watch.silent_range_w(1000.0) == (-5000.0, 0.0)
