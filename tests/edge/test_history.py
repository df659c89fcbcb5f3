"""The means that forecasts are learnt from survive a restart, and a damaged file costs only the learning."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from edge.history import KEPT_SLOTS, History

START_S = 1_800_000_000.0


def fill(history: History, slots: int, first: int = 0) -> None:
    for slot in range(first, first + slots):
        for minute in range(15):
            history.add(START_S + 900.0 * slot + 60.0 * minute, 100.0 + slot, 2.0 * slot)


def test_means_come_back_after_a_restart_and_gaps_stay_gaps(tmp_path: Path) -> None:
    path = tmp_path / "state.history"
    history = History(path)
    fill(history, 9)
    again = History(path)
    assert again.start_s == START_S
    assert list(again.load_w) == [100.0 + slot for slot in range(8)]
    assert list(again.pv_w) == [2.0 * slot for slot in range(8)]
    fill(again, 5, first=12)
    assert again.load_w[7] == 107.0
    assert all(math.isnan(value) for value in again.load_w[8:12])
    assert list(again.load_w[12:]) == [112.0, 113.0, 114.0, 115.0]


def test_only_the_last_weeks_are_kept(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    for slot in range(KEPT_SLOTS + 50):
        history.add(START_S + 900.0 * slot, float(slot % 1000), 0.0)
    assert len(history.load_w) == KEPT_SLOTS
    assert history.start_s == START_S + 900.0 * 49
    history.add(START_S + 900.0 * 10 * KEPT_SLOTS, 5.0, 0.0)
    history.add(START_S + 900.0 * (10 * KEPT_SLOTS + 1), 5.0, 0.0)
    assert len(history.load_w) <= KEPT_SLOTS


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 500])
def test_a_damaged_file_is_reported_and_learnt_anew(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.history"
    fill(History(path), 9)
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        history = History(path)
    assert len(history.load_w) == 0
    assert "learn anew" in caplog.text


def test_a_full_disk_costs_only_the_learning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History(tmp_path / "no such folder" / "state.history")
    with caplog.at_level(logging.WARNING):
        fill(history, 9)
    assert len(history.load_w) == 8
    assert "cannot be written" in caplog.text
