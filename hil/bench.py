"""`commonwatt-hil bench`: every measured promise of the README as one row: name, value, unit, target, met, and how it was measured.

Groups of rows are measured one after the other. What fails in one becomes rows that say why they have no value, and the next is measured.
What is measured writes nothing of its own to stdout: that carries the table, group by group, or one JSON document at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hil.errors import HilError

log = logging.getLogger(__name__)

Row = dict[str, Any]
NAME_WIDTH: Final = 29
WIDE: Final = 200
"""Columns where stdout is no terminal."""


class Group(Struct, frozen=True):
    """What is measured, in words; the names of its rows, or what these begin with; about how long it takes; the measurement."""

    title: str
    names: tuple[str, ...]
    about_s: float
    measure: Callable[[argparse.Namespace], list[Row]]

    def is_wanted(self, only: list[str] | None) -> bool:
        """Whether one of its rows has one of these in its name."""
        return not only or any(wanted in name or name in wanted for wanted in only for name in self.names)


def bench_command(options: argparse.Namespace) -> int:
    """Measure the groups that are asked for; 1 where a target was missed or a measurement failed."""
    groups = [group for group in GROUPS if group.is_wanted(options.only)]
    if options.list:
        _list(groups)
        return 0
    rows: list[Row] = []
    failed, begun_s = False, time.monotonic()
    for group in groups:
        sys.stderr.write(f"measuring {group.title} (about {_duration(group.about_s)}) ...\n")
        begin_s = time.monotonic()
        measured, whole = _measured(group, options)
        sys.stderr.write(f"  took {_duration(time.monotonic() - begin_s)}\n")
        failed = failed or not whole
        rows += measured
        if not options.json:
            _print(measured, first=len(rows) == len(measured))
    if not rows:
        raise HilError(f"no row of the bench has {' or '.join(options.only or ())} in its name")
    if options.json:
        sys.stdout.write(json.dumps({"rows": rows}) + "\n")
    counts = Counter(row["met"] for row in rows if row["target"])
    without = sum(row["value"] is None for row in rows)
    took = _duration(time.monotonic() - begun_s)
    sys.stderr.write(f"{len(rows)} rows in {took}: {counts[True]} targets met, {counts[False]} missed; {without} rows without a value\n")
    return 1 if failed or counts[False] else 0


def _measured(group: Group, options: argparse.Namespace) -> tuple[list[Row], bool]:
    """The rows that are asked for, and whether the measurement came to its end."""
    try:
        with redirect_stdout(sys.stderr):
            rows = group.measure(options)
    except Exception as error:  # Whatever goes wrong in one measurement, hours of the others are not thrown away for it.
        log.debug("%s", group.title, exc_info=True)
        words = " ".join(str(error).split())[:200]
        why = f"failed: {words}" if isinstance(error, HilError) else f"failed: {type(error).__name__}: {words}"
        return [unmeasured(name, why) for name in group.names], False
    return [row for row in rows if not options.only or any(wanted in row["name"] for wanted in options.only)], True


def unmeasured(name: str, why: str) -> Row:
    """A row without a value."""
    return {"name": name, "value": None, "unit": "", "target": "", "met": None, "note": why}


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100.0 else f"{seconds / 60.0:.0f} min"


def _schedule(options: argparse.Namespace) -> list[Row]:
    from hil.bench_schedule import schedule_rows

    return schedule_rows(emhass_python=options.emhass_python)


def _guard(options: argparse.Namespace) -> list[Row]:
    from hil.bench_guard import guard_rows

    del options
    return guard_rows()


def _lockstep(options: argparse.Namespace) -> list[Row]:
    from hil.bench_lockstep import lockstep_rows

    return lockstep_rows(options.mosquitto)


def _edge(options: argparse.Namespace) -> list[Row]:
    from hil.bench_edge import edge_rows

    return edge_rows(options.mosquitto)


def _deployed(options: argparse.Namespace) -> list[Row]:
    from hil.bench_deployed import deployed_rows

    return deployed_rows(options.mosquitto)


def _secrecy(options: argparse.Namespace) -> list[Row]:
    from hil.bench_leadership import secrecy_rows

    del options
    return secrecy_rows()


def _rounds(options: argparse.Namespace) -> list[Row]:
    from hil.bench_rounds import fuzz_rows

    del options
    return fuzz_rows()


def _tap(options: argparse.Namespace) -> list[Row]:
    from hil.bench_rounds import tap_rows

    del options
    return tap_rows()


def _elections(options: argparse.Namespace) -> list[Row]:
    from hil.bench_leadership import election_rows

    del options
    return election_rows()


def _search(options: argparse.Namespace) -> list[Row]:
    from hil.bench_leadership import search_rows

    del options
    return search_rows()


def _planted(options: argparse.Namespace) -> list[Row]:
    from hil.simulation.command import planted_rows

    del options
    return planted_rows()


def _hundred(options: argparse.Namespace) -> list[Row]:
    from hil.bench_hundred import hundred_rows

    del options
    return hundred_rows()


def _failover(options: argparse.Namespace) -> list[Row]:
    from hil.bench_failover import failover_rows

    return failover_rows(options.mosquitto)


def _envelopes(options: argparse.Namespace) -> list[Row]:
    from hil.bench_envelopes import envelope_rows

    return envelope_rows(options.only)


def _ingest(options: argparse.Namespace) -> list[Row]:
    from hil.bench_ingest import ingest_rows

    return ingest_rows(options.mosquitto)


def _restart(options: argparse.Namespace) -> list[Row]:
    from hil.bench_restart import restart_rows

    return restart_rows(options.mosquitto)


def _page(options: argparse.Namespace) -> list[Row]:
    from hil.bench_page import page_rows

    return page_rows(options)


GROUPS: tuple[Group, ...] = (
    Group("the guard over random houses", ("guard_avoidable_breach", "guard_time"), 6.0, _guard),
    Group("the schedule against other solvers", ("schedule",), 15.0, _schedule),
    Group("lockstep against bare Modbus", ("lockstep_overhead", "lockstep_household_cycle", "sim_speed"), 40.0, _lockstep),
    Group("a deployed edge: start, and a day of cycles", ("edge_memory_after_a_day", "edge_start_to_first_setpoint"), 25.0, _edge),
    Group("an edge with TLS and metrics at a cycle of one second", ("edge_deployed_memory", "edge_deployed_cpu"), 170.0, _deployed),
    Group("envelopes of largest volume", ("envelopes_600", "envelopes_5000"), 5.0, _envelopes),
    Group("sums that nobody can open", ("report_96", "report_288", "leader_per_report", "operator_per_community"), 8.0, _secrecy),
    Group("rounds that are sent everything", ("fuzzed_rounds_wrong", "fuzzed_rounds_unnamed"), 10.0, _rounds),
    Group("a tap with the operator's key", ("tap_uniform", "tap_correlation"), 3.0, _tap),
    Group("elections under faults", ("election_runs_violations",), 160.0, _elections),
    Group("every schedule of small elections", ("election_search_violations",), 130.0, _search),
    Group("bugs that are planted in elections and sums", ("planted_bugs_missed",), 10.0, _planted),
    Group(
        "a day of a hundred households",
        ("hundred_wrong_sums", "hundred_rounds_missing", "hundred_encryption_cpu"),
        300.0,
        _hundred,
    ),
    Group("the page in a browser, before 200 homes", ("page_useful_paint", "page_update_latency_p95"), 60.0, _page),
    Group("a leader that is killed or frozen", ("failover_killed", "failover_frozen"), 200.0, _failover),
    Group(
        "5,000 reporting edges at one coordinator",
        ("ingest_lost", "ingest_p99", "ingest_cpu", "ingest_edges_cpu", "ingest_limit"),
        300.0,
        _ingest,
    ),
    Group(
        "a broker that is killed under 210 edges",
        ("restart_back", "restart_storm", "restart_lost", "restart_envelope_breaches"),
        150.0,
        _restart,
    ),
)
"""`schedule` stands for all rows of `hil.bench_schedule`. Times are those of two quiet cores."""


def _list(groups: list[Group]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("rows", "takes about", "what"):
        table.add_column(column)
    for group in groups:
        table.add_row(", ".join(group.names), _duration(group.about_s), group.title)
    _show(table)


def _print(rows: list[Row], *, first: bool) -> None:
    table = Table(box=None, pad_edge=False, show_header=first)
    for column, width in (("row", NAME_WIDTH), ("value", 9), ("unit", 8), ("target", 7), ("met", 3), ("how", None)):
        table.add_column(column, justify="right" if column == "value" else "left", min_width=width)
    for row in rows:
        met = {True: Text("yes", style="green"), False: Text("no", style="bold red"), None: Text("–")}[row["met"]]
        value = "–" if row["value"] is None else f"{row['value']:.4g}"
        table.add_row(row["name"], value, row["unit"], row["target"], met, Text(row.get("note", "")))
    _show(table)


def _show(table: Table) -> None:
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDE).print(table)
