"""The optimum of the community market, solved at once by one who knows everything: what a negotiation is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from coordinator.mechanisms.p2p.community import W_PER_KW, CommunityAtBus, solve_programme
from coordinator.mechanisms.p2p.market import Clearing, CommunityMarket
from coordinator.mechanisms.signals import FloatArray


def central_clearing(market: CommunityMarket, members: Sequence[CommunityAtBus]) -> Clearing:
    """Minimise the market's objective over all schedules together.

    Variables are the schedules of all members, their net loads (member by member, T each), and what the market buys and sells (T each).
    """
    problems = [member.problem for member in members]
    periods, hours = problems[0].net_0.size, problems[0].hours
    count, schedules = len(problems), sum(problem.linear.size for problem in problems)
    nets, eye = count * periods, sparse.eye(periods)
    trade = sparse.csc_matrix((nets, 2 * periods))
    net_rows = sparse.hstack([sparse.block_diag([problem.net_rows for problem in problems]), -sparse.eye(nets), trade])
    total = sparse.hstack([sparse.csc_matrix((periods, schedules)), sparse.kron(np.ones((1, count)), eye), -eye, eye])
    own = sparse.block_diag([problem.equal for problem in problems])
    own = sparse.hstack([own, sparse.csc_matrix((own.shape[0], nets + 2 * periods))])
    below = sparse.block_diag([*(problem.below for problem in problems), sparse.csc_matrix((0, nets)), -sparse.eye(2 * periods)])
    loss = W_PER_KW * market.loss_per_kwh * hours
    coupling = _by_member(2.0 * loss * market.losses.square)
    quadratic = sparse.block_diag(
        [sparse.diags(np.concatenate([problem.square for problem in problems])), coupling, sparse.csc_matrix((2 * periods, 2 * periods))]
    )
    linear = np.concatenate(
        [
            *(problem.linear for problem in problems),
            hours * market.loss_per_kwh * market.losses.linear.T.ravel(),
            hours * market.tariff.retail_per_kwh,
            -hours * market.tariff.feed_in_per_kwh,
        ]
    )
    equal_to = np.concatenate([*(problem.equal_to for problem in problems), *(-problem.net_0 for problem in problems), np.zeros(periods)])
    limits = np.concatenate([*(problem.below_by for problem in problems), np.zeros(2 * periods)])
    x = solve_programme(
        "the whole market", quadratic, linear, (sparse.vstack([own, net_rows, total], format="csc"), equal_to), (below, limits)
    )
    net_w = W_PER_KW * x[schedules : schedules + nets].reshape(count, periods)
    ends = np.cumsum([problem.linear.size for problem in problems])
    costs = np.array([problem.own_cost(x[end - problem.linear.size : end]) for problem, end in zip(problems, ends, strict=True)])
    price = np.full(periods, np.nan)
    return Clearing(net_w=net_w, market_per_kwh=price, price_per_kwh=np.full_like(net_w, np.nan), own_costs=costs, rounds=0)


def _by_member(square: FloatArray) -> sparse.csc_matrix:
    """(T, members, members) as one matrix over net loads member by member."""
    periods, count, _ = square.shape
    interval = np.arange(periods)
    rows = np.concatenate([np.full(periods, one * periods) + interval for one in range(count) for _ in range(count)])
    columns = np.concatenate([np.full(periods, other * periods) + interval for _ in range(count) for other in range(count)])
    values = np.concatenate([square[:, one, other] for one in range(count) for other in range(count)])
    return sparse.csc_matrix((values, (rows, columns)), shape=(count * periods, count * periods))
