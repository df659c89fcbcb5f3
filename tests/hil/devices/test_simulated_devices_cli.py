"""`commonwatt-hil devices`: the table, the JSON document, and what happens to arguments that make no sense."""

import argparse
import json
import subprocess
import sys

import pytest
from pymodbus.client import ModbusTcpClient

from hil.devices.cli import devices_parser, run_devices, time_of_day_s
from hil.devices.environment import load_w, sun_frac, vehicle_plugged
from hil.errors import HilError


def arguments(*words: str) -> argparse.Namespace:
    return devices_parser().parse_args(words)


def test_the_table_names_every_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_devices(arguments("--port", "0", "--houses", "2", "--duration", "0.05")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 8 + 1
    assert "house002-battery" in lines[7]
    assert "1 101 120 121 122 123 160" in lines[2]


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--port", "0", "--shared-port", "--models", "der", "--phases", "3", "--json", "--duration", "0.05", "--ev-charger", "none"]
    assert run_devices(arguments(*words)) == 0
    devices = json.loads(capsys.readouterr().out)["devices"]
    assert [device["unit"] for device in devices] == [1, 2, 3]
    assert len({device["port"] for device in devices}) == 1
    assert devices[2]["models"] == [1, 701, 702, 703, 704, 713, 714, 715, 802]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--start", "25:00"], "--start"),
        (["--houses", "0"], "--houses"),
        (["--speed", "nan"], "--speed"),
        (["--pv-w", "-1"], "--pv-w"),
        (["--port", "70000"], "--port"),
        (["--host", "203.0.113.1", "--port", "0"], "cannot listen on 203.0.113.1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_devices(arguments(*words, "--duration", "0.05")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reason in captured.err
    assert captured.err.count("\n") == 1


def test_served_devices_live_until_they_are_told_to_stop() -> None:
    """The command as a process of its own, watched by a client that is not ours, ended by SIGTERM."""
    program = "import sys; from hil.devices.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "--port", "0", "--shared-port", "--json", "--speed", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            document = ""
            while not document.endswith("}\n") or document.count("{") != document.count("}"):
                document += process.stdout.readline()
            devices = {device["kind"]: device for device in json.loads(document)["devices"]}
            client = ModbusTcpClient("127.0.0.1", port=devices["pv"]["port"])
            assert client.connect()
            registers = client.read_holding_registers(40069, count=52, device_id=devices["pv"]["unit"]).registers
            client.close()
            assert registers[0] == 101
            power_w = registers[14]
            assert power_w == pytest.approx(5900, abs=200), "noon of the built-in day"
        finally:
            process.terminate()
        assert process.wait(timeout=10) == 0


def test_a_time_of_day_is_hours_and_minutes() -> None:
    assert time_of_day_s("07:30") == 27_000.0
    for text in ("7", "24:00", "07:60", "ab:cd", "-1:00"):
        with pytest.raises(HilError):
            time_of_day_s(text)


def test_the_built_in_day_has_a_noon_an_evening_and_a_commute() -> None:
    assert sun_frac(13 * 3600.0) == pytest.approx(1.0)
    assert sun_frac(2 * 3600.0) == 0.0
    assert load_w(19 * 3600.0) > 2000.0 > load_w(3 * 3600.0)
    assert vehicle_plugged(3 * 3600.0)
    assert not vehicle_plugged(12 * 3600.0)
