"""What a study answers: rows beside the paper's, verdicts, seed, inputs and plots."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec


class Word(enum.StrEnum):
    """What can be said of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCIBLE = "not reproducible"
    BEATEN = "beaten"
    MISSED = "missed"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One claim, what is to be said of it, and why in one sentence."""

    claim: str
    word: Word
    because: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity. `paper` is None where the paper prints none, `target` "" and `met` None where nothing was demanded."""

    quantity: str
    ours: float
    paper: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


class StudyResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a study. `inputs` names every file and every number that was chosen here and not by the paper."""

    study: str
    source: str
    seed: int
    duration_s: float
    inputs: dict[str, str]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def met(self) -> bool:
        """Whether no target was missed."""
        return all(row.met is not False for row in self.rows)


class StudyOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a study is run with: the folder of public data sets, and the seed of whatever is random in it."""

    data: Path
    seed: int = 1


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a study function returns. `plots` draws SVG documents by name, only when they are wanted."""

    source: str
    inputs: dict[str, str]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    plots: Mapping[str, Callable[[], str]]


Say = Callable[[str], None]
Study = Callable[[StudyOrder, Say], Findings]


def relative(paper: float, ours: float, tolerance_frac: float) -> tuple[str, bool]:
    """Words and verdict of a target that is a relative distance from the paper's number."""
    return f"within {100.0 * tolerance_frac:g} %", abs(ours - paper) <= tolerance_frac * abs(paper)
