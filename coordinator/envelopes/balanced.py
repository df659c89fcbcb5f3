"""Envelopes on balanced radial feeders: LinDistFlow rows corrected by exact AC power flow, and a certificate of monotonicity.

Export and import limits are two problems, because more export raises every voltage. Each round solves the allocation over rows whose
slopes are LinDistFlow's and whose excess is exact, from one batch of AC power flows at all-export, all-import and, for each conductor
near its rating, the corner at which it exports while the rest of the feeder imports (which lowers the voltage and so raises the
current). The last round's corners are the certificate's, and `monotone.py` proves that no other point of the box has a higher or lower
voltage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Box, Movers, collect_boxes, collect_demand, collect_movers
from coordinator.envelopes.certificate import Certificate, Check, EnvelopeResult, Infeasible
from coordinator.envelopes.checking import judge
from coordinator.envelopes.lindistflow import Sensitivity, build_sensitivity
from coordinator.envelopes.monitors import feed_rating_a
from coordinator.envelopes.monotone import monotonicity_margin
from coordinator.envelopes.robust import infeasible, name_binding, verified_limits
from coordinator.envelopes.rules import Demand, allocate
from coordinator.envelopes.values import AllocationRule, EnvelopeProblem
from coordinator.powerflow.radial import BoolArray, ComplexArray, FloatArray, FlowSolution, IntArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT

METHOD = "monotonicity proved over the box (margin {margin:.2f}); all-export, all-import and per-conductor current corners"
MAX_ROUNDS = 12
FULL_ROUNDS = 3
INSIDE = 1e-6
SETTLED_FRAC = 1e-3
GAINED_FRAC = 1e-3
SHRINKS = 40
# Conductors above this share of their rating at all-export or all-import get corners of their own.
NEAR_RATING = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One problem; `rated_a` (n,) per fed conductor and `rated_va` (n,) per zone head, infinite where there is no limit."""

    problem: EnvelopeProblem
    feeder: RadialFeeder
    movers: Movers
    sensitivity: Sensitivity
    boxes: tuple[Box, ...]
    demand: Demand
    rated_a: FloatArray
    rated_va: FloatArray
    vmin_pu: float
    vmax_pu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Packing rows of one direction: slopes over its N limits, excess at the present ones, and what each row is."""

    slopes: FloatArray
    excess: FloatArray
    names: list[str]


def compute_balanced(problem: EnvelopeProblem, feeder: RadialFeeder) -> EnvelopeResult | Infeasible | None:
    """Compute one interval; None where monotonicity does not hold, so that corners have to be searched instead."""
    work = _prepare(problem, feeder)
    if not work.sensitivity.is_monotone or feeder.y_siemens is not None:
        return None
    floor = work.demand.floor_w
    limits, rows, rounds = _iterate(work)
    if limits is None:
        return infeasible(_check(work, floor, "")[0])
    theta = 1.0
    check, corners = _check(work, limits, METHOD)
    for step in range(SHRINKS):
        if check.holds:
            break
        theta = 1.0 - 10.0 ** (step - 6) if step < 5 else 0.5 * theta
        check, corners = _check(work, floor + theta * (limits - floor), METHOD)
    if not check.holds:
        return infeasible(_check(work, floor, "")[0])
    bound_by = [name for direction, part in zip(rows, (0, 1), strict=True) for name in _binding(work, direction, limits, part)]
    limits = floor + theta * (limits - floor)
    margin = min(monotonicity_margin(feeder, work.movers, work.sensitivity, *box.sides(limits)) for box in work.boxes)
    if not margin > 0.0:
        return None
    check, corners = _check(work, limits, METHOD.format(margin=margin))
    certificate = Certificate(guarantee=problem.guarantee, check=check, box=verified_limits(problem, limits, bound_by))
    return EnvelopeResult(certificate=certificate, rule=problem.rule, rounds=rounds, theta=theta, corner_va=corners)


def _prepare(problem: EnvelopeProblem, feeder: RadialFeeder) -> _Work:
    movers = collect_movers(problem, feeder)
    network, limits = problem.network, problem.limits
    rated_va = np.full(feeder.tree.node_count, np.inf)
    for zone in feeder.tree.zones if limits.check_transformers else ():
        if zone.transformer != ROOT:
            rated_va[zone.first] = network.transformers[zone.transformer].rated_va * limits.transformer_rating_frac
    return _Work(
        problem=problem,
        feeder=feeder,
        movers=movers,
        sensitivity=build_sensitivity(feeder, movers),
        boxes=collect_boxes(problem),
        demand=collect_demand(problem),
        rated_a=feed_rating_a(feeder, limits),
        rated_va=rated_va,
        vmin_pu=network.vmin_pu if limits.vmin_pu is None else limits.vmin_pu,
        vmax_pu=network.vmax_pu if limits.vmax_pu is None else limits.vmax_pu,
    )


def _iterate(work: _Work) -> tuple[FloatArray | None, tuple[_Rows, _Rows], int]:
    """Correct and allocate until the limits are legal and settled; None when not even the floors fit."""
    floor, cap = work.demand.floor_w, work.demand.cap_w
    limits = floor.copy()
    scale = max(float(np.max(cap, initial=0.0)), 1.0)
    rows = _rows(work, limits)
    if rows is None:
        return None, (_no_rows(work), _no_rows(work)), 0
    active = (np.zeros(rows[0].excess.size, dtype=np.bool_), np.zeros(rows[1].excess.size, dtype=np.bool_))
    clear = [np.zeros(part.excess.size) for part in rows]
    for number in range(1, MAX_ROUNDS + 1):
        if number > FULL_ROUNDS:
            # A largest volume may jump between equally good vertices for ever; what a row still missed is kept clear.
            clear = [kept + np.maximum(part.excess, 0.0) for kept, part in zip(clear, rows, strict=True)]
        following = _allocate(work, rows, limits, active, clear)
        if following is None:
            return None, rows, number
        tried = _rows(work, following)
        while tried is None:
            # The linear rows asked for more than any power flow carries: come half-way back.
            following = 0.5 * (limits + following)
            tried = _rows(work, following)
        moved = float(np.max(np.abs(following - limits), initial=0.0)) / scale
        gained = abs(float(np.sum(following - limits))) / max(float(np.sum(following)), 1.0)
        limits, rows = following, tried
        legal = max(float(np.max(part.excess, initial=-np.inf)) for part in rows) <= 0.0
        if legal and (moved <= SETTLED_FRAC or gained <= GAINED_FRAC):
            break
    return limits, rows, number


def _no_rows(work: _Work) -> _Rows:
    return _Rows(slopes=np.zeros((0, len(work.problem.participants))), excess=np.zeros(0), names=[])


def _allocate(
    work: _Work, rows: tuple[_Rows, _Rows], limits: FloatArray, active: tuple[BoolArray, BoolArray], clear: list[FloatArray]
) -> FloatArray | None:
    """Solve the rule for both directions, together only where the rule couples them.

    `active` is the memory of `rules.allocate`, `clear` what every row is to stay away from its limit.
    """
    count, demand, rule = len(work.problem.participants), work.demand, work.problem.rule
    rhs = [
        part.slopes @ limits[at : at + count] - part.excess - INSIDE - kept
        for part, at, kept in zip(rows, (0, count), clear, strict=True)
    ]
    if rule is AllocationRule.EQUAL:
        wide = [np.pad(part.slopes, ((0, 0), pad)) for part, pad in zip(rows, ((0, count), (count, 0)), strict=True)]
        return allocate(rule, demand, np.concatenate(wide), np.concatenate(rhs))
    found: list[FloatArray] = []
    for part, at, side, seen in zip(rows, (0, count), rhs, active, strict=True):
        mine = slice(at, at + count)
        own = Demand(floor_w=demand.floor_w[mine], cap_w=demand.cap_w[mine], weight=demand.weight[mine])
        answer = allocate(rule, own, part.slopes, side, seen)
        if answer is None:
            return None
        found.append(answer)
    return np.concatenate(found)


def _corners(work: _Work, limits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """All-export and all-import corner (movers,) of the union of the boxes."""
    sides = [box.sides(limits) for box in work.boxes]
    return np.min([low for low, _ in sides], axis=0), np.max([high for _, high in sides], axis=0)


def _rows(work: _Work, limits: FloatArray) -> tuple[_Rows, _Rows] | None:
    """Exact excess at the worst corners with LinDistFlow slopes, for exports and for imports; None without a power flow."""
    low, high = _corners(work, limits)
    flow = work.feeder.solve(work.movers.power_va(np.stack([low, high], axis=1)))
    if not np.all(flow.converged):
        return None
    loaded = _near_rating(work, flow)
    own = work.sensitivity.below[loaded]
    reverse = work.feeder.solve(work.movers.power_va(np.where(own, low, high).T))
    if not np.all(reverse.converged):
        return None
    return (
        _direction(work, flow, 0, -1.0, work.vmax_pu, (loaded, reverse)),
        _direction(work, flow, 1, 1.0, work.vmin_pu, (NOBODY, reverse)),
    )


NOBODY: IntArray = np.zeros(0, dtype=np.int64)


def _near_rating(work: _Work, flow: FlowSolution) -> IntArray:
    """Nodes whose feeding conductor has a rating and comes near it, in topological order."""
    share = np.max(np.abs(flow.feed_current_a[:, 0]), axis=1) / work.rated_a
    return np.flatnonzero(share > NEAR_RATING).astype(np.int64)


def _direction(
    work: _Work, flow: FlowSolution, corner: int, sign: float, bound_pu: float, own: tuple[IntArray, FlowSolution]
) -> _Rows:
    """Rows of one direction at its corner: voltages, conductors, transformers; `sign` is +1 for import."""
    feeder, sensitivity = work.feeder, work.sensitivity
    count = len(work.problem.participants)
    volts = np.abs(flow.node_voltage_v[:, 0, corner])
    pu = volts / feeder.nominal_v
    fall = sensitivity.fall[:, :count] / (sensitivity.ratio**2 * 2.0 * volts * feeder.nominal_v)[:, None]
    voltage_excess = (bound_pu - pu) if sign > 0.0 else (pu - bound_pu)
    amps = np.abs(flow.feed_current_a[:, 0, corner])
    loaded, reverse = own
    at = volts.copy()
    amps[loaded] = np.abs(reverse.feed_current_a[loaded, 0, np.arange(loaded.size)])
    at[loaded] = np.abs(reverse.node_voltage_v[loaded, 0, np.arange(loaded.size)])
    power = feeder.conductors * flow.node_voltage_v[:, 0, corner] * np.conj(flow.feed_current_a[:, 0, corner])
    size = np.maximum(np.abs(power), 1e-9)
    towards = sign * (power.real[:, None] + power.imag[:, None] * work.movers.q_per_w[:count]) / size[:, None]
    growth = np.maximum(towards, 0.0) * sensitivity.below[:, :count]
    rated, heads = np.flatnonzero(np.isfinite(work.rated_a)), np.flatnonzero(np.isfinite(work.rated_va))
    sending_va = np.abs(_sending_power(feeder, flow, corner))
    loading = np.maximum(np.abs(power), sending_va)
    network = feeder.network
    buses = [network.buses[int(bus)].id for bus in feeder.tree.bus_of_node]
    return _Rows(
        slopes=np.concatenate([
            fall,
            growth[rated] / (feeder.conductors * at[rated] * work.rated_a[rated])[:, None],
            growth[heads] / work.rated_va[heads, None],
        ]),
        excess=np.concatenate([voltage_excess, amps[rated] / work.rated_a[rated] - 1.0, loading[heads] / work.rated_va[heads] - 1.0]),
        names=[f"voltage at bus {bus}" for bus in buses]
        + [f"current into bus {buses[node]}" for node in rated]
        + [f"loading of the transformer into bus {buses[node]}" for node in heads],
    )


def _sending_power(feeder: RadialFeeder, flow: FlowSolution, corner: int) -> ComplexArray:
    """Three-phase power that each branch takes at its sending end."""
    current = flow.feed_current_a[:, 0, corner]
    drop = feeder.z_ohm[:, 0, 0] * current
    return np.asarray(feeder.conductors * (flow.node_voltage_v[:, 0, corner] + drop) * np.conj(current))


def _check(work: _Work, limits: FloatArray, method: str) -> tuple[Check, ComplexArray]:
    """Exact power flow at all-export, all-import and, for every conductor near its rating, both of its own corners."""
    low, high = _corners(work, limits)
    power = work.movers.power_va(np.stack([low, high], axis=1))
    flow = work.feeder.solve(power)
    if np.all(flow.converged):
        own: BoolArray = work.sensitivity.below[_near_rating(work, flow)]
        if own.size:
            mixed = np.concatenate([np.where(own, low, high), np.where(own, high, low)])
            power = np.concatenate([power, work.movers.power_va(mixed.T)], axis=1)
            flow = work.feeder.solve(power)
    return judge(flow, work.problem.limits, method), power


def _binding(work: _Work, rows: _Rows, limits: FloatArray, part: int) -> list[str]:
    count = len(work.problem.participants)
    mine = slice(part * count, (part + 1) * count)
    own = Demand(floor_w=work.demand.floor_w[mine], cap_w=work.demand.cap_w[mine], weight=work.demand.weight[mine])
    return name_binding(rows.slopes, rows.excess, rows.names, own, limits[mine])
