"""The pages of docs/ keep their promises: every command is one that the real parsers take, links lead somewhere, quick commands are run."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

import coordinator.cli
import edge.cli
import hil.cli
import hil.devices.cli

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
PARSERS = {
    "commonwatt-edge": edge.cli._parser,
    "commonwatt-coordinator": coordinator.cli._parser,
    "commonwatt-hil": hil.cli._parser,
}


def blocks(text: str) -> list[str]:
    """The commands of all shell blocks of a page, with continued lines joined."""
    found = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.replace("\\\n", " ").splitlines()]


def own_commands(path: Path) -> list[list[str]]:
    """Our own commands among them, as words; what stands before (sudo, a variable) and after (a pipe) is left out."""
    commands = []
    for line in blocks(path.read_text(encoding="utf-8")):
        for part in re.split(r"[|;&]+", line.split(" #")[0]):
            words = shlex.split(part.split(">")[0])
            start = next((index for index, word in enumerate(words) if word.rpartition("/")[2] in PARSERS), None)
            if start is not None:
                commands.append([words[start].rpartition("/")[2], *words[start + 1 :]])
    return commands


COMMANDS = [(path.name, command) for path in PAGES for command in own_commands(path)]


def test_there_is_something_to_test() -> None:
    assert len(COMMANDS) > 20
    assert {"try-it.md", "run-a-coordinator.md", "run-the-bench.md", "failure-modes.md"} <= {path.name for path in PAGES}


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else value)
def test_every_command_is_one_that_there_is(page: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = command
    if arguments[:1] == ["devices"]:
        hil.devices.cli.devices_parser().parse_args(arguments[1:])
        return
    try:
        PARSERS[program]().parse_args(arguments)
    except SystemExit as ended:
        pytest.fail(f"{page}: {' '.join(command)}: {capsys.readouterr().err.splitlines()[-1:]} ({ended.code})")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            name, _, heading = target.partition("#")
            linked = path if name == "" else path.parent / name
            assert linked.exists(), f"{path.name} links to {target}"
            if heading:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
                assert heading in [re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in headings], target


def test_a_community_is_made_and_joined_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All commands of run-a-coordinator.md that end by themselves, in their order, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    done = []
    for program, *arguments in own_commands(ROOT / "docs" / "run-a-coordinator.md"):
        if arguments[0] in ("run", "page", "region"):
            assert Path(arguments[arguments.index("--config") + 1]).is_file()
            continue
        if arguments[0] in ("init", "init-region") and os.geteuid() == 0:
            arguments += ["--broker-user", "root"]
        if arguments[0] == "page-token" and arguments[1] == "home-01" and "revoke" in done:
            continue
        main = {"commonwatt-edge": edge.cli.main, "commonwatt-coordinator": coordinator.cli.main}[program]
        assert main(arguments) == 0, f"{arguments}: {capsys.readouterr().err}"
        done.append(arguments[0])
    assert {"init", "enrol", "accept", "members", "revoke", "page-token"} <= set(done)
    assert (tmp_path / "home-01.toml").is_file()


def test_the_quick_questions_of_the_first_page_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    asked = 0
    for program, *arguments in own_commands(ROOT / "docs" / "try-it.md"):
        if program == "commonwatt-coordinator" and arguments[0] in ("check-network", "powerflow"):
            assert coordinator.cli.main(arguments) in (0, 1)
            assert "ieee33" in capsys.readouterr().out
            asked += 1
    assert asked == 2
