"""Register-map profiles: the shipped ones do what their vendors describe, and a wrong one says in one line what is wrong."""

import struct

import pytest
from edge_device_bank import Bank, device_on, failure
from hypothesis import given
from hypothesis import strategies as st

from edge.devices.profile import load_profile, parse_profile, shipped_profiles
from edge.errors import DeviceGarbage, ProfileError
from edge.values import DeviceKind, Setpoint, WriteStatus

MINIMAL = """
name = "m"
title = "Meter"
document = "A document"
kind = "meter"

[[read]]
address = 10
count = 4

[[point]]
name = "power"
address = 10
type = "i32"

[means]
power_w = "power"
"""

CONTROL = """
[control]
quantity = "power_w"
address = 12
type = "i16"
step = 10.0
maximum = 5000.0
"""


def f32(value: float) -> list[int]:
    return list(struct.unpack(">2H", struct.pack(">f", value)))


def put(bank: Bank, address: int, registers: list[int], *, inputs: bool = False) -> None:
    (bank.inputs if inputs else bank.registers).update(enumerate(registers, address))


def alfen() -> Bank:
    """One socket at its safe current of 6 A, as tables 3.4 and 3.4.1 of Alfen's document have it."""
    bank = Bank(dict.fromkeys([*range(300, 426), *range(1200, 1216)], 0))
    for index, volts in enumerate((231.0, 229.5, 240.0)):
        put(bank, 306 + 2 * index, f32(volts))
    put(bank, 344, f32(4100.0))
    put(bank, 374, list(struct.unpack(">4H", struct.pack(">d", 7654321.0))))
    put(bank, 1200, [1])
    put(bank, 1201, [0x4332, 0, 0, 0, 0])
    put(bank, 1206, f32(6.0))
    put(bank, 1212, f32(6.0))
    put(bank, 1214, [1, 3])
    return bank


def ev(limit_w: float | None, *, revert_w: float | None = None, after_s: float | None = None) -> Setpoint:
    return Setpoint(name="dev", kind=DeviceKind.EV_CHARGER, limit_w=limit_w, revert_limit_w=revert_w, revert_after_s=after_s)


def written_amps(bank: Bank) -> float:
    return float(struct.unpack(">f", struct.pack(">2H", bank.registers[1210], bank.registers[1211]))[0])


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_is_valid_and_names_its_document(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name and len(profile.document) > 20


async def test_an_alfen_socket_is_read_in_two_requests() -> None:
    bank = alfen()
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx")
    reading = await device.read(0.0)
    assert len(bank.reads) == 2
    assert reading.power_w == 4100.0 and reading.voltage_v == (231.0, 229.5, 240.0) and reading.connected is True
    assert reading.energy_import_wh == 7654321.0 and reading.limit_w == 6.0 * 3 * 240.0
    assert reading.alarms == ()


@pytest.mark.parametrize(("state", "plugged"), [("A", False), ("B1", True), ("B2", True), ("C1", True), ("C2", True), ("E", False)])
async def test_a_vehicle_is_plugged_in_the_states_of_iec_61851(state: str, plugged: bool) -> None:
    bank = alfen()
    put(bank, 1201, [int.from_bytes(state.encode().ljust(2, b"\0"), "big")])
    reading = await device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx").read(0.0)
    assert reading.connected is plugged
    assert any("error" in alarm for alarm in reading.alarms) == (state == "E")


async def test_a_power_that_is_not_a_number_is_zero_only_without_charging() -> None:
    bank = alfen()
    put(bank, 344, [0xFFFF, 0xFFFF])
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx")
    assert isinstance(await failure(device.read(0.0)), DeviceGarbage)
    put(bank, 1201, [0x4100])
    assert (await device.read(1.0)).power_w == 0.0


@given(limit_w=st.floats(0, 40000), phases=st.sampled_from([1, 2, 3]))
async def test_a_charger_never_gets_more_current_than_the_limit_at_the_highest_voltage(limit_w: float, phases: int) -> None:
    bank = alfen()
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx", phases=phases)
    await device.read(0.0)
    await device.write(ev(limit_w), 0.0)
    amps = written_amps(bank)
    assert amps * phases * 240.0 <= limit_w + 0.1
    assert amps == 0.0 or 6.0 <= amps <= 32.0 + 1e-4
    if limit_w >= 6.0 * phases * 240.0:
        assert amps >= min(32.0, limit_w / (phases * 240.0)) - 0.1 - 1e-4


async def test_alfens_validity_time_is_kept_alive_and_its_safe_current_judged() -> None:
    bank = alfen()
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx")
    await device.read(0.0)
    enough = await device.write(ev(7000.0, revert_w=4500.0, after_s=60.0), 0.0)
    assert enough.reverts, "6 A on three phases at 240 V are 4320 W"
    too_much = await device.write(ev(7000.0, revert_w=1000.0, after_s=60.0), 1.0)
    assert not too_much.reverts and "falls back to 4320 W, asked was 1000 W" in too_much.detail
    bank.writes.clear()
    for second in range(1, 62):
        await device.write(ev(7000.0, revert_w=4500.0, after_s=60.0), float(second))
    assert [address for address, _ in bank.writes] == [1210] * 3, "every 20 s, with a validity time of 60 s"


async def test_a_socket_that_restarted_is_told_its_current_again() -> None:
    bank = alfen()
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx")
    await device.read(0.0)
    await device.write(ev(7000.0), 0.0)
    await device.read(1.0)
    put(bank, 1210, [0, 0])
    reading = await device.read(2.0)
    assert any("the device restarted" in alarm for alarm in reading.alarms)
    assert (await device.write(ev(7000.0), 2.0)).status is WriteStatus.WRITTEN


def keba() -> Bank:
    """A KEBA P30 that charges with 7 kW; every value of two registers stands alone."""
    values = {1000: 3, 1004: 7, 1006: 0, 1020: 7_000_000, 1036: 123_456, 1040: 230, 1042: 231, 1044: 229, 1100: 16_000}
    bank = Bank({})
    for address, value in values.items():
        put(bank, address, [value >> 16, value & 0xFFFF])
    put(bank, 5004, [0])
    put(bank, 5014, [1])
    put(bank, 5016, [0])
    put(bank, 5018, [0])
    return bank


async def test_a_keba_reads_every_value_on_its_own_and_only_its_power_each_cycle() -> None:
    bank = keba()
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="keba-p30")
    reading = await device.read(0.0)
    assert all(count == 2 for _, count in bank.reads)
    assert reading.power_w == 7000.0 and reading.connected is True and reading.energy_import_wh == pytest.approx(12345.6)
    assert reading.limit_w == pytest.approx(16.0 * 3 * 231)
    bank.reads.clear()
    await device.read(1.0)
    assert bank.reads == [(1020, 2)]


