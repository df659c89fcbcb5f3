"""A feeder seen from its connection points alone.

Everything between the connections is linear, so the fixed point of the sweep is the small dense one V = W + Z I(V) over the points,
with W the voltages without load and Z minus the transfer impedances; all other voltages and currents follow from the point currents.
The matrices come from the sweep itself, so both agree to rounding. Dense matrices pay for up to some hundreds of points: a batch costs
one (points x points) product per iteration, and exact slopes come from the adjoint of the same fixed point instead of two power flows
per connection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.powerflow.radial import COLLAPSE_PU, MAX_ITERATIONS, BoolArray, ComplexArray, RadialFeeder

TOLERANCE = 1e-11
SLOPE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReducedFeeder:
    """Linear maps from the point currents (P,) to every voltage and feeding current, on top of the state without load.

    `voltage_map` and `current_map` are (n, m, P), `no_load_v` and `no_load_a` (n, m); `point_map` (P, P) and `point_no_load_v` (P,) are
    their rows at the points.
    """

    feeder: RadialFeeder
    voltage_map: ComplexArray
    current_map: ComplexArray
    no_load_v: ComplexArray
    no_load_a: ComplexArray
    point_map: ComplexArray
    point_no_load_v: ComplexArray

    def solve(self, power_va: ComplexArray) -> PointState:
        """Solve for connections drawing `power_va` (connections, snapshots)."""
        drawn = self.feeder.point_power_va(power_va)
        base = self.point_no_load_v[:, None]
        limit = TOLERANCE * np.abs(base)
        voltage = np.ascontiguousarray(np.broadcast_to(base, drawn.shape))
        converged = np.ones(drawn.shape[1], dtype=np.bool_)
        with np.errstate(all="ignore"):
            for _ in range(MAX_ITERATIONS):
                previous = voltage
                voltage = base + self.point_map @ np.conj(drawn / previous)
                converged = np.all(np.abs(voltage - previous) <= limit, axis=0)
                if np.all(converged | ~np.all(np.isfinite(voltage), axis=0)):
                    break
            converged &= np.all(np.abs(voltage) >= COLLAPSE_PU * np.abs(base), axis=0)
            current = np.conj(drawn / voltage)
        voltage[:, ~converged] = np.nan
        current[:, ~converged] = np.nan
        return PointState(voltage_v=voltage, current_a=current, converged=converged)

    def pull_back(
        self, voltage_v: ComplexArray, current_a: ComplexArray, weights: ComplexArray, *, tolerance: float = SLOPE_TOLERANCE
    ) -> ComplexArray:
        """Turn functionals of the point currents into functionals of the point powers, exactly, many states at once.

        Row k speaks of the state with point voltages `voltage_v[k]` and currents `current_a[k]` (all (rows, P)); the result g satisfies
        d Re(weights . I) = Re(g . conj(dS)). From I = conj(S / V) follows dI + M conj(dI) = conj(dS / V), M = diag(I / conj(V))
        conj(Z), whose adjoint y = weights - conj(y M) contracts as fast as the power flow itself; since Z is common, one product serves
        every state.
        """
        damping = current_a / np.conj(voltage_v)
        spread = np.conj(self.point_map)
        y = weights
        for _ in range(MAX_ITERATIONS):
            following = weights - np.conj((y * damping) @ spread)
            change = np.max(np.abs(following - y), initial=0.0)
            y = following
            if change <= tolerance * np.max(np.abs(y), initial=0.0):
                break
        return np.asarray(y / np.conj(voltage_v))


@dataclass(frozen=True, slots=True, kw_only=True)
class PointState:
    """Voltages and drawn currents at the points (P, snapshots); NaN where a snapshot did not converge."""

    voltage_v: ComplexArray
    current_a: ComplexArray
    converged: BoolArray


def reduce_feeder(feeder: RadialFeeder) -> ReducedFeeder:
    """Build the dense maps by sweeping one unit current per point."""
    points = feeder.points.slot.size
    unit = np.eye(points, dtype=np.complex128)
    voltage_map, current_map = feeder.linear_response(unit, np.zeros(feeder.phase_count, dtype=np.complex128))
    no_load_v, no_load_a = feeder.linear_response(np.zeros((points, 1), dtype=np.complex128), feeder.source_v)
    flat = feeder.tree.node_count * feeder.phase_count
    return ReducedFeeder(
        feeder=feeder,
        voltage_map=voltage_map,
        current_map=current_map,
        no_load_v=no_load_v[:, :, 0],
        no_load_a=no_load_a[:, :, 0],
        point_map=np.ascontiguousarray(voltage_map.reshape(flat, points)[feeder.points.slot]),
        point_no_load_v=no_load_v.reshape(flat)[feeder.points.slot],
    )
