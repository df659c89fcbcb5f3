"""What a member must remember of rounds: the newest one it answered, which groups were summed, and how its reports are opened. A shell.

The newest round stands on the disk before its report leaves, so that a member that crashes in between sits that round out instead of
answering it twice. Openings hold plans and randomness; they stay in the house, readable by their owner alone, until they are too old.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from edge.errors import StoreError
from edge.leadership.files import read_whole, write_whole
from protocols.aggregation.member import Opening
from protocols.aggregation.messages import Sampling

GROUPS_KEPT = 16


class Remembered(Struct, kw_only=True):
    """`newest` is (term, number); `groups` are the last groups that were summed, the newest last; `forgot_s` is when memory was lost."""

    newest: tuple[int, int] = (0, 0)
    groups: list[tuple[str, ...]] = []
    forgot_s: float | None = None


class Kept(Struct, frozen=True, kw_only=True):
    """What opens one report, and what the epoch said of its settlement when it was made."""

    opening: Opening
    sampling: Sampling | None

    def __repr__(self) -> str:
        return f"Kept({self.opening!r})"


class MemberRecords:
    """Keeps `Remembered` in one file and openings in a folder beside it. Without `durable` nothing waits for the disk."""

    def __init__(self, folder: Path, *, keep_openings_s: float, durable: bool = True) -> None:
        self._file = folder / "rounds.json"
        self._openings = folder / "openings"
        self._keep_s = keep_openings_s
        self._durable = durable
        self._pruned_s = 0.0
        self.finding = ""

    def commission(self) -> None:
        """Say that this member has answered no round yet. Existing records are left alone."""
        if not self._file.exists():
            self.save(Remembered())

    def load(self, now_s: float) -> Remembered:
        """What is remembered; where that is lost, a fresh memory that knows since when."""
        try:
            body = read_whole(self._file)
            if body is not None:
                found = msgspec.json.decode(body, type=Remembered)
                if found.forgot_s is not None and found.newest == (0, 0):
                    found.forgot_s = now_s
                return found
            self.finding = f"{self._file}: no record of rounds; sitting out what may have been answered"
        except (StoreError, msgspec.DecodeError) as error:
            self.finding = f"the record of rounds cannot be used: {error}"
        return Remembered(forgot_s=now_s)

    def save(self, remembered: Remembered) -> None:
        """Bring it to the disk; raises `StoreError` where it is not safely there."""
        remembered.groups = remembered.groups[-GROUPS_KEPT:]
        write_whole(self._file, msgspec.json.encode(remembered), durable=self._durable)

    def keep(self, kept: Kept, now_s: float) -> None:
        """Keep what opens a report, and drop what is older than the settlement may ask for."""
        if self._keep_s <= 0.0:
            return
        name = kept.opening.announce.round_name.replace(":", "-")
        write_whole(self._openings / f"{name}-{now_s:.0f}.opening", msgspec.msgpack.encode(kept), durable=False)
        if now_s - self._pruned_s > 3600.0:
            self._pruned_s = now_s
            for path in self._openings.glob("*.opening"):
                if float(path.stem.rpartition("-")[2]) < now_s - self._keep_s:
                    path.unlink(missing_ok=True)

    def kept(self, round_name: str) -> Kept | None:
        """What opens this member's report in a round, None where it made none or the time is over. Raises `StoreError`."""
        for path in sorted(self._openings.glob(f"{round_name.replace(':', '-')}-*.opening")):
            body = read_whole(path)
            if body is not None:
                return msgspec.msgpack.decode(body, type=Kept)
        return None
