"""Envelopes on balanced radial feeders: LinDistFlow rows corrected by exact AC power flow, and a certificate of monotonicity.

Export and import limits are two problems, because more export raises every voltage. Each round solves the allocation over rows whose
slopes are LinDistFlow's and whose excess is exact, from AC power flows at all-export, all-import and, for each branch that may reach its
rating, the corner at which everything below it exports while the rest of the feeder imports (which lowers the voltage and so raises
the current). Slopes stay what they are, so that a linear program goes on from its last basis; how much a row really moved for what its
slopes foresaw scales its next step instead.

The last round's corners are the certificate's: `monotone.py` proves that no other point of the box has a higher or lower voltage, and so
a current below a branch is at most the sum of what its connections draw at their lowest voltages. Branches that cannot reach their rating
by this bound need no corner of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from coordinator.envelopes.boxes import Box, Movers, collect_boxes, collect_demand, collect_movers
from coordinator.envelopes.certificate import Certificate, EnvelopeResult, Infeasible
from coordinator.envelopes.checking import judge
from coordinator.envelopes.lindistflow import Sensitivity, build_sensitivity
from coordinator.envelopes.monitors import feed_rating_a
from coordinator.envelopes.monotone import monotonicity_margin
from coordinator.envelopes.packing import StackedRows
from coordinator.envelopes.robust import infeasible, name_binding, no_solution, verified_limits
from coordinator.envelopes.rules import Demand, Memory, allocate, remember_nothing
from coordinator.envelopes.tree_rows import TreeRows, build_rows
from coordinator.envelopes.values import AllocationRule, EnvelopeProblem
from coordinator.powerflow.radial import ComplexArray, FloatArray, FlowSolution, IntArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT

METHOD = (
    "monotonicity proved over the box (margin {margin:.2f}); all-export, all-import and, for every branch that a bound does not keep below "
    "its rating, its own corner"
)
MAX_ROUNDS = 14
FULL_ROUNDS = 4
INSIDE = 2e-6
SETTLED_FRAC = 1e-3
GAINED_FRAC = 5e-4
SHRINKS = 40
# During the rounds a branch gets its own corner from this share of its rating on, by estimate.
SUSPECT = 0.999
# A row's step is scaled by what it really moved over what was foreseen, within these bounds, where that was more than a trace.
STIFFEST, SOFTEST, TRACE = 2.0, 0.5, 1e-4
NOBODY: IntArray = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One problem; `rated_a` (n,) per fed conductor and `rated_va` (n,) per zone head, infinite where there is no limit; `branch` are
    the nodes below a branch that has either. `rows` and `demand` are of exports and imports.
    """

    problem: EnvelopeProblem
    feeder: RadialFeeder
    movers: Movers
    sensitivity: Sensitivity
    boxes: tuple[Box, ...]
    demand: Demand
    parts: tuple[Demand, Demand]
    rows: tuple[TreeRows, TreeRows]
    branch: IntArray
    rated_a: FloatArray
    rated_va: FloatArray
    vmin_pu: float
    vmax_pu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Exact power flows at limits x: all-export, all-import and the corners of the branches above nodes `own`; and the excess of exports
    and of imports.
    """

    limits_w: FloatArray
    flow: FlowSolution
    power_va: ComplexArray
    own: IntArray
    excess: tuple[FloatArray, FloatArray]

    @property
    def is_legal(self) -> bool:
        """Whether no row is broken."""
        return max(float(np.max(part, initial=-np.inf)) for part in self.excess) <= 0.0


def compute_balanced(problem: EnvelopeProblem, feeder: RadialFeeder) -> EnvelopeResult | Infeasible | None:
    """Compute one interval; None where monotonicity does not hold, so that corners have to be searched instead."""
    if feeder.y_siemens is not None:
        return None
    work = _prepare(problem, feeder)
    if not work.sensitivity.is_monotone(np.ones(work.movers.connection.size, dtype=np.bool_)):
        return None
    theta = 1.0
    state, rounds = _iterate(work)
    check = None if state is None else judge(state.flow, problem.limits, METHOD)
    if state is None or check is None or not check.holds:
        state, theta = _shrink(work, work.demand.floor_w if state is None else state.limits_w)
        if state is None:
            return no_solution()
        check = judge(state.flow, problem.limits, METHOD)
    if not check.holds:
        return infeasible(check)
    margin = min(monotonicity_margin(feeder, work.movers, work.sensitivity, *box.sides(state.limits_w)) for box in work.boxes)
    if not margin > 0.0:
        return None
    check = msgspec.structs.replace(check, method=METHOD.format(margin=margin))
    certificate = Certificate(guarantee=problem.guarantee, check=check, box=verified_limits(problem, state.limits_w, _binding(work, state)))
    return EnvelopeResult(certificate=certificate, rule=problem.rule, rounds=rounds, theta=theta, corner_va=state.power_va)


def _prepare(problem: EnvelopeProblem, feeder: RadialFeeder) -> _Work:
    movers, demand = collect_movers(problem, feeder), collect_demand(problem)
    network, limits, count = problem.network, problem.limits, len(problem.participants)
    sensitivity, boxes = build_sensitivity(feeder, movers), collect_boxes(problem)
    rated_a, rated_va = feed_rating_a(feeder, limits), np.full(feeder.tree.node_count, np.inf)
    for zone in feeder.tree.zones if limits.check_transformers else ():
        if zone.transformer != ROOT:
            rated_va[zone.first] = network.transformers[zone.transformer].rated_va * limits.transformer_rating_frac
    branch = np.flatnonzero(np.isfinite(rated_a) | np.isfinite(rated_va))
    share_per_va = np.maximum(1.0 / (feeder.conductors * feeder.nominal_v * rated_a), 1.0 / rated_va)[branch]
    square_v2 = (sensitivity.ratio * feeder.nominal_v) ** 2
    full: list[TreeRows] = []
    for sign, end in zip((-1.0, 1.0), _corners(boxes, demand.cap_w), strict=True):
        active = sign * sensitivity.below(end)[branch]
        reactive = sign * sensitivity.below(end * movers.q_per_w + movers.q_var)[branch]
        full.append(build_rows(sensitivity, count, square_v2, branch, (active, reactive, share_per_va)))
    exports, imports = slice(count), slice(count, None)
    return _Work(
        problem=problem,
        feeder=feeder,
        movers=movers,
        sensitivity=sensitivity,
        boxes=boxes,
        demand=demand,
        parts=(_part(demand, exports), _part(demand, imports)),
        rows=(full[0], full[1]),
        branch=branch,
        rated_a=rated_a,
        rated_va=rated_va,
        vmin_pu=network.vmin_pu if limits.vmin_pu is None else limits.vmin_pu,
        vmax_pu=network.vmax_pu if limits.vmax_pu is None else limits.vmax_pu,
    )


def _part(demand: Demand, mine: slice) -> Demand:
    return Demand(floor_w=demand.floor_w[mine], cap_w=demand.cap_w[mine], weight=demand.weight[mine])


def _corners(boxes: tuple[Box, ...], limits_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """All-export and all-import corner (movers,) of the union of the boxes."""
    sides = [box.sides(limits_w) for box in boxes]
    return np.min([low for low, _ in sides], axis=0), np.max([high for _, high in sides], axis=0)


def _iterate(work: _Work) -> tuple[_State | None, int]:
    """Correct and allocate until the limits are legal and settled; the state has every corner. None when not even the floors fit."""
    scale = max(float(np.max(work.demand.cap_w, initial=0.0)), 1.0)
    state = _evaluate(work, work.demand.floor_w)
    if state is None:
        return None, 0
    memory = _Memories.of(work)
    for number in range(1, MAX_ROUNDS + 1):
        if number > FULL_ROUNDS:
            memory.keep_clear(state)
        following = _allocate(work, state, memory)
        if following is None:
            return None, number
        tried = _evaluate(work, following, near=state)
        while tried is None:
            # The linear rows asked for more than any power flow carries: come half-way back.
            following = 0.5 * (state.limits_w + following)
            tried = _evaluate(work, following, near=state)
        memory.learn(work, state, tried)
        moved = float(np.max(np.abs(following - state.limits_w), initial=0.0)) / scale
        gained = abs(float(np.sum(following - state.limits_w))) / max(float(np.sum(following)), 1.0)
        state = tried
        if state.is_legal and (moved <= SETTLED_FRAC or gained <= GAINED_FRAC):
            final = _completed(work, state)
            if final is not None and final.is_legal:
                return final, number
            state = state if final is None else final
    return _completed(work, state), MAX_ROUNDS


@dataclass(slots=True, kw_only=True)
class _Memories:
    """What rounds leave for the next: of the allocation of each direction; by how much more than its slopes foresaw each row moves
    (`stiffness`); and how far it is to be kept away from its limit.
    """

    both: Memory
    parts: tuple[Memory, Memory]
    stiffness: list[FloatArray]
    clear: list[FloatArray]

    @staticmethod
    def of(work: _Work) -> _Memories:
        """Nothing is known yet."""
        return _Memories(
            both=remember_nothing(StackedRows.of(work.rows)),
            parts=(remember_nothing(work.rows[0]), remember_nothing(work.rows[1])),
            stiffness=[np.ones(rows.count) for rows in work.rows],
            clear=[np.zeros(rows.count) for rows in work.rows],
        )

    def keep_clear(self, state: _State) -> None:
        """A largest volume may jump between equally good vertices for ever; what a row still missed is kept clear."""
        self.clear = [kept + np.maximum(excess, 0.0) for kept, excess in zip(self.clear, state.excess, strict=True)]

    def learn(self, work: _Work, before: _State, after: _State) -> None:
        """Compare what rows did with what their slopes foresaw."""
        count = len(work.problem.participants)
        step = after.limits_w - before.limits_w
        for part, mine in enumerate((step[:count], step[count:])):
            foreseen = work.rows[part].dot(mine)
            known = np.abs(foreseen) > TRACE
            really = (after.excess[part] - before.excess[part])[known] / foreseen[known]
            self.stiffness[part][known] = np.clip(really, SOFTEST, STIFFEST)


def _allocate(work: _Work, state: _State, memory: _Memories) -> FloatArray | None:
    """Solve the rule for both directions, together only where the rule couples them."""
    count, rule = len(work.problem.participants), work.problem.rule
    rhs = [
        rows.dot(limits) - (excess + INSIDE + clear) / stiffness
        for rows, limits, excess, clear, stiffness in zip(
            work.rows, (state.limits_w[:count], state.limits_w[count:]), state.excess, memory.clear, memory.stiffness, strict=True
        )
    ]
    if rule is AllocationRule.EQUAL:
        return allocate(rule, work.demand, StackedRows.of(work.rows), np.concatenate(rhs))
    found: list[FloatArray] = []
    for own, rows, side, kept in zip(work.parts, work.rows, rhs, memory.parts, strict=True):
        answer = allocate(rule, own, rows, side, kept)
        if answer is None:
            return None
        found.append(answer)
    return np.concatenate(found)


def _shrink(work: _Work, limits: FloatArray) -> tuple[_State | None, float]:
    """The largest tried share of the way from the floors to the limits whose corners are legal, or the floors; None without a flow."""
    floor, theta = work.demand.floor_w, 1.0
    for step in range(SHRINKS):
        theta = 1.0 - 10.0 ** (step - 6) if step < 5 else 0.5 * theta
        state = _evaluate(work, floor + theta * (limits - floor), every_corner=True)
        if state is not None and judge(state.flow, work.problem.limits, METHOD).holds:
            return state, theta
    return _evaluate(work, floor, every_corner=True), 0.0


def _evaluate(work: _Work, limits_w: FloatArray, *, near: _State | None = None, every_corner: bool = False) -> _State | None:
    """Solve the corners of the box, starting from those of a box that is `near`; None where one has no power flow."""
    power = work.movers.power_va(np.stack(_corners(work.boxes, limits_w), axis=1))
    flow = work.feeder.solve(power, start_v=None if near is None else near.flow.node_voltage_v[:, :, :2])
    if not np.all(flow.converged):
        return None
    state = _State(limits_w=limits_w, flow=flow, power_va=power, own=NOBODY, excess=_excess(work, limits_w, flow, NOBODY))
    if every_corner:
        return _completed(work, state)
    return _with_corners(work, state, work.branch[1.0 + state.excess[0][work.rated_a.size :] > SUSPECT])


def _completed(work: _Work, state: _State) -> _State | None:
    """The same state with a corner for every branch that is not proved to need none."""
    missing = np.setdiff1d(_unproved(work, state), state.own)
    return _with_corners(work, state, missing)


def _with_corners(work: _Work, state: _State, branches: IntArray) -> _State | None:
    """The same state with the corners at which everything below one of these branches exports and the rest imports."""
    if branches.size == 0:
        return state
    low, high = _corners(work.boxes, state.limits_w)
    power = work.movers.power_va(np.where(work.sensitivity.is_below(branches), low, high).T)
    more = work.feeder.solve(power, start_v=state.flow.node_voltage_v[:, :, 1:2])
    if not np.all(more.converged):
        return None
    own, flow = np.concatenate([state.own, branches]), _joined(state.flow, more)
    return _State(
        limits_w=state.limits_w,
        flow=flow,
        power_va=np.concatenate([state.power_va, power], axis=1),
        own=own,
        excess=_excess(work, state.limits_w, flow, own),
    )


def _excess(work: _Work, limits_w: FloatArray, flow: FlowSolution, own: IntArray) -> tuple[FloatArray, FloatArray]:
    """How far rows are beyond their limits at their worst corners; a branch without a corner of its own, at an estimate of it."""
    pu = np.abs(flow.node_voltage_v[:, 0, :2]) / work.feeder.nominal_v[:, None]
    exported, imported = (_share(work, flow, np.full(work.branch.size, corner)) for corner in (0, 1))
    exported *= (pu[:, 0] / np.sqrt(np.maximum(pu[:, 1] ** 2 + _own_rise(work, limits_w), 0.25)))[work.branch]
    if own.size:
        corner = np.zeros(work.branch.size, dtype=np.int64)
        known = np.searchsorted(work.branch, own)
        corner[known] = 2 + np.arange(own.size)
        exported[known] = _share(work, flow, corner)[known]
    return (
        np.concatenate([pu[:, 0] ** 2 - work.vmax_pu**2, exported - 1.0]),
        np.concatenate([work.vmin_pu**2 - pu[:, 1] ** 2, imported - 1.0]),
    )


def _own_rise(work: _Work, limits_w: FloatArray) -> FloatArray:
    """By how much the square of each node's voltage, per unit, rises from all-import when only what is below it exports instead."""
    low, high = _corners(work.boxes, limits_w)
    sensitivity, turned = work.sensitivity, high - low
    sums, r, x = sensitivity.sums, sensitivity.r_ohm, sensitivity.x_ohm
    rise = sums.above(r) * sensitivity.below(turned) + sums.above(x) * sensitivity.below(turned * sensitivity.q_per_w)
    return np.asarray(2.0 / sensitivity.conductors * rise / (sensitivity.ratio * work.feeder.nominal_v) ** 2)


