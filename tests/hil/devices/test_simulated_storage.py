"""How simulated batteries and hybrid inverters behave: what they can hold, their setpoints and windows, and what they put where."""


import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import battery, hybrid, read, run, words, write

from hil.devices.device import Inputs


@settings(max_examples=60, deadline=None)
@given(
    soc=st.floats(0.0, 1.0),
    setpoints=st.lists(st.floats(-8000.0, 8000.0), min_size=1, max_size=12),
    dt_s=st.sampled_from([1.0, 10.0, 300.0]),
)
def test_a_battery_never_leaves_its_store_or_its_ratings_and_energy_is_conserved(
    soc: float, setpoints: list[float], dt_s: float
) -> None:
    device = battery(soc_frac=soc, soc_min_frac=0.0)
    charged_wh = discharged_wh = 0.0
    start_wh = device.energy_wh
    for output_w in setpoints:
        device.setpoint.impose(output_w)
        for _ in range(3):
            device.advance(device.now_s, dt_s, Inputs())
            assert -5000.0 - 1e-6 <= device.power_w <= 4000.0 + 1e-6
            assert -1e-6 <= device.energy_wh <= 10_000.0 + 1e-6
            charged_wh += max(device.power_w, 0.0) * dt_s / 3600.0
            discharged_wh += max(-device.power_w, 0.0) * dt_s / 3600.0
    assert device.energy_wh == pytest.approx(start_wh + 0.96 * charged_wh - discharged_wh / 0.96, abs=1e-6)
    assert device.energy_in_wh - device.energy_out_wh == pytest.approx(charged_wh - discharged_wh, abs=1e-6)


def test_a_battery_obeys_wset_in_watts_and_in_percent_and_reverts_to_its_chosen_power() -> None:
    device = battery()
    write(device, 704, "WSetRvrt", 0, 0)
    write(device, 704, "WSetEnaRvrt", 1)
    write(device, 704, "WSetRvrtTms", 0, 60)
    write(device, 704, "WSet", *words(-2000))
    write(device, 704, "WSetEna", 1)
    run(device, 30.0, Inputs())
    assert device.power_w == pytest.approx(2000.0), "a negative WSet charges"
    write(device, 704, "WSetPct", 5000)
    write(device, 704, "WSetMod", 0)
    run(device, 30.0, Inputs())
    assert device.power_w == pytest.approx(-2500.0), "50 % of 5 kW out of the inverter"
    run(device, 60.0, Inputs())
    assert device.power_w == pytest.approx(0.0, abs=1e-3)
    assert read(device, 704, "WSetEna") == (1,)
    assert read(device, 704, "WSet", 2) == (0, 0), "the reversion value has become the value"


def test_a_setpoint_beyond_the_ratings_saturates() -> None:
    device = battery()
    write(device, 704, "WSet", *words(-9000))
    write(device, 704, "WSetEna", 1)
    run(device, 30.0, Inputs())
    assert device.power_w == pytest.approx(4000.0)


def test_a_battery_on_its_own_brings_the_net_import_towards_zero() -> None:
    device = battery(self_consumption=True)
    load_w = 1800.0
    for _ in range(60):
        device.advance(device.now_s, 1.0, Inputs(net_import_w=load_w + device.power_w))
    assert device.power_w == pytest.approx(-1800.0, rel=1e-3)


def test_the_rates_of_model_124_are_a_window_and_negative_ones_force() -> None:
    device = battery(legacy=True, self_consumption=True)
    write(device, 124, "StorCtl_Mod", 2)
    write(device, 124, "OutWRte", 1000)
    run(device, 60.0, Inputs(net_import_w=3000.0))
    assert device.power_w == pytest.approx(-500.0), "discharge limited to 10 % of 5 kW"
    write(device, 124, "OutWRte", 0x10000 - 5000)
    run(device, 60.0, Inputs(net_import_w=3000.0))
    assert device.power_w == pytest.approx(2500.0), "a negative discharge rate is a charge"
    write(device, 124, "StorCtl_Mod", 3)
    write(device, 124, "OutWRte", 0, 0)
    run(device, 60.0, Inputs(net_import_w=3000.0))
    assert device.power_w == pytest.approx(0.0, abs=1e-3)


