"""`commonwatt-hil bench`: every measured promise of the README as one row: name, value, unit, target, met, and how it was measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hil.errors import HilError

Row = dict[str, Any]
Group = Callable[[argparse.Namespace], list[Row]]


def bench_command(options: argparse.Namespace) -> int:
    """Measure the groups that are asked for; 1 where a target was missed."""
    rows: list[Row] = []
    for title, names, measure in GROUPS:
        if options.only and not any(wanted in name or name in wanted for wanted in options.only for name in names):
            continue
        sys.stderr.write(f"measuring {title} ...\n")
        rows += measure(options)
    if options.only:
        rows = [row for row in rows if any(wanted in row["name"] for wanted in options.only)]
        if not rows:
            raise HilError(f"no row of the bench has {' or '.join(options.only)} in its name")
    if options.json:
        sys.stdout.write(json.dumps({"rows": rows}) + "\n")
    else:
        _print(rows)
    return 1 if any(row["met"] is False for row in rows) else 0


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


GROUPS: tuple[tuple[str, tuple[str, ...], Group], ...] = (
    ("the guard over random houses", ("guard_avoidable_breach", "guard_time"), _guard),
    ("the schedule against other solvers", ("schedule",), _schedule),
    ("lockstep against bare Modbus, and virtual time", ("lockstep_overhead", "lockstep_household_cycle", "sim_speed"), _lockstep),
    ("a deployed edge: start, and a day of cycles", ("edge_memory_after_a_day", "edge_start_to_first_setpoint"), _edge),
    ("an edge with TLS and metrics at a cycle of one second", ("edge_deployed_memory", "edge_deployed_cpu"), _deployed),
    ("envelopes of largest volume", ("envelopes_600", "envelopes_5000"), _envelopes),
    ("sums that nobody can open", ("report_96", "report_288", "leader_per_report", "operator_per_community"), _secrecy),
    ("rounds that are sent everything", ("fuzzed_rounds_wrong", "fuzzed_rounds_unnamed"), _rounds),
    ("a tap with the operator's key", ("tap_uniform", "tap_correlation"), _tap),
    ("elections under faults", ("election_runs_violations",), _elections),
    ("the page in a browser, before 200 homes", ("page_useful_paint", "page_update_latency_p95"), _page),
    ("a leader that is killed or frozen", ("failover_killed", "failover_frozen"), _failover),
    ("5,000 reporting edges at one coordinator", ("ingest_lost", "ingest_p99", "ingest_cpu", "ingest_edges_cpu", "ingest_limit"), _ingest),
    (
        "a broker that is killed under 210 edges",
        ("restart_back", "restart_storm", "restart_lost", "restart_envelope_breaches"),
        _restart,
    ),
)
"""What is measured in words, the names of the rows, and the measurement. `schedule` stands for all rows of `hil.bench_schedule`."""


def _print(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("row", "value", "unit", "target", "met", "how"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        met = {True: Text("yes", style="green"), False: Text("no", style="bold red"), None: Text("–")}[row["met"]]
        table.add_row(row["name"], f"{row['value']:.4g}", row["unit"], row["target"], met, Text(row.get("note", "")))
    Console(highlight=False, markup=False).print(table)
