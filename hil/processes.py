"""Processes of the bench: the participants of a realtime run, started and cut as in the field, and workers that share seeds out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from hil.broker import die_with_parent
from hil.errors import RunError
from hil.scratch import leave_in_order

FORK_ABOVE = 4
"""Up to this many edges are started by their own command; above, by a fork server."""

STOP_TIMEOUT_S = 20.0


class EdgeProcesses:
    """One process for each edge, `commonwatt-edge run` or a fork of `hil.edge_farm` that does the same."""

    def __init__(self, configs: Mapping[str, Path]) -> None:
        self._configs = configs
        self._own: dict[str, subprocess.Popen[bytes]] = {}
        self._farm: subprocess.Popen[str] | None = None
        self.alive: set[str] = set()
        if len(configs) > FORK_ABOVE:
            self._farm = subprocess.Popen(
                [sys.executable, "-m", "hil.edge_farm"], stdin=subprocess.PIPE, text=True, env=_environment(), start_new_session=True
            )

    def start(self, name: str) -> None:
        """Power on."""
        if self._farm is not None:
            self._order(f"start {name} {self._configs[name]}")
        else:
            self._own[name] = start_command("commonwatt-edge", "run", "--config", str(self._configs[name]))
        self.alive.add(name)

    def kill(self, name: str) -> None:
        """Power off."""
        if name not in self.alive:
            return
        if self._farm is not None:
            self._order(f"kill {name}")
        else:
            process = self._own.pop(name)
            process.kill()
            process.wait()
        self.alive.discard(name)

    def check(self) -> None:
        """Raise `RunError` for a process that ended by itself."""
        if self._farm is not None and self._farm.poll() is not None:
            raise RunError(f"the fork server of the edges ended with status {self._farm.returncode}")
        for name, process in self._own.items():
            if process.poll() is not None:
                raise RunError(f"the edge of {name} ended with status {process.returncode}")

    def stop(self) -> None:
        """End all in order."""
        if self._farm is not None and self._farm.stdin is not None:
            self._farm.stdin.close()
            stop_process(self._farm)
        for process in self._own.values():
            process.terminate()
        for process in self._own.values():
            stop_process(process)
        self.alive.clear()

    def _order(self, line: str) -> None:
        assert self._farm is not None and self._farm.stdin is not None
        self._farm.stdin.write(line + "\n")
        self._farm.stdin.flush()


def start_command(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """One of the console scripts that were installed beside this interpreter. It ends with this process, also when that is killed."""
    program = Path(sys.executable).parent / name
    return subprocess.Popen(
        [str(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=_environment(),
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )


def stop_process(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Wait for an end in order, and insist where there is none."""
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes for independent work; when whoever ordered it fails or is ended, what has not begun is not begun."""
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn"), initializer=_begin_work)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_work() -> None:
    if sys.platform == "linux":
        die_with_parent()
    leave_in_order()
