"""Envelopes on unbalanced feeders: successive linearisation at each row's own worst corner, then an AC certificate.

Each round knows, for every row, its worst corner of the present box, the exact excess there and the exact slopes (`corners.py`). Excess
plus slopes make one packing row over the limits, the allocation rule is solved over all rows, and the box moves there. Rounds end when
the box is legal and the objective has settled; then all rows settle once more, the full power flow checks every distinct corner, and
the box is shrunk uniformly towards the floors until that check holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Box, Movers, collect_boxes, collect_demand, collect_movers
from coordinator.envelopes.certificate import Certificate, Check, EnvelopeResult, Extreme, Infeasible, VerifiedLimits
from coordinator.envelopes.checking import check_corners
from coordinator.envelopes.corners import CornerSearch, RowState, phase_corners, unique_corners
from coordinator.envelopes.monitors import Monitors
from coordinator.envelopes.packing import DenseRows, Rows
from coordinator.envelopes.rules import Demand, Memory, allocate
from coordinator.envelopes.values import EnvelopeProblem
from coordinator.powerflow.radial import ComplexArray, FloatArray

METHOD = "sign-pattern corners of every node-phase, conductor and transformer row, signs settled at the corner itself"
MAX_ROUNDS = 12
REPAIRS = 3
REPAIR_ROUNDS = 3
FULL_STEPS = 3
# Rows are linearised this far inside their limit (per unit voltage, or share of rating), so that the last round's curvature stays legal.
INSIDE = 1e-6
# Rows whose excess is further from the limit than this keep the slopes they have during the rounds (the certificate refreshes all).
NEAR = 0.02
SETTLED_FRAC = 5e-4
START_W = 1000.0
# What binds a limit is sought among this many rows, those with the least room for their largest slope.
TIGHTEST = 48
SHRINK_FIRST = (1.0 - 1e-6, 1.0 - 1e-5, 1.0 - 1e-4, 1.0 - 1e-3, 1.0 - 1e-2)
SHRINK_TO = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A check and the connection powers (connections, corners) that it solved."""

    check: Check
    corner_va: ComplexArray


