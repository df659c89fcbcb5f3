"""A randomiser is used once: not twice after a crash, a restore from backup, a reboot, a copy or a fork."""

from __future__ import annotations

import copy
import os
import pickle
import random
import shutil
from functools import cache
from pathlib import Path

import gmpy2
import pytest

from edge.leadership.pool import RandomiserPool
from protocols.aggregation.paillier import Encryptor, exponent_from_seed, public_key


@cache
def encryptor(seed: int = 1) -> Encryptor:
    rng = random.Random(seed)

    def prime() -> int:
        while True:
            candidate = rng.getrandbits(256) | (3 << 254) | 3
            if gmpy2.is_prime(candidate):
                return candidate

    return Encryptor(public_key(prime() * prime(), 12345, min_bits=500), teeth=4, tables=1)


def opened(folder: Path, *, boot: str = "boot", key: int = 1) -> RandomiserPool:
    return RandomiserPool(folder / "state", folder / "run", encryptor(key), target=6, boot=boot, durable=False)


def test_an_entry_is_the_randomiser_of_its_seed(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(6)
    for entry in pool.take(3):
        assert entry.value == encryptor().randomiser(exponent_from_seed(encryptor().key, entry.seed))


def test_the_pool_goes_on_after_a_restart_and_gives_no_entry_twice(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(6)
    taken = {entry.seed for entry in pool.take(2)}
    pool.close()
    again = opened(tmp_path)
    assert len(again) == 4
    assert taken.isdisjoint(entry.seed for entry in again.take(4))


def test_what_was_handed_out_is_gone_from_the_disk_before(tmp_path: Path) -> None:
    """A crash at any later moment finds a pool without it."""
    pool = opened(tmp_path)
    pool.fill(3)
    [entry] = pool.take(1)
    assert entry.seed not in (tmp_path / "state/pool.bin").read_bytes()


def test_a_crash_between_witness_and_pool_throws_everything_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edge.leadership.pool as module
    from edge.errors import StoreError

    pool = opened(tmp_path)
    pool.fill(3)
    write = module.write_whole

    def crashing(path: Path, body: bytes, *, durable: bool) -> None:
        if path.name == "pool.bin":
            raise StoreError("power cut")
        write(path, body, durable=durable)

    monkeypatch.setattr(module, "write_whole", crashing)
    taken = {entry.seed for entry in pool.take(1)}
    monkeypatch.undo()
    pool.close()
    again = opened(tmp_path)
    assert len(again) == 0 and "restored" in again.discarded
    assert taken.isdisjoint(entry.seed for entry in again.take(3))


def test_a_pool_restored_from_a_backup_is_thrown_away(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(4)
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    used = {entry.seed for entry in pool.take(4)}
    pool.close()
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    again = opened(tmp_path)
    assert len(again) == 0 and "restored" in again.discarded
    assert used.isdisjoint(entry.seed for entry in again.take(4))


def test_a_machine_that_was_started_again_or_another_machine_begins_anew(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(4)
    pool.close()
    again = opened(tmp_path, boot="another boot")
    assert len(again) == 0 and "started again" in again.discarded


def test_a_pool_without_its_witness_or_for_another_key_is_thrown_away(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(4)
    pool.close()
    assert len(opened(tmp_path, key=2)) == 0
    first = opened(tmp_path / "b")
    first.fill(2)
    first.close()
    shutil.rmtree(tmp_path / "b/run")
    assert len(opened(tmp_path / "b")) == 0


def test_a_second_process_on_the_same_folder_gets_nothing_from_it_and_harms_nothing(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(4)
    other = opened(tmp_path)
    assert "another process" in other.discarded
    second = {entry.seed for entry in other.take(2)}
    assert second.isdisjoint(entry.seed for entry in pool.take(4))


def test_a_child_that_inherits_the_pool_gets_nothing_from_it(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(4)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"".join(entry.seed for entry in pool.take(4)))
        os._exit(0)
    os.waitpid(child, 0)
    inherited = os.read(read, 4 * 32)
    os.close(read)
    os.close(write)
    seeds = {inherited[i : i + 32] for i in range(0, 128, 32)}
    assert len(seeds) == 4
    assert seeds.isdisjoint(entry.seed for entry in pool.take(4))


def test_a_full_disk_costs_the_pool_and_no_entry_is_used_that_could_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edge.leadership.pool as module
    from edge.errors import StoreError

    pool = opened(tmp_path)
    pool.fill(4)
    stored = (tmp_path / "state/pool.bin").read_bytes()

    def full(path: Path, body: bytes, *, durable: bool) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(module, "write_whole", full)
    assert all(entry.seed not in stored for entry in pool.take(2))
    assert len(pool) == 0


def test_nothing_of_an_entry_is_shown_or_serialised(tmp_path: Path) -> None:
    pool = opened(tmp_path)
    pool.fill(2)
    [entry] = pool.take(1)
    assert entry.seed.hex() not in repr(entry) + repr(pool) and str(entry.value) not in repr(entry)
    for duplicate in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            duplicate(pool)
