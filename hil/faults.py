"""Faults of one run, drawn from its seed as data: what, where, from when, for how long.

Even the rates are drawn: a run in which everything of one kind stays healthy finds other errors than a run in which it does not.
Each (kind, target) has its own random stream, so that adding a kind or a home does not redraw the others. The number of events is
Poisson distributed; events of one kind at one target do not overlap. Nothing here applies a fault: `hil.faulting` does.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from hil.scenario import FaultKind, FaultMixEntry, FaultsSection

DAY_S = 86400.0

FEEDER_KINDS: frozenset[str] = frozenset({"broker_restart", "coordinator_unreachable"})
"""Faults that befall the whole feeder at once."""

HOME_KINDS: frozenset[str] = frozenset({"edge_power_cycle", "forged_command"})
"""Faults that befall a whole home; every other kind befalls one device of a home."""


class Fault(Struct, frozen=True, kw_only=True, order=True):
    """One fault. `target` is the feeder ("feeder"), a home ("h07") or a device of a home ("h07/battery")."""

    start_s: float
    duration_s: float
    kind: FaultKind
    target: str

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s

    @property
    def home(self) -> str | None:
        """Name of the home, or None where the whole feeder is the target."""
        return None if self.kind in FEEDER_KINDS else self.target.partition("/")[0]

    @property
    def device(self) -> str | None:
        """Name of the device within its home, or None."""
        return self.target.partition("/")[2] or None


class DrawnRate(Struct, frozen=True, kw_only=True):
    """The rate that this run's seed gave one kind of fault."""

    kind: FaultKind
    per_day: float


class FaultPlan(Struct, frozen=True, kw_only=True):
    """All faults of one run in order of time."""

    rates: tuple[DrawnRate, ...]
    faults: tuple[Fault, ...]


def draw_faults(
    section: FaultsSection,
    homes: dict[str, Iterable[str]],
    *,
    seed: int,
    start_s: float,
    duration_s: float,
    step_s: float,
) -> FaultPlan:
    """Draw the faults of a run over [start_s, start_s + duration_s). `homes` names the devices of every home.

    Times are whole multiples of `step_s` after `start_s`, and every fault lasts at least one step.
    """
    if not section.enabled:
        return FaultPlan(rates=(), faults=())
    first_s = section.quiet_h * 3600.0
    rates: list[DrawnRate] = []
    faults: list[Fault] = []
    for entry in section.mix:
        per_day = float(_stream(seed, entry.kind, "rate").uniform(0.0, entry.max_per_day))
        rates.append(DrawnRate(kind=entry.kind, per_day=per_day))
        for target in _targets(entry, homes):
            rng = _stream(seed, entry.kind, target)
            for begin_s, lasting_s in _events(rng, entry, per_day, first_s, duration_s, step_s):
                place = target
                if entry.kind not in FEEDER_KINDS | HOME_KINDS:
                    devices = sorted(homes[target])
                    place = f"{target}/{devices[int(rng.integers(len(devices)))]}"
                faults.append(Fault(start_s=start_s + begin_s, duration_s=lasting_s, kind=entry.kind, target=place))
    return FaultPlan(rates=tuple(rates), faults=tuple(sorted(faults)))


def _targets(entry: FaultMixEntry, homes: dict[str, Iterable[str]]) -> list[str]:
    return ["feeder"] if entry.kind in FEEDER_KINDS else sorted(homes)


def _events(
    rng: np.random.Generator, entry: FaultMixEntry, per_day: float, first_s: float, duration_s: float, step_s: float
) -> list[tuple[float, float]]:
    """(start, duration) of the events of one kind at one target, apart from each other, in order."""
    span_s = max(0.0, duration_s - first_s)
    count = int(rng.poisson(per_day * span_s / DAY_S))
    begins_s = np.sort(rng.uniform(first_s, max(first_s, duration_s), count))
    lengths_s = rng.uniform(entry.shortest_s, entry.longest_s, count)
    events: list[tuple[float, float]] = []
    free_s = 0.0
    for begin_s, length_s in zip(begins_s.tolist(), lengths_s.tolist(), strict=True):
        begin_s = math.floor(begin_s / step_s) * step_s
        length_s = max(1, round(length_s / step_s)) * step_s
        if begin_s >= free_s:
            events.append((begin_s, length_s))
            free_s = begin_s + length_s
    return events


def _stream(seed: int, kind: str, target: str) -> np.random.Generator:
    """A stream of its own for each (seed, kind, target); CRC-32 rather than `hash`, which differs between processes."""
    return np.random.default_rng([seed, zlib.crc32(f"{kind}/{target}".encode())])
