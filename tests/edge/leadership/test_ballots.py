"""A vote is on the disk before anything leaves, and a member that cannot write is silent; a lost disk is known to be lost."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import StoreError
from edge.leadership.ballots import BallotStore
from edge.leadership.election_shell import BootClock, ElectionShell
from edge.leadership.secrets import load_or_make_secrets
from protocols.election.rules import carried
from protocols.election.values import Ballot, ElectionMessage, Epoch, Seat, Timing, Vote, VoteRequest

KEYS = {f"h{i}": Ed25519PrivateKey.from_private_bytes(bytes([i + 1]) * 32) for i in range(3)}


def epoch(number: int = 1) -> Epoch:
    seats = tuple(Seat(name=name, public_key=key.public_key().public_bytes_raw().hex(), reputation=0.8) for name, key in KEYS.items())
    return Epoch(number=number, seats=seats, reputation_min=0.5, seed="11" * 32)


class Disk(BallotStore):
    """A ballot store whose disk can fail, and that notes when it was written."""

    def __init__(self, path: Path, log: list[str]) -> None:
        super().__init__(path, "h0", durable=False)
        self.full = False
        self.log = log

    def save(self, ballot: Ballot) -> None:
        if self.full:
            raise StoreError("no space left")
        super().save(ballot)
        self.log.append(f"disk {ballot.term}")


def shell(tmp_path: Path, log: list[str]) -> tuple[ElectionShell, Disk]:
    disk = Disk(tmp_path / "ballot.json", log)

    def send(message: ElectionMessage, to: str | None) -> None:
        log.append(f"send {type(message).__name__}")

    return ElectionShell("h0", KEYS["h0"], ballots=disk, timing=Timing(), send=send, nonce=lambda: "22" * 32), disk


def test_a_vote_is_on_the_disk_before_it_is_sent(tmp_path: Path) -> None:
    log: list[str] = []
    member, disk = shell(tmp_path, log)
    disk.commission()
    log.clear()
    member.adopt(epoch(), 0.0)
    member.receive("h1", VoteRequest(epoch=1, term=1, candidate="h1"), 10.0)
    assert log == ["disk 1", f"send {Vote.__name__}"]


def test_a_member_whose_disk_is_full_says_nothing_until_it_can_write_again(tmp_path: Path) -> None:
    log: list[str] = []
    member, disk = shell(tmp_path, log)
    disk.commission()
    member.adopt(epoch(), 0.0)
    log.clear()
    disk.full = True
    request = VoteRequest(epoch=1, term=1, candidate="h1")
    member.receive("h1", request, 10.0)
    member.receive("h1", request, 10.1)
    assert log == [] and member.trouble is not None
    disk.full = False
    member.receive("h1", request, 10.2)
    assert log == ["disk 1", "send Vote"] and member.trouble is None


def test_a_member_that_was_never_commissioned_or_lost_its_disk_abstains(tmp_path: Path) -> None:
    log: list[str] = []
    member, _ = shell(tmp_path, log)
    member.adopt(epoch(), 0.0)
    assert member.amnesiac
    member.receive("h1", VoteRequest(epoch=1, term=1, candidate="h1"), 10.0)
    assert log == []
    assert not (tmp_path / "ballot.json").exists()


def test_a_damaged_ballot_and_one_of_another_member_are_no_ballots(tmp_path: Path) -> None:
    path = tmp_path / "ballot.json"
    BallotStore(path, "h0", durable=False).commission()
    assert BallotStore(path, "h1").load() is None
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    store = BallotStore(path, "h0")
    assert store.load() is None and "checksum" in store.finding


def test_terms_go_on_growing_in_a_later_epoch_and_an_older_epoch_is_not_joined_again(tmp_path: Path) -> None:
    old = Ballot(epoch=1, term=7, candidate="h1", fence=6)
    assert carried(old, epoch(2)) == Ballot(epoch=2, term=7, candidate=None, fence=6)
    assert carried(old, epoch(1)) is old
    log: list[str] = []
    member, disk = shell(tmp_path, log)
    disk.save(Ballot(epoch=3, term=9, candidate="h2", fence=9))
    member.adopt(epoch(2), 0.0)
    assert member.epoch is None


def test_the_boot_clock_never_goes_back() -> None:
    clock = BootClock()
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_secrets_are_made_once_kept_and_never_shown(tmp_path: Path) -> None:
    made = load_or_make_secrets(tmp_path / "member.key", "h0", lambda count: bytes(range(count)))
    again = load_or_make_secrets(tmp_path / "member.key", "h0", lambda count: b"x" * count)
    assert (made.pad_public, made.envelope_public) == (again.pad_public, again.envelope_public)
    assert (tmp_path / "member.key").stat().st_mode & 0o077 == 0
    assert bytes(range(8)).hex() not in repr(made) + repr(made.pads)
    with pytest.raises(TypeError):
        pickle.dumps(made)
