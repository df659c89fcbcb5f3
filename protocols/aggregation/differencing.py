"""Two exact sums that differ by one member give that member away: the guard against it.

If a round has a few members more or fewer than an accepted one, the operator could subtract the sums and read the difference
(correlation 0.95 with the victim's curve in simulation, at 50 W of noise in each plan). So the groups of any two sums differ by nobody
or by at least `BATCH` members: new members wait until enough have come, and when a few are missing, others are left out with them as
decoys. Not only the last sum counts: plans of one day resemble each other, so all recent ones are compared.

At least `BATCH` decoys are drawn where any are needed, because the leader holds their reports: a leader and an operator that pool what
they saw could open the sum over the decoys alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Final

BATCH: Final = 5
ATTEMPTS: Final = 50


def admitted(previous: Collection[str], waiting: Collection[str], *, batch: int = BATCH) -> tuple[str, ...]:
    """The waiting members that may join the roster now: all of them once they are `batch`, or when there is no group yet."""
    newcomers = sorted(set(waiting) - set(previous))
    return tuple(newcomers) if not previous or len(newcomers) >= batch else ()


def decoys(
    previous: Collection[str],
    present: Collection[str],
    rng: random.Random,
    *,
    batch: int = BATCH,
    earlier: Sequence[Collection[str]] = (),
) -> tuple[str, ...]:
    """Members of `present` to leave out, such that the summed group differs from every group summed before by nobody or by `batch` or more.

    `previous` is the last group that was summed and `earlier` are those before it; `rng` is the leader's own secret randomness. Returns
    () where nothing has to be hidden: no sum yet, no change, or enough change.
    """
    groups = [set(group) for group in (previous, *earlier) if group]
    here = set(present)
    if _hidden(groups, here, batch):
        return ()
    for group in groups:
        gone = here - group
        if group <= here and batch <= len(gone) <= 2 * batch and _hidden(groups, group, batch):
            return tuple(sorted(gone))
    candidates = sorted(here)
    for attempt in range(ATTEMPTS):
        chosen = rng.sample(candidates, min(batch + attempt // 10, len(candidates)))
        if _hidden(groups, here - set(chosen), batch):
            return tuple(sorted(chosen))
    return tuple(candidates)


def _hidden(groups: list[set[str]], summed: set[str], batch: int) -> bool:
    return all(not 0 < len(group ^ summed) < batch for group in groups)
