"""What the driver makes of a device: signs, units, the best source, and no more requests than needed."""

import itertools

import pytest
import sunspec2.device
from edge_device_bank import (
    AC_103,
    AC_701,
    BANK_802,
    CAPACITY_702,
    CONTROL_123,
    CONTROL_704,
    LEGACY_124,
    RATING_120,
    SETTINGS_121,
    STORAGE_713,
    Bank,
    battery_124,
    battery_701,
    device_on,
    failure,
    model_registers,
    parsed,
    place,
    poke,
    pv_103,
    pv_701,
    sunspec_bank,
)

from edge.devices.sunspec.discovery import discover
from edge.errors import DeviceGarbage, DeviceRefused, DeviceTimeout, DeviceUnreachable, ProfileError
from edge.values import DeviceKind, Setpoint, WriteStatus

METER_203 = {"W": -91, "W_SF": 0, "PhVphA": 2345, "PhVphB": 2376, "PhVphC": 2315, "V_SF": -1, "TotWhExp": 21, "TotWhImp": 18}
METER_203 |= {"TotWh_SF": 3, "A_SF": 0, "Hz_SF": 0, "Evt": 1 << 2}


async def test_a_producing_pv_system_has_negative_power() -> None:
    reading = await device_on(pv_103(), DeviceKind.PV).read(10.0)
    assert reading.power_w == -3000 and reading.time_s == 10.0
    assert reading.voltage_v == (230.1, 231.2, 229.9)
    assert reading.rated_w == 5000 and reading.energy_export_wh == 1234567 and reading.limit_w is None


async def test_a_pv_system_that_draws_a_little_at_night_does_not_consume() -> None:
    bank = pv_103()
    poke(bank, 103, "W", -12)
    assert (await device_on(bank, DeviceKind.PV).read(0.0)).power_w == 0.0


@pytest.mark.parametrize(("state", "expected"), [(1, 0.0), (2, 0.0), (4, None)])
async def test_a_not_implemented_power_is_zero_only_while_the_inverter_says_that_it_is_off(state: int, expected: float | None) -> None:
    bank = pv_103()
    poke(bank, 103, "W", 0x8000)
    poke(bank, 103, "St", state)
    device = device_on(bank, DeviceKind.PV)
    if expected is None:
        assert isinstance(await failure(device.read(0.0)), DeviceGarbage)
    else:
        assert (await device.read(0.0)).power_w == expected


async def test_a_scale_factor_that_changes_between_two_reads_is_followed() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    poke(bank, 103, "W", 30)
    poke(bank, 103, "W_SF", 2)
    assert (await device.read(1.0)).power_w == -3000


async def test_the_float_models_are_read_as_well() -> None:
    values = {"W": 3210.5, "PhVphA": 231.5, "PhVphB": 230.0, "PhVphC": 229.25, "St": 4, "WH": 1e6, "Evt1": 0}
    bank = sunspec_bank(model_registers(113, values), model_registers(120, RATING_120))
    reading = await device_on(bank, DeviceKind.PV).read(0.0)
    assert reading.power_w == -3210.5 and reading.voltage_v == (231.5, 230.0, 229.25) and reading.rated_w == 5000


async def test_a_meter_is_turned_round_by_its_configured_sign() -> None:
    bank = sunspec_bank(model_registers(203, METER_203))
    plain, turned = device_on(bank, DeviceKind.METER), device_on(bank, DeviceKind.METER, meter_sign=-1)
    assert (await plain.read(0.0)).power_w == -91
    reading = await turned.read(0.0)
    assert reading.power_w == 91
    assert reading.energy_export_wh == 21000 and reading.energy_import_wh == 18000
    assert reading.alarms == ("power failure",)


@pytest.mark.parametrize("bank", [pv_103(), pv_701(), battery_701(), battery_124()])
async def test_one_request_per_cycle_is_the_rule(bank: Bank) -> None:
    kind = DeviceKind.BATTERY if 713 in bank.registers.values() or 124 in bank.registers.values() else DeviceKind.PV
    device = device_on(bank, kind)
    await device.read(0.0)
    bank.reads.clear()
    for second in range(1, 30):
        await device.read(float(second))
    assert len(bank.reads) == 29


async def test_neighbouring_models_come_in_the_same_request() -> None:
    bank = sunspec_bank(
        model_registers(103, AC_103), model_registers(120, {**RATING_120, "WHRtg": 9000, "WHRtg_SF": 0}), model_registers(124, LEGACY_124)
    )
    device = device_on(bank, DeviceKind.BATTERY)
    await device.read(0.0)
    bank.reads.clear()
    reading = await device.read(60.0)
    assert len(bank.reads) == 1, "measurement, state of charge and setpoint fit into 125 registers"
    assert reading.soc_frac == pytest.approx(0.6)


