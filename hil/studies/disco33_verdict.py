"""Why no load reproduces case 2 of source 003: bounds that hold for every load which is consistent with its own case 1.

All prices cancel in the sum of the three parties' costs, which leaves the wholesale price of the net load (`money_identity`). Case 1 of
scenario 1 has L_net = -gamma L everywhere, so its printed figures fix both sum lambda_L2A L = -EC_e / gamma and
sum lambda_M L = -(EC_e + EC_a + EC_d) / gamma. Whatever happens in case 2, net load stays within gamma L (3).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from coordinator.mechanisms.disco.market import DiscoMarket
from hil.errors import RunError
from hil.studies.seed003 import FIGURES

Published = dict[tuple[int, int, str], float]


def published_total(published: Published, scenario: int, case: int) -> float:
    """The sum of the three printed costs."""
    return sum(published[scenario, case, figure] for figure in FIGURES)


def least_total_interruptible(published: Published) -> float:
    """Scenario 1: the sum is least where net load is least in every hour, and that is case 1 itself."""
    return published_total(published, 1, 1)


def least_total_shiftable(market: DiscoMarket, published: Published, flexibility_frac: float) -> float:
    """Scenario 2: the least sum over *all* regional loads L >= 0 that give the printed case 1 of scenario 1, and all x with
    |x| <= gamma L and sum_t x = 0. A linear program in L and x together.
    """
    regions, hours = market.regional_per_kwh.shape
    size = regions * hours
    wholesale = np.tile(market.wholesale_per_kwh, regions)
    zero = np.zeros(size)
    balance = sparse.kron(sparse.eye(regions), np.ones((1, hours)))
    equal = sparse.vstack([
        sparse.csr_matrix(np.concatenate((market.regional_per_kwh.ravel(), zero))),
        sparse.csr_matrix(np.concatenate((wholesale, zero))),
        sparse.hstack([sparse.csr_matrix((regions, size)), balance]),
    ])  # fmt: skip
    worth = [-published[1, 1, "EC_e"] / flexibility_frac, -published_total(published, 1, 1) / flexibility_frac]
    eye = sparse.eye(size)
    within = sparse.vstack([sparse.hstack([-flexibility_frac * eye, eye]), sparse.hstack([-flexibility_frac * eye, -eye])])
    found = linprog(
        np.concatenate((zero, wholesale)),
        A_ub=within,
        b_ub=np.zeros(2 * size),
        A_eq=equal,
        b_eq=np.concatenate((worth, np.zeros(regions))),
        bounds=[(0.0, None)] * size + [(None, None)] * size,
        method="highs",
    )
    if not found.success:
        raise RunError(f"the bound of case 2 was not found: {found.message}")
    return float(found.fun)


def stale_purchase_kwh(market: DiscoMarket, published: Published, scenario: int) -> float:
    """The other reading: problem D's purchase is priced, but aggregators still trade as in case 1. Then EC_e rises by lambda_D2L for each
    kWh sold, which says how much was.
    """
    return (published[scenario, 2, "EC_e"] - published[scenario, 1, "EC_e"]) / market.retail_per_kwh


def stale_disco_gain(market: DiscoMarket, published: Published, scenario: int) -> float:
    """The most by which EC_d can fall under that reading: the retail price less the cheapest wholesale price, for each kWh."""
    margin = market.retail_per_kwh - float(np.min(market.wholesale_per_kwh))
    return margin * stale_purchase_kwh(market, published, scenario)
