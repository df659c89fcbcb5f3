"""`commonwatt-hil sweep election|aggregation` and `commonwatt-hil mutants`: many seeded runs, and bugs planted on purpose.

Every fourth election run is a liveness run: its faults stop, and the community must converge. All runs go through processes of their own,
so a planted bug never reaches another run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from hil.errors import ScenarioError
from hil.processes import workers
from hil.simulation import aggregation, aggregation_world, election
from hil.simulation.aggregation_mutants import AGGREGATION_MUTANTS
from hil.simulation.mutants import MUTANTS, Mutant

BATCH: Final = 25
MUTANT_SEEDS: Final = 400
"""Tried for each bug that the seed which is known to catch it does not."""


class Sweep(Struct, frozen=True, kw_only=True):
    """What a range of seeds gave, summed."""

    runs: int
    checks: dict[str, int]
    violations: dict[str, int]
    failing_seeds: tuple[int, ...]
    excused: int
    counted: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether no checker of any run was violated."""
        return not self.failing_seeds


class Catch(Struct, frozen=True, kw_only=True):
    """How a planted bug fared: the seed and the checkers that caught it, or neither."""

    world: str
    name: str
    rule: str
    seed: int | None
    checkers: tuple[str, ...]
    runs: int


def sweep(world: str, seeds: Sequence[int], *, jobs: int, say: Callable[[str], object] = lambda words: None) -> Sweep:
    """Run all seeds of one simulated world and sum its checkers."""
    batches = [tuple(seeds[start : start + BATCH]) for start in range(0, len(seeds), BATCH)]
    parts: list[Sweep] = []
    done = 0
    for part in _through_processes(_sweep_batch, [(world, batch) for batch in batches], jobs):
        parts.append(part)
        done += part.runs
        for seed in part.failing_seeds:
            say(f"seed {seed} violates a checker\n")
        if len(parts) % 20 == 0 or done == len(seeds):
            say(f"{done:,} of {len(seeds):,} runs, {sum(len(one.failing_seeds) for one in parts)} failed\n")
    return _summed(parts)


def catch_all(names: Sequence[str], seeds: int, *, jobs: int, say: Callable[[str], object] = lambda words: None) -> list[Catch]:
    """Plant each bug of both lists in turn and look for a seed that catches it, first the one that is known to."""
    orders = [(world, index, seeds) for world, _, index in _mutants(names)]
    catches = []
    for catch in _through_processes(_catch, orders, jobs):
        catches.append(catch)
        say(f"{catch.world}: {catch.name}: " + ("SURVIVES\n" if catch.seed is None else f"caught by seed {catch.seed}\n"))
    listed = [(world, mutant.name) for world, mutant, _ in _mutants(names)]
    return sorted(catches, key=lambda catch: listed.index((catch.world, catch.name)))


