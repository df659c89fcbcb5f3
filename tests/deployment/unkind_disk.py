"""A disk that does only what was promised: what a power cut at any moment may leave of a folder. POSIX, as the worst file systems read it.

The content of a file is safe from `fsync` of that file on, a name from `fsync` of its folder on. Before that, a cut may leave the old or
the new name, and of the content nothing, a half, or all of it, in any mixture.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class UnkindDisk:
    """Watches one folder while `monkeypatch` lasts; `at_each_moment` is called before and after every step that changes what is safe."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, at_each_moment: Callable[[], None]) -> None:
        self.folder = folder
        self._tell = at_each_moment
        self._telling = False
        self._held: dict[int, int] = {}
        self._names = self._present()
        self._safe = {inode: path.read_bytes() for path, inode in self._files()}
        self.moments = 0
        sync, replace = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            self._moment()
            sync(descriptor)
            place = Path(f"/proc/self/fd/{descriptor}").readlink()
            if place == folder:
                self._names = self._present()
            elif place.parent == folder:
                self._safe[os.fstat(descriptor).st_ino] = place.read_bytes()
            self._moment()

        def move(path: Path, target: str | Path) -> Path:
            self._moment()
            moved = replace(path, target)
            self._moment()
            return moved

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", move)

    def after_a_cut(self, scratch: Path) -> Iterator[Path]:
        """Every folder that a power cut at this moment may leave, one after the other in `scratch`."""
        now = {inode: path.read_bytes() for path, inode in self._files()}
        for names in (self._names, self._present()):
            variants = [self._variants(inode, now.get(inode, self._safe.get(inode, b""))) for inode in names.values()]
            for contents in itertools.product(*variants):
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                for name, content in zip(names, contents, strict=True):
                    (scratch / name).touch(0o600)
                    (scratch / name).write_bytes(content)
                yield scratch

    def close(self) -> None:
        """Let the files go."""
        for descriptor in self._held.values():
            os.close(descriptor)

    def _variants(self, inode: int, now: bytes) -> set[bytes]:
        safe = self._safe.get(inode, b"")
        return {safe} if safe == now else {safe, now, now[: len(now) // 2], b"\0" * len(now)}

    def _moment(self) -> None:
        """Looking is no part of what is looked at."""
        if not self._telling:
            self.moments += 1
            self._telling = True
            self._tell()
            self._telling = False

    def _files(self) -> list[tuple[Path, int]]:
        """Every file with its inode, which is held so that no other file gets its number."""
        found = []
        for path in sorted(self.folder.iterdir()):
            inode = path.stat().st_ino
            if inode not in self._held:
                self._held[inode] = os.open(path, os.O_RDONLY)
            found.append((path, inode))
        return found

    def _present(self) -> dict[str, int]:
        return {path.name: inode for path, inode in self._files()}
