"""Setpoints: as few writes as possible, never looser than asked, read back, and nobody else's value taken for ours."""

import math

import pytest
from edge_device_bank import (
    AC_103,
    AC_701,
    CAPACITY_702,
    CONTROL_123,
    CONTROL_704,
    RATING_120,
    SETTINGS_121,
    STORAGE_713,
    Bank,
    battery,
    battery_124,
    battery_701,
    device_on,
    model_registers,
    parsed,
    place,
    poke,
    pv,
    pv_103,
    pv_701,
    sunspec_bank,
)
from hypothesis import given
from hypothesis import strategies as st

from edge.devices.discipline import WriteBudget, WriteLedger
from edge.devices.mapping import Segment
from edge.values import DeviceKind, WriteStatus


async def test_a_limit_is_written_once_and_then_only_read() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    first = await device.write(pv(2500.0), 0.0)
    for second in range(1, 60):
        await device.read(float(second))
        last = await device.write(pv(2500.0), float(second))
    assert len(bank.writes) == 1
    assert first.status is WriteStatus.WRITTEN and not first.verified
    assert last.status is WriteStatus.UNCHANGED and last.verified and not last.foreign_master
    control = parsed(bank, 123)
    assert control.points["WMaxLimPct"].cvalue == 50.0 and control.points["WMaxLim_Ena"].value == 1
    assert (await device.read(60.0)).limit_w == 2500.0


async def test_a_device_that_already_holds_the_setpoint_is_not_written_to() -> None:
    bank = sunspec_bank(
        model_registers(103, AC_103),
        model_registers(120, RATING_120),
        model_registers(121, SETTINGS_121),
        model_registers(123, {**CONTROL_123, "WMaxLimPct": 5000, "WMaxLim_Ena": 1}),
    )
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    assert (await device.write(pv(2500.0), 0.0)).status is WriteStatus.UNCHANGED
    assert not bank.writes


@given(limit_w=st.floats(0, 20000))
async def test_a_limit_is_rounded_down_to_the_resolution_of_the_device(limit_w: float) -> None:
    bank = pv_701()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    await device.write(pv(limit_w), 0.0)
    held_w = parsed(bank, 704).points["WMaxLimPct"].cvalue * 50.0
    assert held_w <= limit_w + 1e-3
    assert held_w >= min(limit_w, 5000.0) - 5.0 - 1e-3, "resolution is 0.1 % of 5000 W"


async def test_a_limit_of_zero_is_a_limit() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    await device.write(pv(0.0), 0.0)
    control = parsed(bank, 123)
    assert control.points["WMaxLimPct"].value == 0 and control.points["WMaxLim_Ena"].value == 1
    await device.read(40.0)
    assert (await device.read(41.0)).limit_w == 0.0
    await device.write(pv(None), 41.0)
    assert parsed(bank, 123).points["WMaxLim_Ena"].value == 0


async def test_704_reverts_to_the_chosen_limit_and_its_timer_is_restarted_in_time() -> None:
    bank = pv_701()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    assert device.capabilities.reverts
    outcome = await device.write(pv(2500.0, revert_w=500.0, after_s=60.0), 0.0)
    assert outcome.reverts
    control = parsed(bank, 704).points
    assert control["WMaxLimPctRvrt"].cvalue == 10.0 and control["WMaxLimPctEnaRvrt"].value == 1
    assert control["WMaxLimPctRvrtTms"].value == 60
    for second in range(1, 121):
        await device.read(float(second))
        await device.write(pv(2500.0, revert_w=500.0, after_s=60.0), float(second))
    assert len(bank.writes) == 5, "restarted when half of it has passed: at 0, 30, 60, 90 and 120 s"
    assert {address for address, _ in bank.writes} == {place(bank, 704) + 14}


async def test_an_uncurtailed_704_inverter_still_falls_back_when_the_controller_dies() -> None:
    bank = pv_701()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    await device.write(pv(None, revert_w=1000.0, after_s=60.0), 0.0)
    control = parsed(bank, 704).points
    assert control["WMaxLimPctEna"].value == 1 and control["WMaxLimPct"].cvalue == 100.0
    assert control["WMaxLimPctRvrt"].cvalue == 20.0


