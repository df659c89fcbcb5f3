"""Rows of the bench: what an edge costs as it is deployed, with mutual TLS, metrics that are scraped, and Home Assistant's discovery.

A community is founded and a household enrolled by the commands themselves; its devices (meter, PV, battery), the community's broker, the
home's broker and `commonwatt-edge run` are processes of their own. The edge lives for a while at a cycle of one second, plans every minute
(the default is every five) and is scraped every 15 s. Memory and CPU time are the kernel's account of that one process.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from coordinator.cli import main as coordinator_main
from edge.cli import main as edge_main
from hil.broker import Broker, _environment, _free_port, find_mosquitto
from hil.errors import RunError
from hil.scratch import discard, scratch_folder

NODE: Final = "h07"
CONNECTION: Final = "load18"
WARM_UP_S: Final = 20.0
WATCHED_S: Final = 130.0
SCRAPE_S: Final = 15.0
START_TIMEOUT_S: Final = 60.0
MOST_MB: Final = 80.0
MOST_CPU_PCT: Final = 3.0
DEVICES: Final = ("--ev-charger", "none", "--port", "0", "--json", "--start", "11:00")


def deployed_rows(mosquitto: Path | None = None, watched_s: float = WATCHED_S) -> list[dict[str, Any]]:
    """Memory and CPU share of one deployed edge."""
    folder = scratch_folder("bench-deployed")
    try:
        with contextlib.ExitStack() as stack:
            places = stack.enter_context(_devices(folder))
            home = stack.enter_context(Broker(mosquitto))
            config, metrics_port = _household(folder, places, home.port)
            stack.enter_context(_broker(mosquitto, folder / "community" / "broker" / "mosquitto.conf"))
            run = ["edge.cli", "--log-level", "warning", "run", "--config", str(config)]
            edge = stack.enter_context(_process(run, folder / "edge.log"))
            rss_mb, cpu_pct, scrapes = _watch(edge, metrics_port, watched_s)
    finally:
        discard(folder)
    how = f"commonwatt-edge run: 3 devices, 1 s cycle, mutual TLS, discovery, {scrapes} scrapes in {watched_s:.0f} s, a plan every 60 s"
    return [
        {"name": "edge_deployed_memory", "value": rss_mb, "unit": "MB", "target": f"<= {MOST_MB:g}", "met": rss_mb <= MOST_MB, "note": how},
        {
            "name": "edge_deployed_cpu",
            "value": cpu_pct,
            "unit": "% of a core",
            "target": f"<= {MOST_CPU_PCT:g}",
            "met": cpu_pct <= MOST_CPU_PCT,
            "note": "user and system time of the process over wall time, the same run",
        },
    ]


def _household(folder: Path, places: list[str], home_port: int) -> tuple[Path, int]:
    """Found a community and enrol the household, by the commands; returns its configuration and where its metrics are."""
    community, config, identity = folder / "community", folder / "edge.toml", folder / "identity"
    broker_port, page_port, metrics_port = (_free_port() for _ in range(3))
    founding = ["init", str(community), "--community", "bench", "--network", "ieee33", "--host", "127.0.0.1", "--port", str(broker_port)]
    founding += ["--websockets-port", str(page_port), *(["--broker-user", "root"] if os.geteuid() == 0 else [])]
    _command(coordinator_main, founding)
    ratings = ["--import-rating-w", "14490", "--export-rating-w", "5000", "--no-step", "--timeout-s", "5"]
    _command(edge_main, ["init", *places, *ratings, "--config", str(config), "--identity", str(identity)])
    bundle, request, answer = (folder / f"{NODE}.{kind}" for kind in ("bundle", "request", "answer"))
    own = ["--folder", str(community)]
    _command(coordinator_main, ["enrol", NODE, *own, "--connection", CONNECTION, "--out", str(bundle)])
    _command(edge_main, ["enrol", str(bundle), "--folder", str(identity), "--out", str(request)])
    _command(coordinator_main, ["accept", str(request), *own, "--out", str(answer)])
    _command(edge_main, ["enrol", str(answer), "--folder", str(identity), "--config", str(config)])
    with config.open("a", encoding="utf-8") as file:
        file.write(f"\n[schedule]\nperiod_s = 60.0\n\n[metrics]\nenabled = true\nport = {metrics_port}\n")
        file.write(f"\n[home_assistant]\nenabled = true\nbroker = {{ port = {home_port} }}\n")
    return config, metrics_port


def _command(main: Any, arguments: list[str]) -> None:
    """Give one command; what it says is shown only where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(arguments)
    if status != 0:
        raise RunError(f"{arguments[0]} ended with status {status}: {said.getvalue().strip()[-500:]}")


def _watch(edge: subprocess.Popen[bytes], metrics_port: int, watched_s: float) -> tuple[float, float, int]:
    """Let it live; returns memory at the end, CPU share, and how often it was scraped."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not _scrape(metrics_port):
        if edge.poll() is not None or time.monotonic() > deadline_s:
            raise RunError(f"the edge served no metrics within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.2)
    time.sleep(WARM_UP_S)
    begun_s, begun_cpu_s = time.monotonic(), _cpu_s(edge.pid)
    scrapes = 0
    while time.monotonic() - begun_s < watched_s:
        time.sleep(min(SCRAPE_S, max(begun_s + watched_s - time.monotonic(), 0.1)))
        scrapes += _scrape(metrics_port)
        if edge.poll() is not None:
            raise RunError(f"the edge ended with status {edge.returncode}")
    cpu_pct = 100.0 * (_cpu_s(edge.pid) - begun_cpu_s) / (time.monotonic() - begun_s)
    return _rss_mb(edge.pid), cpu_pct, scrapes


def _scrape(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as answer:
            return b"commonwatt" in answer.read()
    except OSError:
        return False


def _cpu_s(pid: int) -> float:
    """User and system time: fields 14 and 15 of proc(5)'s stat."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024.0
    raise RunError(f"the kernel does not tell the memory of process {pid}")


@contextlib.contextmanager
def _devices(folder: Path) -> Iterator[list[str]]:
    """Simulated devices; gives their addresses."""
    with _process(["hil.devices.cli", *DEVICES], folder / "devices.log") as process:
        text, deadline_s = "", time.monotonic() + START_TIMEOUT_S
        while not text.rstrip().endswith("]\n}"):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RunError("the simulated devices did not start")
            time.sleep(0.1)
            text = (folder / "devices.log").read_text(encoding="utf-8")
        yield [f"127.0.0.1:{device['port']}" for device in json.loads(text)["devices"]]


@contextlib.contextmanager
def _broker(mosquitto: Path | None, configuration: Path) -> Iterator[None]:
    program = find_mosquitto(mosquitto)
    if program is None:
        raise RunError("no mosquitto found; run `commonwatt-hil broker --install`, or give --mosquitto PATH")
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(
        [str(program), "-c", str(configuration)], env=_environment(program), stdin=quiet, stdout=quiet, stderr=quiet
    )
    try:
        yield
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def _process(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A module of ours as a process; what it says goes to `log`."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
