"""What net loads at some buses cost a network in losses, interval by interval, each under its own configuration.

With F0 the lossless flows of everything else and D those of one watt at each bus, loss_t(x) = sum_k r_k |F0 + D x|^2 / V^2, calibrated to
the exact AC loss at a reference point by one factor for each interval (voltages are below nominal, and losses themselves must flow).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.mechanisms.signals import FloatArray
from coordinator.reconfiguration.flow import CONDUCTORS, SwitchedFeeder
from coordinator.reconfiguration.loops import ComplexArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LossModel:
    """loss_t(x) = x' square_t x + linear_t x + constant_t in watts: (T, buses, buses), (T, buses), (T,)."""

    square: FloatArray
    linear: FloatArray
    constant_w: FloatArray

    def loss_w(self, net_w: FloatArray) -> FloatArray:
        """Losses (T,) of net loads (buses, T)."""
        return np.asarray(
            np.einsum("it,tij,jt->t", net_w, self.square, net_w) + np.einsum("ti,it->t", self.linear, net_w) + self.constant_w
        )


def loss_model(
    feeder: SwitchedFeeder, open_sets: IntArray, background_va: ComplexArray, nodes: IntArray, reference_w: FloatArray
) -> LossModel:
    """Build the model for configurations `open_sets` (T, loops), a background (nodes of the feeder, T) per conductor, and `reference_w`
    (buses, T) net loads at `nodes`; intervals without an AC solution at the reference keep the lossless factor.
    """
    space = feeder.space
    periods = open_sets.shape[0]
    unit = np.zeros((space.node_count, nodes.size), dtype=np.complex128)
    unit[nodes, np.arange(nodes.size)] = 1.0 / CONDUCTORS
    r = CONDUCTORS * feeder.z.real / feeder.source_pu**2
    square = np.empty((periods, nodes.size, nodes.size))
    linear = np.empty((periods, nodes.size))
    constant = np.empty(periods)
    for open_set in np.unique(open_sets, axis=0):
        at = np.flatnonzero((open_sets == open_set).all(axis=1))
        shape = space.flow(open_set, unit).real
        flow = space.flow(open_set, background_va[:, at])
        square[at] = (shape.T * r) @ shape
        linear[at] = 2.0 * flow.real.T @ (r[:, None] * shape)
        constant[at] = r @ np.abs(flow) ** 2
    model = LossModel(square=square, linear=linear, constant_w=constant)
    power = background_va.copy()
    np.add.at(power, nodes, reference_w / CONDUCTORS)
    exact = feeder.solve(open_sets, power).loss_w
    estimate = model.loss_w(reference_w)
    factor = np.where(np.isfinite(exact) & (estimate > 0.0), exact / np.where(estimate > 0.0, estimate, 1.0), 1.0)
    return LossModel(square=factor[:, None, None] * square, linear=factor[:, None] * linear, constant_w=factor * constant)
