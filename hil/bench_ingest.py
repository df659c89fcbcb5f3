"""Rows of the bench: how many connected edges one coordinator keeps up with, and where its limit is.

Three processes beside the bench: a real Mosquitto, the coordinator (`hil.ingest_host`) and the edges (`hil.ingest_load`). A report counts
as stored from the moment at which another reader of the store's file sees it; the bench looks every 20 ms. Lost is what the broker
acknowledged to an edge and the store does not have. CPU is by the kernel's account of each process. The edges share the cores with the
coordinator, so their own CPU is a row of its own: on hardware of theirs the coordinator would have it too.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct

from hil.broker import Broker
from hil.errors import RunError
from hil.ingest_host import READY, STORE_FILE
from hil.ingest_keys import name_of
from hil.scratch import discard, scratch_folder

EDGES: Final = 5000
PERIOD_S: Final = 5.0
BASE_S: Final = 60.0
RAMP_S: Final = 10.0
RAMP_GROWTH: Final = 1.5
RAMP_STEPS: Final = 8
FINE: Final = 1.1
"""The limit is known well enough when the lowest rate that was too high is so much above the highest that was not."""
ON_TIME: Final = 0.97
"""Edges that publish more slowly than this share of the rate have not offered it."""
LATENCY_TARGET_S: Final = 1.0
SETTLED_WITHIN_S: Final = 60.0
LOOK_S: Final = 0.02


class Stretch(Struct, frozen=True, kw_only=True):
    """What became of the reports of one stretch at an even rate; `offered` is the rate that the edges kept. CPU in cores."""

    rate: float
    offered: float
    published: int
    acknowledged: int
    stored: int
    lost: int
    p50_s: float
    p99_s: float
    worst_s: float
    coordinator_cores: float
    broker_cores: float
    edges_cores: float

    @property
    def kept_up(self) -> bool:
        """The whole rate was offered, nothing lost, and stored within the target."""
        whole = self.acknowledged == self.published and self.offered >= ON_TIME * self.rate
        return whole and self.lost == 0 and self.p99_s <= LATENCY_TARGET_S


def ingest_rows(
    mosquitto: Path | None = None, *, edges: int = EDGES, base_s: float = BASE_S, ramp_s: float = RAMP_S, steps: int = RAMP_STEPS
) -> list[dict[str, Any]]:
    """The rate of the target, then the limit in short stretches: ever higher ones, or lower ones where that is too high already."""
    folder = scratch_folder("ingest")
    try:
        with Broker(mosquitto) as broker, Trial(broker, folder, edges) as trial:
            base = trial.stretch(edges / PERIOD_S, base_s)

            def attempt(rate: float) -> Stretch:
                """A rate is too high when it was so twice: one disturbance of the machine is not the coordinator's."""
                tried = trial.stretch(rate, ramp_s)
                return tried if tried.kept_up else trial.stretch(rate, ramp_s)

            return _rows(edges, base, *find_limit(base, attempt, steps))
    finally:
        discard(folder)


def find_limit(first: Stretch, attempt: Callable[[float], Stretch], steps: int) -> tuple[Stretch | None, Stretch | None]:
    """The highest rate that was kept up and the lowest that was not, after at most so many attempts; None where there was none."""
    kept: Stretch | None = None
    missed: Stretch | None = None
    tried = first
    for step in range(steps + 1):
        if tried.kept_up:
            kept = tried
        else:
            missed = tried
        if step == steps or (kept is not None and missed is not None and missed.rate <= FINE * kept.rate):
            break
        if kept is None:
            rate = tried.rate / RAMP_GROWTH
        elif missed is None:
            rate = tried.rate * RAMP_GROWTH
        else:
            rate = math.sqrt(kept.rate * missed.rate)
        tried = attempt(rate)
    return kept, missed


