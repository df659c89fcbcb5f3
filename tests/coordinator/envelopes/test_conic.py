"""The library's answer to an allocation is ours, and it is there where ours creeps."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.envelopes.conic import minimise_by_cones
from coordinator.envelopes.interior_point import Objective, minimise


def objective(count: int, kind: str) -> Objective:
    none = np.zeros(count)
    ramp = np.linspace(0.5, 1.0, count)
    if kind == "log":
        return Objective(linear=none, quadratic=none, log_gain=ramp, log_offset=np.full(count, 0.3))
    return Objective(linear=-ramp, quadratic=ramp if kind == "quadratic" else 1e-3 * ramp, log_gain=none, log_offset=none)


@pytest.mark.parametrize("kind", ["log", "quadratic", "linear"])
def test_both_methods_find_the_same_shares(kind: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        rows = rng.uniform(0.0, 1.0, (12, 8)) * (rng.random((12, 8)) < 0.6)
        problem = objective(8, kind)
        assert minimise_by_cones(problem, rows) == pytest.approx(minimise(problem, rows), abs=2e-4)


def test_floors_that_nearly_fill_the_network_still_get_an_answer() -> None:
    rows = np.vstack([np.eye(6), 1e6 * np.eye(6)[:3], np.full((1, 6), 0.4)])
    y = minimise_by_cones(objective(6, "log"), rows)
    assert np.all(rows @ y <= 1.0 + 1e-6)
    assert np.all(y[:3] <= 1e-6 * (1.0 + 1e-6))
    assert y[3:].sum() > 1.5
