"""The community's negotiation against a central solver that sees every household, and against the rules of its sources."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import numpy.typing as npt
import pytest

from protocols import negotiation
from protocols.negotiation import NegotiationError, State, Terms

Array = npt.NDArray[np.float64]
STEPS = 12
KILO = 1000.0


class Home:
    """A battery behind a fixed load, the smallest household that has something to negotiate about. Powers in kW inside."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.base_kw = rng.uniform(0.2, 2.0, STEPS) - rng.uniform(0.0, 4.0) * np.sin(np.linspace(0, np.pi, STEPS)) ** 2
        self.power_kw, self.capacity_kwh = 3.0, float(rng.uniform(0.0, 9.0))
        self.last_w = self.base_kw * KILO

    def parts(self) -> tuple[cp.Expression, cp.Expression, list[cp.Constraint]]:
        """(net import in kW, own cost, what the battery can do)."""
        battery = cp.Variable(STEPS)
        stored = 0.5 * self.capacity_kwh + cp.cumsum(battery)
        limits = [cp.abs(battery) <= self.power_kw, stored >= 0, stored <= self.capacity_kwh, stored[-1] >= 0.5 * self.capacity_kwh]
        return self.base_kw + battery, 0.01 * cp.sum_squares(battery), limits

    def answer(self, state: State, rho: float) -> Array:
        net_kw, own, limits = self.parts()
        pull_kw = (self.last_w - state.excess_w) / KILO
        cost = own + state.price_per_kwh @ net_kw + 0.5 * rho * KILO * cp.sum_squares(net_kw - pull_kw)
        cp.Problem(cp.Minimize(cost), limits).solve(solver=cp.CLARABEL)
        self.last_w = np.round(net_kw.value * KILO)
        return self.last_w


def terms(*, import_w: float = 1e9, export_w: float = 1e9, iterations: int = 150) -> Terms:
    return Terms(
        retail_per_kwh=np.linspace(0.2, 0.5, STEPS),
        feed_in_per_kwh=np.full(STEPS, 0.05),
        import_limit_w=np.full(STEPS, import_w),
        export_limit_w=np.full(STEPS, export_w),
        rho_per_kwh_w=1e-4,
        tolerance_w=3.0,
        iterations_max=iterations,
    )


def central(homes: list[Home], agreed: Terms) -> float:
    """The best that anyone could do who sees every household."""
    parts = [home.parts() for home in homes]
    total = sum(net for net, _, _ in parts)
    bill = cp.sum(cp.maximum(cp.multiply(agreed.retail_per_kwh, total), cp.multiply(agreed.feed_in_per_kwh, total)))
    limits = [limit for _, _, own in parts for limit in own]
    limits += [total <= agreed.import_limit_w / KILO, total >= -agreed.export_limit_w / KILO]
    problem = cp.Problem(cp.Minimize(bill + sum(own for _, own, _ in parts)), limits)
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value)


def negotiated(homes: list[Home], agreed: Terms) -> tuple[State, float, list[tuple[Array, int]]]:
    """The last state, what it costs all together, and the sums of every iteration."""
    state, answers = negotiation.told(negotiation.opening(agreed)), []
    while not state.final:
        total_w = np.sum([home.answer(state, agreed.rho_per_kwh_w) for home in homes], axis=0)
        answers.append((total_w, len(homes)))
        state = negotiation.told(negotiation.advance(agreed, state, total_w, len(homes)))
    total_kw = np.sum([home.last_w for home in homes], axis=0) / KILO
    bill = float(agreed.retail_per_kwh @ np.maximum(total_kw, 0) - agreed.feed_in_per_kwh @ np.maximum(-total_kw, 0))
    own = sum(0.01 * float(np.sum((home.last_w / KILO - home.base_kw) ** 2)) for home in homes)
    return state, bill + own, answers


