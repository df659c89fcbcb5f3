"""What `run` and `sweep` do once their arguments are read."""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import as_completed
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from hil.checkers import CheckResult
from hil.display import RunDisplay, print_results
from hil.errors import ScenarioError
from hil.orchestrate import Order, load_records, run_order, run_variant
from hil.processes import workers
from hil.report import write_report
from hil.results import WITH_ENVELOPES
from hil.scenario import LoadedScenario, load_scenario, part_of_day
from hil.serving import page_url


def run_command(options: argparse.Namespace) -> int:
    """Run one scenario and leave report, results and series in the output folder."""
    loaded = _loaded(options)
    if options.no_faults:
        faults = msgspec.structs.replace(loaded.scenario.faults, enabled=False)
        loaded = _with(loaded, faults=faults)
    seed = loaded.scenario.seed if options.seed is None else options.seed
    if not 0 <= seed < 2**32:
        raise ScenarioError(f"--seed must be from 0 to {2**32 - 1}, got {seed}")
    out = Path("out") / loaded.scenario.name if options.out is None else options.out
    if options.serve is not None and options.mode == "sim":
        raise ScenarioError("--serve needs a broker to listen to: --mode lockstep or realtime, got sim")
    order = Order(loaded=loaded, mode=options.mode, seed=seed, out=out, mosquitto=options.mosquitto, page_port=options.serve)
    if order.page_port is not None:
        sys.stderr.write(f"the page, while the run lasts: {page_url(order.page_port)}\n")
    with RunDisplay(loaded.scenario.control.cycle_s, loaded.scenario.limits, utc_offset_s=loaded.scenario.day.utc_offset_s) as display:
        results = run_order(order, display.update, display.glance)
    report = out / "report.html"
    write_report(results, load_records(out, tuple(results.runs)), report)
    if options.json:
        sys.stdout.write(msgspec.json.encode(results).decode() + "\n")
    else:
        print_results(results)
        sys.stdout.write(f"\nreport: {report}\nresults: {out / 'results.json'}\n")
    return 0 if results.passed else 1


class SweepRow(Struct, frozen=True, kw_only=True):
    """One checker over all seeds."""

    name: str
    checks: int
    violations: int
    excused: int


class SweepResult(Struct, frozen=True, kw_only=True):
    """What a sweep found. `replay` is one command for each seed that failed."""

    scenario: str
    hours: float
    seeds: tuple[int, ...]
    faults: int
    passed: bool
    failing_seeds: tuple[int, ...]
    replay: tuple[str, ...]
    checkers: tuple[SweepRow, ...]


def sweep_command(options: argparse.Namespace) -> int:
    """Run the coordinated day once for each seed, in virtual time, and sum the checkers."""
    loaded, seeds = _loaded(options), _seeds(options.seeds)
    jobs = os.cpu_count() or 1 if options.jobs is None else max(1, options.jobs)
    totals: dict[str, list[int]] = {}
    failing: list[int] = []
    faults = 0
    with workers(jobs) as pool:
        waiting = {pool.submit(_one_seed, loaded, seed): seed for seed in seeds}
        for number, future in enumerate(as_completed(waiting), start=1):
            seed = waiting[future]
            count, checks = future.result()
            faults += count
            broken = [check for check in checks if check.violations > 0]
            for check in checks:
                row = totals.setdefault(check.name, [0, 0, 0])
                for place, value in enumerate((check.checks, check.violations, sum(check.excused.values()))):
                    row[place] += value
            if broken:
                failing.append(seed)
            words = "passed" if not broken else "; ".join(f"{check.name}: {check.details[0]}" for check in broken)
            sys.stderr.write(f"seed {seed} ({number} of {len(seeds)}): {words}\n")
    result = SweepResult(
        scenario=loaded.scenario.name,
        hours=loaded.scenario.day.duration_h,
        seeds=seeds,
        faults=faults,
        passed=not failing,
        failing_seeds=tuple(sorted(failing)),
        replay=tuple(_replay(options, seed) for seed in sorted(failing)),
        checkers=tuple(
            SweepRow(name=name, checks=row[0], violations=row[1], excused=row[2]) for name, row in sorted(totals.items())
        ),
    )
    _print_sweep(result, as_json=options.json)
    return 0 if result.passed else 1


def _one_seed(loaded: LoadedScenario, seed: int) -> tuple[int, list[CheckResult]]:
    order = Order(loaded=loaded, mode="sim", seed=seed, out=Path(), variants=(WITH_ENVELOPES,))
    outcome = run_variant(order, WITH_ENVELOPES, lambda done, total: None)
    return len(outcome.plan.faults), outcome.checks


def _print_sweep(result: SweepResult, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("checker", "checks", "violations", "excused"):
        table.add_column(column, justify="left" if column == "checker" else "right")
    for row in result.checkers:
        table.add_row(row.name, f"{row.checks:,}", f"{row.violations:,}", f"{row.excused:,}")
    console = Console(highlight=False)
    console.print(f"{result.scenario}: {len(result.seeds)} seeds of {result.hours:g} h, {result.faults:,} faults")
    console.print(table)
    for command in result.replay:
        console.print(f"replay: {command}")


def _replay(options: argparse.Namespace, seed: int) -> str:
    parts = ["commonwatt-hil run", options.scenario, "--mode sim", f"--seed {seed}"]
    if options.data is not None:
        parts.append(f"--data {options.data}")
    if options.from_h is not None:
        parts.append(f"--from {options.from_h:g}")
    if options.hours is not None:
        parts.append(f"--hours {options.hours:g}")
    return " ".join(parts)


def _loaded(options: argparse.Namespace) -> LoadedScenario:
    return part_of_day(load_scenario(options.scenario, data=options.data), options.from_h, options.hours)


def _with(loaded: LoadedScenario, **sections: object) -> LoadedScenario:
    return msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(loaded.scenario, **sections))


def _seeds(text: str) -> tuple[int, ...]:
    first, separator, last = text.partition(":")
    if not (separator and first.isdigit() and last.isdigit() and int(first) < int(last) <= 2**32):
        raise ScenarioError(f"--seeds must be A:B with A below B, such as 1:21, got {text!r}")
    return tuple(range(int(first), int(last)))
