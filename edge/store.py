"""What must survive a power cut: default, pending controls, plan, agreement, replay windows, sequence numbers, wear.

A shell: it touches the disk.

One small file. It is written beside its old version, brought to the disk, and then takes the old one's place in one step; the
directory is brought to the disk too. So after a crash at any point there is either the old state or the new one, whole. A checksum
and the name of the node stand in its first line: a state that is damaged, or that belongs to another node, is set aside under another
name and reported, and the edge starts without one, which is its safe state. A full disk stops no control: the failure is reported, and
the next change tries again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from edge.agreement import Agreement
from edge.devices.discipline import DayCount
from edge.envelope_control import ControlState, bad_control
from edge.errors import StoreError
from edge.policy import PlanView

_MAGIC = b"commonwatt-edge-state 1"
MAX_STATE_BYTES = 8 * 1024 * 1024


class EdgeState(msgspec.Struct, kw_only=True):
    """The durable state of one edge. `windows` is what `Verifier.save_windows` gave, `sequence` the last number that was used,
    `wear` today's wearing writes by device."""

    node: str
    control: ControlState = msgspec.field(default_factory=ControlState)
    windows: str = "{}"
    sequence: int = 0
    wear: dict[str, DayCount] = {}
    plan: PlanView | None = None
    agreement: Agreement | None = None


class Store:
    """Keeps one `EdgeState` in one file. `node` is the identity it belongs to.

    Without `fsync` the file is written in place: for benches, where whoever dies is never the machine. What a crash damages there is
    found by the checksum.
    """

    def __init__(self, path: Path, *, node: str, fsync: bool = True) -> None:
        self.path = path
        self.node = node
        self._durable = fsync
        self._encoder = msgspec.json.Encoder()

    def load(self) -> tuple[EdgeState, str | None]:
        """The state, or a fresh one, with the finding in words where a file was there and could not be used."""
        fresh = EdgeState(node=self.node)
        try:
            if self.path.stat().st_size > MAX_STATE_BYTES:
                return fresh, self._set_aside(f"larger than {MAX_STATE_BYTES} bytes")
            data = self.path.read_bytes()
        except FileNotFoundError:
            return fresh, None
        except OSError as error:
            return fresh, f"{self.path}: cannot be read: {error.strerror}; starting without it"
        try:
            return self._decode(data), None
        except StoreError as error:
            return fresh, self._set_aside(str(error))

    def peek(self) -> EdgeState | None:
        """The state as it lies on the disk, None where there is none; nothing is set aside. Raises `StoreError` for a damaged one."""
        try:
            if self.path.stat().st_size > MAX_STATE_BYTES:
                raise StoreError(f"larger than {MAX_STATE_BYTES} bytes")
            return self._decode(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from error
        except StoreError as error:
            raise StoreError(f"{self.path}: {error}") from error

    def save(self, state: EdgeState) -> str | None:
        """Bring the state to the disk. Returns what went wrong in words, None when it is safe there."""
        body = self._encoder.encode(state)
        data = b"%s %s\n%s" % (_MAGIC, hashlib.sha256(body).hexdigest().encode("ascii"), body)
        try:
            if self._durable:
                self._replace(data)
            else:
                self._overwrite(data)
        except OSError as error:
            return f"{self.path}: cannot be written: {error.strerror}; the state before it stays"
        return None

    def _replace(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._sync_folder()

    def _overwrite(self, data: bytes) -> None:
        """In place, and cut to its length afterwards: a file that is emptied first is flushed to the disk by ext4 when it is closed."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.truncate()

    def _decode(self, data: bytes) -> EdgeState:
        head, separator, body = data.partition(b"\n")
        if not separator or not head.startswith(_MAGIC + b" "):
            raise StoreError("not a state file of this version")
        if hashlib.sha256(body).hexdigest().encode("ascii") != head[len(_MAGIC) + 1 :]:
            raise StoreError("its checksum is wrong")
        try:
            state = msgspec.json.decode(body, type=EdgeState)
        except msgspec.DecodeError as error:
            raise StoreError(f"its content is wrong: {error}") from error
        if state.node != self.node:
            raise StoreError(f"it belongs to node {state.node!r}, this is {self.node!r}")
        for pending in state.control.pending:
            problem = bad_control(pending.control)
            if problem is not None:
                raise StoreError(f"control {pending.control.mrid!r}: {problem}")
        return state

    def _set_aside(self, reason: str) -> str:
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            self.path.replace(aside)
            kept = f"kept as {aside.name}"
        except OSError as error:
            kept = f"could not be set aside: {error.strerror}"
        return f"{self.path}: {reason}; {kept}, starting without it"

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
