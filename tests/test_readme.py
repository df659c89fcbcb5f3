"""The README keeps its promises: it is short, its commands exist, its topics are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import coordinator.cli
import edge.cli
import hil.cli
from protocols import topics

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAINS = {"edge": edge.cli.main, "coordinator": coordinator.cli.main, "hil": hil.cli.main}
COMMANDS = sorted(set(re.findall(r"`commonwatt-(edge|coordinator|hil) ([a-z-]+)", README)))


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_its_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize(("package", "command"), COMMANDS)
def test_every_command_that_it_names_has_help(package: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        MAINS[package]([command, "--help"])
    assert ended.value.code == 0
    assert f"commonwatt-{package} {command}" in capsys.readouterr().out


def test_its_topics_are_those_of_the_code() -> None:
    table = "\n".join(line for line in (topics.__doc__ or "").splitlines() if line.startswith("|"))
    assert table in README


def test_its_picture_is_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
