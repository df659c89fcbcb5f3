"""The guard: an ordered closed-form filter from wishes to setpoints that keep the connection point inside its limits. Pure.

It does not trust the plan and holds no state: each call starts from the newest measurement, so an exceedance that the devices can
end is over one cycle after it was measured, and no integrator can wind up. With b the uncontrolled part of the net import (what the
meter says less what the controlled devices say), p the batteries, e the generation and d the draw of the flexible loads,

    net = b + sum(p) - sum(e) + sum(d),        -export_limit <= net <= import_limit,

and every term on the right is free inside an interval, so the reachable net is an interval too and one ordered pass is exact: the
limits are obeyed whenever the hardware can, otherwise the breach is the least possible (research: 200,000 random cases).

Order of interference. Export too high: batteries discharge less and charge, then PV is curtailed; last, loads that were held back are
let go. Import too high: batteries charge less and discharge, PV that was held back is let go, then priority 3 (vehicles) and
priority 2 (flexible load) yield. Priority 1 is part of b and never touched.

What is uncertain is an interval: b from `base_low_w` to `base_high_w` (a meter that cannot be read: any load from 0 to the import
limit), a draw from `sure_w` to `draw_w`, generation likewise. The low end is held against the export limit, the high end against the
import limit; where both cannot be met the most likely b decides, or else the worse of the two breaches is made as small as possible.

opModGenLimW and opModLoadLimW narrow the controllable devices together. Where they and the limits of the connection point cannot all
be kept, the connection point's win (CSIP-AUS, Annex B) and the reason is returned.
"""

import math

import msgspec

_EPSILON_W = 1e-9


class BatteryPort(msgspec.Struct, frozen=True, kw_only=True):
    """What a battery may do until the next cycle: from `low_w` <= 0 (discharge) to `high_w` >= 0 (charge), and what is wished."""

    low_w: float
    high_w: float
    wish_w: float = 0.0


class PvPort(msgspec.Struct, frozen=True, kw_only=True):
    """A PV system, all magnitudes: what it would produce without a limit, how much of that is sure, and what cannot be curtailed."""

    rated_w: float
    available_w: float
    sure_w: float
    floor_w: float = 0.0
    wish_limit_w: float | None = None


