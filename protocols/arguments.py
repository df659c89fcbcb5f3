"""Values on a command line: read, or refused in words that say what is expected and what was got. The same for every program."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path


def number(*, least: float = -math.inf, above: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """Reads a finite number within the bounds; `least` and `most` belong to them, `above` does not."""
    expected = f"a number{_bounds(least, above, most)}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most and value > above):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    return read


def whole(*, least: int, most: int | None = None) -> Callable[[str], int]:
    """Reads a whole number within the bounds, both included."""
    expected = f"a whole number{_bounds(least, -math.inf, math.inf if most is None else most)}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    return read


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, words: str) -> argparse.ArgumentParser:
    """Add a subcommand that its list and its own help describe in the same words."""
    return commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")


def output_folder(text: str) -> Path:
    """Reads the path of a folder that is there or can be made: nothing above it, nor it, is a file."""
    path = Path(text)
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise argparse.ArgumentTypeError(f"expected a folder, got {text}: {part} is a file")
    return path


def _bounds(least: float, above: float, most: float) -> str:
    if math.isfinite(least):
        return f" from {least:.9g} to {most:.9g}" if math.isfinite(most) else f" of at least {least:.9g}"
    if math.isfinite(above):
        return f" above {above:.9g}" + (f" and at most {most:.9g}" if math.isfinite(most) else "")
    return ""


port = whole(least=1, most=65535)
magnitude = number(least=0.0)
positive = number(above=0.0)
