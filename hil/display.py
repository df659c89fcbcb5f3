"""What a person sees: progress on stderr while it runs, and a table on stdout at the end."""

from __future__ import annotations

import datetime as dt
import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hil.frames import Glance
from hil.results import RUN_TITLES, Results
from hil.scenario import LimitsSection

PLAIN_EVERY_FRAC = 0.1


class RunDisplay:
    """On a terminal a bar for each run and its feeder at this moment; elsewhere a line at every tenth."""

    def __init__(self, seconds_per_cycle: float, limits: LimitsSection, *, utc_offset_s: float, stream: TextIO = sys.stderr) -> None:
        self._hours_per_cycle = seconds_per_cycle / 3600.0
        self._limits = limits
        self._zone = dt.timezone(dt.timedelta(seconds=utc_offset_s))
        self._stream = stream
        self._console = Console(file=stream)
        self._view: Live | None = None
        self._bars = Progress(
            TextColumn("{task.description:>14}"),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[clock]:>6}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._glances: dict[str, Glance] = {}
        self._said: dict[str, float] = {}
        self._begun_s = time.monotonic()

    def __enter__(self) -> RunDisplay:
        if self._console.is_terminal:
            self._view = Live(console=self._console, get_renderable=self._renderable, refresh_per_second=4)
            self._view.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._view is not None:
            self._view.stop()

    def update(self, run: str, done: int, total: int) -> None:
        """A run has come as far as `done` of `total` cycles."""
        hours = f"{done * self._hours_per_cycle:.1f} h"
        title = RUN_TITLES.get(run, run)
        if self._view is not None:
            if run not in self._tasks:
                self._tasks[run] = self._bars.add_task(title, total=total, clock=hours)
            self._bars.update(self._tasks[run], completed=done, clock=hours)
        elif done / total >= self._said.get(run, 0.0) + PLAIN_EVERY_FRAC or done == total:
            self._said[run] = done / total
            seconds = time.monotonic() - self._begun_s
            self._stream.write(f"{title}: {hours} simulated ({100.0 * done / total:.0f} %) after {seconds:.0f} s\n")
            self._stream.flush()

    def glance(self, run: str, seen: Glance) -> None:
        """The feeder of a run at this moment."""
        self._glances[run] = seen

    def _renderable(self) -> Group:
        if not self._tasks:
            return Group(Text("starting brokers, devices and controllers ..."))
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for column in ("time", "feeder", "transformer", "lowest", "highest", "controllers"):
            table.add_column(column, justify="right")
        for run, seen in sorted(self._glances.items()):
            table.add_row(f"{RUN_TITLES.get(run, run):>14}", *glance_words(seen, self._limits, self._zone))
        return Group(self._bars, table) if self._glances else Group(self._bars)


def glance_words(seen: Glance, limits: LimitsSection, zone: dt.timezone) -> tuple[Text, ...]:
    """The cells of one run; what is outside its limit is red and marked."""

    def cell(text: str, bad: bool = False) -> Text:
        return Text(f"{text} !", style="bold red") if bad else Text(f"{text}  ")

    direction = "draws" if seen.source_w >= 0.0 else "feeds back"
    return (
        cell(dt.datetime.fromtimestamp(seen.time_s, zone).strftime("%H:%M")),
        cell(f"{direction} {abs(seen.source_w) / 1000.0:.1f} kW"),
        cell(f"{100.0 * seen.transformer_frac:.0f} %", seen.transformer_frac > limits.transformer_frac),
        cell(f"{seen.voltage_min_v:.1f} V", seen.voltage_min_v < limits.voltage_min_v),
        cell(f"{seen.voltage_max_v:.1f} V", seen.voltage_max_v > limits.voltage_max_v),
        cell(f"{seen.homes_alive} of {seen.homes}", seen.homes_alive < seen.homes),
    )


def print_results(results: Results, stream: TextIO = sys.stdout) -> None:
    """Verdict, figures side by side, and the checkers."""
    console = Console(file=stream, highlight=False, markup=False)
    console.print()
    console.print(f"{results.title} (seed {results.seed}, {results.mode}, {len(results.faults)} faults)", style="bold")
    for sentence in results.verdict:
        console.print(f"  {sentence}")
    figures = Table(box=None, pad_edge=False)
    figures.add_column("")
    for run in results.runs:
        figures.add_column(RUN_TITLES[run], justify="right")
    for label, name, form, scale in _FIGURES:
        values = [getattr(summary.figures, name) for summary in results.runs.values()]
        figures.add_row(Text(label), *("–" if value is None else format(value * scale, form) for value in values))
    console.print()
    console.print(figures)
    checkers = Table(box=None, pad_edge=False)
    for column in ("checker", "run", "checks", "violations", "excused"):
        checkers.add_column(column, justify="left" if column in ("checker", "run") else "right")
    for entry in results.checkers:
        violations = Text(f"{entry.violations:,}", style="" if entry.violations == 0 else "bold red")
        checkers.add_row(entry.name, RUN_TITLES[entry.run], f"{entry.checks:,}", violations, f"{sum(entry.excused.values()):,}")
    console.print()
    console.print(checkers)


_FIGURES = (
    ("highest voltage [V]", "voltage_max_v", ".1f", 1.0),
    ("lowest voltage [V]", "voltage_min_v", ".1f", 1.0),
    ("voltage outside [min]", "voltage_outside_min", ".1f", 1.0),
    ("transformer peak [%]", "transformer_peak_frac", ".1f", 100.0),
    ("transformer overload [min]", "transformer_overload_min", ".1f", 1.0),
    ("line peak [%]", "line_peak_frac", ".1f", 100.0),
    ("line overload [min]", "line_overload_min", ".1f", 1.0),
    ("solar curtailed [kWh]", "curtailed_kwh", ".1f", 1.0),
    ("solar curtailed [%]", "curtailed_frac", ".1f", 100.0),
    ("fairness of curtailment [Gini]", "fairness_gini", ".3f", 1.0),
    ("vehicles left short [kWh]", "ev_missing_kwh", ".1f", 1.0),
    ("flexible load shed [kWh]", "p2_shed_kwh", ".2f", 1.0),
    ("bills of all homes", "bills", ".2f", 1.0),
)
