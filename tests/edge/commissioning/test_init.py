"""`commonwatt-edge init`: devices are found and known for what they are, the meter's sign is measured, and what is written can be used."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from edge.cli import main
from edge.commissioning.command import NOBODY, cannot
from edge.commissioning.document import Site, document
from edge.commissioning.meter_sign import Levels, Sample, choose_levels, find_sign, judge
from edge.commissioning.scan import Line, is_plausible, named, scan
from edge.commissioning.targets import SerialTarget, TcpTarget, read_targets, read_units
from edge.commissioning.values import Found, SignFinding
from edge.config import decode_config, load_config
from edge.devices.mapping import Capabilities
from edge.devices.registry import DeviceConfig
from edge.errors import ConfigurationError
from edge.values import DeviceKind, Reading
from hil.devices.house import HouseSpec
from hil.devices.quirks import Quirks
from tests.edge.commissioning.household import CommissionedHouse
from tests.edge.world import World

SITE = Site(import_rating_w=14_490.0, export_rating_w=5000.0, contract_export_w=1500.0, timezone="Australia/Melbourne")


def a_meter(power_w: float = 500.0, identity: str = "Acme Meter 1") -> Found:
    config = DeviceConfig(name="meter", kind=DeviceKind.METER, host="10.0.0.2", unit=3)
    reading = Reading(name="meter", kind=DeviceKind.METER, time_s=0.0, power_w=power_w)
    return Found(identity=identity, config=config, capabilities=Capabilities(measures_power=True), reading=reading)


def a_battery(soc_frac: float | None = 0.5, power_w: float = 0.0, rated_w: float = 5000.0, *, sets_power: bool = True) -> Found:
    config = DeviceConfig(name="battery", kind=DeviceKind.BATTERY, host="10.0.0.3")
    reading = Reading(name="battery", kind=DeviceKind.BATTERY, time_s=0.0, power_w=power_w, rated_w=rated_w, soc_frac=soc_frac)
    return Found(identity="Acme Battery", config=config, capabilities=Capabilities(sets_power=sets_power), reading=reading)


def a_pv(power_w: float) -> Found:
    config = DeviceConfig(name="pv", kind=DeviceKind.PV, host="10.0.0.4")
    reading = Reading(name="pv", kind=DeviceKind.PV, time_s=0.0, power_w=power_w)
    return Found(identity="Acme PV", config=config, capabilities=Capabilities(limits_generation=True), reading=reading)


def test_addresses_are_read_as_an_installer_writes_them() -> None:
    assert read_targets(["10.0.0.2", "gw.lan:15020-15022", "10.0.0.2:502", "/dev/ttyUSB0"]) == [
        TcpTarget(host="10.0.0.2", port=502),
        *(TcpTarget(host="gw.lan", port=port) for port in (15020, 15021, 15022)),
        SerialTarget(port="/dev/ttyUSB0"),
    ]
    assert len(read_targets(["192.168.1.0/24"])) == 254
    assert read_units("1-3,126,2") == [1, 2, 3, 126]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.0/8", "at most 256"), ("10.0.0.1:0", "1 to 65535"), ("10.0.0.1:9-3", "not above"), ("10.0.0.1:x", "not a port"),
        ("a b", "expected HOST"), ("10.0.0.1:1-60000", "more than 512"), ("", "expected HOST"), ("1.2.3.4/x", "not a network"),
        ("host:٣", "not a port"), ("-x", "expected HOST"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read_targets([text])


@pytest.mark.parametrize("text", ["", "x", "5-1", "300", "1-", "1,,2"])
def test_what_is_no_unit_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="unit"):
        read_units(text)


@pytest.mark.parametrize("generation", ["classic", "der"])
async def test_every_device_of_a_house_is_known_for_what_it_is_and_nothing_is_written(generation: str) -> None:
    spec = HouseSpec(generation=generation)  # type: ignore[arg-type]
    async with CommissionedHouse(spec) as house:
        survey = await house.scan()
        assert [device.kind.value for device in survey.found] == ["meter", "pv", "battery", "ev_charger"]
        assert [device.config.name for device in survey.found] == ["meter", "pv", "battery", "ev"]
        assert survey.found[3].config.profile == "alfen-ng9xx"
        assert [device.config.port for device in survey.found] == [endpoint.port for endpoint in house.endpoints]
        assert house.written == []
        words = cannot(survey.found[1])
        assert any("no safe reversion" in word for word in words) == (generation == "classic"), "123 cannot, 704 can"


async def test_meters_and_chargers_without_sunspec_are_known_by_their_registers() -> None:
    spec = HouseSpec(meter="eastron-sdm630", ev_charger="keba-p30", pv_w=0.0)
    async with CommissionedHouse(spec, time_of_day_h=20.0) as house:
        survey = await house.scan()
        assert [device.config.profile for device in survey.found] == ["eastron-sdm630", None, "keba-p30"]


async def test_a_charger_that_measures_nothing_without_a_vehicle_has_to_be_named() -> None:
    async with CommissionedHouse(HouseSpec(ev_charger="keba-p30", pv_w=0.0, battery_wh=0.0)) as house:
        assert [device.config.name for device in (await house.scan()).found] == ["meter"]
        named_ = await scan(house.targets, [1], ("keba-p30",), Line(timeout_s=5.0, trusted=("keba-p30",)), now_s=0.0)
        assert [device.config.profile for device in named_.found] == [None, "keba-p30"]
        house.house.devices[1].unit = 255
        usual = await scan(house.targets[1:], [1], ("keba-p30",), Line(timeout_s=5.0, trusted=("keba-p30",)), now_s=0.0)
        assert [device.config.unit for device in usual.found] == [255], "this vendor's unit is tried although nobody asked for it"


async def test_units_behind_one_port_are_told_apart_and_an_absent_one_is_said() -> None:
    async with CommissionedHouse(HouseSpec(ev_max_a=0.0), shared=True) as house:
        survey = await house.scan(1, 2, 3, 4)
        assert [(device.kind.value, device.config.unit) for device in survey.found] == [("meter", 1), ("pv", 2), ("battery", 3)]
        assert [entry.where.partition(" ")[2] for entry in survey.silent] == ["unit 4"]


@pytest.mark.parametrize("generation", ["classic", "der"])
@pytest.mark.parametrize("reversed_", [False, True])
async def test_a_step_of_the_battery_shows_which_way_the_meter_counts(generation: str, reversed_: bool) -> None:
    spec = HouseSpec(generation=generation, quirks=Quirks(export_positive=reversed_))  # type: ignore[arg-type]
    async with CommissionedHouse(spec, time_of_day_h=3.0) as house:
        finding = await house.find_sign(await house.scan())
        assert finding.sign == (-1 if reversed_ else 1), finding.why
        for _ in range(10):
            house.advance(1.0)
        battery = house.house.devices[2]
        assert battery.power_w == pytest.approx(0.0, abs=50.0), "the battery is left at rest"


@pytest.mark.parametrize("reversed_", [False, True])
async def test_without_a_battery_the_sun_does_it(reversed_: bool) -> None:
    spec = HouseSpec(battery_wh=0.0, quirks=Quirks(export_positive=reversed_))
    async with CommissionedHouse(spec) as house:
        generated_w = -house.house.devices[1].power_w
        finding = await house.find_sign(await house.scan())
        assert finding.sign == (-1 if reversed_ else 1), finding.why
        for _ in range(30):
            house.advance(1.0)
        assert -house.house.devices[1].power_w == pytest.approx(generated_w, rel=0.02), "the PV system is free again"


async def test_at_night_without_a_battery_the_sign_stays_unknown_and_the_reason_is_said() -> None:
    async with CommissionedHouse(HouseSpec(battery_wh=0.0), time_of_day_h=2.0) as house:
        finding = await house.find_sign(await house.scan())
        assert finding.sign is None
        assert "generates 0 W only" in finding.why
        assert house.written == []


def test_a_step_never_overloads_the_connection_nor_an_empty_or_full_battery() -> None:
    for meter_w in (13_000.0, -13_000.0):
        assert "could overload" in str(choose_levels(a_meter(meter_w), [a_battery()], 14_490.0))
    for soc_frac in (0.05, 0.95, None):
        assert "state of charge" in str(choose_levels(a_meter(), [a_battery(soc_frac)], 14_490.0))
    assert "cannot be told" in str(choose_levels(a_meter(), [a_battery(sets_power=False)], 14_490.0))
    assert "too little" in str(choose_levels(a_meter(), [a_battery(rated_w=400.0)], 14_490.0))
    assert choose_levels(a_meter(), [], 14_490.0) == "no battery or PV that can be told its power"


def test_any_step_stays_inside_the_device_and_is_large_enough_to_be_seen() -> None:
    rng = random.Random(8)
    for _ in range(2000):
        rated_w = rng.uniform(700.0, 20e3)
        levels = choose_levels(a_meter(0.0), [a_battery(power_w=rng.uniform(-1.1, 1.1) * rated_w, rated_w=rated_w)], 1e6)
        assert isinstance(levels, Levels)
        assert levels.before_w is not None
        assert max(abs(levels.before_w), abs(levels.stepped_w)) <= rated_w + 5.0
        assert 300.0 <= levels.step_w <= 1000.0
        assert abs(abs(levels.stepped_w - levels.before_w) - levels.step_w) < 1e-6
    levels = choose_levels(a_meter(), [a_pv(-3000.0)], 14_490.0)
    assert isinstance(levels, Levels)
    assert (levels.before_w, levels.stepped_w) == (None, 2100.0)


@pytest.mark.parametrize(
    ("samples", "sign", "why"),
    [
        ([(100, 0), (600, 500), (100, 0)], 1, "there and back"),
        ([(100, 0), (-400, 500), (100, 0)], -1, "there and back"),
        ([(100, 0), (-400, 500), (600, 0)], None, "the meter by"),
        ([(100, 0), (2100, 500), (1600, 0)], None, "the meter by 2000"),
        ([(100, 0), (600, 500), (1100, 0)], None, "once in each sense"),
        ([(100, 0), (105, 5), (100, 0)], None, "5 W only"),
        ([(100, 0), (100, 500), (100, 0)], None, "the meter by 0"),
    ],
)
def test_a_load_that_switches_meanwhile_makes_no_verdict(samples: list[tuple[float, float]], sign: int | None, why: str) -> None:
    finding = judge([Sample(meter_w=meter_w, device_w=device_w) for meter_w, device_w in samples])
    assert finding.sign == sign
    assert why in finding.why


class WorldTime:
    """Time of the small unkind world; `kettle_w` switches on and off in every wait of the first trial."""

    def __init__(self, world: World, kettle_until_s: float) -> None:
        self.world, self.kettle_until_s = world, kettle_until_s

    def now_s(self) -> float:
        return self.world.clock.now_s()

    async def wait(self, duration_s: float) -> None:
        on = self.now_s() < self.kettle_until_s and self.world.load_w < 1000.0
        self.world.load_w = 2500.0 if on else 500.0
        self.world.live(duration_s)


async def test_a_spoilt_trial_is_repeated_and_a_device_that_dies_is_released_by_its_timer(tmp_path: Path) -> None:
    world = World(tmp_path)
    levels = choose_levels(a_meter(), [a_battery()], 14_490.0)
    assert isinstance(levels, Levels)
    finding = await find_sign(world.meter, world.battery, levels, WorldTime(world, world.clock.now_s() + 9.0))
    assert finding.sign == 1
    assert world.battery.setpoint is not None and world.battery.setpoint.power_w == 0.0
    world.battery.fault = "refuse_write"
    finding = await find_sign(world.meter, world.battery, levels, WorldTime(world, 0.0))
    assert finding == SignFinding(sign=None, why="battery: busy")
    assert world.battery.setpoint.revert_power_w == 0.0 and world.battery.setpoint.revert_after_s is not None


def test_an_inverter_that_answers_under_every_unit_is_one_device() -> None:
    pv = a_pv(-100.0)
    again = msgspec.structs.replace(pv, config=msgspec.structs.replace(pv.config, unit=2))
    assert [device.config.name for device in named([pv, again])] == ["pv"]
    other = msgspec.structs.replace(again, identity="Acme PV, another")
    assert [device.config.name for device in named([pv, other])] == ["pv-1", "pv-2"]


@pytest.mark.parametrize("voltages", [None, (), (0.0,), (1e9,), (float("nan"),)])
def test_registers_without_mains_voltage_are_no_known_device(voltages: tuple[float, ...] | None) -> None:
    reading = Reading(name="x", kind=DeviceKind.METER, time_s=0.0, power_w=5.0, voltage_v=voltages)
    assert not is_plausible(reading)
    assert is_plausible(msgspec.structs.replace(reading, voltage_v=(0.0, 231.0)))
    assert not is_plausible(msgspec.structs.replace(reading, voltage_v=(231.0,), power_w=float("nan")))


@pytest.mark.parametrize("identity", ['Acme"\n[site]\nimport_rating_w = 1', "\x1b[2J\x00", "é" * 300, "", "# ]]"])
def test_whatever_a_device_calls_itself_stays_a_comment(identity: str) -> None:
    meter = a_meter(identity=identity)
    text = document(SITE, [meter, a_battery(), a_pv(-3000.0)], SignFinding(sign=-1, why="x"), state_path="s.json", made_on="today")
    config = decode_config((text + NOBODY).encode(), "house.toml")
    assert config.site.import_rating_w == 14_490.0
    assert config.devices[0].meter_sign == -1
    assert [device.name for device in config.devices] == ["meter", "battery", "pv"]


def test_serial_lines_and_further_meters_are_written_so_that_they_can_be_read() -> None:
    config = DeviceConfig(
        name="meter", kind=DeviceKind.METER, family="profile", profile="eastron-sdm630",
        serial_port="/dev/ttyUSB0", baud=19200, parity="E", unit=2,
    )  # fmt: skip
    meter = msgspec.structs.replace(a_meter(), config=config)
    text = document(SITE, [meter], SignFinding(sign=None, why="dark"), state_path="s", made_on="today", more_meters=[a_meter()])
    written = decode_config((text + NOBODY).encode(), "house.toml").devices
    assert written == (config,)
    assert "CHECK meter_sign: dark" in text
    uncommented = "\n".join(line.removeprefix("# ") for line in text.splitlines() if not line.startswith("# Another"))
    assert uncommented.count("[[devices]]") == 2


async def test_the_command_writes_a_configuration_that_runs_and_spoils_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edge.toml"
    async with CommissionedHouse(HouseSpec()) as house:
        ports = [str(endpoint.port) for endpoint in house.endpoints]
        places = [f"127.0.0.1:{port}" for port in ports]
        common = ["--config", str(config), "--identity", str(tmp_path / "identity"), "--timeout-s", "5"]
        ratings = ["--import-rating-w", "14490", "--export-rating-w", "5000"]
        arguments = ["init", *places, *ratings, *common, "--no-step"]
        assert await asyncio.to_thread(main, arguments) == 0
        said = capsys.readouterr()
        assert "no safe reversion" in said.out and "enrol BUNDLE" in said.out
        assert "UNKNOWN" in said.err
        assert house.written == []
        assert await asyncio.to_thread(main, arguments) == 2
        assert "--replace" in capsys.readouterr().err
        before = config.read_bytes()
        assert await asyncio.to_thread(main, [*arguments, "--replace"]) == 0
        assert config.with_name("edge.toml.old").read_bytes() == before
    assert config.stat().st_mode & 0o777 == 0o600
    config.write_bytes(config.read_bytes() + NOBODY.encode())
    assert [device.name for device in load_config(config).devices] == ["meter", "pv", "battery", "ev"]


async def test_a_place_without_a_meter_or_without_anything_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.toml"
    survey = await scan([TcpTarget(host="127.0.0.1", port=1)], [1], (), Line(timeout_s=1.0), now_s=0.0)
    assert survey.found == () and "cannot connect" in survey.silent[0].why
    arguments = ["init", "127.0.0.1:1", "--import-rating-w", "1", "--export-rating-w", "1", "--config", str(config), "--timeout-s", "1"]
    assert await asyncio.to_thread(main, arguments) == 1
    assert "no meter was found" in capsys.readouterr().err
    assert not config.exists()
