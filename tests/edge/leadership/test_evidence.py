"""What a member keeps of its rounds: on the disk in time, whole after a power cut, and worth something to a third party alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import StoreError
from edge.leadership.evidence import DAY_S, EvidenceLog
from protocols.aggregation.evidence import Exhibit, Notice, SignedReceipt
from protocols.aggregation.messages import Receipt

NOW_S = 1_700_000_100.0


def receipt(number: int, heard_s: float = NOW_S) -> SignedReceipt:
    said = Receipt(round_name=f"3:{number}", member="h1", digest=f"{number:064x}")
    return SignedReceipt(leader="h2", receipt=said, signature=bytes([number]) * 64, heard_s=heard_s)


def notice(number: int) -> Notice:
    return Notice(topic="commonwatt/1/street/round/h2/call", payload=b"%d" % number, signature="s", key="k", heard_s=NOW_S)


def kept(folder: Path) -> list[Exhibit]:
    return list(EvidenceLog(folder, keep_s=7 * DAY_S).exhibits())


def test_a_receipt_is_on_the_disk_before_anything_follows_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    log = EvidenceLog(tmp_path, keep_s=7 * DAY_S)
    log.add(notice(1))
    assert synced == []
    log.add(receipt(1))
    [path] = tmp_path.glob("*.evidence")
    assert synced == [path.stat().st_size], "the call that came before is brought to the disk with it"
    assert kept(tmp_path) == [notice(1), receipt(1)]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_power_cut_costs_the_last_entry_and_what_follows_can_be_read(tmp_path: Path, cut: int) -> None:
    log = EvidenceLog(tmp_path, keep_s=7 * DAY_S)
    for number in (1, 2, 3):
        log.add(receipt(number))
    [path] = tmp_path.glob("*.evidence")
    os.truncate(path, path.stat().st_size - cut)
    assert kept(tmp_path) == [receipt(1), receipt(2)]
    EvidenceLog(tmp_path, keep_s=7 * DAY_S).add(receipt(4))
    assert kept(tmp_path) == [receipt(1), receipt(2), receipt(4)]


def test_a_damaged_entry_is_not_shown_and_garbage_is_no_entry(tmp_path: Path) -> None:
    log = EvidenceLog(tmp_path, keep_s=7 * DAY_S)
    log.add(receipt(1))
    [path] = tmp_path.glob("*.evidence")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert kept(tmp_path) == []
    path.write_bytes(b"\xff" * 100)
    assert kept(tmp_path) == []


def test_evidence_is_kept_as_long_as_the_openings_and_no_longer(tmp_path: Path) -> None:
    log = EvidenceLog(tmp_path, keep_s=2 * DAY_S)
    for day in range(5):
        log.add(receipt(day, NOW_S + day * DAY_S))
    assert [exhibit.receipt.round_name for exhibit in kept(tmp_path) if isinstance(exhibit, SignedReceipt)] == ["3:1", "3:2", "3:3", "3:4"]


def test_a_leader_that_floods_its_members_does_not_fill_their_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.leadership.evidence.DAY_BYTES", 500)
    log = EvidenceLog(tmp_path, keep_s=7 * DAY_S)
    with pytest.raises(StoreError, match="500 bytes"):
        for number in range(100):
            log.add(receipt(number % 250))
    assert 1 <= len(kept(tmp_path)) < 10


def test_a_disk_that_takes_nothing_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        EvidenceLog(tmp_path / "evidence", keep_s=DAY_S).add(receipt(1))