async def test_123_never_runs_its_timer_towards_uncurtailed_when_a_limit_must_hold() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    outcome = await device.write(pv(2500.0, revert_w=500.0, after_s=60.0), 0.0)
    assert parsed(bank, 123).points["WMaxLimPct_RvrtTms"].value == 0
    assert not outcome.reverts and "keeps the last one" in outcome.detail
    assert (await device.write(pv(400.0, revert_w=500.0, after_s=60.0), 1.0)).reverts, "what it keeps is tight enough"
    released = await device.write(pv(400.0, after_s=60.0), 2.0)
    assert parsed(bank, 123).points["WMaxLimPct_RvrtTms"].value == 60 and released.reverts, "here uncurtailed is what was asked for"


@pytest.mark.parametrize(("power_w", "expected"), [(1234.0, -1234), (-999.4, 999), (0.0, 0)])
async def test_a_battery_that_charges_has_a_negative_wset(power_w: float, expected: int) -> None:
    bank = battery_701()
    device = device_on(bank, DeviceKind.BATTERY)
    await device.read(0.0)
    await device.write(battery(power_w, revert_w=0.0, after_s=30.0), 0.0)
    control = parsed(bank, 704).points
    assert control["WSet"].cvalue == expected and control["WSetEna"].value == 1 and control["WSetMod"].value == 1
    assert control["WSetRvrt"].value == 0 and control["WSetEnaRvrt"].value == 1 and control["WSetRvrtTms"].value == 30
    await device.write(battery(None), 1.0)
    assert parsed(bank, 704).points["WSetEna"].value == 0


@given(power_w=st.floats(-6000, 6000))
async def test_the_window_of_124_is_never_empty_and_never_stronger_than_asked(power_w: float) -> None:
    bank = battery_124()
    device = device_on(bank, DeviceKind.BATTERY)
    await device.read(0.0)
    await device.write(battery(power_w), 0.0)
    control = parsed(bank, 124).points
    charge_w = control["InWRte"].cvalue / 100 * 4000
    discharge_w = control["OutWRte"].cvalue / 100 * 5000
    assert -discharge_w <= charge_w + 1e-6, "power lies between -OutWRte and +InWRte"
    held = charge_w if power_w >= 0 else -discharge_w
    assert abs(held) <= abs(power_w) + 1e-3 and math.copysign(1, held or 1) == math.copysign(1, power_w if held else 1)
    assert control["StorCtl_Mod"].value == 3
    assert (control["ChaGriSet"].value == 1) or held <= 0


async def test_enabling_comes_last_where_points_are_missing_in_between() -> None:
    control = {k: v for k, v in CONTROL_123.items() if k in ("WMaxLimPct", "WMaxLim_Ena", "WMaxLimPct_SF")}
    bank = sunspec_bank(
        model_registers(103, AC_103), model_registers(120, RATING_120), model_registers(121, SETTINGS_121), model_registers(123, control)
    )
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    await device.write(pv(2500.0), 0.0)
    start = place(bank, 123)
    assert bank.writes == [(start + 5, (5000,)), (start + 9, (1,))]
    await device.write(pv(2000.0), 1.0)
    assert bank.writes[2:] == [(start + 5, (4000,))], "the enable point is known to be set"


async def test_a_spent_budget_refuses_to_loosen_and_still_tightens() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, writes_per_day=20)
    await device.read(0.0)
    statuses = [(await device.write(pv(1000.0 + 10 * i), float(i))).status for i in range(40)]
    assert statuses.count(WriteStatus.WRITTEN) == 15 and statuses[-1] is WriteStatus.BUDGET_SPENT
    assert (await device.write(pv(500.0), 50.0)).status is WriteStatus.WRITTEN
    assert parsed(bank, 123).points["WMaxLimPct"].cvalue == 10.0
    assert (await device.write(pv(3000.0), 86400.0)).status is WriteStatus.WRITTEN, "a new day, a new budget"