async def test_the_order_of_models_does_not_matter() -> None:
    bank = sunspec_bank(
        model_registers(713, STORAGE_713),
        model_registers(704, CONTROL_704),
        model_registers(702, CAPACITY_702),
        model_registers(701, {**AC_701, "W": -1500}),
    )
    reading = await device_on(bank, DeviceKind.BATTERY).read(0.0)
    assert (reading.power_w, reading.soc_frac, reading.capacity_wh) == (1500, pytest.approx(0.505), 10000)
    assert (reading.max_charge_w, reading.max_discharge_w) == (4000, 4500)


async def test_a_new_model_order_after_a_firmware_update_is_found_again() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    assert (await device.read(0.0)).power_w == -3000
    bank.registers = sunspec_bank(model_registers(120, RATING_120), model_registers(103, {**AC_103, "W": 2000})).registers
    assert isinstance(await failure(device.read(1.0)), DeviceGarbage)
    assert (await device.read(2.0)).power_w == -2000


async def test_a_battery_bank_without_an_inverter_model_is_read_from_802() -> None:
    bank = sunspec_bank(model_registers(802, BANK_802))
    reading = await device_on(bank, DeviceKind.BATTERY).read(0.0)
    assert reading.power_w == 700 and reading.soc_frac == pytest.approx(0.4) and reading.capacity_wh == 10000
    assert (reading.max_charge_w, reading.max_discharge_w) == (4000, 4500)


async def test_a_state_of_charge_beyond_its_range_is_not_believed() -> None:
    bank = battery_701()
    poke(bank, 713, "SoC", 1200)
    assert (await device_on(bank, DeviceKind.BATTERY).read(0.0)).soc_frac is None


async def test_a_device_in_local_control_says_so() -> None:
    bank = sunspec_bank(
        model_registers(701, AC_701),
        model_registers(702, CAPACITY_702),
        model_registers(704, CONTROL_704),
        model_registers(713, STORAGE_713),
        model_registers(715, {"LocRemCtl": 1}),
    )
    alarms = (await device_on(bank, DeviceKind.BATTERY).read(0.0)).alarms
    assert any("local control" in alarm for alarm in alarms)


def hybrid() -> Bank:
    """One inverter with two PV ports (1200 and 800 W) and a battery that charges with 500 W."""
    port_names = sunspec2.device.get_model_def(714)["group"]["groups"][0]["points"]

    def port(kind: int, power_w: int) -> list[int]:
        registers: list[int] = []
        for point in port_names:
            value = {"PrtTyp": kind, "DCW": power_w & 0xFFFF}.get(point["name"], 0)
            registers += [0] * (point["size"] - 1) + [value]
        return registers

    ports = [*port(0, 1200), *port(0, 800), *port(1, -500)]
    head = [714, 0, 0, 0, 3, 0x8000, 0x8000, *[0] * 8, 0, 0, 0, 0, 0]
    registers = head + ports
    registers[1] = len(registers) - 2
    return sunspec_bank(
        model_registers(701, {**AC_701, "W": 1500}),
        model_registers(702, CAPACITY_702),
        model_registers(704, CONTROL_704),
        model_registers(713, STORAGE_713),
        registers,
    )


async def test_a_hybrid_inverter_is_one_pv_system_and_one_battery() -> None:
    bank = hybrid()
    assert (await device_on(bank, DeviceKind.PV).read(0.0)).power_w == -2000
    assert (await device_on(bank, DeviceKind.BATTERY).read(0.0)).power_w == 500


@pytest.mark.parametrize("kind", [DeviceKind.PV, DeviceKind.BATTERY])
async def test_ports_that_tell_no_power_are_zero_only_while_the_inverter_says_that_it_is_off(kind: DeviceKind) -> None:
    bank = hybrid()
    points = sunspec2.device.get_model_def(714)["group"]["groups"][0]["points"]
    size = sum(point["size"] for point in points)
    offset = sum(point["size"] for point in itertools.takewhile(lambda point: point["name"] != "DCW", points))
    for index in range(3):
        bank.registers[place(bank, 714) + 20 + index * size + offset] = 0x8000
    assert isinstance(await failure(device_on(bank, kind).read(0.0)), DeviceGarbage)
    poke(bank, 701, "InvSt", 0)
    assert (await device_on(bank, kind).read(0.0)).power_w == 0.0


async def test_a_hybrid_inverter_is_told_battery_and_pv_together() -> None:
    bank = hybrid()
    device = device_on(bank, DeviceKind.BATTERY)
    await device.read(0.0)
    await device.write(Setpoint(name="dev", kind=DeviceKind.BATTERY, power_w=1500.0), 0.0)
    assert parsed(bank, 704).points["WSet"].cvalue == 500, "2000 W from the roof, 1500 W into the battery, 500 W out"


