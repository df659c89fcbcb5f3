"""The measurement of ingest, on a small scale: real processes, a real broker, and a count of every report."""

from __future__ import annotations

from hil.bench_ingest import ingest_rows


def test_every_acknowledged_report_of_a_small_community_is_found_in_the_store() -> None:
    rows = {row["name"]: row for row in ingest_rows(edges=40, base_s=3.0, ramp_s=1.0, steps=1)}
    assert rows.keys() == {"ingest_lost", "ingest_p99", "ingest_limit"}
    assert rows["ingest_lost"]["met"] is True
    assert rows["ingest_lost"]["note"].startswith("24 published at QoS 1, 24 acknowledged")
    assert rows["ingest_p99"]["value"] > 0.0
    assert rows["ingest_limit"]["value"] >= 8.0
