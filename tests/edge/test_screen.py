"""The live view of `commonwatt-edge run` on a terminal: as wide and high as the terminal, and nothing that a terminal would obey."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from edge.upkeep.live import LiveView
from edge.upkeep.screen import FIRST_SCREEN, SECOND_SCREEN, Screen, screen_lines, terminal
from tests.edge.world import START_S, World


async def shown(tmp_path: Path) -> LiveView:
    world = World(tmp_path)
    view = LiveView(world.agent, started_s=START_S)
    await world.agent.start()
    view.observe(await world.agent.step())
    return view


async def test_the_view_fits_its_terminal(tmp_path: Path) -> None:
    state = (await shown(tmp_path)).state()
    assert state is not None
    logs = [f"line {number} " + "x" * 300 for number in range(50)]
    for columns, rows in ((80, 24), (40, 12), (20, 3)):
        lines = screen_lines(state, START_S, logs, columns, rows)
        assert len(lines) <= rows and all(len(line) <= columns for line in lines)
    tall = screen_lines(state, START_S, logs, 80, 40)
    assert any(line.startswith("line 49") for line in tall), "the newest log line is there"
    assert tall[0].split(":")[1].strip() in ("FAILSAFE", "DEFAULT", "CONTROLLED"), "the state comes first"


async def test_a_log_line_cannot_command_the_terminal(tmp_path: Path) -> None:
    state = (await shown(tmp_path)).state()
    assert state is not None
    lines = screen_lines(state, START_S, ["evil \x1b]0;title\x07 \x1b[2J"], 80, 30)
    assert "\x1b" not in "".join(lines) and "\x07" not in "".join(lines)


async def test_it_takes_the_logs_and_gives_them_back(tmp_path: Path) -> None:
    view = await shown(tmp_path)
    stream, before = io.StringIO(), list(logging.getLogger().handlers)
    with Screen(view.state, stream, colour=False) as screen:
        logging.getLogger("edge.test").warning("the meter is silent")
        screen.show()
    assert logging.getLogger().handlers == before
    text = stream.getvalue()
    assert text.startswith(SECOND_SCREEN) and FIRST_SCREEN in text and "the meter is silent" in text
    assert re.search(r"\x1b\[\d+m", text) is None, "no colour where none is wanted"


def test_only_a_terminal_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    main, other = pty.openpty()
    with os.fdopen(other, "w", encoding="utf-8") as line:
        monkeypatch.setattr(sys, "stdout", line)
        monkeypatch.setattr(sys, "stderr", line)
        assert terminal({"TERM": "xterm"}, plain=False) is line
        assert terminal({"TERM": "xterm"}, plain=True) is None
        assert terminal({}, plain=False) is None, "a dumb terminal gets lines"
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert terminal({"TERM": "xterm"}, plain=False) is None, "logs that go elsewhere stay there"
    os.close(main)
