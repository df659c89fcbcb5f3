"""The measurement of ingest, on a small scale: real processes, a real broker, and a count of every report."""

from __future__ import annotations

import threading
from pathlib import Path

from hil.bench_ingest import Trial, ingest_rows
from hil.broker import Broker


def test_every_acknowledged_report_of_a_small_community_is_found_in_the_store() -> None:
    rows = {row["name"]: row for row in ingest_rows(edges=40, base_s=3.0, ramp_s=1.0, steps=1)}
    assert rows.keys() == {"ingest_lost", "ingest_p99", "ingest_limit"}
    assert rows["ingest_lost"]["met"] is True
    assert rows["ingest_lost"]["note"].startswith("24 published at QoS 1, 24 acknowledged")
    assert rows["ingest_p99"]["value"] > 0.0
    assert rows["ingest_limit"]["value"] >= 8.0


def test_a_coordinator_that_is_killed_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """What it had not brought to the disk it had not acknowledged, so the broker still has it."""
    with Broker() as broker, Trial(broker, tmp_path, 20) as trial:
        for after_s in (3.0, 5.0):
            threading.Timer(after_s, trial.power_cycle).start()
        stretch = trial.stretch(100.0, 6.0)
    assert (stretch.published, stretch.acknowledged, stretch.lost, stretch.stored) == (600, 600, 0, 600)
