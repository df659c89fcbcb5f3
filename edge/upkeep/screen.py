"""A compact live view for the terminal in which `commonwatt-edge run` was started: the screen of `status`, and the last log lines below.

Without a terminal there is none of this, and logs are lines on stderr as ever. It is text and a few control sequences (ECMA-48), so the
edge carries no library for it. The view is the terminal's second screen: what was there before comes back at the end.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, TextIO

from edge.upkeep.live import LiveState
from edge.upkeep.status import render
from protocols.messages import SafetyState

LOG_LINES: Final = 200
SECOND_SCREEN, FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN, PLAIN = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[0m"
BOLD: Final = "\x1b[1m"
COLOURS: Final = {SafetyState.CONTROLLED: "\x1b[32m", SafetyState.DEFAULT: "\x1b[33m", SafetyState.FAILSAFE: "\x1b[31m"}
HINT: Final = "Ctrl-C stops: devices are left in their safe stance. --plain shows log lines alone."


class LastLines(logging.Handler):
    """Keeps the last log lines instead of writing them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Screen:
    """`with`: while it is entered, the terminal shows the state after each cycle. `look` gives the state, None before the first cycle."""

    def __init__(self, look: Callable[[], LiveState | None], stream: TextIO, *, colour: bool) -> None:
        self._look = look
        self._stream = stream
        self._colour = colour
        self._handler = LastLines()
        self._before: list[logging.Handler] = []

    def __enter__(self) -> Screen:
        root = logging.getLogger()
        self._before = list(root.handlers)
        self._handler.setFormatter(self._before[0].formatter if self._before else None)
        root.handlers[:] = [self._handler]
        self._stream.write(SECOND_SCREEN)
        self._stream.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.write(FIRST_SCREEN)
        state = self._look()
        if state is not None:
            self._stream.write(render(state, state.time_s) + "\n")
        self._stream.flush()
        logging.getLogger().handlers[:] = self._before

    def show(self) -> None:
        """Paint what is true now."""
        state = self._look()
        if state is None:
            return
        size = shutil.get_terminal_size()
        lines = screen_lines(state, state.time_s, self._handler.lines, size.columns, size.lines)
        head = f"{BOLD}{COLOURS.get(state.state, '')}{lines[0]}{PLAIN}" if self._colour else lines[0]
        self._stream.write(HOME + (REST_OF_LINE + "\n").join([head, *lines[1:]]) + REST_OF_LINE + REST_OF_SCREEN)
        self._stream.flush()


def terminal(environment: Mapping[str, str], *, plain: bool) -> TextIO | None:
    """The terminal to show the view in: standard output, where it and the logs are one, and nobody asked for plain lines."""
    wanted = not plain and sys.stdout.isatty() and sys.stderr.isatty() and environment.get("TERM", "dumb") != "dumb"
    return sys.stdout if wanted else None


def screen_lines(state: LiveState, now_s: float, logs: Iterable[str], columns: int, rows: int) -> list[str]:
    """The view as at most `rows` lines of at most `columns`; the state comes first, then as many log lines as there is room for."""
    view = [_cut(line, columns) for line in render(state, now_s).splitlines()][: max(rows, 1)]
    room = rows - len(view) - 4
    if room < 1:
        return view
    newest = [_cut(line, columns) for text in logs for line in text.splitlines()][-room:]
    return [*view, "", *newest, "", _cut(HINT, columns)]


def _cut(line: str, columns: int) -> str:
    """Without what a terminal would obey, and no longer than its line."""
    clean = "".join(character if character.isprintable() else " " for character in line)
    return clean if len(clean) <= columns else clean[: max(columns - 1, 0)] + "…"
