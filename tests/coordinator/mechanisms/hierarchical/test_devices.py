"""Devices answer with the nearest schedule that they can do: projections, computed again by cvxpy 1.9 (Clarabel)."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.hierarchical.devices import Batteries, BatteryProjection, Panels, Vehicles

PERIODS = 12
HOUR_S = 3600.0


@pytest.mark.parametrize("seed", range(6))
def test_vehicles_fill_water_to_their_energy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    max_w = 7000.0 * (rng.random((5, PERIODS)) < 0.6)
    energy_wh = rng.uniform(0.0, 1.0, 5) * max_w.sum(axis=1)
    energy_wh[0], energy_wh[1] = 0.0, max_w[1].sum()
    wish_w = rng.normal(1000.0, 4000.0, (5, PERIODS))
    vehicles = Vehicles(member=np.arange(5), max_w=max_w, energy_wh=energy_wh, step_s=HOUR_S)
    found = vehicles.nearest(wish_w)
    best = cp.Variable((5, PERIODS))
    limits = [best >= 0.0, best <= max_w / 1e3, cp.sum(best, axis=1) == energy_wh / 1e3]
    cp.Problem(cp.Minimize(cp.sum_squares(best - wish_w / 1e3)), limits).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(found, 1e3 * best.value, atol=0.5)
    np.testing.assert_allclose(found.sum(axis=1), energy_wh, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_batteries_end_as_they_began_and_keep_their_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    capacity_wh, power_w = rng.uniform(4e3, 12e3, 4), rng.uniform(2e3, 5e3, 4)
    batteries = Batteries(
        member=np.arange(4), capacity_wh=capacity_wh, power_w=power_w, initial_wh=rng.uniform(0.0, 1.0, 4) * capacity_wh,
        efficiency_frac=0.93, wear_per_kwh=0.02, step_s=HOUR_S,
    )  # fmt: skip
    projection = BatteryProjection(batteries=batteries, periods=PERIODS)
    projection.nearest(rng.normal(0.0, 4000.0, (4, 2 * PERIODS)))
    wish_w = rng.normal(0.0, 4000.0, (4, 2 * PERIODS))
    found = projection.nearest(wish_w)
    charge, discharge = cp.Variable((4, PERIODS), nonneg=True), cp.Variable((4, PERIODS), nonneg=True)
    stored = batteries.initial_wh[:, None] / 1e3 + cp.cumsum(0.93 * charge - discharge / 0.93, axis=1)
    limits = [
        charge <= power_w[:, None] / 1e3, discharge <= power_w[:, None] / 1e3, stored >= 0.0, stored <= capacity_wh[:, None] / 1e3,
        stored[:, -1] == batteries.initial_wh / 1e3,
    ]  # fmt: skip
    distance = cp.sum_squares(cp.hstack([charge, discharge]) - wish_w / 1e3)
    cp.Problem(cp.Minimize(distance), limits).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(found, 1e3 * np.hstack((charge.value, discharge.value)), atol=10.0)


def test_panels_give_what_the_sun_gives_or_less() -> None:
    panels = Panels(member=np.zeros(1, dtype=np.int64), available_w=np.array([[0.0, 3000.0, 3000.0]]))
    np.testing.assert_allclose(panels.nearest(np.array([[-500.0, -5000.0, 400.0]])), [[0.0, -3000.0, 0.0]])


def test_values_that_cannot_be_are_refused_by_name() -> None:
    none = np.zeros(1, dtype=np.int64)
    with pytest.raises(ConversationError, match=r"panels: available_w\[0, 1\] is nan"):
        Panels(member=none, available_w=np.array([[0.0, np.nan]]))
    with pytest.raises(ConversationError, match="vehicle of member 0 needs 9000 Wh, and could take 7000 Wh while it is there"):
        Vehicles(member=none, max_w=np.array([[7000.0, 0.0]]), energy_wh=np.array([9000.0]), step_s=HOUR_S)
    with pytest.raises(ConversationError, match="battery of member 0 begins with 6000 Wh, and holds 5000 Wh"):
        Batteries(
            member=none, capacity_wh=np.array([5e3]), power_w=np.array([1e3]), initial_wh=np.array([6e3]), efficiency_frac=0.9,
            wear_per_kwh=0.0, step_s=HOUR_S,
        )  # fmt: skip
