"""Switch positions over many periods: an exact dynamic program over a pool of candidate configurations.

The pool holds the present configuration, the best single one, the best of every period and of every block of periods whose length divides
the horizon, each found by branch exchange. Over the pool

    minimise   loss_price * sum_t loss_t(k_t) step_s + operation_price * sum_t operations(k_(t-1), k_t),      k_(-1) = present,

is solved exactly by dynamic programming, where `operations` counts the switches that differ. A line that is closed in every candidate
needs no variable. C. Mu et al., Distributed collaboration method for peer-to-peer transactions in reconfigurable distribution network,
IEEE Transactions on Power Systems 40(4), 2025, name such a *binary variable reduction* in their abstract, which is all that was read.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from coordinator.reconfiguration.costs import SwitchingCosts
from coordinator.reconfiguration.loops import FloatArray, IntArray
from coordinator.reconfiguration.search import branch_exchange, sequential_opening
from coordinator.reconfiguration.values import ReconfigurationError, SwitchingPlan

WH_PER_KWH = 1e3


class SwitchingTariff(msgspec.Struct, frozen=True, kw_only=True):
    """What losses and switch operations cost, how long a period is, and how many operations one change may take (None: any number)."""

    step_s: float
    loss_price_per_kwh: float
    operation_price: float
    max_operations: int | None = None


def plan_switching(
    costs: SwitchingCosts,
    tariff: SwitchingTariff,
    *,
    known: IntArray | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> SwitchingPlan:
    """Plan the cheapest sequence over the candidate pool and any `known` configurations (n, loops) from earlier plans.

    ReconfigurationError where no candidate has a legal state in some period.
    """
    pool = candidate_pool(costs, known=known, say=say)
    return sequence(costs, pool, tariff)


def candidate_pool(
    costs: SwitchingCosts, *, known: IntArray | None = None, say: Callable[[str], None] = lambda words: None
) -> IntArray:
    """Configurations (n, loops) that are good for the whole horizon, for blocks of it, or for one period; the present one first."""
    space, periods = costs.space, costs.periods
    whole = np.ones(periods)
    starts = (space.present_open, sequential_opening(costs, whole))
    found = [branch_exchange(costs, start, whole, method="")[0] for start in starts]
    static = min(found, key=lambda item: float(costs.of(item[None], whole)[0]))
    pool = [space.present_open, *found]
    pool += [] if known is None else list(known)
    for length in (length for length in range(periods // 2, 0, -1) if periods % length == 0):
        for first in range(0, periods, length):
            weights = np.zeros(periods)
            weights[first : first + length] = 1.0
            pool.append(branch_exchange(costs, static, weights, method="")[0])
    candidates = _distinct(pool)
    say(f"candidates for single periods, blocks of them and all: {len(candidates)} configurations, {costs.solved * periods} power flows")
    return candidates


def sequence(costs: SwitchingCosts, pool: IntArray, tariff: SwitchingTariff) -> SwitchingPlan:
    """Solve the dynamic program over a pool whose first row is the present configuration."""
    losses_wh, operations, stage, change = _tables(costs, pool, tariff)
    path = cheapest_sequence(costs, pool, tariff)
    steps = np.concatenate(([0], path))
    cost = stage[np.arange(path.size), path].sum() + change[steps[:-1], steps[1:]].sum()
    total = np.where(costs.is_legal(pool).all(axis=1), stage.sum(axis=0) + change[0], np.inf)
    static = int(np.argmin(total)) if np.isfinite(total).any() else None
    present_legal = bool(costs.is_legal(pool[:1]).all())
    ever_open = np.unique(pool)
    return SwitchingPlan(
        open_lines=tuple(costs.space.names(pool[row]) for row in path),
        before_wh=float(losses_wh[0].sum()) if present_legal else None,
        static_wh=None if static is None else float(losses_wh[static].sum()),
        static_open_lines=() if static is None else costs.space.names(pool[static]),
        loss_wh=float(losses_wh[path, np.arange(path.size)].sum()),
        operations=int(operations[steps[:-1], steps[1:]].sum()),
        cost=float(cost),
        static_cost=None if static is None else float(total[static]),
        pool_size=len(pool),
        active_lines=costs.space.names(ever_open),
        switchable_lines=int(costs.space.switchable.sum()),
        flows=costs.solved * costs.periods,
    )


def cheapest_sequence(costs: SwitchingCosts, pool: IntArray, tariff: SwitchingTariff) -> IntArray:
    """The row of the pool for every period (T,); ReconfigurationError where no sequence keeps the limits."""
    _, _, stage, change = _tables(costs, pool, tariff)
    path = _cheapest_path(stage, change)
    steps = np.concatenate(([0], path))
    if not (np.isfinite(change[steps[:-1], steps[1:]]).all() and np.all(costs.is_legal(pool)[path, np.arange(path.size)])):
        raise ReconfigurationError(f"{costs.space.network.name}: no sequence of {len(pool)} candidates keeps the limits in every period")
    return path


def _tables(costs: SwitchingCosts, pool: IntArray, tariff: SwitchingTariff) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Losses (n, T) in Wh, operations (n, n), and what both cost: (T, n) and (n, n)."""
    losses_wh = costs.losses_w(pool) * tariff.step_s / 3600.0
    operations = _operations(pool, costs.space.loop.shape[1])
    change = tariff.operation_price * operations
    if tariff.max_operations is not None:
        change = np.where(operations > tariff.max_operations, np.inf, change)
    return losses_wh, operations, (tariff.loss_price_per_kwh / WH_PER_KWH * losses_wh).T, change


def _cheapest_path(stage: FloatArray, change: FloatArray) -> IntArray:
    """The cheapest row of every stage (periods, n), starting from row 0 before the first, with costs of change (n, n)."""
    periods, count = stage.shape
    came_from = np.zeros((periods, count), dtype=np.int64)
    reach = change[0] + stage[0]
    for period in range(1, periods):
        total = reach[:, None] + change
        came_from[period] = np.argmin(total, axis=0)
        reach = np.min(total, axis=0) + stage[period]
    path = np.empty(periods, dtype=np.int64)
    path[-1] = np.argmin(reach)
    for period in range(periods - 1, 0, -1):
        path[period - 1] = came_from[period, path[period]]
    return path


def _operations(pool: IntArray, branches: int) -> FloatArray:
    is_open = np.zeros((pool.shape[0], branches))
    np.put_along_axis(is_open, pool, 1.0, axis=1)
    return np.asarray(2.0 * (pool.shape[1] - is_open @ is_open.T))


def _distinct(pool: list[IntArray]) -> IntArray:
    """Each configuration once, in the order of first appearance."""
    seen = {tuple(sorted(map(int, row))): None for row in pool}
    return np.array(list(seen), dtype=np.int64)
