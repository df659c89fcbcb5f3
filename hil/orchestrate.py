"""Both variants of a scenario's day, each in a process of its own, with one progress display; and what they leave on disk.

The two runs share nothing but the scenario, so two cores do them at once. A run writes its record and its outcome into the output folder
and reports progress through a pipe; when a process ends without its outcome, that is an error with its exit status.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from hil.checkers import CheckResult, total_violations
from hil.day import build_day
from hil.errors import HilError, RunError
from hil.faults import FaultPlan
from hil.feeder import read_feeder
from hil.frames import Glance, Record, load_record
from hil.realtime import RealtimeRun
from hil.results import (
    UNCOORDINATED,
    WITH_ENVELOPES,
    Results,
    RunSummary,
    checker_entries,
    commit_of,
    verdict,
    versions,
    write_results,
)
from hil.run import FeederRun, RunOutcome
from hil.scenario import LoadedScenario
from hil.scratch import discard, discard_all, ended_in_order, leave_in_order, scratch_folder
from hil.serving import ServedPage
from hil.stage import DEVICE_TIMEOUT_S, PATIENT_TIMEOUT_S, MemoryStage, SocketStage, Stage
from hil.world import World

Mode = Literal["sim", "lockstep", "realtime"]
VARIANTS = (UNCOORDINATED, WITH_ENVELOPES)
RunProgress = Callable[[str, int, int], None]
RunGlance = Callable[[str, Glance], None]
PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 20.0


class Order(Struct, frozen=True, kw_only=True):
    """What is to be run."""

    loaded: LoadedScenario
    mode: Mode
    seed: int
    out: Path
    mosquitto: Path | None = None
    variants: tuple[str, ...] = VARIANTS
    page_port: int | None = None


class Finished(Struct, frozen=True, kw_only=True):
    """What one variant leaves; its record lies beside it."""

    summary: RunSummary
    checks: list[CheckResult]
    plan: FaultPlan
    timings: dict[str, float]


def run_order(order: Order, progress: RunProgress, glance: RunGlance | None = None) -> Results:
    """Run the variants of an order side by side and write `results.json`, `timings.json` and the records into its folder."""
    order.out.mkdir(parents=True, exist_ok=True)
    begun_s = time.monotonic()
    finished = (_in_processes if len(order.variants) > 1 else _here)(order, progress, glance)
    timings = {variant: done.timings for variant, done in finished.items()}
    timings["both"] = {"wall_s": time.monotonic() - begun_s}
    (order.out / "timings.json").write_bytes(msgspec.json.format(msgspec.json.encode(timings), indent=1) + b"\n")
    results = gather(order, finished)
    write_results(results, order.out / "results.json")
    return results


def gather(order: Order, finished: dict[str, Finished]) -> Results:
    """The results of both runs as one value."""
    scenario = order.loaded.scenario
    runs = {variant: done.summary for variant, done in finished.items()}
    checkers = [entry for variant, done in finished.items() for entry in checker_entries(variant, done.checks)]
    plan = next(iter(finished.values())).plan
    return Results(
        scenario=scenario.name,
        title=scenario.title,
        mode=order.mode,
        seed=order.seed,
        commit=commit_of(Path(__file__).parent),
        versions=versions(),
        start_s=scenario.day.start_s,
        utc_offset_s=scenario.day.utc_offset_s,
        duration_h=scenario.day.duration_h,
        homes=len(next(iter(runs.values())).homes),
        currency=scenario.tariff.currency,
        limits=scenario.limits,
        fault_rates=plan.rates,
        faults=plan.faults,
        passed=total_violations([check for done in finished.values() for check in done.checks]) == 0,
        verdict=verdict(runs, checkers, scenario.limits),
        runs=runs,
        checkers=tuple(checkers),
    )


def run_variant(
    order: Order, variant: str, progress: Callable[[int, int], None], glance: Callable[[Glance], None] | None = None
) -> RunOutcome:
    """One variant in this process."""
    loaded = order.loaded
    folder = scratch_folder(variant, in_memory=order.mode != "realtime")
    coordinated = variant == WITH_ENVELOPES
    try:
        if order.mode == "realtime":
            live = RealtimeRun(
                loaded,
                seed=order.seed,
                coordinated=coordinated,
                folder=folder,
                mosquitto=order.mosquitto,
                page_port=order.page_port if coordinated else None,
                glance=glance,
            )
            return asyncio.run(ended_in_order(live.play(progress)))
        day = build_day(loaded)
        world = World(read_feeder(loaded.network_folder), day)
        timeout_s = DEVICE_TIMEOUT_S if loaded.scenario.faults.enabled else PATIENT_TIMEOUT_S
        stage: Stage = (
            MemoryStage() if order.mode == "sim" else SocketStage(world.homes, order.mosquitto, device_timeout_s=timeout_s)
        )
        served = None
        if coordinated and order.page_port is not None and isinstance(stage, SocketStage):
            served = ServedPage(order.page_port, folder / "page", order.mosquitto)
        run = FeederRun(loaded, day, world, stage, seed=order.seed, coordinated=coordinated, folder=folder, served=served, glance=glance)
        return run_on_loop(order.mode, run, progress)
    finally:
        discard(folder)


def run_on_loop(mode: Literal["sim", "lockstep"], run: FeederRun, progress: Callable[[int, int], None]) -> RunOutcome:
    """Virtual time needs no sockets, real sockets are cheaper under uvloop where it is there."""
    if mode == "lockstep" and sys.platform != "win32":
        import uvloop

        return uvloop.run(ended_in_order(run.play(progress)))
    return asyncio.run(ended_in_order(run.play(progress)))


def record_path(out: Path, variant: str) -> Path:
    """Where the series of one variant lie."""
    return out / f"{variant}.npz"


def _here(order: Order, progress: RunProgress, glance: RunGlance | None) -> dict[str, Finished]:
    return {
        variant: _finish(
            order, variant, functools.partial(progress, variant), None if glance is None else functools.partial(glance, variant)
        )
        for variant in order.variants
    }


def _finish(
    order: Order, variant: str, progress: Callable[[int, int], None], glance: Callable[[Glance], None] | None
) -> Finished:
    outcome = run_variant(order, variant, progress, glance)
    outcome.record.save(record_path(order.out, variant))
    return Finished(summary=outcome.summary, checks=outcome.checks, plan=outcome.plan, timings=outcome.timings)


def _in_processes(order: Order, progress: RunProgress, glance: RunGlance | None) -> dict[str, Finished]:
    # One thread for linear algebra in each process: two of them on two cores would wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    children = {}
    for variant in order.variants:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(order, variant, there, logging.getLogger().level), daemon=True)
        process.start()
        there.close()
        children[here] = (variant, process)
    finished: dict[str, Finished] = {}
    try:
        while children:
            for ready in wait(list(children)):
                assert isinstance(ready, Connection)
                variant, process = children[ready]
                try:
                    kind, *content = ready.recv()
                except EOFError:
                    process.join()
                    raise RunError(f"the run {variant!r} ended with status {process.exitcode} and left no result") from None
                if kind == "progress":
                    progress(variant, *content)
                elif kind == "glance":
                    if glance is not None:
                        glance(variant, *content)
                elif kind == "error":
                    raise RunError(f"{variant}: {content[0]}")
                else:
                    finished[variant] = msgspec.json.decode(content[0], type=Finished)
                    process.join()
                    del children[ready]
    finally:
        for _, process in children.values():
            process.terminate()
            process.join(STOP_TIMEOUT_S)
            process.kill()
    return {variant: finished[variant] for variant in order.variants}


def _child(order: Order, variant: str, pipe: Connection, log_level: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # Whoever interrupts the command interrupts its parent, and that ends this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_in_order()
    # pymodbus logs every late answer as an error of its own; the driver of the edge reports what matters of it.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    logging.basicConfig(level=log_level, format=f"%(asctime)s {variant} %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        finished = _finish(
            order, variant, lambda done, total: pipe.send(("progress", done, total)), lambda seen: pipe.send(("glance", seen))
        )
    except HilError as error:
        pipe.send(("error", str(error)))
    else:
        pipe.send(("done", msgspec.json.encode(finished)))
    finally:
        discard_all()
    pipe.close()


def load_records(out: Path, variants: Sequence[str]) -> dict[str, Record]:
    """The series of the runs whose results lie in `out`."""
    return {variant: load_record(record_path(out, variant)) for variant in variants}
