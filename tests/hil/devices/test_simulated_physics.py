"""How the simulated devices behave: lag, limits, ramps, reversion, energy, and what a battery and a vehicle can hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_bench import meter, pv, read, run, signed, write

from hil.devices.control import Lag
from hil.devices.device import Inputs
from hil.devices.ev_charger_maps import AlfenNg9xx, KebaP30
from hil.devices.house import House, HouseSpec
from hil.devices.pv import interpolate
from hil.devices.quirks import Quirks
from hil.devices.registers import ModbusRefusal

SUN = Inputs(available_w=4000.0)


@given(tau_s=st.floats(0.01, 100.0), target=st.floats(-1e4, 1e4), steps=st.lists(st.floats(0.01, 30.0), min_size=1, max_size=8))
def test_a_lag_is_the_exact_exponential_however_the_time_is_cut(tau_s: float, target: float, steps: list[float]) -> None:
    lag = Lag(tau_s)
    for dt_s in steps:
        lag.step(target, dt_s)
    assert lag.value == pytest.approx(target * -math.expm1(-sum(steps) / tau_s), rel=1e-9, abs=1e-6)


def test_a_rate_limit_bounds_every_step() -> None:
    lag = Lag(0.1, rate_per_s=50.0)
    values = [lag.step(1000.0, 1.0) for _ in range(30)]
    assert values[:3] == pytest.approx([50.0, 100.0, 150.0])
    assert values[-1] == pytest.approx(1000.0)


def test_an_inverter_follows_the_sun_within_its_rating() -> None:
    device = pv(lag_s=2.0)
    run(device, 2.0, SUN)
    assert 0.6 * 4000 < device.generation_w < 0.7 * 4000, "after one time constant it is 63 % there"
    run(device, 60.0, Inputs(available_w=9000.0))
    assert device.generation_w == pytest.approx(5000.0)
    assert device.throttled_frac() == pytest.approx(1 - 5000 / 9000)


def test_a_cloud_takes_the_power_at_once() -> None:
    device = pv(lag_s=10.0)
    run(device, 60.0, SUN)
    device.advance(device.now_s, 0.1, Inputs(available_w=100.0))
    assert device.generation_w == 100.0


def test_a_limit_of_model_123_needs_its_enable_point() -> None:
    device = pv()
    run(device, 30.0, SUN)
    write(device, 123, "WMaxLimPct", 2000)
    run(device, 30.0, SUN)
    assert device.generation_w == pytest.approx(4000.0)
    write(device, 123, "WMaxLim_Ena", 1)
    run(device, 30.0, SUN)
    assert device.generation_w == pytest.approx(1000.0), "20 % of the 5 kW rating, not of the sun"
    assert device.operating_state() == 5


def test_a_limit_of_zero_is_a_limit() -> None:
    device = pv()
    write(device, 123, "WMaxLimPct", 0)
    write(device, 123, "WMaxLim_Ena", 1)
    run(device, 60.0, SUN)
    assert device.generation_w == pytest.approx(0.0, abs=1e-6)


def test_the_percentage_refers_to_wmax() -> None:
    device = pv()
    scale = 10.0 ** signed(read(device, 121, "WMax_SF")[0])
    write(device, 121, "WMax", round(2000 / scale))
    write(device, 123, "WMaxLimPct", 5000)
    write(device, 123, "WMaxLim_Ena", 1)
    run(device, 60.0, SUN)
    assert device.generation_w == pytest.approx(1000.0)


def test_the_timer_of_model_123_leaves_the_inverter_uncurtailed() -> None:
    """The safety trap: 123 has no reversion value."""
    device = pv()
    write(device, 123, "WMaxLimPct", 1000)
    write(device, 123, "WMaxLimPct_RvrtTms", 60)
    write(device, 123, "WMaxLim_Ena", 1)
    run(device, 59.0, SUN)
    assert device.generation_w == pytest.approx(500.0)
    run(device, 10.0, SUN)
    assert device.generation_w == pytest.approx(4000.0, rel=1e-3)
    assert read(device, 123, "WMaxLim_Ena") == (0,)
    assert device.limit.setpoint.reversions == 1


def test_a_refreshed_timer_does_not_run_out() -> None:
    device = pv()
    write(device, 123, "WMaxLimPct", 1000)
    write(device, 123, "WMaxLimPct_RvrtTms", 60)
    write(device, 123, "WMaxLim_Ena", 1)
    for _ in range(10):
        run(device, 30.0, SUN)
        write(device, 123, "WMaxLimPct", 1000)
    assert device.generation_w == pytest.approx(500.0)


def test_a_timer_does_not_run_while_its_control_is_disabled() -> None:
    device = pv(der=True)
    write(device, 704, "WMaxLimPctRvrtTms", 0, 60)
    write(device, 704, "WMaxLimPct", 2000)
    assert read(device, 704, "WMaxLimPctRvrtRem", 2) == (0, 0)
    run(device, 59.0, SUN)
    write(device, 704, "WMaxLimPctEna", 1)
    run(device, 59.0, SUN)
    assert device.generation_w == pytest.approx(1000.0)


def test_a_limit_written_through_model_123_reverts_as_model_123_does_though_704_is_there_too() -> None:
    device = pv(quirks=Quirks(models=(1, 101, 121, 123, 704)))
    write(device, 704, "WMaxLimPctRvrt", 500)
    write(device, 704, "WMaxLimPctEnaRvrt", 1)
    write(device, 123, "WMaxLimPct_RvrtTms", 30)
    write(device, 123, "WMaxLimPct", 2000)
    write(device, 123, "WMaxLim_Ena", 1)
    run(device, 90.0, SUN)
    assert device.generation_w == pytest.approx(4000.0)


def test_some_inverters_rearm_the_timer_with_the_enable_point_only() -> None:
    device = pv(quirks=Quirks(rearm_on_any_write=False))
    write(device, 123, "WMaxLimPct", 1000)
    write(device, 123, "WMaxLimPct_RvrtTms", 60)
    write(device, 123, "WMaxLim_Ena", 1)
    for _ in range(3):
        run(device, 30.0, SUN)
        write(device, 123, "WMaxLimPct", 1000)
    assert device.generation_w == pytest.approx(4000.0, rel=1e-3)


def test_a_limit_comes_into_force_along_its_ramp() -> None:
    device = pv(lag_s=0.0)
    write(device, 123, "WMaxLim_Ena", 1)
    write(device, 123, "WMaxLimPct_RmpTms", 100)
    write(device, 123, "WMaxLimPct", 0)
    run(device, 50.0, Inputs(available_w=5000.0))
    assert device.generation_w == pytest.approx(2500.0)
    run(device, 50.0, Inputs(available_w=5000.0))
    assert device.generation_w == pytest.approx(0.0, abs=1e-6)


def test_model_704_reverts_to_the_limit_that_was_chosen() -> None:
    device = pv(der=True)
    write(device, 704, "WMaxLimPctRvrt", 500)
    write(device, 704, "WMaxLimPctEnaRvrt", 1)
    write(device, 704, "WMaxLimPctRvrtTms", 0, 60)
    write(device, 704, "WMaxLimPct", 6000)
    write(device, 704, "WMaxLimPctEna", 1)
    run(device, 40.0, SUN)
    assert device.generation_w == pytest.approx(3000.0)
    assert read(device, 704, "WMaxLimPctRvrtRem", 2) == (0, 20)
    run(device, 60.0, SUN)
    assert device.generation_w == pytest.approx(250.0)
    assert read(device, 704, "WMaxLimPct") == (500,)
    assert read(device, 704, "WMaxLimPctEna") == (1,)


def test_a_disconnected_inverter_produces_nothing_and_says_so() -> None:
    device = pv()
    run(device, 30.0, SUN)
    write(device, 123, "Conn", 0)
    run(device, 1.0, SUN)
    assert device.power_w == 0.0
    assert read(device, 101, "St") == (1,)
    write(device, 123, "Conn", 1)
    run(device, 30.0, SUN)
    assert device.generation_w == pytest.approx(4000.0)


@pytest.mark.parametrize(
    ("model_id", "point", "value"),
    [(123, "WMaxLimPct", 10001), (123, "WMaxLim_Ena", 2), (123, "OutPFSet", 90), (121, "WMax", 60000), (123, "WMaxLimPct_RvrtTms", 0xFFFF)],
)
def test_a_value_out_of_range_is_refused_and_changes_nothing(model_id: int, point: str, value: int) -> None:
    device = pv()
    before = read(device, model_id, point)
    with pytest.raises(ModbusRefusal) as refused:
        write(device, model_id, point, value)
    assert refused.value.exception_code == 3
    assert read(device, model_id, point) == before


def test_measurements_cannot_be_written() -> None:
    with pytest.raises(ModbusRefusal) as refused:
        write(pv(), 101, "W", 0)
    assert refused.value.exception_code == 2


def test_an_overvoltage_trips_the_inverter_until_the_voltage_has_been_good_for_a_while() -> None:
    device = pv(trip_voltage_v=258.0, reconnect_after_s=60.0)
    run(device, 30.0, SUN)
    run(device, 1.0, Inputs(available_w=4000.0, voltage_v=(259.0,)))
    assert device.power_w == 0.0
    assert read(device, 101, "St") == (7,)
    assert read(device, 101, "Evt1", 2)[1] & 1 << 10
    run(device, 59.0, SUN)
    assert device.power_w == 0.0
    run(device, 30.0, SUN)
    assert device.generation_w == pytest.approx(4000.0)


def test_volt_watt_lowers_generation_with_the_voltage() -> None:
    """AS/NZS 4777.2:2020, region Australia A: 100 % at 253 V, 20 % at 260 V."""
    curve = ((253.0, 1.0), (260.0, 0.2))
    device = pv(volt_watt=curve)
    run(device, 60.0, Inputs(available_w=5000.0, voltage_v=(256.5,)))
    assert device.generation_w == pytest.approx(3000.0)
    assert interpolate(curve, 240.0) == 1.0
    assert interpolate(curve, 270.0) == 0.2


def test_a_coarse_inverter_rounds_its_limit_down_and_says_so() -> None:
    device = pv(quirks=Quirks(setpoint_step_frac=0.05))
    write(device, 123, "WMaxLimPct", 4990)
    write(device, 123, "WMaxLim_Ena", 1)
    run(device, 60.0, SUN)
    assert read(device, 123, "WMaxLimPct") == (4500,)
    assert device.generation_w == pytest.approx(2250.0)


def test_writes_to_flash_are_counted_apart() -> None:
    device = pv(quirks=Quirks(flash_points=frozenset({"123.WMaxLimPct"})))
    for value in (5000, 5000, 6000):
        write(device, 123, "WMaxLimPct", value)
    write(device, 123, "WMaxLim_Ena", 1)
    assert device.flash_writes == 3
    assert device.write_counts == {"123.WMaxLimPct": 3, "123.WMaxLim_Ena": 1}


def test_measurements_that_refresh_slowly_stand_still_in_between() -> None:
    device = pv(quirks=Quirks(refresh_s=10.0))
    seen = []
    for second in range(30):
        run(device, 1.0, Inputs(available_w=100.0 * second))
        seen.append(read(device, 101, "W"))
    assert len(set(seen)) <= 4


def test_a_meter_adds_the_phases_before_it_counts() -> None:
    device = meter(phases=3)
    run(device, 3600.0, Inputs(voltage_v=(230.0,) * 3, phase_power_w=(2000.0, -1500.0, -500.0)), dt_s=60.0)
    assert device.energy_in_wh == 1.0
    assert device.energy_out_wh == 1.0


@pytest.mark.parametrize("kind", [AlfenNg9xx, KebaP30])
def test_a_vehicle_charges_at_the_limit_above_six_amperes_and_not_at_all_below(kind: type[AlfenNg9xx]) -> None:
    device = kind("ev", max_a=32.0, watchdog_s=0.0)
    plugged = Inputs(plugged=True, requested_wh=50_000.0)
    device.command_a(10.0)
    run(device, 60.0, plugged)
    assert device.power_w == pytest.approx(2300.0)
    device.command_a(6.0)
    run(device, 60.0, plugged)
    assert device.power_w == pytest.approx(1380.0)
    device.command_a(5.9)
    run(device, 1.0, plugged)
    assert device.power_w == 0.0
    device.command_a(100.0)
    run(device, 60.0, plugged)
    assert device.power_w == pytest.approx(32 * 230)


def test_a_vehicle_takes_what_it_asked_for_and_no_more() -> None:
    device = AlfenNg9xx("ev", watchdog_s=0.0)
    device.command_a(16.0)
    run(device, 3600.0, Inputs(plugged=True, requested_wh=1500.0), dt_s=10.0)
    assert device.session_wh == pytest.approx(1500.0)
    assert device.power_w == 0.0
    assert device.mode3 == "B2"
    run(device, 10.0, Inputs(plugged=False))
    assert device.mode3 == "A"
    run(device, 60.0, Inputs(plugged=True, requested_wh=700.0))
    assert device.requested_wh == 700.0
    assert 0.0 < device.session_wh < 700.0


def test_a_charger_that_hears_no_command_falls_back_to_its_failsafe_current() -> None:
    device = AlfenNg9xx("ev", watchdog_s=60.0, failsafe_a=8.0)
    plugged = Inputs(plugged=True, requested_wh=50_000.0)
    device.command_a(20.0)
    run(device, 59.0, plugged)
    assert device.power_w == pytest.approx(20 * 230, rel=1e-3)
    for _ in range(4):
        device.read_registers(1, 1200, 16)
        run(device, 10.0, plugged)
    assert device.power_w == pytest.approx(8 * 230, rel=1e-3), "reading is not commanding"
    device.command_a(20.0)
    run(device, 30.0, plugged)
    assert device.power_w == pytest.approx(20 * 230, rel=1e-3)


def test_the_counters_of_a_house_add_up_to_those_of_its_meter() -> None:
    house = House("h", HouseSpec())
    load_wh = 0.0
    for step in range(8640):
        house.advance(step * 10.0, 10.0)
        load_wh += (house.net_import_w - sum(device.power_w for device in house.devices[1:])) * 10.0 / 3600.0
    grid = house.devices[0]
    net_wh = sum(device.energy_in_wh - device.energy_out_wh for device in house.devices[1:])
    assert grid.energy_in_wh - grid.energy_out_wh == pytest.approx(load_wh + net_wh, abs=1e-3)
