"""Two exact sums that differ by one member give that member away: the guard against it.

If a round has a few members more or fewer than the last accepted one, the operator could subtract the sums and read the difference
(correlation 0.95 with the victim's curve in simulation, at 50 W of noise in each plan). So the set of members changes by nobody or by
at least `BATCH`: new members wait until enough have come, and when a few are missing, others are left out with them as decoys.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

BATCH: Final = 5


def admitted(previous: Collection[str], waiting: Collection[str], *, batch: int = BATCH) -> tuple[str, ...]:
    """The waiting members that may join the roster now: all of them once they are `batch`, or when there is no group yet."""
    newcomers = sorted(set(waiting) - set(previous))
    return tuple(newcomers) if not previous or len(newcomers) >= batch else ()


def decoys(previous: Collection[str], present: Collection[str], rng: random.Random, *, batch: int = BATCH) -> tuple[str, ...]:
    """Members of `present` to leave out, such that the summed group differs from `previous` by nobody or by at least `batch`.

    `rng` is the leader's own secret randomness. Returns () where nothing has to be hidden: no previous sum, no change, or enough change.
    """
    changed = len(set(previous) ^ set(present))
    if not previous or changed == 0 or changed >= batch:
        return ()
    candidates = sorted(set(previous) & set(present))
    return tuple(sorted(rng.sample(candidates, min(batch - changed, len(candidates)))))
