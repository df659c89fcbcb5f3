"""A deployed edge lives through a whole day quickly: `python -m hil.edge_day CONFIG CYCLES`, for the bench's memory row.

The agent is the one of `commonwatt-edge run`, with its real Modbus and MQTT connections and its planning thread; only its clock is moved
by hand, one cycle time for each cycle. Nothing but the edge and its protocols is imported, so that the process is as large as a deployed
one. Prints one JSON object with the cycles done and the process's memory at the start, after the first plan, and at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from edge.config import load_config
from edge.runner import build_agent
from protocols.clock import ManualClock

WARM_CYCLES = 60


def main(argv: list[str] | None = None) -> int:
    """Entry point of the child process."""
    path, cycles = (sys.argv[1:] if argv is None else argv)[:2]
    sys.stdout.write(json.dumps(asyncio.run(_live(Path(path), int(cycles)))) + "\n")
    return 0


async def _live(path: Path, cycles: int) -> dict[str, float]:
    config = load_config(path)
    clock = ManualClock(time.time())
    agent = build_agent(config, path.parent, clock=clock)
    await agent.start()
    found = {"start_rss_mb": resident_mb(), "warm_rss_mb": 0.0}
    for cycle in range(cycles):
        await agent.step()
        clock.advance(config.control.cycle_s)
        # Planning and the network go on between two cycles, as they do where a cycle is followed by a pause.
        await asyncio.sleep(0.0)
        if cycle == WARM_CYCLES:
            found["warm_rss_mb"] = resident_mb()
    await agent.stop()
    return found | {"end_rss_mb": resident_mb(), "peak_rss_mb": peak_mb(), "cycles": float(cycles), "cpu_s": time.process_time()}


def resident_mb() -> float:
    """Resident memory of this process now, by the kernel's account."""
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """The most that it ever was."""
    return _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024.0
    raise RuntimeError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    sys.exit(main())
