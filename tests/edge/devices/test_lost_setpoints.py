"""A setpoint that is gone: taken by another master, forgotten in a restart, let go by the device, or never obeyed."""

import itertools

from edge_device_bank import (
    AC_103,
    CONTROL_123,
    RATING_120,
    SETTINGS_121,
    battery,
    battery_701,
    device_on,
    failure,
    model_registers,
    parsed,
    poke,
    pv,
    pv_103,
    pv_701,
    sunspec_bank,
)

from edge.errors import DeviceNotVerified, DeviceTimeout
from edge.values import DeviceKind, WriteStatus


async def test_another_master_is_told_from_the_device_and_counted() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, slow_s=5.0)
    await device.read(0.0)
    await device.write(pv(2500.0), 0.0)
    await device.read(6.0)
    poke(bank, 123, "WMaxLimPct", 8000)
    reading = await device.read(12.0)
    assert any("another master (1 times)" in alarm and "holds 8000, written was 5000" in alarm for alarm in reading.alarms)
    outcome = await device.write(pv(2500.0), 12.0)
    assert outcome.foreign_master and outcome.status is WriteStatus.WRITTEN
    assert device.foreign_count == 1 and parsed(bank, 123).points["WMaxLimPct"].value == 5000
    await device.read(18.0)
    outcome = await device.write(pv(2500.0), 18.0)
    assert outcome.verified and not outcome.foreign_master
    assert (await device.read(19.0)).alarms == ()


async def test_a_device_that_restarted_and_forgot_gets_its_setpoint_back_at_once() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    await device.write(pv(1000.0), 0.0)
    poke(bank, 103, "W", 1000)
    await device.read(10.0)
    assert (await device.write(pv(1000.0), 10.0)).verified
    for point in ("WMaxLimPct", "WMaxLimPct_RvrtTms", "WMaxLim_Ena"):
        poke(bank, 123, point, CONTROL_123[point])
    poke(bank, 103, "W", 3000)
    reading = await device.read(16.0)
    assert reading.limit_w is None and any("the device restarted" in alarm for alarm in reading.alarms)
    assert device.foreign_count == 0
    assert (await device.write(pv(1000.0), 16.0)).status is WriteStatus.WRITTEN
    assert parsed(bank, 123).points["WMaxLim_Ena"].value == 1


async def test_power_above_the_limit_is_looked_into_at_once() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, slow_s=3600.0, readback_s=2.0)
    await device.read(0.0)
    await device.write(pv(1000.0), 0.0)
    poke(bank, 103, "W", 900)
    await device.read(3.0)
    bank.reads.clear()
    await device.read(4.0)
    assert len(bank.reads) == 1
    poke(bank, 103, "W", 3000)
    await device.read(6.0)
    assert len(bank.reads) == 3, "measurement, then the registers of the setpoint"


async def test_another_master_that_comes_back_is_found_as_fast_as_the_first_time() -> None:
    """Thirty seconds is how long a look that finds nothing delays the next one here."""
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, slow_s=3600.0, readback_s=30.0)
    poke(bank, 103, "W", 900)
    await device.read(0.0)
    await device.write(pv(1000.0), 0.0)
    await device.read(30.0)
    await device.write(pv(1000.0), 30.0)
    for now_s in (40.0, 55.0):
        poke(bank, 123, "WMaxLimPct", 9000)
        poke(bank, 103, "W", 3000)
        reading = await device.read(now_s)
        assert reading.alarms, now_s
        assert (await device.write(pv(1000.0), now_s)).status is WriteStatus.WRITTEN
        poke(bank, 103, "W", 900)


async def test_another_master_is_not_taken_for_a_device_that_refuses() -> None:
    """It strikes every 30 s, as seldom as setpoints are read back: what was written after the last strike must be known to be in place."""
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, slow_s=3600.0, readback_s=30.0)
    poke(bank, 103, "W", 900)
    await device.read(0.0)
    await device.write(pv(1000.0), 0.0)
    for now_s in range(10, 300, 10):
        struck = now_s % 30 == 0
        if struck:
            poke(bank, 123, "WMaxLimPct", 9000)
        poke(bank, 103, "W", 3000 if struck else 900)
        await device.read(float(now_s))
        await device.write(pv(1000.0), float(now_s))
        assert parsed(bank, 123).points["WMaxLimPct"].value == 2000, now_s
    assert device.foreign_count >= 8


