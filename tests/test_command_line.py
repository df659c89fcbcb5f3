"""What a newcomer meets first: every `--help` says enough, and what cannot be used is refused in one line with exit status 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import coordinator.cli
import edge.cli
import hil.cli
from hil.devices.cli import devices_parser
from hil.studies.command import STUDIES
from protocols.arguments import number, output_folder, whole

MAINS: dict[str, Callable[[list[str]], int]] = {"edge": edge.cli.main, "coordinator": coordinator.cli.main, "hil": hil.cli.main}


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser, and that of each of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                yield from commands(child)


# `hil devices` hands its arguments to a parser of its own.
PARSERS = [
    parser
    for root in (edge.cli._parser(), coordinator.cli._parser(), hil.cli._parser(), devices_parser())
    for parser in commands(root)
    if parser.add_help
]


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_command_says_what_it_does_and_what_each_of_its_options_is(parser: argparse.ArgumentParser) -> None:
    assert parser.description is not None and parser.description.endswith("."), parser.prog
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help for choice in action._choices_actions)
            continue
        assert action.help, action.dest
        takes_value = action.nargs != 0 and action.choices is None
        assert not (takes_value and action.metavar is None), f"{parser.prog}: {action.dest} shows its own name for a value"


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_default_is_said(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        silent = action.default is None or action.default in (False, argparse.SUPPRESS, []) or action.required
        if not silent and action.option_strings and action.nargs != 0:
            assert "(default" in str(action.help) or "with --live" in str(action.help), f"{parser.prog} {action.option_strings[0]}"


def test_the_studies_that_the_help_names_are_those_there_are() -> None:
    parser = next(parser for parser in PARSERS if parser.prog.endswith("study"))
    [words] = [action.help for action in parser._actions if action.dest == "name"]
    assert words == ", ".join(sorted(STUDIES)[:-1]) + " or " + max(STUDIES)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("edge run --config FOLDER/none.toml", "none.toml: No such file or directory - at $"),
        ("edge run --config FOLDER", "Is a directory - at $"),
        ("edge run --config x --cycles many", "argument --cycles: expected a whole number of at least 1, got many"),
        ("edge plan --config x --soc 2", "argument --soc: expected a number from 0 to 1, got 2"),
        ("edge plan --config x --start nan", "argument --start: expected a number of at least 0, got nan"),
        ("edge probe", "probe: expected HOST or --serial PORT, and not both"),
        ("edge probe host --timeout-s 0", "argument --timeout-s: expected a number above 0 and at most 60, got 0"),
        ("edge probe host --unit 256", "argument --unit: expected a whole number from 0 to 255, got 256"),
        ("edge init host --import-rating-w -5 --export-rating-w 1", "expected a number from 0 to 10000000, got -5"),
        ("edge init host --import-rating-w 5 --export-rating-w 1 --latitude-deg 91", "expected a number from -90 to 90, got 91"),
        ("edge enrol FOLDER/none", "none: No such file or directory"),
        ("coordinator run --config x --step-s soon", "argument --step-s: expected a number above 0, got soon"),
        ("coordinator init FOLDER/c --community a --network none", "--network none: no such file or folder"),
        ("coordinator envelopes ieee33 --q-per-w nan", "argument --q-per-w: expected a number, got nan"),
        ("coordinator powerflow ieee33 --loads FOLDER/none.csv", "none.csv: No such file or directory"),
        ("coordinator reconfigure ieee33 --profile FOLDER/none.csv", "none.csv: No such file or directory"),
        ("hil run street --hours -1", "argument --hours: expected a number above 0, got -1"),
        ("hil run street --out FOLDER/file/x", "argument --out: expected a folder"),
        ("hil run street --seed -1", "argument --seed: expected a whole number of at least 0, got -1"),
        ("hil sweep street --jobs 0", "argument --jobs: expected a whole number of at least 1, got 0"),
        ("hil mutants --seeds 0", "argument --seeds: expected a whole number of at least 1, got 0"),
        ("hil study none", "study 'none' does not exist"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    program, *arguments = line.replace("FOLDER", str(tmp_path)).split()
    try:
        status: Any = MAINS[program](arguments)
    except SystemExit as stop:
        status = stop.code
    *usage, said = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert words in said
    assert usage == [] or usage[0].startswith("usage: ")


def test_bounds_belong_to_a_range_unless_they_are_said_not_to() -> None:
    assert number(least=0.0, most=1.0)("1") == 1.0 and number(above=0.0)("1e-9") == 1e-9 and whole(least=2, most=3)("3") == 3
    for read, text in ((number(above=0.0), "0"), (number(), "inf"), (number(), ""), (whole(least=2, most=3), "4"), (whole(least=0), "1.5")):
        with pytest.raises(argparse.ArgumentTypeError, match=r"^expected a "):
            read(text)


def test_an_output_folder_need_not_be_there_yet(tmp_path: Path) -> None:
    assert output_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
