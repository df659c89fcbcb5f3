"""Households for tests of the hierarchy: each shifts energy within its day around a profile, at a cost that grows with how far."""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np
from region import CUSTOMERS, PERIODS, STEP_S, SUN, TRANSFORMERS, region, tariff

from coordinator.mechanisms.hierarchical.areas import split
from coordinator.mechanisms.hierarchical.households import HouseholdMarket
from coordinator.mechanisms.hierarchical.members import Sums
from coordinator.mechanisms.hierarchical.retailer import Retailer
from coordinator.mechanisms.hierarchical.security import NetworkOperator
from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal
from coordinator.network.model import Network

KWH_PER_W = STEP_S / 3.6e6
SLOPE_PER_KWH_W = 2e-5
MOST_W = 15e3


@dataclass(frozen=True)
class Household:
    """Takes base + moved with sum(moved) = 0 and |moved| <= most_w; moving costs SLOPE / 2 moved^2 per kWh."""

    base_w: FloatArray
    most_w: float

    def respond(self, signal: NetSignal, /) -> NetResponse:
        """The exact best response: the multiplier of the day's energy by bisection."""
        wish = signal.weight * (signal.target_w - self.base_w) - signal.price_per_kwh
        low, high = float(wish.min()) - 1.0, float(wish.max()) + 1.0
        for _ in range(100):
            middle = 0.5 * (low + high)
            moved = np.clip((wish - middle) / (SLOPE_PER_KWH_W + signal.weight), -self.most_w, self.most_w)
            low, high = (middle, high) if moved.sum() > 0.0 else (low, middle)
        return NetResponse(net_w=self.base_w + moved, own_cost=float(0.5 * SLOPE_PER_KWH_W * (moved**2).sum() * KWH_PER_W))


def households(*, panels_w: float = 5000.0, load_factor: float = 1.0, most_w: float = 3000.0) -> dict[str, Household]:
    """Twelve at each transformer; every other one has panels, and every other one of those can shift what it takes."""
    rng = np.random.default_rng(7)
    found = {}
    for number in range(TRANSFORMERS):
        for position in range(CUSTOMERS):
            base_w = load_factor * rng.uniform(200.0, 1200.0, PERIODS) - (panels_w * SUN if position % 2 == 0 else 0.0)
            found[f"home{number}_{position}"] = Household(base_w=base_w, most_w=most_w if position % 4 else 0.0)
    return found


def market(homes: dict[str, Household], network: Network | None = None, *, margin_pu: float = 0.002) -> HouseholdMarket:
    """The market of these households in the region."""
    backbone, areas = split(region() if network is None else network, least_of_phase=4)
    operator = NetworkOperator(
        backbone=backbone, areas=areas, background_va=np.zeros((TRANSFORMERS, PERIODS), dtype=np.complex128),
        margin_pu=margin_pu, rating_frac=1.0,
    )  # fmt: skip
    place = {customer: (number, row) for number, area in enumerate(areas) for row, customer in enumerate(area.customers)}
    none = np.zeros(PERIODS)
    return HouseholdMarket(
        names=tuple(homes),
        community=tuple(place[name][0] for name in homes),
        end_weight=tuple(areas[place[name][0]].weight[place[name][1]] for name in homes),
        alone_w=np.array([home.base_w for home in homes.values()]),
        most_w=np.full(len(homes), MOST_W),
        beside=tuple(Sums(net_w=none, reactive_var=none, end_w=np.zeros((len(area.ends), PERIODS)), wear=0.0) for area in areas),
        var_per_w=0.0,
        retailer=Retailer(tariff=tariff()),
        network=operator,
        step_s=STEP_S,
        weight=1e-4,
        tolerance_frac=2e-3,
        tolerance_pu=2e-4,
    )


def central(own: HouseholdMarket, homes: dict[str, Household], *, head_pu: float | None = None) -> float:
    """The least cost over all households together by cvxpy; with `head_pu`, linear ends stay below what is planned for."""
    limits, cost, nets = [], 0.0, []
    x = {name: cp.Variable(PERIODS) for name in homes}
    for name, home in homes.items():
        moved = x[name] - home.base_w / 1e3
        limits += [cp.sum(moved) == 0.0, cp.abs(moved) <= home.most_w / 1e3]
        cost += 0.5 * SLOPE_PER_KWH_W * 1e3 * cp.sum_squares(moved) * KWH_PER_W * 1e3
    for place, area in enumerate(own.network.areas):
        rows = own.rows(place)
        nets.append(sum(x[own.names[row]] for row in rows))
        if head_pu is not None:
            falls = sum(own.end_weight[row][:, None] @ cp.reshape(x[own.names[row]], (1, PERIODS), order="C") for row in rows) * 1e3
            room = (head_pu * area.no_load_pu - own.network.vmax_pu)[:, None] @ np.ones((1, PERIODS))
            limits.append(cp.multiply(area.fall_pu_per_w[:, None] @ np.ones((1, PERIODS)), falls) >= room)
    total, half, offers = sum(nets), 0.5 * own.retailer.fee_per_kwh, own.retailer.tariff
    rest = cp.maximum(cp.multiply(offers.retail_per_kwh - half, total), cp.multiply(offers.feed_in_per_kwh + half, total))
    cost += KWH_PER_W * 1e3 * (cp.sum(rest) + sum(cp.sum(cp.multiply(half, cp.abs(net))) for net in nets))
    problem = cp.Problem(cp.Minimize(cost), limits)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(problem.value)
