"""The community's negotiation: a price for sharing, found from sums alone. Pure, and the same for whoever runs it or replays it.

The community minimises what its members' own comfort and wear cost plus what it pays to the retailer together,

    min  sum_i f_i(x_i) + sum_t g_t(sum_i x_it)        g_t(X) = retail_t max(X, 0) - feed_in_t max(-X, 0),   -E_t <= X <= I_t

with x the net import and E, I the limits of the feeder. This is the sharing problem; its ADMM (Boyd et al., "Distributed Optimization and
Statistical Learning via the Alternating Direction Method of Multipliers", 2011, section 7.3, scaled form) iterates

    x_i <- argmin f_i(x) + price . x + rho/2 ||x - (x_i - excess)||^2            each member, by its own schedule
    z   <- argmin g(N z) + N rho/2 ||z - price/rho - mean(x)||^2                 in closed form, interval by interval
    price <- price + rho (mean(x) - z),     excess <- mean(x) - z

so all that leaves a member is its part of a sum. Where no limit binds, the price of the solution lies between feed-in and retail (Li et
al. 2026, equation (4)), because those are the slopes of g; where a limit binds, the multiplier of the limit comes on top, and
`community_price` tells the two apart. Powers in W, prices per kWh; rho in price per kWh per watt of deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from protocols.errors import ProtocolError

Array = npt.NDArray[np.float64]


class NegotiationError(ProtocolError):
    """Terms or sums cannot belong to a negotiation; the message says which."""


class Terms(Struct, frozen=True, eq=False, kw_only=True):
    """What is fixed for one negotiation, interval by interval. Limits are magnitudes of the community's net import and export."""

    retail_per_kwh: Array
    feed_in_per_kwh: Array
    import_limit_w: Array
    export_limit_w: Array
    rho_per_kwh_w: float
    tolerance_w: float = 20.0
    iterations_max: int = 60

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.retail_per_kwh, self.feed_in_per_kwh, self.import_limit_w, self.export_limit_w)}
        if len(shapes) != 1:
            raise NegotiationError(f"terms of different lengths: {sorted(shapes)}")
        if np.any(self.feed_in_per_kwh > self.retail_per_kwh):
            raise NegotiationError("the feed-in price exceeds the retail price: sharing could not pay (Li et al. 2026, equation (4))")
        if np.any(self.import_limit_w < 0.0) or np.any(self.export_limit_w < 0.0):
            raise NegotiationError("limits are magnitudes")
        if not self.rho_per_kwh_w > 0.0:
            raise NegotiationError(f"rho must be positive, got {self.rho_per_kwh_w}")


class State(Struct, frozen=True, eq=False, kw_only=True):
    """Where a negotiation stands after `iteration` answers: what every member is told next, and how far it is from agreement.

    `gap_w` is the largest excess of the mean answer over its part of the community's best total; `step_w` how far that part still moves;
    `agreed` says that both are within the tolerance, `final` that nothing more is asked.
    """

    iteration: int
    price_per_kwh: Array
    excess_w: Array
    share_w: Array
    gap_w: float = float("inf")
    step_w: float = float("inf")
    agreed: bool = False
    final: bool = False


def opening(terms: Terms) -> State:
    """Before the first answer: the price in the middle of feed-in and retail, and nothing to move."""
    zeros = np.zeros_like(terms.retail_per_kwh)
    middle = 0.5 * (terms.retail_per_kwh + terms.feed_in_per_kwh)
    return State(iteration=0, price_per_kwh=middle, excess_w=zeros, share_w=zeros)


def advance(terms: Terms, state: State, sums_w: npt.ArrayLike, count: int) -> State:
    """The state after the members' answers: their sum in each interval, and how many answered."""
    total_w = np.asarray(sums_w, dtype=np.float64)
    if total_w.shape != terms.retail_per_kwh.shape:
        raise NegotiationError(f"sums of shape {total_w.shape}: {terms.retail_per_kwh.shape} is expected")
    if count < 1:
        raise NegotiationError(f"{count} answers")
    mean_w = total_w / count
    share_w = _share_w(terms, mean_w + state.price_per_kwh / terms.rho_per_kwh_w, count)
    excess_w = mean_w - share_w
    gap_w = float(np.abs(excess_w).max())
    step_w = float(np.abs(share_w - state.share_w).max())
    iteration = state.iteration + 1
    agreed = gap_w <= terms.tolerance_w and step_w <= terms.tolerance_w
    return State(
        iteration=iteration,
        price_per_kwh=state.price_per_kwh + terms.rho_per_kwh_w * excess_w,
        excess_w=excess_w,
        share_w=share_w,
        gap_w=gap_w,
        step_w=step_w,
        agreed=agreed,
        final=agreed or iteration >= terms.iterations_max,
    )


def replay(terms: Terms, answers: Iterable[tuple[npt.ArrayLike, int]]) -> Iterator[State]:
    """Every state of a negotiation, as it was told, from the sums that were answered: what anyone who has them computes again."""
    state = told(opening(terms))
    yield state
    for sums_w, count in answers:
        state = told(advance(terms, state, sums_w, count))
        yield state


def community_price(terms: Terms, state: State) -> tuple[Array, Array]:
    """(price at which members exchange, surcharge that keeps the feeder's limit); the first lies between feed-in and retail."""
    exchange = np.clip(state.price_per_kwh, terms.feed_in_per_kwh, terms.retail_per_kwh)
    return exchange, state.price_per_kwh - exchange


def told(state: State, digits: int = 6) -> State:
    """The state as it is told: prices and powers rounded, so that every receiver continues from the same numbers."""
    return structs.replace(
        state, price_per_kwh=np.round(state.price_per_kwh, digits), excess_w=np.round(state.excess_w, 1)
    )


def _share_w(terms: Terms, pull_w: Array, count: int) -> Array:
    """Each member's part z of the best total: argmin over z of g(N z) / N + rho/2 (z - pull)^2, kinked at 0, inside the limits."""
    bought_w = pull_w - terms.retail_per_kwh / terms.rho_per_kwh_w
    sold_w = pull_w - terms.feed_in_per_kwh / terms.rho_per_kwh_w
    free_w = np.where(bought_w > 0.0, bought_w, np.where(sold_w < 0.0, sold_w, 0.0))
    return np.clip(free_w, -terms.export_limit_w / count, terms.import_limit_w / count)
