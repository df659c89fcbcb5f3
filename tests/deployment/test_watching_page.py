"""What the page about watching tells people to write and to type is understood."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

import edge.cli
from edge.config import decode_config
from edge.home_assistant.settings import HomeAssistantSection
from protocols.observation.server import read_token

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "watch-it.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r"^controller# (.*)$", PAGE, flags=re.MULTILINE)
HOUSE = """
[identity]
community = "street"
node = "h07"
[site]
import_rating_w = 14490.0
export_rating_w = 5000.0
[[devices]]
name = "meter"
kind = "meter"
family = "sunspec"
host = "127.0.0.1"
"""


@pytest.mark.parametrize("block", BLOCKS)
def test_every_section_on_the_page_is_a_configuration(block: str) -> None:
    config = decode_config((HOUSE + block).encode(), "edge.toml")
    assert config.metrics.enabled or config.home_assistant != HomeAssistantSection()


def test_the_page_has_blocks_and_commands_at_all() -> None:
    assert len(BLOCKS) == 3 and len(COMMANDS) == 4


def test_the_token_of_the_page_is_one_that_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.token"
    for command in COMMANDS[:2]:
        there = command.replace("/etc/commonwatt-edge/metrics.token", str(path)).replace("-o commonwatt-edge ", "")
        subprocess.run(there, shell=True, check=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(read_token(path)) == 48


def test_home_assistant_is_told_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(HOUSE + BLOCKS[2])
    program, *arguments = shlex.split(COMMANDS[2].replace("/etc/commonwatt-edge/edge.toml", str(path)))
    assert program == "commonwatt-edge"
    assert edge.cli.main(arguments) == 0
    assert "commonwatt_street_h07" in capsys.readouterr().out


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`(deploy/[a-z/.-]+)`", PAGE) + re.findall(r"\]\(([a-z-]+\.md)\)", PAGE):
        assert (ROOT / name).exists() or (ROOT / "docs" / name).exists(), name