def _joined(one: FlowSolution, other: FlowSolution) -> FlowSolution:
    return FlowSolution(
        feeder=one.feeder,
        node_voltage_v=np.concatenate([one.node_voltage_v, other.node_voltage_v], axis=2),
        feed_current_a=np.concatenate([one.feed_current_a, other.feed_current_a], axis=2),
        converged=np.concatenate([one.converged, other.converged]),
        iterations=max(one.iterations, other.iterations),
    )


def _share(work: _Work, flow: FlowSolution, corner: IntArray) -> FloatArray:
    """Loading of every limited branch as a share of its limit, each at its corner."""
    amps = np.abs(flow.feed_current_a[work.branch, 0, corner])
    return _loading(work, amps, np.abs(flow.node_voltage_v[:, 0]), corner)


def _loading(work: _Work, amps: FloatArray, volts: FloatArray, corner: IntArray | int) -> FloatArray:
    """Shares of the limits of every limited branch, from its current and the voltages (n, corners) at its ends."""
    node, sending = work.branch, np.maximum(work.feeder.tree.parent[work.branch], 0)
    sending_v = volts[sending, corner] * work.sensitivity.ratio[sending] / work.sensitivity.ratio[node]
    apparent = work.feeder.conductors * amps * np.maximum(volts[node, corner], sending_v)
    return np.asarray(np.maximum(amps / work.rated_a[node], apparent / work.rated_va[node]))


