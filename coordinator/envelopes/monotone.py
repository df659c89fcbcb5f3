"""A certificate that two power flows verify all corners of a box, and its interior, on a balanced radial feeder.

Branch flow: l = (P^2 + Q^2) / v of the sending end, P = D p + D_R l, v = v_lin - H l with H >= 0. An interval iteration bounds l, P, Q
and v over the whole box. Differentiating with respect to what a connection exports gives dl = b + M dl; with the interval magnitudes of
M and spectral radius below one, dl <= b_up + M (I - M)^-1 |b|. If H dl_up stays below the linear rise of the voltage for every node and
connection, every voltage rises with every export everywhere in the box: the highest voltages are those of the all-export corner, the
lowest those of all-import. Without shunts; constant power; formulation in the project's grid notes, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Movers
from coordinator.envelopes.lindistflow import Sensitivity
from coordinator.powerflow.radial import FloatArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT

INTERVAL_ROUNDS = 30
# The first guess of the losses is widened by this and then only shrinks; a guess that maps into itself is a proof.
WIDEN = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    """Bounds over the box, per phase: active and reactive flow, squared current, and squared voltage of the sending end."""

    p_low: FloatArray
    p_high: FloatArray
    q_low: FloatArray
    q_high: FloatArray
    current: FloatArray
    sending_v2: FloatArray


def monotonicity_margin(feeder: RadialFeeder, movers: Movers, sensitivity: Sensitivity, low_w: FloatArray, high_w: FloatArray) -> float:
    """How far the box is from losing monotonicity: 1 is linear, above 0 is certified, and -inf is not provable by these bounds."""
    if feeder.y_siemens is not None or not sensitivity.is_monotone:
        return -np.inf
    conductors = feeder.conductors
    subtree = _subtree(feeder)
    r, x = sensitivity.r_ohm, sensitivity.x_ohm
    loss_p, loss_q = subtree * r, subtree * x
    path_r, path_x = subtree.T * r, subtree.T * x
    curve = 2.0 * (path_r @ loss_p + path_x @ loss_q) - subtree.T * (r**2 + x**2)
    bounds = _interval(feeder, movers, sensitivity, (low_w / conductors, high_w / conductors), (loss_p, loss_q, curve))
    if bounds is None:
        return -np.inf
    rise = sensitivity.fall * conductors
    sending = feeder.tree.parent
    p_size = np.maximum(np.abs(bounds.p_low), np.abs(bounds.p_high)) / bounds.sending_v2
    q_size = np.maximum(np.abs(bounds.q_low), np.abs(bounds.q_high)) / bounds.sending_v2
    strain = bounds.current / bounds.sending_v2
    known = sending != ROOT
    sending_curve = np.where(known[:, None], curve[sending], 0.0)
    coupling = 2.0 * p_size[:, None] * loss_p + 2.0 * q_size[:, None] * loss_q + strain[:, None] * sending_curve
    reactive = np.maximum(-movers.q_per_w * bounds.q_low[:, None], -movers.q_per_w * bounds.q_high[:, None])
    upward = sensitivity.below * 2.0 * np.maximum(-bounds.p_low[:, None] + reactive, 0.0) / bounds.sending_v2[:, None]
    size = sensitivity.below * 2.0 * (p_size[:, None] + np.abs(movers.q_per_w) * q_size[:, None])
    size = size + strain[:, None] * np.where(known[:, None], rise[sending], 0.0)
    # A non-negative matrix M has spectral radius below one if and only if (I - M) y = 1 has a positive solution y.
    solved = np.linalg.solve(np.eye(r.size) - coupling, np.concatenate([size, np.ones((r.size, 1))], axis=1))
    if not np.all(np.isfinite(solved)) or np.any(solved[:, -1] <= 0.0):
        return -np.inf
    bend = curve @ (upward + coupling @ solved[:, :-1])
    tight = rise > 0.0
    if np.any(bend[~tight] > 0.0):
        return -np.inf
    return float(1.0 - np.max(bend[tight] / rise[tight], initial=0.0))


def _subtree(feeder: RadialFeeder) -> FloatArray:
    """(k, a): 1 where branch a hangs below branch k or is it."""
    parent = feeder.tree.parent
    subtree = np.eye(parent.size)
    for node in range(parent.size - 1, 0, -1):
        subtree[parent[node]] += subtree[node]
    return subtree


def _interval(
    feeder: RadialFeeder,
    movers: Movers,
    sensitivity: Sensitivity,
    box_w: tuple[FloatArray, FloatArray],
    losses: tuple[FloatArray, FloatArray, FloatArray],
) -> _Bounds | None:
    """Bounds that map into themselves, or None where none were found."""
    loss_p, loss_q, curve = losses
    low, high = box_w
    q_ends = np.stack([low * movers.q_per_w, high * movers.q_per_w]) + movers.q_var / feeder.conductors
    below = sensitivity.below.astype(np.float64)
    p_low, p_high = below @ low, below @ high
    q_low, q_high = below @ q_ends.min(axis=0), below @ q_ends.max(axis=0)
    source_v2 = float(abs(feeder.source_v[0]) ** 2)
    path_fall = sensitivity.fall * feeder.conductors
    constant = 2.0 * (_subtree(feeder).T * sensitivity.x_ohm) @ (below @ (movers.q_var / feeder.conductors))
    linear_low = source_v2 - path_fall @ high - constant
    parent = feeder.tree.parent

    def sending_v2(current: FloatArray) -> FloatArray:
        lowest = linear_low - curve @ current
        return np.where(parent == ROOT, source_v2, lowest[parent])

    def current_bound(current: FloatArray) -> FloatArray:
        p = np.maximum(np.abs(p_low), np.abs(p_high + loss_p @ current))
        q = np.maximum(np.abs(q_low), np.abs(q_high + loss_q @ current))
        return np.asarray((p**2 + q**2) / sending_v2(current))

    current = np.zeros(p_low.size)
    for _ in range(INTERVAL_ROUNDS):
        guess = WIDEN * current_bound(current) if not np.any(current) else current
        if np.any(sending_v2(guess) <= 0.0):
            return None
        mapped = current_bound(guess)
        if np.all(mapped <= guess):
            return _Bounds(
                p_low=p_low, p_high=p_high + loss_p @ guess, q_low=q_low, q_high=q_high + loss_q @ guess,
                current=guess, sending_v2=sending_v2(guess),
            )  # fmt: skip
        current = np.maximum(guess, 1.05 * mapped)
    return None
