"""Configuration: decoded once, checked whole, and wrong in one line that names file, path and reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge.cli import main
from edge.config import decode_config, load_config
from edge.errors import ConfigurationError

GOOD = """
[identity]
community = "street"
node = "home-01"

[site]
import_rating_w = 14000.0
export_rating_w = 10000.0
timezone = "Europe/Berlin"
latitude_deg = 52.5
longitude_deg = 13.4
buy = [{ from_h = 0.0, price_per_kwh = 0.25 }, { from_h = 7.0, price_per_kwh = 0.40 }]
sell = [{ from_h = 0.0, price_per_kwh = 0.08 }]

[control]
cycle_s = 2.0

[[vehicles]]
device = "charger"

[[devices]]
name = "meter"
kind = "meter"
host = "192.0.2.1"

[[devices]]
name = "pv"
kind = "pv"
host = "192.0.2.2"
rated_w = 8000.0

[[devices]]
name = "battery"
kind = "battery"
host = "192.0.2.2"
unit = 2
rated_w = 5000.0
capacity_wh = 10000.0

[[devices]]
name = "charger"
kind = "ev_charger"
host = "192.0.2.3"
family = "profile"
profile = "CHARGER"
"""


@pytest.fixture
def good() -> str:
    """The text above with a profile of a vehicle charger that is shipped."""
    from edge.devices.profile import load_profile, shipped_profiles
    from edge.values import DeviceKind

    chargers = [name for name in shipped_profiles() if load_profile(name).kind is DeviceKind.EV_CHARGER]
    assert chargers
    return GOOD.replace("CHARGER", chargers[0])


def test_a_good_configuration_decodes_into_sections(good: str) -> None:
    config = decode_config(good.encode(), "house.toml")
    assert config.site.contract_export_w == 1500.0
    assert config.control.reversion_s == 4.0
    assert [device.name for device in config.devices] == ["meter", "pv", "battery", "charger"]


APPLIANCE = '[[appliances]]\ndevice = "pv"\nenergy_wh = 5000\nmax_w = 3000\n\n'


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('node = "home-01"', 'node = "home 01"', "$.identity.node"),
        ("import_rating_w = 14000.0", "import_rating_w = -1.0", ">= 0.0, got -1.0 - at $.site.import_rating_w"),
        ("import_rating_w = 14000.0", "import_rating_w = 1e300", "$.site.import_rating_w"),
        ("import_rating_w = 14000.0", "import_rating_w = nan", "$.site.import_rating_w"),
        ("import_rating_w = 14000.0", "imprt_rating_w = 14000.0", "imprt_rating_w"),
        ("export_rating_w = 10000.0", "export_rating_w = 1000.0", "contract_export_w (1500) exceeds export_rating_w (1000)"),
        ("Europe/Berlin", "Europe/Atlantis", "Atlantis"),
        ("{ from_h = 7.0", "{ from_h = 0.0", "must begin at from_h = 0 and ascend"),
        ("cycle_s = 2.0", "cycle_s = 2.0\nrevert_after_s = 1.0", "revert_after_s (1) must exceed cycle_s (2)"),
        ("cycle_s = 2.0", "cycle_s = 0.0", "$.control.cycle_s"),
        ('device = "charger"', 'device = "charger2"', "'charger2' is not a configured ev_charger - at $.vehicles[0].device"),
        ('name = "pv"', 'name = "meter"', "device name 'meter' is used twice - at $.devices[1].name"),
        ('kind = "pv"', 'kind = "meter"', "exactly one device of kind meter is needed at the connection point, got 2"),
        ('kind = "pv"', 'kind = "windmill"', "windmill"),
        ("[[vehicles]]", APPLIANCE + "[[vehicles]]", "device 'pv' is not a configured load - at $.appliances[0].device"),
        ('host = "192.0.2.1"', "", "exactly one of host and serial_port must be given - at $.devices[0]"),
        ("[identity]", "[identity", "not TOML"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_file_reason_and_path(
    good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, words: str
) -> None:
    path = tmp_path / "house.toml"
    path.write_text(good.replace(before, after, 1))
    for command in ("check-config", "run", "plan"):
        assert main([command, "--config", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith(f"{path}: ")
        assert words in captured.err
        assert " - at " in captured.err


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--config", str(tmp_path / "no.toml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'no.toml'}: No such file or directory - at $\n"


def test_check_config_says_usable_in_words_and_as_one_json_document(
    good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "house.toml"
    path.write_text(good)
    assert main(["check-config", "--config", str(path)]) == 0
    assert "usable" in capsys.readouterr().out
    assert main(["check-config", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True


def test_run_without_keys_says_what_is_missing(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "house.toml"
    path.write_text(good)
    assert main(["run", "--config", str(path)]) == 2
    assert capsys.readouterr().err == f"{path}: key_file and coordinator_keys are needed to speak to others - at $.identity\n"
    path.write_text(good.replace('node = "home-01"', 'node = "home-01"\nkey_file = "no.pem"\ncoordinator_keys = ["c.pem"]'))
    assert main(["run", "--config", str(path)]) == 2
    assert "no.pem: No such file or directory - at $.identity" in capsys.readouterr().err


def test_plan_prints_the_hours_ahead_as_table_or_json(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "house.toml"
    path.write_text(good)
    assert main(["plan", "--config", str(path), "--start", "1800000000", "--soc", "0.6"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["time", "load_w", "pv_w"]
    assert len(table) == 1 + 96 + 1
    assert main(["plan", "--config", str(path), "--start", "1800000000", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["rows"]) == 96
    assert plan["made_by"] == "solver"


def test_plan_takes_forecasts_and_refuses_wrong_ones(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, forecasts = tmp_path / "house.toml", tmp_path / "forecasts.csv"
    path.write_text(good)
    forecasts.write_text("load_w,pv_w\n" + "500.0,100.0\n" * 96)
    arguments = ["plan", "--config", str(path), "--start", "1800000000", "--forecasts", str(forecasts), "--json"]
    assert main(arguments) == 0
    plan = json.loads(capsys.readouterr().out)
    column = plan["columns"].index("load_w")
    assert {row[column] for row in plan["rows"]} == {500.0}
    forecasts.write_text("load_w,pv_w\n500.0,100.0\n")
    assert main(arguments) == 2
    assert "expected 96 rows" in capsys.readouterr().err
    forecasts.write_text("load_w,pv_w\n" + "500.0,soup\n" * 96)
    assert main(arguments) == 2
    assert "at line 2" in capsys.readouterr().err
    forecasts.write_text("load,sun\n")
    assert main(arguments) == 2
    assert "expected columns load_w and pv_w" in capsys.readouterr().err


def test_plan_refuses_forecasts_that_are_not_numbers(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, forecasts = tmp_path / "house.toml", tmp_path / "forecasts.csv"
    path.write_text(good)
    forecasts.write_text("load_w,pv_w\n" + "nan,100.0\n" * 96)
    assert main(["plan", "--config", str(path), "--forecasts", str(forecasts)]) == 2
    assert "no plan: not_finite" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["plan", "--config", "x", "--soc", "2"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [[], ["run"], ["check-config"], ["plan"], ["probe"]])
def test_help_suffices(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "usage: commonwatt-edge" in text
    if not command:
        assert all(name in text for name in ("run", "probe", "check-config", "plan"))


def test_the_configuration_can_be_read_from_a_folder_of_its_own(good: str, tmp_path: Path) -> None:
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "house.toml").write_text(good)
    assert load_config(folder / "house.toml").identity.node == "home-01"
    shutil.rmtree(folder)
    with pytest.raises(ConfigurationError):
        load_config(folder / "house.toml")
