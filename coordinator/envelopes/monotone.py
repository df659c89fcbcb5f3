"""A certificate that two power flows verify all corners of a box, and its interior, on a balanced radial feeder.

Branch flow: l = (P^2 + Q^2) / v of the sending end, P = D p + D_R l, v = v_lin - H l with H >= 0. An interval iteration bounds l, P, Q
and v over the whole box. Differentiating with respect to what connection i exports gives dl = b + M dl, M by the interval magnitudes. If
y >= |b| + |M| y for some y > 0, the spectral radius of |M| is below one, |dl| <= y, and dl <= b_up + |M| y. If H dl_up stays below the
linear rise of the voltage at every node, every voltage rises with every export everywhere in the box: the highest voltages are those of
the all-export corner, the lowest those of all-import. Without shunts; constant power; the project's grid notes, section 2.

The vectors y of all connections and all nodes at once would be a dense matrix. They are bounded in linear time by one form,

    y_k(i) = a_k(i) alpha_k + gamma_k rise_s(k)(i),

where a_k(i) is 1 if branch k feeds i and 0 otherwise, s(k) is the branch's sending node and rise_j(i) the linear rise at node j. The form
maps into itself. Off the path of i the rise is the same everywhere below a branch, so sums over a subtree keep only gamma; on the path
they add at most the largest sum along a way down from k. So alpha and gamma are found by iterating one map on two vectors, and a pair
that maps below itself is the proof.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Movers
from coordinator.envelopes.lindistflow import Sensitivity
from coordinator.powerflow.radial import BoolArray, FloatArray, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT

INTERVAL_ROUNDS = 30
# The first guess of the losses is widened by this and then only shrinks; a guess that maps into itself is a proof.
WIDEN = 1.3
FORM_ROUNDS = 60
# The form's iteration approaches its fixed point from below; this much above it, a pair maps below itself.
ABOVE = 1.0 + 1e-6
# Connections are treated in this many classes of similar reactive power, each bounded by its extremes.
CLASSES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    """Bounds over the box, per phase: active and reactive flow, squared current, and squared voltage of the sending end."""

    p_low: FloatArray
    p_high: FloatArray
    q_low: FloatArray
    q_high: FloatArray
    current: FloatArray
    sending_v2: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """One y of the module's form, with what follows from it at every branch: largest sums of r y and x y below it on and off the path
    (`on_r`, `on_x`, `off_r`, `off_x`), and the bend H y as a share of the rise: at most `on_path` + `off_path` (n,).
    """

    alpha: FloatArray
    gamma: FloatArray
    on_r: FloatArray
    on_x: FloatArray
    off_r: FloatArray
    off_x: FloatArray
    on_path: float
    off_path: FloatArray


def monotonicity_margin(feeder: RadialFeeder, movers: Movers, sensitivity: Sensitivity, low_w: FloatArray, high_w: FloatArray) -> float:
    """How far the box is from losing monotonicity: 1 is linear, above 0 is certified, and -inf is not provable by these bounds."""
    moves = low_w < high_w
    if feeder.y_siemens is not None or not sensitivity.is_monotone(moves):
        return -np.inf
    bounds = _interval(feeder, movers, sensitivity, (low_w / feeder.conductors, high_w / feeder.conductors))
    if bounds is None:
        return -np.inf
    return min((_class_margin(feeder, sensitivity, bounds, *ends) for ends in _classes(movers.q_per_w, moves)), default=1.0)


def _classes(q_per_w: FloatArray, moves: BoolArray) -> list[tuple[float, float]]:
    """Extremes of q per w in every class of what moves."""
    known = np.unique(q_per_w[moves])
    parts = np.array_split(known, min(CLASSES, known.size)) if known.size else []
    return [(float(part[0]), float(part[-1])) for part in parts]


def _interval(
    feeder: RadialFeeder, movers: Movers, sensitivity: Sensitivity, box_w: tuple[FloatArray, FloatArray]
) -> _Bounds | None:
    """Bounds that map into themselves, or None where none were found."""
    sums, r, x = sensitivity.sums, sensitivity.r_ohm, sensitivity.x_ohm
    low, high = box_w
    constant = movers.q_var / feeder.conductors
    q_ends = np.stack([low * movers.q_per_w, high * movers.q_per_w])
    p_low, p_high = sensitivity.below(low), sensitivity.below(high)
    q_low, q_high = sensitivity.below(q_ends.min(axis=0) + constant), sensitivity.below(q_ends.max(axis=0) + constant)
    source_v2 = float(abs(feeder.source_v[0]) ** 2)
    linear_low = source_v2 - feeder.conductors * sensitivity.fall(high) - 2.0 * sums.above(x * sensitivity.below(constant))
    parent = feeder.tree.parent

    def sending_v2(current: FloatArray) -> FloatArray:
        lowest = linear_low - _curve(sensitivity, current)
        return np.where(parent == ROOT, source_v2, lowest[parent])

    def current_bound(current: FloatArray) -> FloatArray:
        p = np.maximum(np.abs(p_low), np.abs(p_high + sums.below(r * current)))
        q = np.maximum(np.abs(q_low), np.abs(q_high + sums.below(x * current)))
        return np.asarray((p**2 + q**2) / sending_v2(current))

    current = np.zeros(p_low.size)
    for _ in range(INTERVAL_ROUNDS):
        guess = WIDEN * current_bound(current) if not np.any(current) else current
        if np.any(sending_v2(guess) <= 0.0):
            return None
        mapped = current_bound(guess)
        if np.all(mapped <= guess):
            return _Bounds(
                p_low=p_low, p_high=p_high + sums.below(r * guess), q_low=q_low, q_high=q_high + sums.below(x * guess),
                current=guess, sending_v2=sending_v2(guess),
            )  # fmt: skip
        current = np.maximum(guess, 1.05 * mapped)
    return None


def _curve(sensitivity: Sensitivity, current: FloatArray) -> FloatArray:
    """H l: how far squared voltages lie below LinDistFlow."""
    sums, r, x = sensitivity.sums, sensitivity.r_ohm, sensitivity.x_ohm
    return sums.above(2.0 * (r * sums.below(r * current) + x * sums.below(x * current)) - (r**2 + x**2) * current)


def _class_margin(feeder: RadialFeeder, sensitivity: Sensitivity, bounds: _Bounds, q_least: float, q_most: float) -> float:
    """The margin for connections with q per w between two values."""
    p_size = np.maximum(np.abs(bounds.p_low), np.abs(bounds.p_high)) / bounds.sending_v2
    q_size = np.maximum(np.abs(bounds.q_low), np.abs(bounds.q_high)) / bounds.sending_v2
    strain = np.where(feeder.tree.parent == ROOT, 0.0, bounds.current / bounds.sending_v2)
    q_magnitude = max(abs(q_least), abs(q_most))
    sending = np.maximum(feeder.tree.parent, 0)

    def through(form: _Form, own_share: float) -> tuple[FloatArray, FloatArray]:
        """|M| y in the module's form, plus `own_share` of |b|."""
        alpha = 2.0 * p_size * (own_share + form.on_r) + 2.0 * q_size * (own_share * q_magnitude + form.on_x)
        moved = own_share + form.on_path + form.off_path[sending]
        return alpha, 2.0 * (p_size * form.off_r + q_size * form.off_x) + strain * moved

    form = _form(sensitivity, np.zeros(p_size.size), np.zeros(p_size.size), q_least, q_most)
    for _ in range(FORM_ROUNDS):
        alpha, gamma = through(form, 1.0)
        if not (np.all(np.isfinite(alpha)) and np.all(np.isfinite(gamma)) and np.max(alpha, initial=0.0) < 1.0 / np.finfo(float).eps):
            return -np.inf
        if np.all(alpha <= form.alpha) and np.all(gamma <= form.gamma):
            break
        form = _form(sensitivity, ABOVE * alpha, ABOVE * gamma, q_least, q_most)
    else:
        return -np.inf
    upward = np.maximum(-bounds.p_low, 0.0) + _upward_reactive(bounds, q_least, q_most)
    alpha, gamma = through(form, 0.0)
    bend = _form(sensitivity, alpha + 2.0 * upward / bounds.sending_v2, gamma, q_least, q_most)
    return float(1.0 - bend.on_path - np.max(bend.off_path))