async def test_a_write_that_times_out_is_neither_believed_nor_forgotten() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    bank.lose_acknowledgement = True
    assert isinstance(await failure(device.write(pv(2500.0), 1.0)), DeviceTimeout)
    bank.lose_acknowledgement = False
    reading = await device.read(2.0)
    assert reading.limit_w == 2500.0, "it is read back in the next cycle"
    outcome = await device.write(pv(2500.0), 2.0)
    assert outcome.status is WriteStatus.UNCHANGED and len(bank.writes) == 1


async def test_a_device_that_acknowledges_and_does_not_obey_is_reported_and_not_worn_out() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV, slow_s=1.0, readback_s=1.0)
    await device.read(0.0)
    bank.ignore_writes = True
    errors = 0
    for second in range(1, 60):
        try:
            await device.write(pv(2500.0), float(second))
        except DeviceNotVerified as error:
            errors += 1
            assert "holds 10000, written was 5000" in str(error)
        reading = await device.read(second + 0.5)
    assert errors > 50 and any("setpoint not taken" in alarm for alarm in reading.alarms)
    assert len(bank.writes) <= 6, "tried again every 30 s"
    bank.ignore_writes = False
    await device.write(pv(2500.0), 100.0)
    await device.read(102.0)
    assert (await device.write(pv(2500.0), 102.0)).verified


async def test_a_setpoint_that_the_device_itself_let_go_is_lost_and_not_stolen() -> None:
    bank = pv_701()
    device = device_on(bank, DeviceKind.PV, slow_s=5.0)
    await device.read(0.0)
    await device.write(pv(2500.0, revert_w=500.0, after_s=60.0), 0.0)
    await device.read(6.0)
    await device.write(pv(2500.0, revert_w=500.0, after_s=60.0), 6.0)
    poke(bank, 704, "WMaxLimPct", 100)
    reading = await device.read(100.0)
    assert any("its timer ran out" in alarm for alarm in reading.alarms) and device.foreign_count == 0
    assert reading.limit_w == 500.0
    assert (await device.write(pv(2500.0, revert_w=500.0, after_s=60.0), 100.0)).status is WriteStatus.WRITTEN


async def test_a_restart_is_recognised_even_if_our_old_setpoint_was_there_before_us() -> None:
    bank = sunspec_bank(
        model_registers(103, AC_103),
        model_registers(120, RATING_120),
        model_registers(121, SETTINGS_121),
        model_registers(123, {**CONTROL_123, "WMaxLimPct": 4000, "WMaxLim_Ena": 1}),
    )
    device = device_on(bank, DeviceKind.PV, slow_s=5.0)
    await device.read(0.0)
    await device.write(pv(2500.0), 0.0)
    await device.read(6.0)
    poke(bank, 123, "WMaxLimPct", 10000)
    poke(bank, 123, "WMaxLim_Ena", 0)
    assert any("the device restarted" in alarm for alarm in (await device.read(12.0)).alarms)
    assert device.foreign_count == 0


async def test_a_full_battery_that_does_not_charge_is_asked_about_its_setpoint_ever_more_rarely() -> None:
    bank = battery_701()
    poke(bank, 701, "W", 0)
    device = device_on(bank, DeviceKind.BATTERY, slow_s=40.0, readback_s=2.0, rare_s=80000.0)
    await device.read(0.0)
    await device.write(battery(2000.0), 0.0)
    await device.read(3.0)
    bank.reads.clear()
    looks: list[int] = []
    for second in range(4, 40):
        before = len(bank.reads)
        await device.read(float(second))
        if len(bank.reads) > before + 1:
            looks.append(second)
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert looks and gaps == sorted(gaps) and gaps[-1] >= 8
    poke(bank, 701, "W", -2000)
    await device.read(200.0)
    await device.read(201.0)
    bank.reads.clear()
    poke(bank, 701, "W", 0)
    for second in (202, 204):
        await device.read(float(second))
    assert len(bank.reads) >= 3, "after it has obeyed again, a deviation is looked into at once"
