"""Switching above a mechanism: clear the market on the present configurations, switch for what was cleared, until neither changes anything.

Both levels minimise one *potential*,

    what the market costs its members + loss_price * exact AC losses + operation_price * switch operations,

the lower one over net loads with the configurations fixed, the upper one over a growing pool of configurations with net loads fixed. The
lower level works with a model of the losses and both are heuristics, so a step is *accepted only if the exact potential falls* and all
limits are kept: the potential never increases, and since every accepted step lowers it by at least `LEAST_FALL_FRAC`, the iteration ends
in a point that neither level can leave.

The two levels are those of C. Mu et al., IEEE Transactions on Power Systems 40(4), 2025 (abstract).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coordinator.network.model import Network
from coordinator.reconfiguration.costs import SwitchingCosts
from coordinator.reconfiguration.loops import ComplexArray, IntArray
from coordinator.reconfiguration.switching import WH_PER_KWH, SwitchingTariff, candidate_pool, cheapest_sequence
from coordinator.reconfiguration.values import ReconfigurationError

LEAST_FALL_FRAC = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What a mechanism cleared: powers of the network's connections (connections, T), and its cost apart from losses and switching."""

    power_va: ComplexArray
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One step: which level proposed it, the potential that it offered (infinite where limits break), and whether it was taken."""

    name: str
    potential: float
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """Where the iteration ended. `open_sets` (T, loops), `pool` all configurations that were considered, `settled` whether neither level
    could improve it.
    """

    cleared: Cleared
    open_sets: IntArray
    loss_wh: float
    operations: int
    potential: float
    history: tuple[Level, ...]
    pool: IntArray
    settled: bool


Clear = Callable[[IntArray, Cleared], Cleared]


def alternate(
    network: Network,
    start: Cleared,
    clear: Clear | None,
    tariff: SwitchingTariff,
    *,
    may_switch: bool = True,
    max_rounds: int = 20,
    say: Callable[[str], None] = lambda words: None,
) -> FixedPoint:
    """Alternate from the present configuration and a cleared state.

    `clear` is given the configurations and the present state and proposes another; None leaves net loads alone. ReconfigurationError where
    the start itself breaks limits.
    """
    costs = SwitchingCosts(network, start.power_va)
    present = costs.space.present_open
    open_sets = np.repeat(present[None], costs.periods, axis=0)
    state = _value(costs, start, open_sets, tariff)
    if not np.isfinite(state.potential):
        raise ReconfigurationError(f"{network.name}: the present configuration breaks limits before anything is cleared or switched")
    history: list[Level] = [Level(name="start", potential=state.potential, accepted=True)]
    cleared, pool, settled = start, present[None], False
    for _ in range(max_rounds):
        improved = False
        if clear is not None:
            offer = clear(open_sets, cleared)
            offered_costs = SwitchingCosts(network, offer.power_va)
            value = _value(offered_costs, offer, open_sets, tariff)
            if _falls(history, "market", value.potential, state.potential, say):
                cleared, costs, state, improved = offer, offered_costs, value, True
        if may_switch:
            pool = candidate_pool(costs, known=pool, say=say)
            path = cheapest_sequence(costs, pool, tariff)
            value = _value(costs, cleared, pool[path], tariff)
            if _falls(history, "switching", value.potential, state.potential, say):
                open_sets, state, improved = pool[path], value, True
        if not improved:
            settled = True
            break
    return FixedPoint(
        cleared=cleared,
        open_sets=open_sets,
        loss_wh=state.loss_wh,
        operations=state.operations,
        potential=state.potential,
        history=tuple(history),
        pool=pool,
        settled=settled,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    potential: float
    loss_wh: float
    operations: int


def _value(costs: SwitchingCosts, cleared: Cleared, open_sets: IntArray, tariff: SwitchingTariff) -> _Value:
    """The exact potential; infinite where a limit is broken."""
    distinct, place = np.unique(np.sort(open_sets, axis=1), axis=0, return_inverse=True)
    period = np.arange(costs.periods)
    if not np.all(costs.is_legal(distinct)[place, period]):
        return _Value(potential=float("inf"), loss_wh=float("inf"), operations=0)
    loss_wh = float(costs.losses_w(distinct)[place, period].sum()) * tariff.step_s / 3600.0
    chain = [set(costs.space.present_open.tolist()), *(set(row.tolist()) for row in open_sets)]
    operations = sum(len(one ^ other) for one, other in itertools.pairwise(chain))
    potential = cleared.cost + tariff.loss_price_per_kwh * loss_wh / WH_PER_KWH + tariff.operation_price * operations
    return _Value(potential=potential, loss_wh=loss_wh, operations=operations)


def _falls(history: list[Level], name: str, offered: float, present: float, say: Callable[[str], None]) -> bool:
    accepted = offered < present - LEAST_FALL_FRAC * abs(present)
    history.append(Level(name=name, potential=offered, accepted=accepted))
    say(f"{name}: potential {present:.3f} -> {offered:.3f}, {'taken' if accepted else 'not taken'}")
    return accepted
