"""Randomisers computed ahead, so that a report costs a millisecond less of a busy moment. A shell: it touches the disk.

Two ciphertexts with one randomiser reveal the difference of two plans, so an entry is used once, whatever happens in between:

1. Write-ahead delete: that an entry is taken stands on the disk before the entry is handed out.
2. Restart: the entries go on only under the same key and the same boot, and only if pool and witness tell the same story.
3. Restore: the witness lies in a runtime folder that no backup takes along. A pool that was restored from a backup disagrees with it, one
   that was moved to another machine or found after a reboot belongs to another boot; both are thrown away whole.
4. Fork: the pool belongs to the process that opened it. A child that inherits it gets nothing from it, and a second process that
   opens the same folder while the first one lives is refused.

Throwing away costs two milliseconds of idle time for each entry, so every doubt is settled that way.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from edge.errors import StoreError
from edge.leadership.files import read_whole, write_whole
from protocols.aggregation.member import Randomiser
from protocols.aggregation.paillier import Encryptor, exponent_from_seed

SEED_BYTES: Final = 32
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Pool(Struct, frozen=True):
    key_id: str
    boot: str
    owner: str
    generation: int
    entries: list[bytes]


class _Witness(Struct, frozen=True):
    """What must agree with the pool: its owner's random name, and how often it was written. The number only grows."""

    owner: str
    generation: int


def boot_identity() -> str:
    """A name of this boot of this machine; on systems without one, a name that no later process shares."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return os.urandom(16).hex()


class RandomiserPool:
    """A pool for one key. `folder` keeps the entries, `runtime_folder` the witness; `entropy(count)` gives random bytes."""

    def __init__(
        self,
        folder: Path,
        runtime_folder: Path,
        encryptor: Encryptor,
        *,
        target: int,
        entropy: Callable[[int], bytes] = os.urandom,
        boot: str | None = None,
        durable: bool = True,
    ) -> None:
        self.discarded = ""
        self._file = folder / "pool.bin"
        self._witness_file = runtime_folder / "pool.witness"
        self._encryptor = encryptor
        self._target = target
        self._entropy = entropy
        self._boot = boot_identity() if boot is None else boot
        self._durable = durable
        self._process = os.getpid()
        self._generation = 0
        self._width = encryptor.key.ciphertext_bytes
        folder.mkdir(parents=True, exist_ok=True)
        runtime_folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / "pool.lock")
        self._owner = entropy(16).hex()
        self._entries: list[bytes] = []
        if self._lock is None:
            self.discarded = "the folder belongs to another process"
        else:
            self._entries = self._restored()
            self._write()

    def __repr__(self) -> str:
        return f"RandomiserPool({len(self._entries)} of {self._target})"

    def __reduce__(self) -> str:
        raise TypeError("a pool of randomisers is secret and is not serialised")

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def key_id(self) -> str:
        """The key that the entries are for."""
        return self._encryptor.key.key_id

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._entries = []

    def fill(self, most: int = 1) -> int:
        """Compute up to `most` missing entries, in idle time; returns how many."""
        if not self._mine():
            return 0
        made = [self._made() for _ in range(min(most, self._target - len(self._entries)))]
        if made:
            self._entries += made
            self._write()
        return len(made)

    def take(self, count: int) -> tuple[Randomiser, ...]:
        """Fresh randomisers: from the pool, and computed now where the pool has too few or cannot be trusted."""
        if not self._mine():
            return tuple(self._randomiser(self._made()) for _ in range(count))
        taken = [self._entries.pop(0) for _ in range(min(count, len(self._entries)))]
        if taken:
            try:
                self._write()
            except StoreError as error:
                self.discarded = f"what was taken could not be written down: {error}"
                self._entries, taken = [], []
        taken += [self._made() for _ in range(count - len(taken))]
        return tuple(self._randomiser(entry) for entry in taken)

    def _mine(self) -> bool:
        if os.getpid() == self._process and self._lock is not None:
            return True
        self._entries = []
        return False

    def _made(self) -> bytes:
        seed = self._entropy(SEED_BYTES)
        value = self._encryptor.randomiser(exponent_from_seed(self._encryptor.key, seed))
        return seed + value.to_bytes(self._width, "big")

    def _randomiser(self, entry: bytes) -> Randomiser:
        return Randomiser(entry[:SEED_BYTES], int.from_bytes(entry[SEED_BYTES:], "big"))

    def _restored(self) -> list[bytes]:
        """The entries that an earlier process of this boot left, if there is no doubt about any of them."""
        try:
            body, seen = read_whole(self._file), read_whole(self._witness_file)
            if body is None:
                return []
            pool = msgspec.msgpack.decode(body, type=_Pool)
            witness = None if seen is None else msgspec.msgpack.decode(seen, type=_Witness)
        except (StoreError, msgspec.DecodeError) as error:
            self.discarded = f"damaged: {error}"
            return []
        if witness is not None:
            self._generation = witness.generation
        doubts = (
            (pool.key_id != self._encryptor.key.key_id, "filled under another key"),
            (pool.boot != self._boot, "filled before the machine was started again"),
            (witness is None, "without its witness"),
            (
                witness is not None and (witness.owner, witness.generation) != (pool.owner, pool.generation),
                "not what its witness saw last: it was restored or copied",
            ),
            (any(len(entry) != SEED_BYTES + self._width for entry in pool.entries), "with entries of another width"),
        )
        self.discarded = next((reason for doubtful, reason in doubts if doubtful), "")
        return [] if self.discarded else pool.entries[: self._target]

    def _write(self) -> None:
        """Witness first: a crash in between leaves a pool that its witness does not know, which is thrown away."""
        self._generation += 1
        pool = _Pool(self._encryptor.key.key_id, self._boot, self._owner, self._generation, self._entries)
        witness = _Witness(self._owner, self._generation)
        write_whole(self._witness_file, msgspec.msgpack.encode(witness), durable=self._durable)
        write_whole(self._file, msgspec.msgpack.encode(pool), durable=self._durable)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the folder for this process; None where another one holds it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
