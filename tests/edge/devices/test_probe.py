"""`commonwatt-edge probe` on real sockets: one JSON document or text, never a write, and a clear answer when nothing is there."""

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from edge_device_bank import battery_701, pv_103, pv_701
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.probe import add_probe_parser, probe, render_text, run_probe


@pytest.fixture
def pv_port() -> Iterator[int]:
    """An older PV inverter behind pymodbus's own server, in a thread because `run_probe` has an event loop of its own."""
    ports: list[int] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        registers = pv_103().registers
        start = min(registers)
        data = SimData(start, values=[registers[a] for a in sorted(registers)], datatype=DataType.REGISTERS)
        server = ModbusTcpServer(SimDevice(1, simdata=[data]), address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        ports.append(server.transport.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        ready.set()
        await asyncio.to_thread(done.wait)
        await server.shutdown()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield ports[0]
    done.set()
    thread.join(10)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_probe_parser(parser.add_subparsers())
    return run_probe(parser.parse_args(["probe", *arguments]))


def test_json_is_one_document_with_models_points_and_roles(pv_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("127.0.0.1", "--port", str(pv_port), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["base"] == 40000 and [m["id"] for m in found["models"]] == [1, 103, 120, 121, 122, 123]
    points = {point["name"]: point for point in found["models"][1]["points"]}
    assert points["W"]["value"] == 3000 and points["W"]["unit"] == "W" and points["St"]["meaning"] == "mppt"
    (role,) = found["roles"]
    assert role["kind"] == "pv" and role["reading"]["power_w"] == -3000 and role["requests_per_cycle"] == 1


def test_text_says_what_the_device_cannot_do(pv_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("127.0.0.1", "--port", str(pv_port)) == 0
    text = capsys.readouterr().out
    assert "Acme Inverter 5 1.2 0815" in text and "PhVphA                 230.1 V" in text
    assert "model 123 only: its reversion timer would return it to uncurtailed" in text
    assert "not implemented" not in text
    assert run("127.0.0.1", "--port", str(pv_port), "--all") == 0
    assert "not implemented" in capsys.readouterr().out


def test_nothing_there_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("127.0.0.1", "--port", "1", "--timeout-s", "0.2") == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "probe: 127.0.0.1:1: cannot connect\n"


def test_a_unit_that_does_not_exist_is_exit_1(pv_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("127.0.0.1", "--port", str(pv_port), "--profile", "alfen-ng9xx") == 0, "the charger's registers are refused"
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["host", "--serial", "/dev/null"]])
def test_wrong_arguments_are_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith("probe: ")


def test_an_unknown_profile_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("127.0.0.1", "--profile", "nonsense") == 2
    assert "expected a file or one of" in capsys.readouterr().err


async def test_a_probe_writes_nothing() -> None:
    for bank in (pv_103(), pv_701(), battery_701()):
        result = await probe(bank, 1)
        assert bank.writes == [] and result.roles
        assert render_text(result, everything=True)


async def test_a_704_inverter_is_said_to_fall_back_by_itself() -> None:
    text = render_text(await probe(pv_701(), 1))
    assert "fall back to a chosen value by itself" in text and "model 123 only" not in text
