"""Quarter-hour means of load and sun over the last weeks, in one small file: what forecasts are learnt from. A shell.

The file is written once an hour, beside its old version and then in its place. It is not needed for control: one that is damaged or
cannot be written is reported, and the forecasts learn anew.
"""

from __future__ import annotations

import array
import hashlib
import logging
import math
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_HEAD = struct.Struct("<8sqq32s")
_MAGIC = b"cwhist 1"
KEPT_SLOTS = 70 * 96
SAVE_EVERY_SLOTS = 4


def history_path(state_path: Path) -> Path:
    """The file beside the durable state at `state_path`."""
    return state_path.with_suffix(".history")


class History:
    """`load_w` and `pv_w` are means over `step_s` from `start_s` on; what was not measured is not a number."""

    step_s = 900.0

    def __init__(self, path: Path) -> None:
        self.load_w = array.array("f")
        self.pv_w = array.array("f")
        self._path = path
        self._first_slot = 0
        self._slot: int | None = None
        self._sums = [0.0, 0.0]
        self._counts = [0, 0]
        self._unsaved = 0
        self._read()

    @property
    def start_s(self) -> float:
        """Begin of the oldest mean, Unix time."""
        return self._first_slot * self.step_s

    def add(self, time_s: float, load_w: float, pv_w: float) -> None:
        """Take one sample of each; a quarter of an hour that is over is kept."""
        slot = math.floor(time_s / self.step_s)
        if self._slot is None:
            self._slot = slot
        if slot > self._slot:
            self._close(slot)
        if slot < self._slot:
            return
        for index, power_w in enumerate((load_w, pv_w)):
            if math.isfinite(power_w):
                self._sums[index] += power_w
                self._counts[index] += 1

    def take_over(self, start_s: float, load_w: Sequence[float], pv_w: Sequence[float]) -> None:
        """Begin with means that were recorded elsewhere, from `start_s` (a multiple of `step_s`) on, and write the file."""
        kept = min(len(load_w), KEPT_SLOTS)
        self._first_slot = round(start_s / self.step_s) + len(load_w) - kept
        self.load_w = array.array("f", load_w[len(load_w) - kept :])
        self.pv_w = array.array("f", pv_w[len(pv_w) - kept :])
        self._slot = None
        self.save()

    def save(self) -> None:
        """Write the file; a failure is reported and changes nothing else."""
        body = _little_endian(self.load_w) + _little_endian(self.pv_w)
        head = _HEAD.pack(_MAGIC, self._first_slot, len(self.load_w), hashlib.sha256(body).digest())
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_bytes(head + body)
            temporary.replace(self._path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._path, error.strerror)
        self._unsaved = 0

    def _close(self, slot: int) -> None:
        assert self._slot is not None
        if len(self.load_w) == 0:
            self._first_slot = self._slot
        gap = self._slot - self._first_slot - len(self.load_w)
        if gap < 0 or gap + slot - self._slot > KEPT_SLOTS:
            del self.load_w[:], self.pv_w[:]
            self._first_slot, gap = self._slot, 0
        for index, row in enumerate((self.load_w, self.pv_w)):
            row.extend([math.nan] * gap)
            row.append(self._sums[index] / self._counts[index] if self._counts[index] > 0 else math.nan)
            row.extend([math.nan] * (slot - self._slot - 1))
            del row[: max(len(row) - KEPT_SLOTS, 0)]
        self._first_slot = slot - len(self.load_w)
        self._slot, self._sums, self._counts = slot, [0.0, 0.0], [0, 0]
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY_SLOTS:
            self.save()

    def _read(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s: cannot be read: %s", self._path, error.strerror)
            return
        if len(data) < _HEAD.size:
            log.warning("%s: damaged; forecasts learn anew", self._path)
            return
        magic, first_slot, count, digest = _HEAD.unpack_from(data)
        body = data[_HEAD.size :]
        if magic != _MAGIC or not 0 <= count <= KEPT_SLOTS or len(body) != 8 * count or hashlib.sha256(body).digest() != digest:
            log.warning("%s: damaged; forecasts learn anew", self._path)
            return
        self._first_slot = first_slot
        for row, part in ((self.load_w, body[: 4 * count]), (self.pv_w, body[4 * count :])):
            row.frombytes(part)
            if sys.byteorder == "big":
                row.byteswap()


def _little_endian(row: array.array[float]) -> bytes:
    copy = array.array("f", row)
    if sys.byteorder == "big":
        copy.byteswap()
    return copy.tobytes()
