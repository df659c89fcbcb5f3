"""The quantities that a feeder's limits speak of, and how they move with every connection.

A *quantity* is a node-phase voltage (per unit), a conductor's share of its ampacity, or a transformer's share of its rating at one side. A
*row* is a signed limit on a quantity with a direction from which its worst corner is searched: high and low voltage; and for every current
and transformer twice, once from the side where the feeder imports and once from where it exports, because a magnitude has a worst corner on
either side of zero.

Nodes in the middle of a stretch of one conductor type without connections are left to the final check by the full power flow: there the
phasor runs along a straight line between the ends of the stretch, so its magnitude cannot exceed the larger of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.values import Limits
from coordinator.network.model import Transformer
from coordinator.powerflow.radial import ComplexArray, FloatArray, IntArray, RadialFeeder
from coordinator.powerflow.radial_reduced import PointState, ReducedFeeder
from coordinator.powerflow.radial_tree import ROOT

# The phase currents of two conductors are the same quantity if their maps differ by less than this share (line charging).
SAME_CURRENT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitors:
    """Linear maps of the quantities. Voltages: |v|/nominal. Currents: |i|/rating. Transformer sides: sum over phases |v conj(i)| / rating.

    `names` labels every quantity; `quantity` (rows,), `sign` and `bound` define the rows: excess = sign * quantity - bound <= 0;
    `start` is the phase corner from which a row's search starts, as a number whose bits say which phases import.
    """

    reduced: ReducedFeeder
    voltage: tuple[ComplexArray, ComplexArray]
    nominal_v: FloatArray
    current: tuple[ComplexArray, ComplexArray]
    ampacity_a: FloatArray
    side_voltage: tuple[ComplexArray, ComplexArray]
    side_current: tuple[ComplexArray, ComplexArray]
    rating_va: FloatArray
    names: tuple[str, ...]
    quantity: IntArray
    sign: FloatArray
    bound: FloatArray
    start: IntArray

    def values(self, state: PointState) -> FloatArray:
        """Every quantity (quantities, snapshots)."""
        drawn = state.current_a
        volts = np.abs(_map(self.voltage, drawn)) / self.nominal_v[:, None]
        amps = np.abs(_map(self.current, drawn)) / self.ampacity_a[:, None]
        power = self._side_power(drawn) / self.rating_va[:, None]
        return np.concatenate([volts, amps, power])

    def excess(self, values: FloatArray) -> FloatArray:
        """How far each row (rows, snapshots) is beyond its limit; negative is legal."""
        return np.asarray(self.sign[:, None] * values[self.quantity] - self.bound[:, None])

    def weights(self, rows: IntArray, drawn_a: ComplexArray) -> ComplexArray:
        """Functionals w (k, P) with d excess = Re(w . dI) for some rows, each at its own point currents `drawn_a` (k, P)."""
        quantity = self.quantity[rows]
        volts, amps = self.nominal_v.size, self.ampacity_a.size
        weights = np.zeros_like(drawn_a)
        for first, size, maps, scale in (
            (0, volts, self.voltage, self.nominal_v),
            (volts, amps, self.current, self.ampacity_a),
        ):
            here = (quantity >= first) & (quantity < first + size)
            chosen = quantity[here] - first
            matrix = maps[0][chosen]
            value = np.einsum("kp,kp->k", matrix, drawn_a[here]) + maps[1][chosen]
            weights[here] = matrix * (_direction(value) / scale[chosen])[:, None]
        for number in np.flatnonzero(quantity >= volts + amps):
            weights[number] = self._side_weight(int(quantity[number]) - volts - amps, drawn_a[number])
        return np.asarray(self.sign[rows][:, None] * weights)

    def _side_weight(self, side: int, drawn_a: ComplexArray) -> ComplexArray:
        """With s = v conj(i) of a phase and u its direction, d|s| = Re(u conj(i) dv + conj(u) conj(v) di); summed over the phases."""
        volts = self.side_voltage[0][side] @ drawn_a + self.side_voltage[1][side]
        amps = self.side_current[0][side] @ drawn_a + self.side_current[1][side]
        turn = _direction(volts * np.conj(amps))
        weight = (turn * np.conj(amps)) @ self.side_voltage[0][side] + np.conj(turn * volts) @ self.side_current[0][side]
        return np.asarray(self.reduced.feeder.conductors / self.rating_va[side] * weight)

    def _side_power(self, drawn_a: ComplexArray) -> FloatArray:
        volts = np.tensordot(self.side_voltage[0], drawn_a, axes=1) + self.side_voltage[1][:, :, None]
        amps = np.tensordot(self.side_current[0], drawn_a, axes=1) + self.side_current[1][:, :, None]
        return np.asarray(self.reduced.feeder.conductors * np.sum(np.abs(volts * np.conj(amps)), axis=1))


def build_monitors(reduced: ReducedFeeder, limits: Limits) -> Monitors:
    """Collect the quantities of a feeder under these limits."""
    feeder = reduced.feeder
    nodes, phases = _voltage_slots(feeder)
    carriers, carrier_phases, ampacity = _current_slots(reduced, limits)
    side_voltage, side_current, rating, side_names = _transformer_sides(reduced, limits)
    volts, amps, sides = nodes.size, carriers.size, rating.size
    network = feeder.network
    vmin = network.vmin_pu if limits.vmin_pu is None else limits.vmin_pu
    vmax = network.vmax_pu if limits.vmax_pu is None else limits.vmax_pu
    everywhere = 2**feeder.phase_count - 1
    current, side = np.arange(volts, volts + amps), np.arange(volts + amps, volts + amps + sides)
    mixes = np.arange(everywhere + 1)
    names = [f"voltage at bus {_bus(feeder, node)}{_phase(feeder, phase)}" for node, phase in zip(nodes, phases, strict=True)]
    carried = zip(carriers, carrier_phases, strict=True)
    names += [f"current in {_carrier(feeder, node)}{_phase(feeder, phase)}" for node, phase in carried]
    return Monitors(
        reduced=reduced,
        voltage=(reduced.voltage_map[nodes, phases], reduced.no_load_v[nodes, phases]),
        nominal_v=feeder.nominal_v[nodes],
        current=(reduced.current_map[carriers, carrier_phases], reduced.no_load_a[carriers, carrier_phases]),
        ampacity_a=ampacity,
        side_voltage=side_voltage,
        side_current=side_current,
        rating_va=rating,
        names=(*names, *side_names),
        quantity=np.concatenate([np.arange(volts), np.arange(volts), current, current, np.repeat(side, mixes.size)]),
        sign=np.concatenate([np.ones(volts), -np.ones(volts), np.ones(2 * amps + sides * mixes.size)]),
        bound=np.concatenate([np.full(volts, vmax), np.full(volts, -vmin), np.ones(2 * amps + sides * mixes.size)]),
        start=np.concatenate([np.repeat([0, everywhere, everywhere, 0], [volts, volts, amps, amps]), np.tile(mixes, sides)]),
    )


def _map(maps: tuple[ComplexArray, ComplexArray], drawn_a: ComplexArray) -> ComplexArray:
    return np.asarray(maps[0] @ drawn_a + maps[1][:, None])


def _direction(value: ComplexArray) -> ComplexArray:
    """conj(value) / |value|, zero at zero: the derivative of the magnitude is Re(direction * change)."""
    magnitude = np.abs(value)
    return np.divide(np.conj(value), magnitude, out=np.zeros_like(value), where=magnitude > 0.0)


def _bus(feeder: RadialFeeder, node: int) -> str:
    return feeder.network.buses[int(feeder.tree.bus_of_node[node])].id


def _carrier(feeder: RadialFeeder, node: int) -> str:
    line = int(feeder.tree.line_of_node[node])
    if line != ROOT:
        return f"line {feeder.network.lines[line].id}"
    transformer = next(zone.transformer for zone in feeder.tree.zones if zone.first == node)
    return f"low-voltage winding of transformer {feeder.network.transformers[transformer].id}"


def _phase(feeder: RadialFeeder, phase: int) -> str:
    return "" if feeder.phase_count == 1 else f" phase {phase + 1}"


def _voltage_slots(feeder: RadialFeeder) -> tuple[IntArray, IntArray]:
    """Node-phases that carry a connection, branch, end, start a zone or change the conductor."""
    parent = feeder.tree.parent
    children = np.bincount(parent[parent != ROOT], minlength=parent.size)
    keep = children != 1
    only_child = np.full(parent.size, ROOT, dtype=np.int64)
    only_child[parent[parent != ROOT]] = np.flatnonzero(parent != ROOT)
    for node in np.flatnonzero(~keep):
        keep[node] = not _proportional(feeder.z_ohm[node], feeder.z_ohm[only_child[node]])
    keep[feeder.points.slot // feeder.phase_count] = True
    keep[[zone.first for zone in feeder.tree.zones]] = True
    keep[[zone.attach for zone in feeder.tree.zones if zone.attach != ROOT]] = True
    nodes, phases = np.nonzero(feeder.has_phase & keep[:, None])
    return nodes, phases


def _proportional(one: ComplexArray, other: ComplexArray) -> bool:
    """Whether two impedance matrices are real multiples of each other."""
    size, other_size = float(np.abs(one).max()), float(np.abs(other).max())
    return size > 0.0 and other_size > 0.0 and bool(np.allclose(one / size, other / other_size, rtol=0.0, atol=1e-6))


def _current_slots(reduced: ReducedFeeder, limits: Limits) -> tuple[IntArray, IntArray, FloatArray]:
    """Rated conductors and windings; of several that carry the same current, the one with the lowest rating."""
    feeder = reduced.feeder
    rated_a = feed_rating_a(feeder, limits)
    best: dict[tuple[int, bytes], tuple[float, int]] = {}
    for node, phase in zip(*np.nonzero(feeder.has_phase & np.isfinite(rated_a)[:, None]), strict=True):
        carried = reduced.current_map[node, phase]
        if np.any(np.abs(carried) > SAME_CURRENT):
            key = (int(phase), np.round(carried / SAME_CURRENT).astype(np.complex64).tobytes())
            best[key] = min(best.get(key, (np.inf, -1)), (float(rated_a[node]), int(node)))
    chosen = sorted((node, key[0], rated) for key, (rated, node) in best.items())
    return (
        np.array([node for node, _, _ in chosen], dtype=np.int64),
        np.array([phase for _, phase, _ in chosen], dtype=np.int64),
        np.array([rated for _, _, rated in chosen], dtype=np.float64),
    )


def feed_rating_a(feeder: RadialFeeder, limits: Limits) -> FloatArray:
    """Rated current per conductor of the branch that feeds each node, infinite where there is none or it is not to be checked."""
    rated = np.full(feeder.tree.node_count, np.inf)
    for node in np.flatnonzero(feeder.tree.line_of_node != ROOT) if limits.check_lines else ():
        ampacity_a = feeder.network.lines[feeder.tree.line_of_node[node]].ampacity_a
        rated[node] = np.inf if ampacity_a is None else ampacity_a * limits.line_rating_frac
    for zone in feeder.tree.zones if limits.check_windings else ():
        if zone.transformer != ROOT:
            transformer = feeder.network.transformers[zone.transformer]
            rated[zone.first] = rated_winding_a(transformer) * limits.transformer_rating_frac
    return rated


def rated_winding_a(transformer: Transformer) -> float:
    """Rated phase current of the low-voltage side at its present tap."""
    return transformer.rated_va / (math.sqrt(3.0) * transformer.to_ll_v * transformer.to_tap_frac)


def _transformer_sides(
    reduced: ReducedFeeder, limits: Limits
) -> tuple[tuple[ComplexArray, ComplexArray], tuple[ComplexArray, ComplexArray], FloatArray, list[str]]:
    """Voltage and current maps of both sides of every transformer: (sides, m, P) and (sides, m)."""
    feeder = reduced.feeder
    m, points = feeder.phase_count, reduced.point_no_load_v.size
    volts: list[tuple[ComplexArray, ComplexArray]] = []
    amps: list[tuple[ComplexArray, ComplexArray]] = []
    rating: list[float] = []
    names: list[str] = []
    for number, zone in enumerate(feeder.tree.zones):
        if zone.transformer == ROOT or not limits.check_transformers:
            continue
        transformer = feeder.network.transformers[zone.transformer]
        back = np.conj(feeder.transfer[number]).T
        volts += [(reduced.voltage_map[node], reduced.no_load_v[node]) for node in (zone.attach, zone.first)]
        amps += [
            (back @ reduced.current_map[zone.first], back @ reduced.no_load_a[zone.first]),
            (reduced.current_map[zone.first], reduced.no_load_a[zone.first]),
        ]
        rating += [transformer.rated_va * limits.transformer_rating_frac] * 2
        names += [f"loading of transformer {transformer.id}"] * 2

    def stack(parts: list[tuple[ComplexArray, ComplexArray]]) -> tuple[ComplexArray, ComplexArray]:
        if not parts:
            return np.zeros((0, m, points), dtype=np.complex128), np.zeros((0, m), dtype=np.complex128)
        return np.stack([matrix for matrix, _ in parts]), np.stack([base for _, base in parts])

    return stack(volts), stack(amps), np.array(rating), names