def test_the_rates_of_model_124_revert_to_the_inverters_own_choice() -> None:
    device = battery(legacy=True)
    write(device, 124, "InOutWRte_RvrtTms", 30)
    write(device, 124, "OutWRte", 5000)
    write(device, 124, "InWRte", 0x10000 - 5000)
    write(device, 124, "StorCtl_Mod", 3)
    run(device, 20.0, Inputs())
    assert device.power_w == pytest.approx(-2500.0, rel=0.25)
    run(device, 30.0, Inputs())
    assert device.power_w == pytest.approx(0.0, abs=1.0)
    assert read(device, 124, "StorCtl_Mod") == (0,)


def test_a_contradictory_window_of_model_124_holds_its_charge_rate() -> None:
    device = battery(legacy=True)
    write(device, 124, "OutWRte", 0x10000 - 5000)
    write(device, 124, "InWRte", 2000)
    write(device, 124, "StorCtl_Mod", 3)
    run(device, 60.0, Inputs())
    assert device.power_w == pytest.approx(800.0)


def test_a_reserve_keeps_the_battery_from_discharging() -> None:
    device = battery(soc_frac=0.3)
    write(device, 802, "SoCRsvMin", 3000)
    device.setpoint.impose(3000.0)
    run(device, 60.0, Inputs())
    assert device.power_w == 0.0
    assert device.charge_state() == 6


def test_a_hybrid_inverter_puts_into_the_battery_what_its_output_setpoint_leaves() -> None:
    device = hybrid()
    write(device, 704, "WSet", *words(1000))
    write(device, 704, "WSetEna", 1)
    run(device, 30.0, Inputs(available_w=3000.0))
    assert device.power_w == pytest.approx(-1000.0)
    assert device.battery_power_w == pytest.approx(2000.0)
    run(device, 30.0, Inputs(available_w=200.0))
    assert device.power_w == pytest.approx(-1000.0)
    assert device.battery_power_w == pytest.approx(-800.0)


def test_a_hybrid_inverter_with_a_full_battery_curtails_what_exceeds_its_limit() -> None:
    device = hybrid(soc_frac=1.0)
    write(device, 704, "WMaxLimPct", 5000)
    write(device, 704, "WMaxLimPctEna", 1)
    run(device, 30.0, Inputs(available_w=7000.0))
    assert device.power_w == pytest.approx(-3000.0)
    assert device.throttled_frac() == pytest.approx(4 / 7)
    write(device, 704, "WMaxLimPctEna", 0)
    run(device, 30.0, Inputs(available_w=7000.0))
    assert device.power_w == pytest.approx(-6000.0), "the rating of the inverter"


@settings(max_examples=60, deadline=None)
@given(
    soc=st.floats(0.0, 1.0),
    steps=st.lists(st.tuples(st.floats(-9000.0, 9000.0), st.floats(0.0, 9000.0), st.integers(0, 100)), min_size=1, max_size=12),
)
def test_a_hybrid_inverter_balances_its_powers_and_keeps_its_limit(soc: float, steps: list[tuple[float, float, int]]) -> None:
    device = hybrid(soc_frac=soc, soc_min_frac=0.0, lag_s=0.0)
    for output_w, available_w, percent in steps:
        device.setpoint.impose(output_w)
        device.limit.impose(percent / 100.0)
        device.advance(device.now_s, 10.0, Inputs(available_w=available_w))
        assert device.power_w == pytest.approx(device.battery_power_w - device.pv_w, abs=1e-6)
        assert -device.power_w <= 60.0 * percent + 1e-6
        assert 0.0 <= device.pv_w <= min(available_w, 8000.0) + 1e-9
        assert -1e-6 <= device.energy_wh <= 10_000.0 + 1e-6
