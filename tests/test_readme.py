"""The README keeps its promises: it is short, its commands exist, its topics are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import coordinator.cli
import edge.cli
import hil.cli
from hil.reference import DOCUMENTS
from protocols import topics
from protocols.messages import TYPE_OF_KIND

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


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_references_are_those_of_the_code(name: str) -> None:
    """`python -m hil.reference docs` makes them again."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == DOCUMENTS[name]()


def test_every_topic_kind_and_every_message_is_in_the_reference() -> None:
    text = DOCUMENTS["topics.md"]()
    for kind in (*topics.NODE_KINDS, *topics.CONTROL_KINDS, *topics.COORDINATOR_KINDS, *topics.ROUND_KINDS, *topics.SEALED_KINDS):
        assert re.search(rf"`[^`]*\b{kind}\b[^`]*`", text), kind
    for message in TYPE_OF_KIND.values():
        assert f"### `{message.__struct_config__.tag}`" in text


def test_its_picture_is_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