def planted_rows(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The row of the bench: how many of the planted bugs, or of those with such names, no seed has caught."""
    catches = catch_all(names, MUTANT_SEEDS, jobs=_jobs(None))
    survivors = [catch.name for catch in catches if catch.seed is None]
    note = f"{len(catches) - len(survivors)} of {len(catches)} are caught{': not ' + ', '.join(survivors) if survivors else ''}"
    met = not survivors and len(catches) > 0
    return [
        {"name": "planted_bugs_missed", "value": len(survivors), "unit": "bugs", "target": "<= 0", "met": met, "note": note}
    ]


def sweep_simulation_command(options: argparse.Namespace) -> int:
    """`sweep election` and `sweep aggregation`."""
    world = options.scenario
    seeds = _seeds(options.seeds)
    begun_s = time.monotonic()
    found = sweep(world, seeds, jobs=_jobs(options.jobs), say=sys.stderr.write)
    took_s = time.monotonic() - begun_s
    replay = [f"commonwatt-hil sweep {world} --seeds {seed}:{seed + 1}" for seed in found.failing_seeds]
    rows = [
        {"name": name, "checks": checks, "violations": found.violations[name], "excused": found.excused if name == "heals" else 0}
        for name, checks in found.checks.items()
    ]
    if options.json:
        document = {
            "scenario": world, "seeds": [seeds[0], seeds[-1] + 1], "runs": found.runs, "passed": found.passed, "took_s": took_s,
            "failing_seeds": found.failing_seeds, "replay": replay, "checkers": rows, "counted": found.counted,
        }  # fmt: skip
        sys.stdout.write(json.dumps(document) + "\n")
        return 0 if found.passed else 1
    table = _table(("checker", "checks", "violations", "excused"))
    for row in rows:
        table.add_row(str(row["name"]), f"{row['checks']:,}", f"{row['violations']:,}", f"{row['excused']:,}")
    console = Console(highlight=False)
    words = ", ".join(f"{number:,} {what}" for what, number in found.counted.items())
    console.print(f"{world}: {found.runs:,} runs in {took_s:.0f} s, {words}")
    console.print(table)
    for line in replay:
        console.print(f"replay: {line}")
    if len(seeds) == 1:
        for line in _violations(world, seeds[0]):
            console.print(line, markup=False)
    return 0 if found.passed else 1


def mutants_command(options: argparse.Namespace) -> int:
    """`mutants`: 1 where a planted bug survives."""
    if options.seeds < 1:
        raise ScenarioError(f"--seeds must be at least 1, got {options.seeds}")
    names = options.only or ()
    if not list(_mutants(names)):
        raise ScenarioError(f"no planted bug has {' or '.join(names)} in its name")
    catches = catch_all(names, options.seeds, jobs=_jobs(options.jobs), say=sys.stderr.write)
    survivors = [catch.name for catch in catches if catch.seed is None]
    if options.json:
        rows = [{field: getattr(catch, field) for field in Catch.__struct_fields__} for catch in catches]
        sys.stdout.write(json.dumps({"caught": len(catches) - len(survivors), "survivors": survivors, "mutants": rows}) + "\n")
        return 1 if survivors else 0
    table = _table(("simulation", "planted bug", "rule that it breaks", "caught by seed", "checkers"))
    for catch in catches:
        seed = "[bold red]survives[/]" if catch.seed is None else str(catch.seed)
        table.add_row(catch.world, catch.name, catch.rule, seed, ", ".join(catch.checkers))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(catches) - len(survivors)} of {len(catches)} planted bugs are caught")
    return 1 if survivors else 0


def _mutants(names: Sequence[str]) -> Iterator[tuple[str, Mutant, int]]:
    for world, mutants in (("election", MUTANTS), ("aggregation", AGGREGATION_MUTANTS)):
        for index, mutant in enumerate(mutants):
            if not names or any(name in mutant.name for name in names):
                yield world, mutant, index


def _catch(order: tuple[str, int, int]) -> Catch:
    world, index, seeds = order
    mutant = (MUTANTS if world == "election" else AGGREGATION_MUTANTS)[index]
    with mutant.plant():
        for runs, seed in enumerate((mutant.seed, *range(seeds)), start=1):
            violations = _run(world, seed).violations
            checkers = tuple(name for name, found in violations.items() if found)
            if checkers:
                return Catch(world=world, name=mutant.name, rule=mutant.rule, seed=seed, checkers=checkers, runs=runs)
    return Catch(world=world, name=mutant.name, rule=mutant.rule, seed=None, checkers=(), runs=seeds + 1)


def _run(world: str, seed: int) -> election.Outcome | aggregation_world.Outcome:
    return election.simulate(seed, liveness=seed % 4 == 0) if world == "election" else aggregation.simulate(seed)


def _sweep_batch(order: tuple[str, tuple[int, ...]]) -> Sweep:
    world, seeds = order
    parts = []
    for seed in seeds:
        outcome = _run(world, seed)
        if isinstance(outcome, election.Outcome):
            excused, counted = int(bool(outcome.excused)), {"terms": outcome.terms}
        else:
            refusals = sum(outcome.refusals.values())
            excused, counted = 0, {"rounds": outcome.rounds, "sums": outcome.accepted, "refusals by rule": refusals}
        parts.append(
            Sweep(
                runs=1,
                checks=outcome.checks,
                violations={name: len(found) for name, found in outcome.violations.items()},
                failing_seeds=() if outcome.safe else (seed,),
                excused=excused,
                counted=counted,
            )
        )
    return _summed(parts)


def _summed(parts: Sequence[Sweep]) -> Sweep:
    def total(dictionaries: list[dict[str, int]]) -> dict[str, int]:
        return {name: sum(one[name] for one in dictionaries) for name in dictionaries[0]}

    return Sweep(
        runs=sum(part.runs for part in parts),
        checks=total([part.checks for part in parts]),
        violations=total([part.violations for part in parts]),
        failing_seeds=tuple(sorted(seed for part in parts for seed in part.failing_seeds)),
        excused=sum(part.excused for part in parts),
        counted=total([part.counted for part in parts]),
    )


def _violations(world: str, seed: int) -> Iterator[str]:
    for name, found in _run(world, seed).violations.items():
        for words in found:
            yield f"{name}: {words}"


def _through_processes(work: Callable[[Any], Any], orders: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Results as they come; one process works here, without starting another."""
    if jobs == 1 or len(orders) == 1:
        yield from map(work, orders)
        return
    with workers(min(jobs, len(orders))) as pool:
        waiting: list[Future[Any]] = [pool.submit(work, order) for order in orders]
        for future in as_completed(waiting):
            yield future.result()


def _jobs(asked: int | None) -> int:
    return max(1, (os.cpu_count() or 1) if asked is None else asked)


def _seeds(text: str) -> range:
    first, separator, last = text.partition(":")
    if not (separator and first.isdigit() and last.isdigit() and int(first) < int(last) <= 2**32):
        raise ScenarioError(f"--seeds must be A:B with A below B, such as 0:10000, got {text!r}")
    return range(int(first), int(last))


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in ("checks", "violations", "excused", "caught by seed") else "left")
    return table
