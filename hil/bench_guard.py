"""Rows of the bench: the guard over random houses, against the least breach that is possible at all.

With known devices the reachable net import is an interval, so the least possible breach of the limits is known without any ordering:
the distance between that interval and the limits. What the guard breaks beyond it was avoidable. Wishes are often not numbers at all.
"""

from __future__ import annotations

import math
import random
import time
from typing import Any

from edge.guard import BatteryPort, Bounds, Decision, House, LoadPort, PvPort, enforce

CASES = 200_000
GARBAGE = (math.nan, math.inf, -math.inf, -1.0, 1e300, -1e300)


def guard_rows(cases: int = CASES, seed: int = 1) -> list[dict[str, Any]]:
    """Worst avoidable breach and mean time per call over random cases."""
    rng = random.Random(seed)
    worst_w, spent_s = 0.0, 0.0
    for _ in range(cases // 1000):
        batch = [random_house(rng) for _ in range(1000)]
        begun_s = time.process_time()
        decisions = [enforce(house, bounds) for house, bounds in batch]
        spent_s += time.process_time() - begun_s
        worst_w = max([worst_w, *(avoidable_breach_w(*case, decision) for case, decision in zip(batch, decisions, strict=True))])
    per_call_us = spent_s / (cases // 1000 * 1000) * 1e6
    note = f"{cases:,} random houses, wishes partly NaN or infinite"
    return [
        {"name": "guard_avoidable_breach", "value": worst_w, "unit": "W", "target": "<= 1e-6", "met": worst_w <= 1e-6, "note": note},
        {"name": "guard_time", "value": per_call_us, "unit": "us CPU", "target": "<= 20", "met": per_call_us <= 20.0, "note": note},
    ]


def random_house(rng: random.Random) -> tuple[House, Bounds]:
    """A house of up to two batteries, two PV systems, a charger and two loads, and limits that often cannot be met."""
    base_w = rng.uniform(-3000.0, 12_000.0)
    house = House(
        base_low_w=base_w,
        base_high_w=base_w,
        batteries=tuple(_battery(rng) for _ in range(rng.choice((0, 1, 1, 2)))),
        pvs=tuple(_pv(rng) for _ in range(rng.choice((0, 1, 1, 2)))),
        chargers=tuple(_load(rng, 7400.0) for _ in range(rng.choice((0, 1)))),
        loads=tuple(_load(rng, 4000.0) for _ in range(rng.choice((0, 1, 2)))),
    )
    export_w, import_w = (rng.choice((0.0, math.inf, rng.uniform(0.0, 10_000.0))) for _ in range(2))
    return house, Bounds(export_w=export_w, import_w=import_w)


def avoidable_breach_w(house: House, bounds: Bounds, decision: Decision) -> float:
    """By how much the decision breaks the limits beyond what the hardware makes unavoidable."""
    generation_w = sum(pv.available_w for pv in house.pvs)
    draw_w = sum(port.draw_w for port in (*house.chargers, *house.loads))
    lowest_w = house.base_low_w + sum(battery.low_w for battery in house.batteries) - generation_w
    highest_w = house.base_low_w + sum(battery.high_w for battery in house.batteries) + draw_w
    least_w = max(0.0, -bounds.export_w - highest_w, lowest_w - bounds.import_w)
    net_w = house.base_low_w
    for battery, power_w in zip(house.batteries, decision.battery_w, strict=True):
        if not battery.low_w - 1e-9 <= power_w <= battery.high_w + 1e-9:
            return math.inf
        net_w += power_w
    for pv, pv_limit_w in zip(house.pvs, decision.pv_limit_w, strict=True):
        net_w -= pv.available_w if pv_limit_w is None else min(pv.available_w, pv_limit_w)
    for ports, limits_w in ((house.chargers, decision.charger_limit_w), (house.loads, decision.load_limit_w)):
        for port, limit_w in zip(ports, limits_w, strict=True):
            net_w += min(port.draw_w, limit_w)
    breach_w = max(0.0, -bounds.export_w - net_w, net_w - bounds.import_w)
    return breach_w - least_w if math.isfinite(net_w) else math.inf


def _wish_w(rng: random.Random, most_w: float) -> float:
    return rng.choice(GARBAGE) if rng.random() < 0.1 else rng.uniform(-most_w, most_w)


def _battery(rng: random.Random) -> BatteryPort:
    return BatteryPort(low_w=-rng.uniform(0.0, 6000.0), high_w=rng.uniform(0.0, 6000.0), wish_w=_wish_w(rng, 8000.0))


def _pv(rng: random.Random) -> PvPort:
    rated_w = rng.uniform(0.0, 10_000.0)
    available_w = rng.uniform(0.0, rated_w)
    wish_w = None if rng.random() < 0.5 else _wish_w(rng, 10_000.0)
    return PvPort(rated_w=rated_w, available_w=available_w, sure_w=available_w, wish_limit_w=wish_w)


def _load(rng: random.Random, most_w: float) -> LoadPort:
    rated_w = rng.uniform(0.0, most_w)
    draw_w = rng.uniform(0.0, rated_w)
    wish_w = None if rng.random() < 0.3 else _wish_w(rng, most_w)
    return LoadPort(rated_w=rated_w, draw_w=draw_w, sure_w=draw_w, wish_limit_w=wish_w)
