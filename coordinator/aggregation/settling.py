"""What the operator's own meter says of what members declare: sampled openings held against readings. Pure.

A house counts itself how well it keeps to what it reports (`protocols.messages.AdherenceReport`), because in a community that sums in
secret nobody else sees a plan. Which of its reports are opened is drawn by nobody after they were made
(`protocols.aggregation.settlement`), so the opened ones are a fair sample of all: a house that declares that it kept to its reports, and of
whose sampled intervals the meter shows otherwise far more often than its declaration allows, has declared what is not so. For each sampled
interval the declaration allows a miss with the share of its window that was not declared as kept (of windows that overlap, the one
that declares most, or a second declaration would be an excuse for the first), and never less than `SLACK_FRAC`; the
finding is how probable so many misses are (the tail of a Poisson binomial distribution). Below `CONVICTED_BELOW` the member is convicted.
No household is revealed for it beyond the openings that there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from coordinator.aggregation.settlement import Settled
from protocols.messages import AdherenceReport, RoundContent

TOLERANCE_FRAC: Final = 0.15
"""Of the connection: half as much again as what a house allows itself, since two meters never read the same."""

SLACK_FRAC: Final = 0.01
CONVICTED_BELOW: Final = 1e-6


class Finding(Struct, frozen=True, kw_only=True):
    """One member: sampled intervals with a reading in declared windows, how many the meter shows missed, what was declared as kept."""

    member: str
    sampled: int
    missed: int
    declared_frac: float
    probability: float

    @property
    def disproved(self) -> bool:
        """Whether so many misses are out of all proportion to what was declared."""
        return self.probability < CONVICTED_BELOW

    @property
    def words(self) -> str:
        """The finding for people."""
        return (
            f"declares {100.0 * self.declared_frac:.0f} % of its intervals kept; the meter shows {self.missed} of {self.sampled} sampled"
            f" ones missed, by chance with probability {self.probability:.1e}"
        )


def settle(
    openings: Iterable[Settled],
    declared: Mapping[str, Sequence[AdherenceReport]],
    readings: Mapping[tuple[str, float, float], float],
    ratings_w: Mapping[str, float],
) -> list[Finding]:
    """One finding for each member of whom something can be said. `readings` are mean net imports [W] by (member, start, duration)."""
    samples: dict[str, dict[float, tuple[bool, float]]] = {}
    for opening in openings:
        found = _sample(opening, declared.get(opening.member, ()), readings, ratings_w.get(opening.member))
        if found is not None:
            samples.setdefault(opening.member, {})[opening.round.start_s] = found
    findings = []
    for member, by_start in sorted(samples.items()):
        misses = sum(missed for missed, _ in by_start.values())
        allowed = [share for _, share in by_start.values()]
        reports = declared[member]
        findings.append(
            Finding(
                member=member,
                sampled=len(allowed),
                missed=misses,
                declared_frac=sum(report.kept for report in reports) / sum(report.intervals for report in reports),
                probability=tail(allowed, misses),
            )
        )
    return findings


def tail(shares: Sequence[float], misses: int) -> float:
    """How probable at least so many misses are, where the i-th sample is missed with probability shares[i]."""
    chances = [1.0]
    for share in shares:
        chances = [
            (chances[count] * (1.0 - share) if count < len(chances) else 0.0) + (chances[count - 1] * share if count > 0 else 0.0)
            for count in range(len(chances) + 1)
        ]
    return min(sum(sorted(chances[misses:])), 1.0)


def _sample(
    opening: Settled,
    reports: Sequence[AdherenceReport],
    readings: Mapping[tuple[str, float, float], float],
    rating_w: float | None,
) -> tuple[bool, float] | None:
    """(missed, the share of misses that its window allows); None for an opening of which nothing can be said."""
    said = opening.round
    if said.content != RoundContent.PLAN.value or opening.values is None or len(opening.values) < 2 or rating_w is None:
        return None
    promised_s = said.start_s + said.step_s
    kept = [report.kept * said.step_s / report.duration_s for report in reports if 0.0 <= promised_s - report.from_s < report.duration_s]
    read_w = readings.get((opening.member, promised_s, said.step_s))
    if not kept or read_w is None:
        return None
    missed = abs(read_w - opening.values[1]) > TOLERANCE_FRAC * rating_w
    return missed, max(SLACK_FRAC, 1.0 - max(kept))
