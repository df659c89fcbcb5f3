"""`commonwatt-hil study NAME`. A shell: it runs a study, prints its table and leaves plots and results in a folder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coordinator.errors import CoordinatorError
from hil.errors import ScenarioError
from hil.studies.community import community
from hil.studies.dfe69 import dfe69
from hil.studies.disco33 import disco33
from hil.studies.hierarchical594 import hierarchical594
from hil.studies.live import live_study
from hil.studies.p2pdnr import p2pdnr
from hil.studies.result import Study, StudyOrder, StudyResult

STUDIES: dict[str, Study] = {
    "community": community,
    "dfe69": dfe69,
    "disco33": disco33,
    "hierarchical594": hierarchical594,
    "p2pdnr": p2pdnr,
}
DEFAULT_DATA = Path("../shared/data")


def study_command(options: argparse.Namespace) -> int:
    """Run one study; 0 when every target was met."""
    study = STUDIES.get(options.name)
    if study is None and not options.live:
        raise ScenarioError(f"study {options.name!r} does not exist, expected one of {', '.join(STUDIES)}")
    order = StudyOrder(data=DEFAULT_DATA if options.data is None else options.data, seed=options.seed)
    started_s = time.perf_counter()

    def say(words: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - started_s:8.2f} s  {words}\n")

    try:
        if options.live or study is None:
            findings = live_study(options.name, seed=options.seed, hours=options.hours, mosquitto=options.mosquitto, say=say)
        else:
            findings = study(order, say)
    except CoordinatorError as error:
        raise ScenarioError(f"study {options.name}: {error}") from error
    result = StudyResult(
        study=options.name,
        source=findings.source,
        seed=order.seed,
        duration_s=time.perf_counter() - started_s,
        inputs=findings.inputs,
        rows=findings.rows,
        verdicts=findings.verdicts,
    )
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, draw in findings.plots.items():
            (options.out / f"{name}.svg").write_text(draw(), encoding="utf-8")
        (options.out / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    if options.json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    else:
        print_study(result, sys.stdout)
        if options.out is not None:
            sys.stdout.write(f"\nplots and results: {options.out}\n")
    return 0 if result.met else 1


def print_study(result: StudyResult, stream: TextIO) -> None:
    """The paper's table beside ours, and the verdicts."""
    console = Console(file=stream, highlight=False, markup=False)
    console.print(f"{result.study}: {result.source}", style="bold")
    table = Table(box=None, pad_edge=False)
    for column in ("quantity", "paper", "ours", "target", "met", "note"):
        table.add_column(column, justify="right" if column in ("paper", "ours") else "left", overflow="fold")
    for row in result.rows:
        met = Text("" if row.met is None else "yes" if row.met else "NO", style="bold red" if row.met is False else "")
        table.add_row(row.quantity, "" if row.paper is None else f"{row.paper:,.6g}", f"{row.ours:,.6g}", row.target, met, row.note)
    console.print(table)
    console.print()
    for verdict in result.verdicts:
        console.print(f"{verdict.claim}: {verdict.word.value}. {verdict.because}")
    console.print()
    for name, words in result.inputs.items():
        console.print(f"input {name}: {words}")
    console.print(f"seed {result.seed}, {result.duration_s:.1f} s")