async def test_a_keba_gets_current_failsafe_and_enable_and_pauses_by_disabling() -> None:
    bank = keba()
    device = device_on(bank, DeviceKind.EV_CHARGER, family="profile", profile="keba-p30")
    await device.read(0.0)
    outcome = await device.write(ev(7000.0, revert_w=4300.0, after_s=60.0), 0.0)
    assert outcome.reverts and outcome.status is WriteStatus.WRITTEN
    assert bank.registers[5004] == 10101, "7000 W on three phases at 231 V, in mA, rounded down"
    assert bank.registers[5014] == 1 and bank.registers[5016] == 6204 and bank.registers[5018] == 60
    await device.write(ev(1000.0, revert_w=4300.0, after_s=60.0), 1.0)
    assert bank.registers[5014] == 0 and bank.registers[5004] == 6000, "the station refuses 0 mA"
    bank.writes.clear()
    await device.write(ev(1000.0, revert_w=4300.0, after_s=60.0), 40.0)
    assert [address for address, _ in bank.writes] == [5004, 5014], "only the setpoint is repeated"


async def test_an_sdm630_meter_is_one_request_of_input_registers() -> None:
    bank = Bank({})
    put(bank, 0, [0] * 76, inputs=True)
    for address, value in {0: 230.5, 2: 231.5, 4: 229.5, 52: -1234.5, 72: 12.5, 74: 99.25}.items():
        put(bank, address, f32(value), inputs=True)
    reading = await device_on(bank, DeviceKind.METER, family="profile", profile="eastron-sdm630", meter_sign=-1).read(0.0)
    assert len(bank.reads) == 1
    assert reading.power_w == 1234.5 and reading.voltage_v == (230.5, 231.5, 229.5)
    assert reading.energy_import_wh == 12500.0 and reading.energy_export_wh == 99250.0


def broken(old: str, new: str, *, extra: str = "") -> str:
    assert old in MINIMAL + extra
    return (MINIMAL + extra).replace(old, new, 1)


