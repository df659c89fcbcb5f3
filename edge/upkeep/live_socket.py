"""Where a running edge answers what it does now: a Unix socket beside its state file, and the lock that keeps a second edge away. A shell.

Whoever connects gets one JSON document and the end of the stream. Only the owner of the folder gets in. The lock is the kernel's, so it
is gone with the process, however that ends; two edges on the same devices would fight over them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from edge.errors import EdgeError, StoreError
from edge.upkeep.live import MOST_BYTES, LiveState

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 3.0


def socket_path(state_path: Path) -> Path:
    """The socket of the edge whose durable state is at `state_path`."""
    return state_path.with_suffix(".sock")


@contextlib.contextmanager
def hold_alone(state_path: Path) -> Iterator[None]:
    """Keep every other edge away from this state. Raises `StoreError` where one runs already."""
    path = state_path.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"{path}: another commonwatt-edge runs with this state already") from error
    try:
        yield
    finally:
        os.close(descriptor)


class LiveSocket:
    """Serves `state()` at `path` from `start` to `stop`. Where that is not possible it says so once, and the edge goes on without."""

    def __init__(self, path: Path, state: Callable[[], LiveState | None]) -> None:
        self._path = path
        self._state = state
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        try:
            self._server = await asyncio.start_unix_server(self._answer, sock=_listening(self._path))
        except OSError as error:
            log.warning("%s: cannot listen, so `commonwatt-edge status` will see nothing: %s", self._path, error)

    async def stop(self) -> None:
        """Close and take the socket away."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        with contextlib.suppress(OSError):
            state = self._state()
            writer.write(b"" if state is None else msgspec.json.encode(state))
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def ask(state_path: Path) -> LiveState | None:
    """What the running edge says; None where none runs. Raises `EdgeError` for one that does not answer, or not in these words."""
    path = socket_path(state_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_TIMEOUT_S)
        try:
            with _short(path) as short:
                client.connect(short)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise EdgeError(f"{path}: {error.strerror or error}") from error
        try:
            data = b""
            while len(data) <= MOST_BYTES and (part := client.recv(65536)):
                data += part
        except OSError as error:
            raise EdgeError(f"{path}: the edge does not answer within {ANSWER_TIMEOUT_S:g} s: its control cycle hangs") from error
    if data == b"":
        raise EdgeError(f"{path}: the edge has just started; no control cycle has ended yet")
    try:
        return msgspec.json.decode(data, type=LiveState)
    except msgspec.DecodeError as error:
        raise EdgeError(f"{path}: the edge that runs is of another version: {error}") from error


def _listening(path: Path) -> socket.socket:
    """A socket that only its owner may open, in the place of one that a process left behind."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as short:
            before = os.umask(0o177)
            try:
                server.bind(short)
            finally:
                os.umask(before)
        server.listen(8)
        server.setblocking(False)
    except OSError:
        server.close()
        raise
    return server


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same place by a name that is short enough for a socket (107 bytes), whatever the folder is called."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
