"""The rows of the bench about secrecy, elections and failover: what they say, with short keys and few passes."""

from __future__ import annotations

import pytest

from hil.bench import GROUPS
from hil.bench_failover import failover_rows
from hil.bench_leadership import election_rows, packet_bytes, search_rows, secrecy_rows
from hil.broker import find_mosquitto
from hil.simulation.command import planted_rows
from protocols.bus import BusMessage


def test_secrecy_rows_come_from_exact_sums() -> None:
    rows = {row["name"]: row for row in secrecy_rows(passes=1, members=12, bits=1024)}
    assert rows["report_96_bytes"]["value"] < rows["report_288_bytes"]["value"] < rows["report_288_bytes_heard_too"]["value"]
    assert rows["report_96_pool"]["value"] < rows["report_96_encrypt"]["value"]
    assert all(row["value"] > 0.0 for row in rows.values())
    assert all((row["target"] == "") == (row["met"] is None) for row in rows.values())
    wanted = next(group.names for group in GROUPS if group.measure.__name__ == "_secrecy")
    assert all(any(name.startswith(prefix) for prefix in wanted) for name in rows)


def test_the_election_row_counts_violations() -> None:
    (row,) = election_rows(3)
    (searched,) = search_rows([(2, 1)])
    (planted,) = planted_rows(["quorum of half"])
    assert (searched["value"], searched["met"], planted["value"], planted["met"]) == (0, True, 0, True)
    assert (row["value"], row["met"]) == (0, True)


def test_a_packet_is_as_long_as_its_bytes() -> None:
    """PUBLISH: fixed header 1 + 1, topic 2 + 3, packet identifier 2, property length 1, payload 4; PUBACK 4 (MQTT 5.0, section 3.3)."""
    assert packet_bytes(BusMessage(topic="a/b", payload=b"1234")) == 2 + 5 + 2 + 1 + 4 + 4
    assert packet_bytes(BusMessage(topic="a/b", payload=b"1234", expiry_s=20, properties={"k": "v"})) == 2 + 5 + 2 + 1 + 5 + 7 + 4 + 4


@pytest.mark.slow
@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto")
def test_fifty_households_follow_another_leader() -> None:
    rows = failover_rows(trials=1, sizes=(50,))
    assert [row["name"] for row in rows] == ["failover_killed_50", "failover_frozen_50"]
    assert all(row["value"] < 10.0 for row in rows)
