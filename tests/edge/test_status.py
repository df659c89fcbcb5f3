"""`commonwatt-edge status`: one screen from the running edge, what the disk remembers where none runs, and never two edges at once."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from edge.cli import main
from edge.errors import EdgeError, StoreError
from edge.upkeep.live import LiveView
from edge.upkeep.live_socket import LiveSocket, ask, hold_alone, socket_path
from tests.edge.world import COMMUNITY, NODE, START_S, World, control, make_config


def write_config(folder: Path) -> Path:
    path = folder / "edge.toml"
    path.write_text(
        f'[identity]\ncommunity = "{COMMUNITY}"\nnode = "{NODE}"\n'
        "[site]\nimport_rating_w = 14000.0\nexport_rating_w = 10000.0\n"
        '[[devices]]\nname = "meter"\nkind = "meter"\nhost = "127.0.0.1"\n[store]\npath = "state.json"\n'
    )
    return path


class Running:
    """An agent in its world with its socket open; `present` moves its clock to the machine's, by which `status` judges ages."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, config=make_config(folder, cycle_s=1.0))
        self.view = LiveView(self.world.agent, started_s=START_S)
        self.live = LiveSocket(socket_path(folder / "state.json"), self.view.state)

    async def cycle(self) -> None:
        self.view.observe(await self.world.agent.step())

    async def __aenter__(self) -> Running:
        await self.live.start()
        await self.world.agent.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.live.stop()


async def status(config: Path, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["status", "--config", str(config), *arguments])


async def test_one_screen_shows_the_whole_household(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    async with Running(tmp_path) as running:
        world = running.world
        world.pv.available_w = 3000.0
        world.send_default(1500.0, 4000.0)
        world.send(control("c1", 0.0, 900.0, export_w=700.0))
        for _ in range(5):
            await running.cycle()
            world.live(1.0)
        await running.cycle()
        monkeypatch.setattr("edge.upkeep.status.time.time", world.clock.now_s)
        assert await status(config) == 0
        screen = capsys.readouterr().out
        assert await status(config, "--json") == 0
        document = json.loads(capsys.readouterr().out)
    assert screen.startswith(f"{NODE} of {COMMUNITY}: CONTROLLED")
    assert "export <= 700 W by control" in screen
    assert "generates" in screen and "generates -" not in screen, "generation is shown as a positive number"
    assert "import <= 4000 W, export <= 1500 W" in screen, "the default is shown"
    assert len(screen.splitlines()) <= 24, "it fits one screen"
    assert document["running"] is True
    assert document["limits"]["export"]["limit_w"] == 700.0
    assert [device["name"] for device in document["devices"]] == ["meter", "pv", "battery", "car"]


async def test_a_silent_meter_and_failsafe_are_said_and_the_answer_is_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    async with Running(tmp_path) as running:
        running.world.meter.fault = "timeout"
        for _ in range(3):
            await running.cycle()
            running.world.live(1.0)
        monkeypatch.setattr("edge.upkeep.status.time.time", running.world.clock.now_s)
        assert await status(config) == 1
    screen = capsys.readouterr().out
    assert "FAILSAFE" in screen
    assert "meter: no answer" in screen


async def test_an_edge_whose_cycle_hangs_is_not_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    async with Running(tmp_path) as running:
        running.world.send_default(1500.0, 4000.0)
        await running.cycle()
        running.world.live(1.0)
        await running.cycle()
        monkeypatch.setattr("edge.upkeep.status.time.time", lambda: running.world.clock.now_s() + 3600.0)
        assert await status(config) == 1
    assert "NO CYCLE HAS ENDED FOR 1 h" in capsys.readouterr().out


async def test_without_a_running_edge_the_disk_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    assert await status(config) == 1
    assert "it has never run here" in capsys.readouterr().out
    async with Running(tmp_path) as running:
        running.world.send_default(1500.0, 4000.0)
        await running.cycle()
    socket_path(tmp_path / "state.json").touch()
    assert await status(config) == 1, "a socket that a killed process left behind is nobody"
    said = capsys.readouterr().out
    assert "NOT RUNNING" in said and "import <= 4000 W, export <= 1500 W" in said
    (tmp_path / "state.json").write_bytes(b"damaged")
    assert await status(config) == 1
    assert "not a state file" in capsys.readouterr().err
    assert (tmp_path / "state.json").read_bytes() == b"damaged", "looking sets nothing aside"


async def test_the_socket_is_for_its_owner_and_works_below_any_path(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 90) / ("b" * 90)
    deep.mkdir(parents=True)
    async with Running(deep) as running:
        await running.cycle()
        path = socket_path(deep / "state.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        state = await asyncio.to_thread(ask, deep / "state.json")
        assert state is not None and state.node == NODE
    assert not path.exists()


async def test_an_edge_before_its_first_cycle_says_so(tmp_path: Path) -> None:
    async with Running(tmp_path):
        with pytest.raises(EdgeError, match="no control cycle has ended yet"):
            await asyncio.to_thread(ask, tmp_path / "state.json")


def test_two_edges_never_share_one_state(tmp_path: Path) -> None:
    with (
        hold_alone(tmp_path / "state.json"),
        pytest.raises(StoreError, match="another commonwatt-edge runs"),
        hold_alone(tmp_path / "state.json"),
    ):
        raise AssertionError("the second one got in")
    with hold_alone(tmp_path / "state.json"):
        assert (tmp_path / "state.lock").exists()
