"""A fork server for edges: `python -m hil.edge_farm`, one process for each household as deployed, at a fraction of the memory.

The edge and its numerical libraries are imported once; each household is then a fork that runs `edge.runner.run` on its own
configuration. Orders come as lines on stdin: `start NAME CONFIG` and `kill NAME` (SIGKILL, a power cut); the end of stdin ends all.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from pathlib import Path

import edge.planning
import edge.schedule.planner
from edge.config import load_config
from edge.forecast import Forecaster
from edge.runner import run

PRELOADED = (edge.planning, edge.schedule.planner, Forecaster)
"""Imported here, so that no fork has to."""


def main() -> int:
    """Obey orders until stdin ends."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    gc.collect()
    gc.freeze()
    children: dict[str, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["start", name, config]:
                children[name] = _fork(Path(config))
            case ["kill", name] if name in children:
                os.kill(children[name], signal.SIGKILL)
                os.waitpid(children.pop(name), 0)
            case _:
                sys.stderr.write(f"edge farm: unknown order {line!r}\n")
    for pid in children.values():
        os.kill(pid, signal.SIGTERM)
    for pid in children.values():
        os.waitpid(pid, 0)
    return 0


def _fork(config: Path) -> int:
    pid = os.fork()
    if pid != 0:
        return pid
    status = 1
    try:
        # Orders are not for the household.
        os.close(0)
        run(load_config(config), config.parent)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