def _upward_reactive(bounds: _Bounds, q_least: float, q_most: float) -> FloatArray:
    """Largest -q Q over the box and over both ends of a class."""
    products = [-end * flow for end in (q_least, q_most) for flow in (bounds.q_low, bounds.q_high)]
    return np.asarray(np.maximum(np.max(products, axis=0), 0.0))


def _form(sensitivity: Sensitivity, alpha: FloatArray, gamma: FloatArray, q_least: float, q_most: float) -> _Form:
    """Sums of a y of the module's form, for connections whose branches rise by between r + x q_least and r + x q_most."""
    sums, r, x = sensitivity.sums, sensitivity.r_ohm, sensitivity.x_ohm
    off_r, off_x = sums.below(r * gamma), sums.below(x * gamma)
    most = 2.0 * (r + x * q_most)
    on_r = sums.longest(r * alpha + most * np.maximum(off_r - r * gamma, 0.0))
    on_x = sums.longest(x * alpha + most * np.maximum(off_x - x * gamma, 0.0))
    square = r**2 + x**2
    bend = 2.0 * (r * on_r + x * on_x) - square * alpha
    rise = 2.0 * (r + x * q_least)
    share = np.where(bend > 0.0, bend / np.where(rise > 0.0, rise, np.nan), 0.0)
    off_path = sums.above(2.0 * (r * off_r + x * off_x) - square * gamma)
    on_path = float(np.max(share, initial=0.0))
    return _Form(
        alpha=alpha, gamma=gamma, on_r=on_r, on_x=on_x, off_r=off_r, off_x=off_x,
        on_path=np.inf if np.isnan(on_path) else on_path, off_path=off_path,
    )  # fmt: skip