def homes(count: int, seed: int) -> list[Home]:
    rng = np.random.default_rng(seed)
    return [Home(rng) for _ in range(count)]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_agreed_from_sums_costs_what_a_central_solver_finds(seed: int) -> None:
    """cvxpy 1.x with Clarabel on the whole community as one problem; 1 % of the bill."""
    agreed = terms()
    best = central(homes(6, seed), agreed)
    state, cost, _ = negotiated(homes(6, seed), agreed)
    assert state.iteration < agreed.iterations_max
    assert cost == pytest.approx(best, abs=0.01 * abs(best) + 0.01)


def test_the_price_lies_between_feed_in_and_retail(seed: int = 3) -> None:
    """Li et al. 2026, equation (4), while no limit of the feeder binds."""
    agreed = terms()
    state, _, _ = negotiated(homes(6, seed), agreed)
    exchange, surcharge = negotiation.community_price(agreed, state)
    assert np.all(agreed.feed_in_per_kwh <= exchange) and np.all(exchange <= agreed.retail_per_kwh)
    assert np.abs(surcharge).max() < 2e-3


def test_a_limit_of_the_feeder_is_kept_and_shows_as_a_surcharge() -> None:
    free, _, answers = negotiated(homes(6, 4), terms())
    peak_w = float(np.asarray(answers[-1][0]).max())
    assert free.final and peak_w > 0
    agreed = terms(import_w=0.9 * peak_w)
    best = central(homes(6, 4), agreed)
    state, cost, sums = negotiated(homes(6, 4), agreed)
    assert np.asarray(sums[-1][0]).max() <= 0.9 * peak_w + 6 * agreed.tolerance_w
    assert cost == pytest.approx(best, abs=0.02 * abs(best) + 0.02)
    assert negotiation.community_price(agreed, state)[1].max() > 0.0


def test_whoever_has_the_sums_computes_every_signal_again() -> None:
    agreed = terms(iterations=20)
    state, _, answers = negotiated(homes(4, 5), agreed)
    again = list(negotiation.replay(agreed, answers))
    assert len(again) == len(answers) + 1
    assert np.array_equal(again[-1].price_per_kwh, state.price_per_kwh) and np.array_equal(again[-1].excess_w, state.excess_w)


def test_terms_and_sums_that_cannot_belong_to_a_negotiation_are_refused() -> None:
    agreed = terms()
    with pytest.raises(NegotiationError, match="shape"):
        negotiation.advance(agreed, negotiation.opening(agreed), np.zeros(3), 5)
    with pytest.raises(NegotiationError, match="answers"):
        negotiation.advance(agreed, negotiation.opening(agreed), np.zeros(STEPS), 0)
    with pytest.raises(NegotiationError, match="feed-in"):
        Terms(
            retail_per_kwh=np.zeros(2),
            feed_in_per_kwh=np.ones(2),
            import_limit_w=np.ones(2),
            export_limit_w=np.ones(2),
            rho_per_kwh_w=1e-4,
        )


def test_the_share_of_the_best_total_is_what_a_search_finds() -> None:
    """The closed form of the z-update against a grid over the same function."""
    agreed = terms(import_w=30_000.0, export_w=20_000.0)
    grid = np.linspace(-25_000.0, 35_000.0, 60_001) / 5
    for pull_w in (-9000.0, -4500.0, -600.0, 0.0, 700.0, 2900.0, 6100.0, 20_000.0):
        share = negotiation._share_w(agreed, np.full(STEPS, pull_w), 5)
        for step in (0, STEPS - 1):
            retail, feed_in = agreed.retail_per_kwh[step], agreed.feed_in_per_kwh[step]
            cost = np.where(grid > 0, retail * grid, feed_in * grid) + 0.5 * agreed.rho_per_kwh_w * (grid - pull_w) ** 2
            cost[(5 * grid > 30_000.0) | (5 * grid < -20_000.0)] = np.inf
            assert share[step] == pytest.approx(grid[cost.argmin()], abs=1.0)