def _unproved(work: _Work, state: _State) -> IntArray:
    """Nodes below branches that what is below them could load beyond the limit, were it to draw its most at its lowest voltage."""
    volts = np.abs(state.flow.node_voltage_v[:, 0])
    q_per_w, q_var = work.movers.q_per_w, work.movers.q_var
    most = np.maximum(*(np.hypot(end, q_per_w * end + q_var) for end in _corners(work.boxes, state.limits_w)))
    at_node = np.bincount(work.sensitivity.node_of_mover, weights=most, minlength=volts.shape[0])
    referred = at_node / (work.feeder.conductors * volts[:, 1] * work.sensitivity.ratio)
    amps = (work.sensitivity.sums.below(referred) * work.sensitivity.ratio)[work.branch]
    return work.branch[_loading(work, amps, volts, 0) > 1.0]


def _binding(work: _Work, state: _State) -> list[str]:
    network, count = work.feeder.network, len(work.problem.participants)
    buses = [network.buses[int(bus)].id for bus in work.feeder.tree.bus_of_node]
    names = [f"voltage at bus {bus}" for bus in buses]
    names += [
        f"current into bus {buses[node]}" if np.isfinite(work.rated_a[node]) else f"loading of the transformer into bus {buses[node]}"
        for node in work.branch
    ]
    limits = (state.limits_w[:count], state.limits_w[count:])
    found = [
        name_binding(rows, excess, names, own, x)
        for rows, excess, own, x in zip(work.rows, state.excess, work.parts, limits, strict=True)
    ]
    return found[0] + found[1]