def _rows(edges: int, base: Stretch, kept: Stretch | None, missed: Stretch | None) -> list[dict[str, Any]]:
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return [
        {
            "name": "ingest_lost",
            "value": float(base.lost),
            "unit": "messages",
            "target": "0",
            "met": base.lost == 0 and base.acknowledged == base.published,
            "note": f"{base.published} published at QoS 1, {base.acknowledged} acknowledged by the broker, {base.stored} stored",
        },
        {
            "name": "ingest_p99",
            "value": base.p99_s,
            "unit": "s",
            "target": f"<= {LATENCY_TARGET_S:g}",
            "met": base.p99_s <= LATENCY_TARGET_S,
            "note": f"publish to store; {edges} connections, {base.offered:.0f}/s signed; median {base.p50_s:.2f} s,"
            f" worst {base.worst_s:.2f} s; {load}",
        },
        {
            "name": "ingest_cpu",
            "value": 1e6 * base.coordinator_cores / base.offered,
            "unit": "us",
            "target": "",
            "met": None,
            "note": f"of the coordinator a report; {base.coordinator_cores:.2f} cores, broker {base.broker_cores:.2f}",
        },
        {
            "name": "ingest_edges_cpu",
            "value": 1e6 * base.edges_cores / base.offered,
            "unit": "us",
            "target": "",
            "met": None,
            "note": f"of the edges a report, on the same {os.cpu_count()} cores: {base.edges_cores:.2f} cores; signed before each stretch",
        },
        _limit_row(edges, kept, missed),
    ]


def _limit_row(edges: int, kept: Stretch | None, missed: Stretch | None) -> dict[str, Any]:
    words = [f"nothing lost and p99 within {LATENCY_TARGET_S:g} s"]
    if kept is not None:
        cores = f"cores: coordinator {kept.coordinator_cores:.2f}, broker {kept.broker_cores:.2f}, edges {kept.edges_cores:.2f}"
        words.append(f"p99 {kept.p99_s:.2f} s, {cores}")
    if missed is not None:
        words.append(f"too high: {missed.rate:.0f}/s, {missed.lost} lost, p99 {missed.p99_s:.2f} s, {missed.offered:.0f}/s offered")
    return {
        "name": "ingest_limit",
        "value": 0.0 if kept is None else kept.offered,
        "unit": "1/s",
        "target": f">= {edges / PERIOD_S:.0f}",
        "met": kept is not None and kept.rate >= edges / PERIOD_S,
        "note": "; ".join(words),
    }


