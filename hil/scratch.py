"""Folders for what a process needs only while it lasts: gone when it ends in order, in memory where that is asked for and possible.

What the participants of a run in one process write is read by nobody after it, and a disk that has to keep it costs as much time as the
controllers that wrote it; what measures something on a disk stays on one. Where the environment names a place for temporary files, that
place is taken for all. `leaving_in_order` lets SIGTERM and SIGHUP end a process as an exception, so that it cleans up after itself;
nothing helps against SIGKILL.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

MEMORY: Final = Path("/dev/shm")
ORDINARY: Final = "/tmp"
ROOM_BYTES: Final = 2**30
"""So much must be free in memory; a container has 64 MB of it unless told otherwise, which is too little for a day of many homes."""

ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)
Answer = TypeVar("Answer")
_mine: dict[Path, int] = {}


def scratch_folder(purpose: str, *, in_memory: bool = False) -> Path:
    """A new folder `commonwatt-PURPOSE-...`; whoever asked for it gives it to `discard`, the end of the process does it at the latest."""
    folder = Path(tempfile.mkdtemp(prefix=f"commonwatt-{purpose}-", dir=_memory() if in_memory else None))
    _mine[folder] = os.getpid()
    return folder


def discard(folder: Path) -> None:
    """Remove a scratch folder with everything in it."""
    _mine.pop(folder, None)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch(purpose: str, *, in_memory: bool = False) -> Iterator[Path]:
    """A scratch folder for the time of a context."""
    folder = scratch_folder(purpose, in_memory=in_memory)
    try:
        yield folder
    finally:
        discard(folder)


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Meanwhile SIGTERM and SIGHUP raise SystemExit in the main thread, with the status that a shell shows; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDINGS}
    leave_in_order()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_in_order() -> None:
    """The same from now on, in a process that is all ours."""
    for number in ENDINGS:
        signal.signal(number, _leave)


async def ended_in_order(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The same inside an event loop, which swallows an exception that comes in the middle of a callback: the work is cancelled instead."""
    if signal.getsignal(signal.SIGTERM) is not _leave:
        return await work
    loop, task, ended_by = asyncio.get_running_loop(), asyncio.current_task(), list[int]()
    assert task is not None

    def end(number: int) -> None:
        ended_by.append(number)
        task.cancel()

    for number in ENDINGS:
        loop.add_signal_handler(number, end, number)
    try:
        answer = await work
        if ended_by:  # whatever waits for a task of its own that it has cancelled takes this cancellation for that one
            raise SystemExit(128 + ended_by[0])
        return answer
    except asyncio.CancelledError:
        if ended_by:
            raise SystemExit(128 + ended_by[0]) from None
        raise
    finally:
        for number in ENDINGS:
            loop.remove_signal_handler(number)
        leave_in_order()


@atexit.register
def discard_all() -> None:
    """What this process still has; a fork leaves alone what its parent made. For processes whose end runs no exit functions."""
    for folder, pid in list(_mine.items()):
        if pid == os.getpid():
            discard(folder)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)


def _memory() -> str | None:
    """The file system in memory, unless it is small or temporary files are wanted elsewhere; None is the ordinary place."""
    if tempfile.gettempdir() != ORDINARY or not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return None
    return str(MEMORY) if shutil.disk_usage(MEMORY).free >= ROOM_BYTES else None
