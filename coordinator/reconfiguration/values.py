"""What is asked of, and answered by, the search for switch positions.

A *configuration* is the set of branches that are open; it is radial when the closed ones form one tree. Losses are those in the series
impedances of lines and transformers, without the source's own. A *flow* is one exact AC power flow of one configuration in one period,
the unit in which search effort is counted.
"""

from __future__ import annotations

import msgspec

from coordinator.errors import CoordinatorError


class ReconfigurationError(CoordinatorError):
    """A network cannot be reconfigured as it is given; the text names the element."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a feeder stands under one configuration. `loss_w` is the mean over the periods, voltages and loading the worst of them.

    All are None where the power flow has no solution, and the loading where no rating is known.
    """

    open_lines: tuple[str, ...]
    loss_w: float | None
    vmin_pu: float | None
    vmax_pu: float | None
    line_loading_frac: float | None
    legal: bool


class Descent(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a heuristic: where it began and ended, how many moves it took and how many flows it had to solve itself.

    A loss is None where a limit is broken or there is no solution.
    """

    method: str
    start_loss_w: float | None
    loss_w: float | None
    moves: int
    flows: int


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the optimum.

    `trees` is how many radial configurations exist. Where `complete`, every one of them was either solved by exact power flow (`solved`)
    or excluded because a lower bound of its loss is not below the best loss found (`bounded_out`).
    """

    complete: bool
    trees: float
    solved: int
    bounded_out: int
    statement: str


class Reconfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The best configuration found.

    `exchange_flows` is what branch exchange from the present configuration needed and `exchange_flows_floor` the least that any method
    needs which claims that its answer cannot be improved by one exchange: the flow of every neighbour of that answer, and its own.
    `feasible` is False where no radial configuration that was tried keeps the limits; `after` is then the least bad one.
    """

    network: str
    feasible: bool
    before: State
    after: State
    descents: tuple[Descent, ...]
    exchange_flows: int
    exchange_flows_floor: int
    proof: Proof


class SwitchingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration for every period, the cheapest sequence over a pool of candidates.

    Energies and costs are over the whole horizon. `before_wh` is the loss of the present configuration and `static_wh` that of the best
    single one (None where it breaks a limit in some period, or none keeps them all day), `loss_wh` that of the plan; `operations` counts
    single switch operations and `cost` is loss and operations priced. `active_lines` are open in at least one candidate: every other line
    is closed in all of them, so its variable drops out.
    """

    open_lines: tuple[tuple[str, ...], ...]
    before_wh: float | None
    static_wh: float | None
    static_open_lines: tuple[str, ...]
    loss_wh: float
    operations: int
    cost: float
    static_cost: float | None
    pool_size: int
    active_lines: tuple[str, ...]
    switchable_lines: int
    flows: int