async def test_an_absent_device_is_found_when_it_appears() -> None:
    bank = pv_103()
    bank.silent = True
    device = device_on(bank, DeviceKind.PV)
    error = await failure(device.read(0.0))
    assert isinstance(error, DeviceTimeout) and error.device == "dev"
    assert isinstance(await failure(device.write(Setpoint(name="dev", kind=DeviceKind.PV), 0.0)), DeviceUnreachable)
    assert device.capabilities.notes == ("not reached yet",)
    bank.silent = False
    assert (await device.read(1.0)).power_w == -3000


async def test_a_short_answer_is_garbage_and_no_measurement() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    bank.short = 1
    assert isinstance(await failure(device.read(1.0)), DeviceGarbage)


async def test_setpoint_registers_that_cannot_be_read_do_not_take_the_measurement_away() -> None:
    bank = pv_103()
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    for address in range(place(bank, 123), max(bank.registers) + 1):
        del bank.registers[address]
    reading = await device.read(100.0)
    assert reading.power_w == -3000 and any("exception 2" in alarm for alarm in reading.alarms)


@pytest.mark.parametrize("kind", [DeviceKind.METER, DeviceKind.BATTERY])
async def test_a_device_that_cannot_play_its_role_says_which_models_it_lacks(kind: DeviceKind) -> None:
    error = await failure(device_on(pv_103(), kind).read(0.0))
    assert (isinstance(error, ProfileError) and "found models 1, 103, 120" in str(error)) or "no model tells the state of charge" in str(
        error
    )


async def test_a_pv_system_without_controls_takes_no_setpoint() -> None:
    bank = sunspec_bank(model_registers(103, AC_103))
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    outcome = await device.write(Setpoint(name="dev", kind=DeviceKind.PV, limit_w=0.0), 0.0)
    assert outcome.status is WriteStatus.NOT_SUPPORTED and not bank.writes
    assert not device.capabilities.limits_generation


async def test_704_is_preferred_and_123_is_the_fallback_when_704_is_not_implemented() -> None:
    bank = sunspec_bank(
        model_registers(103, AC_103),
        model_registers(121, SETTINGS_121),
        model_registers(123, CONTROL_123),
        model_registers(704, {"PFWInjEna": 0}),
    )
    device = device_on(bank, DeviceKind.PV)
    await device.read(0.0)
    await device.write(Setpoint(name="dev", kind=DeviceKind.PV, limit_w=2500.0), 0.0)
    assert parsed(bank, 123).points["WMaxLimPct"].cvalue == 50.0
    assert any("model 123 only" in note for note in device.capabilities.notes)


async def test_an_inverter_in_state_fault_says_so() -> None:
    bank = pv_103()
    poke(bank, 103, "St", 7)
    poke(bank, 103, "Evt1", 0)
    assert "the inverter reports state fault" in (await device_on(bank, DeviceKind.PV).read(0.0)).alarms


@pytest.mark.parametrize("bank", [pv_103(), pv_701()])
async def test_a_device_that_answers_for_one_model_at_a_time_is_limited_without_a_configured_rating(bank: Bank) -> None:
    found = await discover(bank, 1)
    read = bank.read_holding

    async def one_model(unit: int, address: int, count: int) -> tuple[int, ...]:
        if any(address < model.address < address + count for model in found.models[1:]):
            raise DeviceRefused("exception 2", exception_code=2)
        return await read(unit, address, count)

    bank.read_holding = one_model  # type: ignore[method-assign]
    device = device_on(bank, DeviceKind.PV)
    assert (await device.read(0.0)).rated_w == 5000.0
    outcome = await device.write(Setpoint(name="dev", kind=DeviceKind.PV, limit_w=2000.0), 0.0)
    assert outcome.status is WriteStatus.WRITTEN
    reading = await device.read(60.0)
    assert (reading.limit_w, reading.alarms) == (2000.0, ())


async def test_a_device_that_watches_for_its_controller_sees_it_count_each_second() -> None:
    bank = sunspec_bank(
        model_registers(701, AC_701),
        model_registers(702, CAPACITY_702),
        model_registers(704, CONTROL_704),
        model_registers(715, {"LocRemCtl": 0, "ControllerHb": 0}),
    )
    device = device_on(bank, DeviceKind.PV, heartbeat=True)
    seen = []
    for now_s in (1e9, 1e9 + 0.4, 1e9 + 1.0, 1e9 + 2.0):
        await device.read(now_s)
        seen.append(parsed(bank, 715).points["ControllerHb"].cvalue)
    assert seen == [1_000_000_000, 1_000_000_000, 1_000_000_001, 1_000_000_002]
    assert len(bank.writes) == 3
    lacking = device_on(pv_701(), DeviceKind.PV, heartbeat=True)
    assert "no controller heartbeat" in (await lacking.read(0.0)).alarms[0]
