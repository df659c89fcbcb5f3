"""What may go wrong in one simulated election, and how often: drawn from the seed, rates and all."""

from __future__ import annotations

import random

from msgspec import Struct


class Faults(Struct, frozen=True, kw_only=True):
    """What may go wrong in one run, and how often. A rate of 0 switches a fault off."""

    members: int
    loss_frac: float
    duplicate_frac: float
    delay_s: float
    long_delay_frac: float
    long_delay_s: float
    partitions_per_s: float
    partition_s: float
    crashes_per_s: float
    crash_in_step_frac: float
    down_s: float
    disk_loss_frac: float
    freezes_per_s: float
    freeze_s: float
    cuts_per_s: float
    wills: bool
    drift_frac: float
    tenure_s: float
    renew_every: int


def draw_faults(rng: random.Random) -> Faults:
    """Group size, kinds of fault and their rates for one run."""

    def on(low: float, high: float, probability: float = 0.5) -> float:
        return rng.uniform(low, high) if rng.random() < probability else 0.0

    def spread(low: float, high: float) -> float:
        return low * float((high / low) ** rng.random())

    return Faults(
        members=rng.randint(3, 7),
        loss_frac=on(0.01, 0.4),
        duplicate_frac=on(0.01, 0.3),
        delay_s=rng.choice([0.002, 0.02, 0.05, 0.2]),
        long_delay_frac=on(0.01, 0.5),
        long_delay_s=rng.uniform(0.5, 8.0),
        partitions_per_s=on(0.02, 0.3),
        partition_s=rng.uniform(0.5, 8.0),
        crashes_per_s=on(0.02, 1.0),
        crash_in_step_frac=on(0.001, 0.03),
        down_s=spread(0.02, 6.0),
        disk_loss_frac=on(0.05, 0.5, 0.4),
        freezes_per_s=on(0.02, 0.2),
        freeze_s=rng.uniform(0.2, 6.0),
        cuts_per_s=on(0.02, 0.2),
        wills=rng.random() < 0.5,
        drift_frac=on(0.005, 0.02),
        tenure_s=rng.choice([3600.0, 5.0]),
        renew_every=rng.choice([1, 2]),
    )
