"""Finding who spoils sums, so that the others have theirs: a report that overflows its slots, or pads that do not cancel, show in the sum
alone.

A leader that was told that what it handed in is no sum cannot see whose fault it is, and must not ask for sums over a few members to find
out. So it searches in batches (adaptive group testing, Hwang 1972): it calls a random half until a sum opens, and then adds the others part
by part. A part that spoils the sum is split, down to fewer than two batches, which then stay out until they are tried again. Whoever is
added or left out is so together with a batch of others, so no two sums tell more than any others. Pure; the randomness is the leader's own.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from protocols.aggregation.differencing import BATCH

TRIED_AGAIN_AFTER: Final = 96
"""Opened rounds until those who stay out are called again: a day of plans."""


class Quarantine:
    """What one leader has found out."""

    def __init__(self, rng: random.Random, *, batch: int = BATCH) -> None:
        self._rng = rng
        self._batch = batch
        self._held: frozenset[str] = frozenset()
        self._everybody: frozenset[str] | None = None
        self._cleared: frozenset[str] = frozenset()
        self._parts: list[frozenset[str]] = []
        self._opened = 0

    @property
    def held(self) -> frozenset[str]:
        """Who stays out."""
        return self._held

    def refused(self, group: Collection[str]) -> None:
        """What was handed in for this group was no sum."""
        part = frozenset(group) - self._cleared
        if self._everybody is None or (self._cleared and not part):
            self._everybody, self._cleared, self._parts = frozenset(group), frozenset(), []
        elif self._cleared:
            self._parts = [known for known in self._parts if known.isdisjoint(part)]
            if len(part) < 2 * self._batch:
                self._held |= part
            else:
                half = frozenset(self._rng.sample(sorted(part), len(part) // 2))
                self._parts = [half, part - half, *self._parts]
        self._opened = 0

    def opened(self, group: Collection[str]) -> None:
        """The sum over this group was opened."""
        if self._everybody is not None:
            rest = self._everybody - self._held - frozenset(group) if not self._cleared else frozenset[str]()
            self._cleared |= frozenset(group)
            self._parts = [known - self._cleared for known in (*self._parts, rest) if len(known - self._cleared) >= self._batch]
            if not self._parts:
                self._everybody, self._cleared = None, frozenset()
        self._opened += 1
        if self._opened >= TRIED_AGAIN_AFTER:
            self._held, self._opened = frozenset(), 0

    def roster(self, names: Collection[str], *, members_min: int) -> frozenset[str]:
        """Whom to call of these; all of them where a search would make the group too small."""
        everybody = frozenset(names)
        if self._everybody is None:
            called = everybody - self._held
            if 0 < len(everybody - called) < self._batch:
                called -= frozenset(self._rng.sample(sorted(called), min(self._batch, len(called))))
        elif self._parts:
            called = everybody & (self._cleared | self._parts[0])
        elif self._cleared:
            self._everybody, self._cleared = None, frozenset()
            called = everybody - self._held
        else:
            known = sorted(everybody & self._everybody - self._held)
            called = frozenset(self._rng.sample(known, min(len(known), max(members_min, len(known) // 2))))
        fits = len(called) >= members_min and (called == everybody or len(everybody - called) >= self._batch)
        return called if fits else everybody