@dataclass(slots=True, kw_only=True)
class WarmStart:
    """What one interval leaves for the next: its limits and, per box, the state of its rows."""

    limits_w: FloatArray
    rows: list[RowState]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Everything about one problem that does not change between rounds."""

    problem: EnvelopeProblem
    monitors: Monitors
    movers: Movers
    boxes: tuple[Box, ...]
    demand: Demand
    search: CornerSearch


def compute_robust(
    problem: EnvelopeProblem, monitors: Monitors, warm: WarmStart | None = None
) -> tuple[EnvelopeResult | Infeasible, WarmStart | None]:
    """Compute one interval; the second value warms the next one."""
    work = _prepare(problem, monitors)
    floor = work.demand.floor_w
    start = np.clip(np.full(floor.size, START_W) if warm is None else warm.limits_w, floor, work.demand.cap_w)
    states = _begin(work, start) if warm is None else [_copy(state) for state in warm.rows]
    if states is None:
        start = floor
        states = _begin(work, floor)
    if states is None:
        return no_solution(), None
    limits, rounds = _iterate(work, states, start, MAX_ROUNDS)
    if limits is None:
        limits = floor
    checked = _check(work, states, limits)
    for _ in range(REPAIRS):
        if checked.check.holds or np.array_equal(limits, floor):
            break
        # Settling all rows found a worse corner than the rounds had seen; they go on from there.
        again, more = _iterate(work, states, limits, REPAIR_ROUNDS)
        rounds += more
        limits = limits if again is None else again
        checked = _check(work, states, limits)
    return _certify(work, states, limits, checked, rounds)


def check_limits(problem: EnvelopeProblem, monitors: Monitors, limits_w: FloatArray) -> Checked:
    """Check given limits x = (exports, imports) of the participants at their worst corners; nothing is allocated."""
    work = _prepare(problem, monitors)
    states = _begin(work, limits_w)
    if states is None:
        corners = [np.where(work.search.phase_corners, *reversed(box.sides(limits_w))) for box in work.boxes]
        power = work.movers.power_va(np.concatenate(corners).T)
        return Checked(check=check_corners(monitors.reduced.feeder, problem.limits, power, METHOD), corner_va=power)
    return _check(work, states, limits_w)


def _prepare(problem: EnvelopeProblem, monitors: Monitors) -> _Work:
    feeder = monitors.reduced.feeder
    movers = collect_movers(problem, feeder)
    return _Work(
        problem=problem,
        monitors=monitors,
        movers=movers,
        boxes=collect_boxes(problem),
        demand=collect_demand(problem),
        search=CornerSearch(monitors=monitors, movers=movers, phase_corners=phase_corners(movers, feeder)),
    )


def _begin(work: _Work, limits_w: FloatArray) -> list[RowState] | None:
    states = [work.search.begin(*box.sides(limits_w)) for box in work.boxes]
    return None if any(state is None for state in states) else [state for state in states if state is not None]


def _copy(state: RowState) -> RowState:
    return RowState(at_high=state.at_high.copy(), slopes=state.slopes.copy(), excess=state.excess.copy())


def _iterate(work: _Work, states: list[RowState], start: FloatArray, max_rounds: int) -> tuple[FloatArray | None, int]:
    """Linearise and allocate until the box is legal and settled; None when not even the floors fit their linearisation."""
    demand, floor = work.demand, work.demand.floor_w
    limits = start
    scale = max(float(np.max(demand.cap_w, initial=0.0)), 1.0)
    memory = Memory(active=np.zeros(sum(state.excess.size for state in states), dtype=np.bool_))
    margin = np.zeros(memory.active.size)
    best: FloatArray | None = None
    for number in range(1, max_rounds + 1):
        if not _settle(work, states, limits, near=NEAR):
            limits = floor + 0.5 * (limits - floor)
            continue
        legal = max(float(np.max(state.excess, initial=-np.inf)) for state in states) <= 0.0
        rows, rhs = linear_rows(work.boxes, states, limits)
        if number > FULL_STEPS:
            # A rule whose optimum sits at a vertex may jump between equally good ones for ever; what a row still missed is kept clear.
            margin += np.maximum(np.concatenate([state.excess for state in states]), 0.0)
            rhs = rhs - margin
        following = allocate(work.problem.rule, demand, rows, rhs, memory)
        if following is None:
            if np.array_equal(limits, floor):
                return best, number
            limits = floor
            continue
        moved = float(np.max(np.abs(following - limits), initial=0.0)) / scale
        gained = abs(float(np.sum(following - limits))) / max(float(np.sum(following)), 1.0)
        if legal and (moved <= SETTLED_FRAC or gained <= SETTLED_FRAC):
            return limits, number
        if legal:
            best = limits
        # Half steps meet in the middle of such vertices.
        limits = following if number <= FULL_STEPS else 0.5 * (limits + following)
    return limits if best is None else best, max_rounds


def _settle(work: _Work, states: list[RowState], limits_w: FloatArray, *, near: float) -> bool:
    return all(
        work.search.settle(state, *box.sides(limits_w), near=near) for box, state in zip(work.boxes, states, strict=True)
    )


def linear_rows(boxes: tuple[Box, ...], states: list[RowState], limits_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """All rows of all boxes as rows @ x <= rhs, linearised at the present limits."""
    blocks = [box.packing_rows(state.slopes, state.at_high) for box, state in zip(boxes, states, strict=True)]
    rows = np.concatenate(blocks)
    excess = np.concatenate([state.excess for state in states])
    return rows, rows @ limits_w - excess - INSIDE


def _certify(
    work: _Work, states: list[RowState], limits: FloatArray, checked: Checked, rounds: int
) -> tuple[EnvelopeResult | Infeasible, WarmStart | None]:
    """Shrink towards the floors where the check does not hold yet, and build the certificate."""
    floor = work.demand.floor_w
    bound_by = _binding(work, states, limits)
    theta = 1.0
    if not checked.check.holds:
        at_floor = _check(work, states, floor)
        if not at_floor.check.holds:
            return infeasible(at_floor.check), None
        checked, theta = _shrink(work, states, limits, at_floor)
        limits = floor + theta * (limits - floor)
    certificate = Certificate(
        guarantee=work.problem.guarantee, check=checked.check, box=verified_limits(work.problem, limits, bound_by)
    )
    result = EnvelopeResult(
        certificate=certificate, rule=work.problem.rule, rounds=rounds, theta=theta, corner_va=checked.corner_va
    )
    return result, WarmStart(limits_w=limits, rows=states)


def _check(work: _Work, states: list[RowState], limits_w: FloatArray) -> Checked:
    """Settle every row, then solve the distinct corners of each box, all phase corners included, by the full power flow."""
    corners: list[FloatArray] = []
    for box, state in zip(work.boxes, states, strict=True):
        low, high = box.sides(limits_w)
        work.search.settle(state, low, high, near=np.inf)
        unique, _ = unique_corners(np.concatenate([state.at_high, work.search.phase_corners]))
        corners.append(np.where(unique, high, low))
    power = work.movers.power_va(np.concatenate(corners).T)
    check = check_corners(work.monitors.reduced.feeder, work.problem.limits, power, METHOD)
    return Checked(check=check, corner_va=power)


def _shrink(work: _Work, states: list[RowState], limits: FloatArray, at_floor: Checked) -> tuple[Checked, float]:
    """Largest uniform share of the way from the floors to the limits whose check holds, by bisection."""
    floor = work.demand.floor_w
    low, high, best = 0.0, 1.0, at_floor
    # The breach is usually tiny, so the first tries stay close to the full box.
    for share in SHRINK_FIRST:
        tried = _check(work, states, floor + share * (limits - floor))
        if tried.check.holds:
            return tried, share
        high = share
    while high - low > SHRINK_TO:
        middle = 0.5 * (low + high)
        tried = _check(work, states, floor + middle * (limits - floor))
        if tried.check.holds:
            low, best = middle, tried
        else:
            high = middle
    return best, low


def infeasible(check: Check) -> Infeasible:
    """Name what passive loads and floors alone break, from the check of the floors."""
    if not check.converged:
        return no_solution()
    broken = tuple(item for item in check.extremes if not item.margin >= 0.0)
    named = "; ".join(f"{item.where} is {item.value:.5g}, limit {item.limit:.5g}" for item in broken)
    return Infeasible(broken=broken, reason=f"passive loads and floors alone can break a limit: {named}")


def no_solution() -> Infeasible:
    """Say that even passive loads and floors have no power flow."""
    collapse = Extreme(value=math.nan, limit=math.nan, margin=math.nan, where="the power flow of passive loads and floors")
    return Infeasible(broken=(collapse,), reason="the power flow of passive loads and floors alone has no solution")


def _binding(work: _Work, states: list[RowState], limits_w: FloatArray) -> list[str]:
    """Per limit, the row closest to binding among those that it moves, or its demand."""
    rows, _ = linear_rows(work.boxes, states, limits_w)
    excess = np.concatenate([state.excess for state in states])
    names = [work.monitors.names[quantity] for _ in states for quantity in work.monitors.quantity]
    return name_binding(DenseRows(matrix=rows), excess, names, work.demand, limits_w)


def name_binding(rows: Rows, excess: FloatArray, names: list[str], demand: Demand, limits_w: FloatArray) -> list[str]:
    """Per limit: "demand" at its cap, else the row, of the tightest ones, that would stop it first if it alone were raised."""
    spare = np.maximum(-excess, 0.0)
    tightest = np.argsort(spare / np.maximum(rows.largest, 1e-300), kind="stable")[:TIGHTEST]
    slopes = rows.take(tightest)
    room = np.where(slopes > 0.0, spare[tightest, None] / np.maximum(slopes, 1e-300), np.inf)
    first = tightest[np.argmin(room, axis=0)] if room.size else np.zeros(limits_w.size, dtype=np.int64)
    at_cap = limits_w >= demand.cap_w - 1e-6 * np.maximum(demand.cap_w, 1.0)
    return ["demand" if at_cap[column] else names[first[column]] for column in range(limits_w.size)]


def verified_limits(problem: EnvelopeProblem, limits_w: FloatArray, bound_by: list[str]) -> tuple[VerifiedLimits, ...]:
    """Pair the limits x = (exports, imports) with their connections."""
    count = len(problem.participants)
    return tuple(
        VerifiedLimits(
            connection=participant.connection,
            export_limit_w=float(limits_w[number]),
            import_limit_w=float(limits_w[count + number]),
            export_bound_by=bound_by[number],
            import_bound_by=bound_by[count + number],
        )
        for number, participant in enumerate(problem.participants)
    )
