"""The guard on random cases against a dumb reference. Pure, from a seed.

The reference needs no ordering: the reachable net import is an interval, so the least breach is known from its two ends. Wishes are
garbage now and then (not a number, infinite, negative), and limits often cannot be met by any controller.
"""

from __future__ import annotations

import math
import random

import msgspec

from edge.errors import EdgeError
from edge.guard import BatteryPort, Bounds, Decision, House, LoadPort, PvPort, enforce

TOLERANCE_W = 1e-6


class GuardCheckFailed(EdgeError):
    """The guard left a breach that the hardware could have avoided, or asked the hardware for what it cannot do."""


class GuardCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`impossible` cases could not be obeyed by any controller; the worst avoidable breach is over all cases."""

    cases: int
    impossible: int
    worst_avoidable_w: float


def check_guard(cases: int, seed: int) -> GuardCheck:
    """Try the guard on random cases; raises `GuardCheckFailed` at the first that it gets wrong."""
    rng = random.Random(seed)
    impossible, worst_w = 0, 0.0
    for number in range(cases):
        house, bounds = random_case(rng)
        avoidable_w, least_w = judge(house, bounds, enforce(house, bounds))
        if avoidable_w > TOLERANCE_W:
            raise GuardCheckFailed(f"seed {seed}, case {number}: {avoidable_w} W avoidable in {house}, {bounds}")
        impossible += least_w > 0.0
        worst_w = max(worst_w, avoidable_w)
    return GuardCheck(cases=cases, impossible=impossible, worst_avoidable_w=worst_w)


def judge(house: House, bounds: Bounds, decision: Decision) -> tuple[float, float]:
    """(avoidable breach, least possible breach) of a decision [W]."""
    net_w, generation_w, load_w = physics(house, decision)
    least_w = least_breach_w(house, bounds, device_limits=False)
    avoidable_w = breach_w(net_w, bounds) - least_w
    if least_breach_w(house, bounds, device_limits=True) <= 0.0:
        avoidable_w = max(avoidable_w, generation_w - bounds.generation_w, load_w - bounds.load_w)
    told_w = max(decision.export_breach_w, decision.import_breach_w)
    return max(avoidable_w, abs(told_w - breach_w(net_w, bounds))), least_w


def random_case(rng: random.Random) -> tuple[House, Bounds]:
    """A house with perfectly known devices, wishes that are sometimes garbage, limits that often cannot be met."""

    def battery() -> BatteryPort:
        wish_w = _garbage(rng) if rng.random() < 0.1 else _number(rng, -8000.0, 8000.0)
        return BatteryPort(low_w=-_number(rng, 0.0, 6000.0), high_w=_number(rng, 0.0, 6000.0), wish_w=wish_w)

    def pv() -> PvPort:
        rated_w = _number(rng, 0.0, 10_000.0)
        available_w = _number(rng, 0.0, rated_w)
        wish_w = None if rng.random() < 0.5 else _garbage(rng) if rng.random() < 0.1 else _number(rng, 0.0, 10_000.0)
        return PvPort(rated_w=rated_w, available_w=available_w, sure_w=available_w, wish_limit_w=wish_w)

    def load() -> LoadPort:
        rated_w = _number(rng, 0.0, 7400.0)
        draw_w = _number(rng, 0.0, rated_w)
        wish_w = None if rng.random() < 0.3 else _garbage(rng) if rng.random() < 0.1 else _number(rng, 0.0, 7400.0)
        return LoadPort(rated_w=rated_w, draw_w=draw_w, sure_w=draw_w, wish_limit_w=wish_w)

    base_w = _number(rng, -3000.0, 12_000.0)
    house = House(
        base_low_w=base_w,
        base_high_w=base_w,
        batteries=tuple(battery() for _ in range(rng.choice([0, 1, 1, 2]))),
        pvs=tuple(pv() for _ in range(rng.choice([0, 1, 1, 2]))),
        chargers=tuple(load() for _ in range(rng.choice([0, 1]))),
        loads=tuple(load() for _ in range(rng.choice([0, 1, 2]))),
    )

    def limit(probability: float) -> float:
        return _number(rng, 0.0, 10_000.0) if rng.random() < probability else math.inf

    margin_w = rng.choice([0.0, 25.0])
    bounds = Bounds(export_w=limit(0.9), import_w=limit(0.8), generation_w=limit(0.15), load_w=limit(0.15), margin_w=margin_w)
    return house, bounds


def physics(house: House, decision: Decision) -> tuple[float, float, float]:
    """Net import, generation and controllable load that follow from the setpoints; raises `GuardCheckFailed` where the
    hardware is not respected."""
    net_w, generation_w, load_w = house.base_low_w, 0.0, 0.0
    for battery, power_w in zip(house.batteries, decision.battery_w, strict=True):
        _require(battery.low_w - TOLERANCE_W <= power_w <= battery.high_w + TOLERANCE_W, house, decision)
        net_w += power_w
        generation_w += max(-power_w, 0.0)
        load_w += max(power_w, 0.0)
    for pv, limit_w in zip(house.pvs, decision.pv_limit_w, strict=True):
        _require(limit_w is None or limit_w >= 0.0, house, decision)
        produced_w = pv.available_w if limit_w is None else min(pv.available_w, limit_w)
        net_w -= produced_w
        generation_w += produced_w
    for ports, limits in ((house.chargers, decision.charger_limit_w), (house.loads, decision.load_limit_w)):
        for port, draw_limit_w in zip(ports, limits, strict=True):
            _require(0.0 <= draw_limit_w <= port.rated_w + TOLERANCE_W, house, decision)
            net_w += min(port.draw_w, draw_limit_w)
            load_w += min(port.draw_w, draw_limit_w)
    return net_w, generation_w, load_w


def breach_w(net_w: float, bounds: Bounds) -> float:
    return max(net_w - bounds.import_w, -bounds.export_w - net_w, 0.0)


def least_breach_w(house: House, bounds: Bounds, *, device_limits: bool) -> float:
    """The dumb reference: every net import between the two extremes can be reached."""
    generation_w = sum(pv.available_w for pv in house.pvs) - sum(battery.low_w for battery in house.batteries)
    load_w = sum(port.draw_w for port in (*house.chargers, *house.loads)) + sum(b.high_w for b in house.batteries)
    if device_limits:
        generation_w, load_w = min(generation_w, bounds.generation_w), min(load_w, bounds.load_w)
    lowest_w, highest_w = house.base_low_w - generation_w, house.base_low_w + load_w
    return max(lowest_w - bounds.import_w, -bounds.export_w - highest_w, 0.0)


def _require(holds: bool, house: House, decision: Decision) -> None:
    if not holds:
        raise GuardCheckFailed(f"a setpoint is outside the hardware: {decision} for {house}")


def _number(rng: random.Random, low: float, high: float) -> float:
    """Mostly uniform, often exactly zero or an end: that is where mistakes live."""
    kind = rng.random()
    if kind < 0.15:
        return 0.0 if low <= 0.0 <= high else low
    if kind < 0.25:
        return high
    return rng.uniform(low, high)


def _garbage(rng: random.Random) -> float:
    return rng.choice([math.nan, math.inf, -math.inf, -1.0, 1e300, -1e300])