SECOND_POINT = '\n[[point]]\nname = "other"\naddress = 11\ntype = "u16"\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (broken('type = "i32"', 'type = "i33"'), "Invalid enum value 'i33' - at $.point[0].type"),
        (broken("address = 10\ntype", "address = 70000\ntype"), "int <= 65535, got 70000 - at $.point[0].address"),
        (broken("address = 10\ntype", "address = -1\ntype"), "int >= 0, got -1 - at $.point[0].address"),
        (broken("count = 4", "count = 126"), "int <= 125, got 126 - at $.read[0].count"),
        (broken("count = 4", 'count = "4"'), "Expected int, got str - at $.read[0].count"),
        (broken('kind = "meter"', 'kind = "toaster"'), "Invalid enum value 'toaster' - at $.kind"),
        (broken('title = "Meter"', 'title = "Meter"\ncolour = "red"'), "unknown field colour"),
        (broken('document = "A document"\n', ""), "missing required field document"),
        (broken('power_w = "power"', 'power_w = "pwr"'), "there is no point pwr - at $.means.power_w"),
        (broken("count = 4", "count = 1"), "no read fetches all of point power (register 10 to 11) - at $.point[0]"),
        (broken("count = 4", 'count = 4\npace = "slow"'), "the power power is not read at pace fast"),
        (broken('type = "i32"', 'type = "i32"\nfactor = 0.0'), "the factor of power is 0.0"),
        (broken('type = "i32"', 'type = "i32"\nfactor = nan'), "- at"),
        (broken("[means]", SECOND_POINT + "[means]"), "points power and other overlap at register 11"),
        (broken("[means]", SECOND_POINT.replace("other", "power").replace("11", "12") + "[means]"), "two points are called power"),
        (broken("address = 10\ncount", "address = 65534\ncount"), "end behind 65535"),
        (MINIMAL + CONTROL, "a meter takes no setpoint"),
        (broken('kind = "meter"', 'kind = "load"', extra=CONTROL.replace("address = 12", "address = 20")), "no read fetches register 20"),
        (broken('kind = "meter"', 'kind = "load"', extra=CONTROL + "minimum = 5000.0\n"), "minimum (5000) must be below maximum (5000)"),
        (
            broken('kind = "meter"', 'kind = "load"', extra=CONTROL.replace('"i16"', '"i32"') + "function = 6\n"),
            "function 6 writes one register",
        ),
        (broken('kind = "meter"', 'kind = "load"', extra=CONTROL + "readback = false\n"), "needs a watchdog"),
        (MINIMAL + "[watchdog]\nrefresh_s = 10.0\n", "a watchdog needs a control"),
        ("this is = not [ toml", "file.toml:"),
        ("\udcff", "file.toml:"),
    ],
)
def test_a_wrong_profile_is_one_line_with_file_place_and_reason(content: str, reason: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(content.encode("utf-8", "surrogateescape"), "file.toml")
    message = str(caught.value)
    assert message.startswith("file.toml: ") and "\n" not in message
    assert reason in message


def test_a_profile_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(
        ProfileError, match="no register-map profile nonsense: expected a file or one of alfen-ng9xx, eastron-sdm630, keba-p30"
    ):
        load_profile("nonsense")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_loader_fail_in_another_way(content: bytes) -> None:
    with pytest.raises(ProfileError, match=r"^x\.toml: "):
        parse_profile(content, "x.toml")


async def test_a_profile_that_needs_input_registers_says_so_on_a_client_without_them() -> None:
    class Bare:
        async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
            return (0,) * count

        async def write_holding(self, unit: int, address: int, values: object) -> None: ...

        async def close(self) -> None: ...

    device = device_on(Bare(), DeviceKind.METER, family="profile", profile="eastron-sdm630")  # type: ignore[arg-type]
    assert "functions 3 and 16 only" in str(await failure(device.read(0.0)))


async def test_a_battery_profile_commands_power_in_both_directions() -> None:
    content = broken('kind = "meter"', 'kind = "battery"', extra=CONTROL.replace("step = 10.0", "step = 10.0\nfactor = -10.0"))
    from edge.devices.driver import RegisterDevice
    from edge.devices.profile import bind_profile
    from edge.devices.ratings import Ratings

    profile = parse_profile(content.encode(), "b.toml")
    bank = Bank(dict.fromkeys(range(10, 14), 0))

    async def find(client: object, unit: int) -> object:
        return bind_profile(profile, Ratings())

    device = RegisterDevice("dev", DeviceKind.BATTERY, bank, 1, find)  # type: ignore[arg-type]
    await device.read(0.0)
    for power_w, raw in ((1234.0, -123), (-1239.0, 123), (9000.0, -500)):
        await device.write(Setpoint(name="dev", kind=DeviceKind.BATTERY, power_w=power_w), 0.0)
        assert bank.registers[12] == raw & 0xFFFF
