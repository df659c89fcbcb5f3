"""The measurement of ingest, on a small scale: real processes, a real broker, and a count of every report."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hil.bench_ingest import FINE, Stretch, Trial, find_limit, ingest_rows
from hil.broker import Broker


def test_every_acknowledged_report_of_a_small_community_is_found_in_the_store() -> None:
    rows = {row["name"]: row for row in ingest_rows(edges=40, base_s=3.0, ramp_s=1.0, steps=1)}
    assert rows.keys() == {"ingest_lost", "ingest_p99", "ingest_cpu", "ingest_edges_cpu", "ingest_limit"}
    assert rows["ingest_lost"]["met"] is True
    assert rows["ingest_lost"]["note"].startswith("24 published at QoS 1, 24 acknowledged")
    assert rows["ingest_p99"]["value"] > 0.0
    assert rows["ingest_limit"]["value"] >= 8.0


def test_a_coordinator_that_is_killed_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """What it had not brought to the disk it had not acknowledged, so the broker still has it."""
    with Broker() as broker, Trial(broker, tmp_path, 20) as trial:

        def cut_twice() -> None:
            for _ in range(2):
                threading.Event().wait(2.0)
                trial.power_cycle()

        cutting = threading.Thread(target=cut_twice)
        cutting.start()
        stretch = trial.stretch(100.0, 10.0)
        cutting.join()
    assert (stretch.published, stretch.acknowledged, stretch.lost, stretch.stored) == (1000, 1000, 0, 1000)


def stretch(rate: float, *, limit: float) -> Stretch:
    return Stretch(
        rate=rate, offered=rate, published=10, acknowledged=10, stored=10, lost=0, p50_s=0.1, p99_s=0.4 if rate <= limit else 1.7,
        worst_s=2.0, coordinator_cores=0.1, broker_cores=0.1, edges_cores=0.1,
    )  # fmt: skip


@pytest.mark.parametrize("limit", [130.0, 999.0, 1000.0, 1700.0, 6400.0])
def test_the_limit_is_found_above_and_below_the_first_rate(limit: float) -> None:
    kept, missed = find_limit(stretch(1000.0, limit=limit), lambda rate: stretch(rate, limit=limit), 30)
    assert kept is not None and missed is not None
    assert kept.rate <= limit < missed.rate <= FINE * kept.rate


def test_a_search_that_must_end_early_says_what_it_knows() -> None:
    kept, missed = find_limit(stretch(1000.0, limit=1e9), lambda rate: stretch(rate, limit=1e9), 2)
    assert kept is not None and kept.rate == pytest.approx(2250.0) and missed is None
    kept, missed = find_limit(stretch(1000.0, limit=1.0), lambda rate: stretch(rate, limit=1.0), 2)
    assert kept is None and missed is not None and missed.rate == pytest.approx(1000.0 / 2.25)
