"""The ballot on the disk: what makes a vote durable before it is sent. A shell: it touches the disk.

`commission` is what an installer does once for a member that has never voted; from then on a member whose file is gone or damaged knows
that it has lost its memory, and abstains as `protocols.election.node` says.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from edge.errors import StoreError
from edge.leadership.files import read_whole, write_whole
from protocols.election.values import Ballot


class _Kept(Struct, frozen=True):
    member: str
    ballot: Ballot


class BallotStore:
    """Keeps the ballot of one member in one file. Without `durable` nothing waits for the disk: for benches alone."""

    def __init__(self, path: Path, member: str, *, durable: bool = True) -> None:
        self._path = path
        self._member = member
        self._durable = durable
        self.finding = ""

    def commission(self) -> None:
        """Say that this member has never voted. An existing ballot is left alone."""
        if not self._path.exists():
            self.save(Ballot(epoch=0, term=0, candidate=None, fence=0))

    def load(self) -> Ballot | None:
        """The ballot; None where it is lost, with the reason in `finding`."""
        try:
            body = read_whole(self._path)
            if body is None:
                self.finding = f"{self._path}: no ballot; this member has lost its memory"
                return None
            kept = msgspec.json.decode(body, type=_Kept)
        except (StoreError, msgspec.DecodeError) as error:
            self.finding = f"the ballot cannot be used: {error}"
            return None
        if kept.member != self._member:
            self.finding = f"{self._path}: the ballot of {kept.member!r}, not of {self._member!r}"
            return None
        return kept.ballot

    def save(self, ballot: Ballot) -> None:
        """Bring the ballot to the disk; raises `StoreError` where it is not safely there."""
        write_whole(self._path, msgspec.json.encode(_Kept(self._member, ballot)), durable=self._durable)