class LoadPort(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle charger or flexible load: `draw_w` is what it would draw without a limit, `sure_w` what it draws for certain."""

    rated_w: float
    draw_w: float
    sure_w: float
    wish_limit_w: float | None = None


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits in force; infinite where there is none. `margin_w` is kept for meter error, `export_swing_w` and `import_swing_w` further on
    that side while the load is moving (`edge.swing`); no margin ever forces a charge or discharge."""

    export_w: float = math.inf
    import_w: float = math.inf
    generation_w: float = math.inf
    load_w: float = math.inf
    margin_w: float = 0.0
    export_swing_w: float = 0.0
    import_swing_w: float = 0.0


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The newest measurement as the guard needs it; tuples of ports keep their order in the decision. `base_w` is the most likely base
    where there is one: it decides when the whole interval cannot be held."""

    base_low_w: float
    base_high_w: float
    base_w: float | None = None
    batteries: tuple[BatteryPort, ...] = ()
    pvs: tuple[PvPort, ...] = ()
    chargers: tuple[LoadPort, ...] = ()
    loads: tuple[LoadPort, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Setpoints in the order of the ports. PV: None is uncurtailed. `low_w` and `high_w` bracket the net import that will follow;
    a breach above zero is what the hardware cannot avoid. `reasons` says in words what was overruled."""

    battery_w: tuple[float, ...]
    pv_limit_w: tuple[float | None, ...]
    charger_limit_w: tuple[float, ...]
    load_limit_w: tuple[float, ...]
    low_w: float
    high_w: float
    export_breach_w: float
    import_breach_w: float
    reasons: tuple[str, ...] = ()


def enforce(house: House, bounds: Bounds) -> Decision:
    """The setpoints nearest to the wishes, in the order above, that obey the bounds whenever the hardware can."""
    decision = _pass(house, bounds)
    if bounds.generation_w == math.inf and bounds.load_w == math.inf:
        return decision
    breach_w = max(decision.export_breach_w, decision.import_breach_w)
    if breach_w <= _EPSILON_W:
        return decision
    site_only = msgspec.structs.replace(bounds, generation_w=math.inf, load_w=math.inf)
    relaxed = _pass(house, site_only)
    if max(relaxed.export_breach_w, relaxed.import_breach_w) >= breach_w - _EPSILON_W:
        return decision
    reason = "the limits of the connection point outrank opModGenLimW and opModLoadLimW, which cannot be kept at the same time"
    return msgspec.structs.replace(relaxed, reasons=(*relaxed.reasons, reason))


def _pass(house: House, bounds: Bounds) -> Decision:
    reasons: list[str] = []
    battery, generation, charge, load = _wishes(house, reasons)
    base_low_w, base_high_w = house.base_low_w, house.base_high_w
    if not (-1e12 < base_low_w <= base_high_w < 1e12):
        base_low_w, base_high_w = 0.0, (bounds.import_w if bounds.import_w < math.inf else 0.0)
        reasons.append("no usable measurement: any load is assumed")
    generation_limit_w, load_limit_w = bounds.generation_w, bounds.load_w
    lows = [port.low_w if port.low_w < 0.0 else 0.0 for port in house.batteries]
    highs = [port.high_w if port.high_w > 0.0 else 0.0 for port in house.batteries]
    if generation_limit_w < math.inf or load_limit_w < math.inf:
        _narrow(house, bounds, battery, generation, charge, load)
    low_w, high_w = _net(house, base_low_w, base_high_w, battery, generation, charge, load)
    if high_w - low_w > bounds.export_w + bounds.import_w:
        _hold_to_sure(house, generation, charge, load)
        if base_high_w - base_low_w > bounds.export_w + bounds.import_w and house.base_w is not None:
            base_low_w = base_high_w = house.base_w
            reasons.append("what is uncertain is wider than the envelope: the most likely is taken")
        low_w, high_w = _net(house, base_low_w, base_high_w, battery, generation, charge, load)
    raise_w, lower_w = _needed(bounds, low_w, high_w, battery, generation, charge, load, reasons)
    if raise_w > 0.0:
        raise_w = _move_up(battery, [p if p > 0.0 else 0.0 for p in battery], raise_w, math.inf)
        if raise_w > 0.0:
            drawn_w = sum(charge) + sum(load) + sum(battery)
            raise_w = _move_up(battery, highs, raise_w, load_limit_w - drawn_w)
        raise_w = _move_down(generation, [port.floor_w for port in house.pvs], raise_w, math.inf)
        if raise_w > _EPSILON_W:
            drawn_w = sum(charge) + sum(load) + _positive(battery)
            left_w = _move_up(charge, [port.draw_w for port in house.chargers], raise_w, load_limit_w - drawn_w)
            _move_up(load, [port.draw_w for port in house.loads], left_w, load_limit_w - drawn_w - (raise_w - left_w))
    if lower_w > 0.0:
        lower_w = _move_down(battery, [p if p < 0.0 else 0.0 for p in battery], lower_w, math.inf)
        if lower_w > 0.0:
            produced_w = sum(generation) - sum(battery)
            lower_w = _move_down(battery, lows, lower_w, generation_limit_w - produced_w)
        if lower_w > 0.0:
            produced_w = sum(generation) + _negative(battery)
            ceilings = [port.sure_w for port in house.pvs]
            lower_w = _move_up(generation, ceilings, lower_w, generation_limit_w - produced_w)
            lower_w = _move_down(charge, [0.0] * len(charge), lower_w, math.inf)
            _move_down(load, [0.0] * len(load), lower_w, math.inf)
    low_w, high_w = _net(house, base_low_w, base_high_w, battery, generation, charge, load)
    pv_limits = _open_pv(house, bounds, battery, generation, low_w)
    charger_limits, load_limits = _open_loads(house, bounds, battery, charge, load, high_w)
    return Decision(
        battery_w=tuple(battery),
        pv_limit_w=pv_limits,
        charger_limit_w=charger_limits,
        load_limit_w=load_limits,
        low_w=low_w,
        high_w=high_w,
        export_breach_w=max(-bounds.export_w - low_w, 0.0),
        import_breach_w=max(high_w - bounds.import_w, 0.0),
        reasons=tuple(reasons),
    )


def _wishes(house: House, reasons: list[str]) -> tuple[list[float], list[float], list[float], list[float]]:
    """Battery power, generation, vehicle and load draw as wished, inside the hardware; what is not a number is no wish."""
    battery: list[float] = []
    for port in house.batteries:
        wish_w = port.wish_w
        if not -math.inf < wish_w < math.inf:
            reasons.append("a battery wish is not a number; taken as zero")
            wish_w = 0.0
        low_w = port.low_w if port.low_w < 0.0 else 0.0
        high_w = port.high_w if port.high_w > 0.0 else 0.0
        battery.append(low_w if wish_w < low_w else high_w if wish_w > high_w else wish_w)
    generation: list[float] = []
    for pv in house.pvs:
        limit_w = pv.wish_limit_w
        if limit_w is not None and not limit_w >= 0.0:
            reasons.append("a PV limit wish is not a magnitude; taken as no limit")
            limit_w = None
        power_w = pv.available_w if limit_w is None or limit_w >= pv.available_w else limit_w
        generation.append(power_w if power_w > pv.floor_w else pv.floor_w)
    return battery, generation, _draws(house.chargers, reasons), _draws(house.loads, reasons)


def _draws(ports: tuple[LoadPort, ...], reasons: list[str]) -> list[float]:
    draws: list[float] = []
    for port in ports:
        limit_w = port.wish_limit_w
        if limit_w is not None and not limit_w >= 0.0:
            reasons.append("a load limit wish is not a magnitude; taken as no limit")
            limit_w = None
        draws.append(port.draw_w if limit_w is None or limit_w >= port.draw_w else limit_w)
    return draws


def _narrow(
    house: House, bounds: Bounds, battery: list[float], generation: list[float], charge: list[float], load: list[float]
) -> None:
    """Bring the wishes inside opModGenLimW and opModLoadLimW: the batteries give way first, priority 2 last."""
    excess_w = sum(generation) + _negative(battery) - bounds.generation_w
    if excess_w > 0.0:
        excess_w = _move_up(battery, [0.0 if p < 0.0 else p for p in battery], excess_w, math.inf)
        _move_down(generation, [port.floor_w for port in house.pvs], excess_w, math.inf)
    excess_w = sum(charge) + sum(load) + _positive(battery) - bounds.load_w
    if excess_w > 0.0:
        excess_w = _move_down(battery, [0.0 if p > 0.0 else p for p in battery], excess_w, math.inf)
        excess_w = _move_down(charge, [0.0] * len(charge), excess_w, math.inf)
        _move_down(load, [0.0] * len(load), excess_w, math.inf)


def _hold_to_sure(house: House, generation: list[float], charge: list[float], load: list[float]) -> None:
    """Allow no more than what is there already: where the envelope is narrow, nothing new may begin."""
    for powers, ports in ((charge, house.chargers), (load, house.loads)):
        for index, port in enumerate(ports):
            powers[index] = min(powers[index], port.sure_w)
    for index, pv in enumerate(house.pvs):
        generation[index] = max(min(generation[index], pv.sure_w), pv.floor_w)


def _net(
    house: House,
    base_low_w: float,
    base_high_w: float,
    battery: list[float],
    generation: list[float],
    charge: list[float],
    load: list[float],
) -> tuple[float, float]:
    """The interval in which the net import will be."""
    battery_w = sum(battery)
    low_w = base_low_w + battery_w - sum(generation)
    high_w = base_high_w + battery_w + sum(charge) + sum(load)
    for pv, power_w in zip(house.pvs, generation, strict=True):
        high_w -= power_w if power_w < pv.sure_w else pv.sure_w
    for port, power_w in zip(house.chargers, charge, strict=True):
        low_w += power_w if power_w < port.sure_w else port.sure_w
    for port, power_w in zip(house.loads, load, strict=True):
        low_w += power_w if power_w < port.sure_w else port.sure_w
    return low_w, high_w


def _needed(
    bounds: Bounds,
    low_w: float,
    high_w: float,
    battery: list[float],
    generation: list[float],
    charge: list[float],
    load: list[float],
    reasons: list[str],
) -> tuple[float, float]:
    """By how much the net import must be raised or lowered; at most one of the two is above zero."""
    raise_w = -bounds.export_w - low_w
    lower_w = high_w - bounds.import_w
    if raise_w + lower_w > 0.0:
        reasons.append("what is uncertain is wider than the envelope: the worse breach is kept least")
        middle_w = 0.5 * (raise_w - lower_w)
        return max(middle_w, 0.0), max(-middle_w, 0.0)
    room_w = -(raise_w + lower_w)
    export_margin_w, import_margin_w = bounds.margin_w + bounds.export_swing_w, bounds.margin_w + bounds.import_swing_w
    if export_margin_w + import_margin_w > room_w:
        share = room_w / (export_margin_w + import_margin_w)
        export_margin_w, import_margin_w = share * export_margin_w, share * import_margin_w
    if raise_w + export_margin_w > 0.0:
        reducible_w = sum(generation) + _negative(battery)
        return max(min(raise_w + export_margin_w, reducible_w), raise_w, 0.0), 0.0
    if lower_w + import_margin_w > 0.0:
        reducible_w = sum(charge) + sum(load) + _positive(battery)
        return 0.0, max(min(lower_w + import_margin_w, reducible_w), lower_w, 0.0)
    return 0.0, 0.0


def _open_pv(
    house: House, bounds: Bounds, battery: list[float], generation: list[float], low_w: float
) -> tuple[float | None, ...]:
    """Limits as wide as the bounds allow, so that a rising sun is not curtailed before the next cycle."""
    if not house.pvs:
        return ()
    spare_w = low_w + bounds.export_w - bounds.margin_w - bounds.export_swing_w
    if bounds.generation_w < math.inf:
        spare_w = min(spare_w, bounds.generation_w - sum(generation) - _negative(battery))
    if spare_w < 0.0:
        spare_w = 0.0
    rated_w = 0.0
    for port in house.pvs:
        rated_w += port.rated_w
    if spare_w > rated_w:
        spare_w = rated_w
    limits: list[float | None] = []
    for port, power_w in zip(house.pvs, generation, strict=True):
        limit_w = power_w + (spare_w * port.rated_w / rated_w if rated_w > 0.0 else 0.0)
        wish_w = port.wish_limit_w
        if wish_w is not None and 0.0 <= wish_w < limit_w:
            limit_w = wish_w if wish_w > power_w else power_w
        limits.append(None if limit_w >= port.rated_w else limit_w)
    return tuple(limits)


def _open_loads(
    house: House, bounds: Bounds, battery: list[float], charge: list[float], load: list[float], high_w: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Limits of loads that draw less than they may: up to the wish, while the import limit has room; priority 2 first."""
    if not house.chargers and not house.loads:
        return (), ()
    spare_w = bounds.import_w - bounds.margin_w - bounds.import_swing_w - high_w
    if bounds.load_w < math.inf:
        spare_w = min(spare_w, bounds.load_w - sum(charge) - sum(load) - _positive(battery))
    if spare_w < 0.0:
        spare_w = 0.0
    load_limits, spare_w = _opened(house.loads, load, spare_w)
    charger_limits, _ = _opened(house.chargers, charge, spare_w)
    return charger_limits, load_limits


def _opened(ports: tuple[LoadPort, ...], draws: list[float], spare_w: float) -> tuple[tuple[float, ...], float]:
    limits: list[float] = []
    for port, draw_w in zip(ports, draws, strict=True):
        wish_w = port.wish_limit_w
        ceiling_w = port.rated_w if wish_w is None or not 0.0 <= wish_w < port.rated_w else wish_w
        more_w = min(max(ceiling_w - draw_w, 0.0), spare_w)
        spare_w -= more_w
        limits.append(draw_w + more_w)
    return tuple(limits), spare_w


def _positive(powers: list[float]) -> float:
    total_w = 0.0
    for power_w in powers:
        if power_w > 0.0:
            total_w += power_w
    return total_w


def _negative(powers: list[float]) -> float:
    """The magnitude of what is below zero."""
    total_w = 0.0
    for power_w in powers:
        if power_w < 0.0:
            total_w -= power_w
    return total_w


def _move_up(powers: list[float], ceilings: list[float], amount_w: float, allowed_w: float) -> float:
    """Raise the powers in place, each by its share of the room; returns what could not be placed."""
    wanted_w = amount_w if amount_w < allowed_w else max(allowed_w, 0.0)
    room_w = 0.0
    for power_w, ceiling_w in zip(powers, ceilings, strict=True):
        if ceiling_w > power_w:
            room_w += ceiling_w - power_w
    if room_w <= 0.0 or wanted_w <= 0.0:
        return amount_w
    share = wanted_w / room_w
    for index, ceiling_w in enumerate(ceilings):
        if ceiling_w > powers[index]:
            powers[index] = ceiling_w if share >= 1.0 else powers[index] + (ceiling_w - powers[index]) * share
    return amount_w - (wanted_w if share < 1.0 else room_w)


def _move_down(powers: list[float], floors: list[float], amount_w: float, allowed_w: float) -> float:
    """Lower the powers in place, each by its share of the room; returns what could not be placed."""
    wanted_w = amount_w if amount_w < allowed_w else max(allowed_w, 0.0)
    room_w = 0.0
    for power_w, floor_w in zip(powers, floors, strict=True):
        if power_w > floor_w:
            room_w += power_w - floor_w
    if room_w <= 0.0 or wanted_w <= 0.0:
        return amount_w
    share = wanted_w / room_w
    for index, floor_w in enumerate(floors):
        if powers[index] > floor_w:
            powers[index] = floor_w if share >= 1.0 else powers[index] - (powers[index] - floor_w) * share
    return amount_w - (wanted_w if share < 1.0 else room_w)