@given(st.lists(st.tuples(st.floats(0, 3 * 86400), st.booleans()), max_size=200), st.integers(1, 30))
def test_no_day_sees_more_writes_than_its_budget(attempts: list[tuple[float, bool]], per_day: int) -> None:
    budget = WriteBudget(per_day)
    spent: dict[int, int] = {}
    relaxed: dict[int, int] = {}
    for now_s, urgent in sorted(attempts):
        if budget.allows(now_s, urgent=urgent):
            budget.spend()
            day = int(now_s // 86400)
            spent[day] = spent.get(day, 0) + 1
            if not urgent:
                assert spent[day] <= per_day - round(per_day * 0.25)
                relaxed[day] = relaxed.get(day, 0) + 1
    assert all(count <= per_day for count in spent.values())


def test_a_ledger_that_has_seen_nothing_writes_everything() -> None:
    ledger = WriteLedger()
    segments = [Segment(address=10, registers=(1, 2)), Segment(address=20, registers=(3,))]
    assert ledger.due(segments, 0.0, None) == segments
    ledger.acknowledged(segments[0], 0.0)
    assert ledger.due(segments, 0.0, None) == [segments[1]]
    assert ledger.unverified
    assert ledger.observe((10, 11), (1, 2)) is None
    assert not ledger.unverified


def test_a_clock_that_jumps_back_restarts_a_timer_rather_than_let_it_run_out() -> None:
    ledger = WriteLedger()
    segment = Segment(address=10, registers=(1,))
    ledger.acknowledged(segment, 1000.0)
    assert ledger.due([segment], 1010.0, 30.0) == []
    assert ledger.due([segment], 500.0, 30.0) == [segment]


async def test_closing_gives_the_session_back() -> None:
    bank: Bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.close()
    assert bank.closed


async def test_restarting_a_timer_costs_one_write_and_no_read() -> None:
    bank = pv_701()
    device = device_on(bank, DeviceKind.PV, slow_s=3600.0, readback_s=1.0)
    await device.read(0.0)
    poke(bank, 701, "W", 2000)
    for second in range(0, 100, 10):
        await device.write(pv(2500.0, revert_w=500.0, after_s=14.0), float(second))
        await device.read(second + 5.0)
    assert len(bank.writes) == 10
    bank.reads.clear()
    await device.write(pv(2500.0, revert_w=500.0, after_s=14.0), 100.0)
    await device.read(105.0)
    assert len(bank.reads) == 1 and len(bank.writes) == 11


async def test_a_new_value_is_unverified_until_it_has_been_read() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, slow_s=2.0)
    await device.read(0.0)
    await device.write(pv(2500.0), 0.0)
    await device.read(3.0)
    assert (await device.write(pv(2500.0), 3.0)).verified
    await device.write(pv(2000.0), 4.0)
    assert not (await device.write(pv(2000.0), 4.5)).verified
    bank.ignore_writes = True
    await device.read(7.0)
    await device.write(pv(1500.0), 8.0)
    reading = await device.read(11.0)
    assert any("setpoint not taken" in alarm for alarm in reading.alarms), "the device refused it, nobody stole it"
    assert device.foreign_count == 0


async def test_704_enables_last_even_though_its_enable_point_comes_first() -> None:
    control = {k: v for k, v in CONTROL_704.items() if k not in ("WSetPct", "WSetPctRvrt", "WSetPct_SF")}
    bank = sunspec_bank(
        model_registers(701, AC_701),
        model_registers(702, CAPACITY_702),
        model_registers(704, control),
        model_registers(713, STORAGE_713),
    )
    device = device_on(bank, DeviceKind.BATTERY)
    await device.read(0.0)
    await device.write(battery(1000.0, revert_w=0.0, after_s=30.0), 0.0)
    addresses = [address for address, _ in bank.writes]
    assert len(addresses) == 2 and addresses[-1] == min(addresses) == place(bank, 704) + 22