class Trial:
    """The processes of one measurement, as a context."""

    def __init__(self, broker: Broker, folder: Path, edges: int) -> None:
        self._broker = broker
        self._folder = folder
        self._edges = edges
        self._host = self._start_host()
        self._load = subprocess.Popen(
            [sys.executable, "-m", "hil.ingest_load", str(broker.port), str(edges)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._number = 0

    def __enter__(self) -> Trial:
        self._answer()
        self._await_host()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._load, self._host):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20.0)
            if process.poll() is None:
                process.kill()
                process.wait()
        for pipe in (self._load.stdin, self._load.stdout, self._host.stdout):
            assert pipe is not None
            pipe.close()

    def power_cycle(self) -> None:
        """The coordinator dies in the middle of whatever it does, and comes back."""
        self._host.kill()
        self._host.communicate()
        self._host = self._start_host()
        self._await_host()

    def _start_host(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hil.ingest_host", str(self._broker.port), str(self._folder), str(self._edges)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def _await_host(self) -> None:
        assert self._host.stdout is not None
        if self._host.stdout.readline().strip() != READY:
            raise RunError("the coordinator of the ingest measurement did not come up")

    def stretch(self, rate: float, seconds: float) -> Stretch:
        """Let the edges report at this rate, and wait until the store has everything or stands still."""
        self._number += 1
        file = self._folder / f"stretch-{self._number}.npy"
        before = self._cpu_s()
        eyes = _Eyes(self._folder / STORE_FILE)
        eyes.start()
        self._order({"rate": rate, "seconds": seconds, "file": str(file)})
        said = self._answer()
        reports = np.load(file)
        self._settle(eyes, int(said["acknowledged"]))
        eyes.stop()
        after = self._cpu_s()
        spent_s = float(said["seconds"])
        stored = eyes.stored()
        keys = [(name_of(int(index)), int(sequence)) for index, sequence in reports[:, :2]]
        acknowledged = reports[:, 3] > 0.0
        lost = sum(1 for key, known in zip(keys, acknowledged, strict=True) if known and key not in stored)
        delays_s = np.array([stored[key] - at_s for key, at_s in zip(keys, reports[:, 2], strict=True) if key in stored])
        if len(delays_s) == 0:
            raise RunError("the coordinator stored nothing")
        return Stretch(
            rate=rate,
            offered=int(said["published"]) / spent_s,
            published=int(said["published"]),
            acknowledged=int(said["acknowledged"]),
            stored=len(delays_s),
            lost=lost,
            p50_s=float(np.quantile(delays_s, 0.5)),
            p99_s=float(np.quantile(delays_s, 0.99)),
            worst_s=float(delays_s.max()),
            coordinator_cores=max(after[0] - before[0], 0.0) / spent_s,
            broker_cores=(after[1] - before[1]) / spent_s,
            edges_cores=float(said["cpu_s"]) / spent_s,
        )

    def _settle(self, eyes: _Eyes, wanted: int) -> None:
        deadline_s = time.monotonic() + SETTLED_WITHIN_S
        while eyes.count < wanted and time.monotonic() < deadline_s:
            if self._host.poll() is not None:
                raise RunError(f"the coordinator ended with status {self._host.returncode}")
            time.sleep(0.05)

    def _order(self, order: dict[str, Any]) -> None:
        assert self._load.stdin is not None
        self._load.stdin.write(json.dumps(order) + "\n")
        self._load.stdin.flush()

    def _answer(self) -> dict[str, float]:
        assert self._load.stdout is not None
        line = self._load.stdout.readline()
        if line == "":
            raise RunError(f"the edges of the ingest measurement ended with status {self._load.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def _cpu_s(self) -> tuple[float, float]:
        assert self._broker.pid is not None
        return _process_cpu_s(self._host.pid), _process_cpu_s(self._broker.pid)


class _Eyes(threading.Thread):
    """Another reader of the store: notes when which rows of the telemetry table became visible."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._file = file
        self._ended = threading.Event()
        self._marks: list[tuple[int, float]] = []
        self._first = self._newest()
        self.count = 0

    def run(self) -> None:
        connection = sqlite3.connect(self._file)
        last = self._first
        while not self._ended.wait(LOOK_S):
            newest = int(connection.execute("SELECT coalesce(max(rowid), 0) FROM telemetry").fetchone()[0])
            if newest > last:
                self._marks.append((newest, time.time()))
                self.count = newest - self._first
                last = newest
        connection.close()

    def stop(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()

    def stored(self) -> dict[tuple[str, int], float]:
        """When each row was first seen, by node and sequence number."""
        connection = sqlite3.connect(self._file)
        rows = connection.execute("SELECT rowid, node, sequence FROM telemetry WHERE rowid > ? ORDER BY rowid", (self._first,)).fetchall()
        connection.close()
        ends = np.array([newest for newest, _ in self._marks])
        times_s = [at_s for _, at_s in self._marks]
        places = np.searchsorted(ends, [row[0] for row in rows])
        return {
            (node, sequence): times_s[place] for (_, node, sequence), place in zip(rows, places, strict=True) if place < len(times_s)
        }

    def _newest(self) -> int:
        with suppress(sqlite3.OperationalError):
            connection = sqlite3.connect(self._file)
            try:
                return int(connection.execute("SELECT coalesce(max(rowid), 0) FROM telemetry").fetchone()[0])
            finally:
                connection.close()
        return 0


def _process_cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
