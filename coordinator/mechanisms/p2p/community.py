"""An energy community at a bus: PV, wind, dispatchable generation, fixed and flexible load, storage and vehicles, answering signals.

Its schedule is a convex quadratic program over the horizon. In kilowatts, with g dispatchable generation, c and d charging and discharging,
s load that is shed, w renewable power that is spilt, f_k flexible loads (a vehicle is one that is there only while it is plugged in):

    net = fixed + sum_k f_k + c - d - g - s - (renewable - w),
    soc_t = soc_0 + sum_{u <= t} (eta c_u - d_u / eta) h  in [0, capacity],   soc_T = soc_0,   sum_t f_k h = energy_k,

own cost = sum_t h (first g + rise g^2 / 2 + degradation (c + d) + value_of_lost_load s).

Shedding is bounded by the fixed load, so every answer is possible, and its price is far above any tariff, so it is chosen only where
nothing else is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal

W_PER_KW = 1e3
DEFAULT_LOST_LOAD_PER_KWH = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexibleLoad:
    """Energy that must be taken within the horizon, at up to `max_w` (T,) in each interval: zero where the load is not there."""

    energy_wh: float
    max_w: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A battery with one power rating both ways; `efficiency_frac` holds for each way, the charge returns to where it began."""

    capacity_wh: float
    power_w: float
    efficiency_frac: float
    initial_frac: float
    degradation_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """Dispatchable generation; its cost per kWh rises linearly from `first_per_kwh` by `rise_per_kwh` for each kilowatt, twice halved."""

    max_w: float
    first_per_kwh: float
    rise_per_kwh_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Community:
    """What a community has; `fixed_w` and `renewable_w` (T,) are magnitudes."""

    name: str
    step_s: float
    fixed_w: FloatArray
    renewable_w: FloatArray
    generator: Generator
    storage: Storage
    flexible: tuple[FlexibleLoad, ...] = ()
    lost_load_per_kwh: float = DEFAULT_LOST_LOAD_PER_KWH

    def __post_init__(self) -> None:
        for name, values in (("fixed_w", self.fixed_w), ("renewable_w", self.renewable_w)):
            if values.shape != self.fixed_w.shape or not np.isfinite(values).all() or np.any(values < 0.0):
                raise ConversationError(f"community {self.name}: {name} holds a value that is negative or not a finite number")
        hours = self.step_s / 3600.0
        for load in self.flexible:
            most_wh = float(load.max_w.sum()) * hours
            if not 0.0 <= load.energy_wh <= most_wh * (1.0 + 1e-9):
                raise ConversationError(
                    f"community {self.name}: a flexible load needs {load.energy_wh:.0f} Wh, and could take {most_wh:.0f} Wh"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """min 1/2 x^T diag(square) x + linear x with equal x = equal_to, below x <= below_by; net = net_rows x + net_0, all in kilowatts."""

    square: FloatArray
    linear: FloatArray
    equal: sparse.csc_matrix
    equal_to: FloatArray
    below: sparse.csc_matrix
    below_by: FloatArray
    net_rows: sparse.csc_matrix
    net_0: FloatArray
    hours: float

    def own_cost(self, x: FloatArray) -> float:
        """What the schedule costs the community itself."""
        return float(0.5 * self.square @ x**2 + self.linear @ x)


def programme(community: Community) -> Programme:
    """Assemble the program; variables are g, c, d, s, w and every flexible load, each (T,) in kilowatts."""
    periods = community.fixed_w.size
    hours = community.step_s / 3600.0
    store, machine = community.storage, community.generator
    ones, zero = np.ones(periods), np.zeros(periods)
    upper = [
        machine.max_w * ones,
        store.power_w * ones,
        store.power_w * ones,
        community.fixed_w,
        community.renewable_w,
        *(load.max_w for load in community.flexible),
    ]
    price = [machine.first_per_kwh, store.degradation_per_kwh, store.degradation_per_kwh, community.lost_load_per_kwh, 0.0]
    price += [0.0] * len(community.flexible)
    signs = [-1.0, 1.0, -1.0, -1.0, 1.0] + [1.0] * len(community.flexible)
    count = len(upper)
    eye, lower = sparse.eye(periods), sparse.csr_matrix(np.tri(periods))
    charge = hours * store.efficiency_frac * lower
    discharge = -hours / store.efficiency_frac * lower
    empty = sparse.csr_matrix((periods, periods))
    soc = sparse.hstack([empty, charge, discharge, *[empty] * (count - 3)], format="csr")
    sums = sparse.lil_matrix((len(community.flexible), count * periods))
    for place in range(len(community.flexible)):
        sums[place, (5 + place) * periods : (6 + place) * periods] = hours
    box = sparse.eye(count * periods)
    limit = np.concatenate(upper) / W_PER_KW
    initial = store.initial_frac * store.capacity_wh / W_PER_KW
    return Programme(
        square=np.concatenate([hours * machine.rise_per_kwh_kw * ones] + [zero] * (count - 1)),
        linear=hours * np.repeat(price, periods),
        equal=sparse.vstack([soc[-1], sums.tocsr()], format="csc"),
        equal_to=np.array([0.0] + [load.energy_wh / W_PER_KW for load in community.flexible]),
        below=sparse.vstack([box, -box, soc, -soc], format="csc"),
        below_by=np.concatenate((limit, np.zeros_like(limit), (store.capacity_wh / W_PER_KW - initial) * ones, initial * ones)),
        net_rows=sparse.hstack([sign * eye for sign in signs], format="csc"),
        net_0=(community.fixed_w - community.renewable_w) / W_PER_KW,
        hours=hours,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What is paid for import and got for export (T,); the order is that of source 002, equation 4."""

    retail_per_kwh: FloatArray
    feed_in_per_kwh: FloatArray

    def __post_init__(self) -> None:
        if not (np.isfinite(self.retail_per_kwh).all() and np.isfinite(self.feed_in_per_kwh).all()):
            raise ConversationError("a retail or feed-in price is not a finite number")
        wrong = np.flatnonzero(self.feed_in_per_kwh > self.retail_per_kwh)
        if wrong.size:
            first = int(wrong[0])
            raise ConversationError(
                f"prices out of order in interval {first}: feed-in {self.feed_in_per_kwh[first]:.4f} per kWh is above retail "
                f"{self.retail_per_kwh[first]:.4f}"
            )

    def cost(self, net_w: FloatArray, step_s: float) -> float:
        """The bill of a net load (T,)."""
        paid = self.retail_per_kwh * np.maximum(net_w, 0.0) + self.feed_in_per_kwh * np.minimum(net_w, 0.0)
        return float(paid.sum() * step_s / 3600.0 / W_PER_KW)


@dataclass(slots=True)
class CommunityAtBus:
    """A community that answers signals; it keeps its program, which does not change between signals."""

    community: Community
    problem: Programme = field(init=False)

    def __post_init__(self) -> None:
        self.problem = programme(self.community)

    def respond(self, signal: NetSignal, /) -> NetResponse:
        """The schedule of least own cost and price, near the target."""
        problem = self.problem
        weight = signal.weight * W_PER_KW * problem.hours
        pull = problem.hours * signal.price_per_kwh + weight * (problem.net_0 - signal.target_w / W_PER_KW)
        quadratic = sparse.diags(problem.square) + weight * (problem.net_rows.T @ problem.net_rows)
        x = solve_programme(
            self.community.name,
            quadratic,
            problem.linear + problem.net_rows.T @ pull,
            (problem.equal, problem.equal_to),
            (problem.below, problem.below_by),
        )
        return self._answer(x)

    def alone(self, tariff: Tariff, *, max_export_w: float) -> NetResponse:
        """The schedule of least cost against a retailer, without any other community."""
        problem = self.problem
        periods, size = problem.net_0.size, problem.linear.size
        eye, none = sparse.eye(periods), sparse.csc_matrix((problem.equal.shape[0], 2 * periods))
        equal = sparse.vstack([sparse.hstack([problem.equal, none]), sparse.hstack([problem.net_rows, -eye, eye])], format="csc")
        bounds = sparse.vstack([-sparse.eye(2 * periods), sparse.hstack([sparse.csc_matrix((periods, periods)), eye])])
        below = sparse.block_diag([problem.below, bounds], format="csc")
        limit = np.concatenate((problem.below_by, np.zeros(2 * periods), np.full(periods, max_export_w / W_PER_KW)))
        prices = problem.hours * np.concatenate((tariff.retail_per_kwh, -tariff.feed_in_per_kwh))
        x = solve_programme(
            self.community.name,
            sparse.diags(np.concatenate((problem.square, np.zeros(2 * periods)))),
            np.concatenate((problem.linear, prices)),
            (equal, np.concatenate((problem.equal_to, -problem.net_0))),
            (below, limit),
        )
        return self._answer(x[:size])

    def _answer(self, x: FloatArray) -> NetResponse:
        net_w = W_PER_KW * (self.problem.net_rows @ x + self.problem.net_0)
        return NetResponse(net_w=np.asarray(net_w), own_cost=self.problem.own_cost(x))


def solve_programme(
    name: str, quadratic: Any, linear: FloatArray, equal: tuple[Any, FloatArray], below: tuple[Any, FloatArray]
) -> FloatArray:
    """Solve min 1/2 x'Qx + q'x, E x = e, B x <= b by Clarabel; ConversationError where there is no solution."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    cones = [clarabel.ZeroConeT(equal[1].size), clarabel.NonnegativeConeT(below[1].size)]
    rows = sparse.vstack([equal[0], below[0]], format="csc")
    limits = np.concatenate((equal[1], below[1]))
    solver = clarabel.DefaultSolver(sparse.triu(quadratic, format="csc"), linear, rows, limits, cones, settings)
    solution = solver.solve()
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        raise ConversationError(f"{name}: no schedule was found ({solution.status})")
    return np.array(solution.x)
