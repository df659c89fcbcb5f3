"""Exact AC power flow of a radial feeder, for many snapshots at once.

One engine serves the balanced and the three-phase case; `balanced.py` and `unbalanced.py` only fill its matrices. Every element is

    V_child = T V_parent - Z J_child,      J_parent gains T^H J_child,      node shunts draw Y V,

with m x m phase matrices (m = 1 or 3): T is the identity along a line and the voltage transfer of the vector group and taps across a
transformer, so a delta-wye head is exact although T is singular. The source is an ideal voltage behind its impedance, constant-power
connections draw conj(S / V), and the fixed point of the backward-forward sweep is iterated for all snapshots together.

Arrays are (node, phase, snapshot) with the snapshot axis contiguous. A snapshot that did not converge is flagged and its numbers are NaN,
so that no limit check can take it for feasible.

Source of the Euler-tour sums: the measurements in the project's grid notes; the sweep itself is Shirmohammadi et al., IEEE Trans. Power
Systems 3(2), 1988, in its current-summation form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coordinator.errors import PowerFlowError
from coordinator.network.model import Network
from coordinator.powerflow.radial_tree import ROOT, RadialTree, Zone

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

TOLERANCE_PU = 1e-10
MAX_ITERATIONS = 100
# Below this share of nominal voltage a snapshot has collapsed: a constant-power load has no physical meaning there.
COLLAPSE_PU = 0.2


@dataclass(frozen=True, kw_only=True)
class Points:
    """Where connections draw: one point per connection and phase.

    `slot` is node * m + phase, `connection` the position in `network.connections`, `share_frac` the share of the connection's power that
    one conductor at this point carries (1/3 of a three-phase total). Points are sorted by slot.
    """

    slot: IntArray
    connection: IntArray
    share_frac: FloatArray

    @cached_property
    def starts(self) -> IntArray:
        """The first point of every slot that has any."""
        return np.flatnonzero(np.diff(self.slot, prepend=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RadialFeeder:
    """A feeder ready to be swept; nodes are in the order of `tree`.

    `z_ohm` (n, m, m) is the impedance of the branch that feeds a node, `y_siemens` (n, m, m) the shunt at it (None where there is none
    anywhere), `transfer` (zones, m, m) the T of the transformer above each zone, `source_v` (m,) the voltage behind the source impedance,
    `has_phase` (n, m) which conductors exist, `conductors` how many conductors one modelled phase stands for (3 when balanced).
    """

    network: Network
    tree: RadialTree
    points: Points
    z_ohm: ComplexArray
    y_siemens: ComplexArray | None
    transfer: ComplexArray
    source_v: ComplexArray
    has_phase: BoolArray
    nominal_v: FloatArray
    conductors: int

    @property
    def phase_count(self) -> int:
        """The m of the phase matrices."""
        return int(self.source_v.size)

    def point_power_va(self, power_va: ComplexArray) -> ComplexArray:
        """Power drawn at each point by connections drawing `power_va` (connections, snapshots)."""
        return power_va[self.points.connection] * self.points.share_frac[:, None]

    def linear_response(self, point_current_a: ComplexArray, source_v: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Voltages and branch currents (n, m, B) of the linear network under drawn currents (points, B) and a source voltage (m,)."""
        voltage = np.zeros((self.tree.node_count, self.phase_count, point_current_a.shape[1]), dtype=np.complex128)
        drawn = self._gather(point_current_a)
        rounds = 1 if self.y_siemens is None else MAX_ITERATIONS
        current = np.zeros_like(voltage)
        for _ in range(rounds):
            previous = voltage
            total = drawn if self.y_siemens is None else drawn + self.y_siemens @ previous
            voltage, current = self._sweep(total, source_v)
            if np.max(np.abs(voltage - previous)) <= 1e-15 * np.max(np.abs(voltage)):
                break
        return voltage, current

    def _gather(self, point_value: ComplexArray) -> ComplexArray:
        """Sum point values into (n, m, B)."""
        n, m = self.tree.node_count, self.phase_count
        total = np.zeros((n * m, point_value.shape[1]), dtype=np.complex128)
        slot, starts = self.points.slot, self.points.starts
        if slot.size:
            total[slot[starts]] = point_value if starts.size == slot.size else np.add.reduceat(point_value, starts, axis=0)
        return total.reshape(n, m, -1)

    def _sweep(self, drawn_a: ComplexArray, source_v: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """One backward and one forward sweep; `drawn_a` is what every node draws."""
        zones = self.tree.zones
        current = np.empty_like(drawn_a)
        extra: dict[int, list[tuple[int, ComplexArray]]] = {}
        for number in range(len(zones) - 1, -1, -1):
            zone = zones[number]
            node_draw = drawn_a[zone.first : zone.last]
            if number in extra:
                node_draw = node_draw.copy()
                for attach, upstream in extra[number]:
                    node_draw[attach - zone.first] += upstream
            current[zone.first : zone.last] = _subtree_sums(zone, node_draw)
            if zone.attach != ROOT:
                upstream = np.conj(self.transfer[number]).T @ current[zone.first]
                extra.setdefault(self._zone_of(zone.attach), []).append((zone.attach, upstream))
        drop = _apply(self.z_ohm, current)
        voltage = np.empty_like(current)
        for number, zone in enumerate(zones):
            head = source_v[:, None] if zone.attach == ROOT else self.transfer[number] @ voltage[zone.attach]
            voltage[zone.first : zone.last] = head[None] - _path_sums(zone, drop[zone.first : zone.last])
        return voltage, current

    def _zone_of(self, node: int) -> int:
        return next(number for number, zone in enumerate(self.tree.zones) if zone.first <= node < zone.last)

    def solve(
        self, power_va: ComplexArray, *, tolerance_pu: float = TOLERANCE_PU, start_v: ComplexArray | None = None
    ) -> FlowSolution:
        """Solve for connections drawing `power_va` (connections, snapshots), total over their phases.

        The sweeps start from voltages `start_v` (n, m, snapshots or 1) of similar states, or from those without load.
        """
        if power_va.ndim != 2 or power_va.shape[0] != len(self.network.connections):
            raise PowerFlowError(
                f"{self.network.name}: power has shape {power_va.shape}, expected ({len(self.network.connections)}, snapshots)"
            )
        drawn_va = self.point_power_va(np.asarray(power_va, dtype=np.complex128))
        n, m = self.tree.node_count, self.phase_count
        batch = drawn_va.shape[1]
        if start_v is None:
            start_v = self.linear_response(np.zeros((self.points.slot.size, 1), dtype=np.complex128), self.source_v)[0]
        voltage = np.ascontiguousarray(np.broadcast_to(start_v, (n, m, batch)))
        current = np.zeros_like(voltage)
        limit_v = tolerance_pu * self.nominal_v[:, None, None]
        converged = np.zeros(batch, dtype=np.bool_)
        iterations = 0
        with np.errstate(all="ignore"):
            for iterations in range(1, MAX_ITERATIONS + 1):  # noqa: B007
                previous = voltage
                drawn = self._gather(np.conj(drawn_va / previous.reshape(n * m, batch)[self.points.slot]))
                if self.y_siemens is not None:
                    drawn = drawn + self.y_siemens @ previous
                voltage, current = self._sweep(drawn, self.source_v)
                converged = np.all(np.abs(voltage - previous) <= limit_v, axis=(0, 1))
                if np.all(converged | ~np.all(np.isfinite(voltage), axis=(0, 1))):
                    break
            alive = (np.abs(voltage) >= COLLAPSE_PU * self.nominal_v[:, None, None]) | ~self.has_phase[:, :, None]
            converged &= np.all(alive, axis=(0, 1))
        voltage[:, :, ~converged] = np.nan
        current[:, :, ~converged] = np.nan
        return FlowSolution(feeder=self, node_voltage_v=voltage, feed_current_a=current, converged=converged, iterations=iterations)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSolution:
    """Voltages and branch currents of a batch, in node order; use the methods for the order of the network.

    `feed_current_a` is the series current of the branch that feeds a node, positive away from the source.
    """

    feeder: RadialFeeder
    node_voltage_v: ComplexArray
    feed_current_a: ComplexArray
    converged: BoolArray
    iterations: int

    def voltage_v(self) -> ComplexArray:
        """Phase-to-neutral phasors (buses, phases, snapshots) in the order of `network.buses`; NaN where a phase does not exist."""
        voltage = self.node_voltage_v.copy()
        voltage[~self.feeder.has_phase] = np.nan
        return voltage[self.feeder.tree.node_of_bus]

    def voltage_pu(self) -> FloatArray:
        """Voltage magnitudes (buses, phases, snapshots) on each bus's own nominal; NaN where a phase does not exist."""
        return np.abs(self.voltage_v()) / self.feeder.network.nominal_ln_v[:, None, None]

    def line_current_a(self) -> FloatArray:
        """The larger of both ends' current per conductor (lines, phases, snapshots), charging included; zero in an open line."""
        feeder = self.feeder
        tree = feeder.tree
        m, batch = feeder.phase_count, self.converged.size
        magnitude = np.zeros((len(feeder.network.lines), m, batch))
        live = np.flatnonzero(tree.node_of_line != ROOT)
        node = tree.node_of_line[live]
        magnitude[live] = np.abs(self.feed_current_a[node])
        for position in live:
            line = feeder.network.lines[position]
            if line.c_f != ():
                fed = int(tree.node_of_line[position])
                half = 0.5 * line_charging_siemens(feeder.network, int(position), m)
                sending = self.feed_current_a[fed] + half @ self.node_voltage_v[tree.parent[fed]]
                receiving = self.feed_current_a[fed] - half @ self.node_voltage_v[fed]
                magnitude[position] = np.maximum(np.abs(sending), np.abs(receiving))
        return magnitude

    def transformer_va(self) -> FloatArray:
        """Apparent power of each transformer (transformers, snapshots): the sum over phases of |s|, at whichever side carries more."""
        feeder = self.feeder
        loading = np.zeros((len(feeder.network.transformers), self.converged.size))
        for number, zone in enumerate(feeder.tree.zones):
            if zone.transformer != ROOT:
                current = self.feed_current_a[zone.first]
                upstream = np.conj(feeder.transfer[number]).T @ current
                from_side = np.sum(np.abs(self.node_voltage_v[zone.attach] * upstream), axis=0)
                to_side = np.sum(np.abs(self.node_voltage_v[zone.first] * current), axis=0)
                loading[zone.transformer] = feeder.conductors * np.maximum(from_side, to_side)
        return loading

    def source_power_va(self) -> ComplexArray:
        """Power that the source bus takes from the grid above, total over its phases, per snapshot (positive into the feeder)."""
        power = np.sum(self.node_voltage_v[0] * np.conj(self.feed_current_a[0]), axis=0)
        return np.asarray(self.feeder.conductors * power, dtype=np.complex128)


def line_charging_siemens(network: Network, position: int, phase_count: int) -> ComplexArray:
    """Shunt admittance jwC of a whole line, placed on the phases of an m x m matrix."""
    line = network.lines[position]
    return place(2j * np.pi * network.frequency_hz * np.array(line.c_f), line.phases, phase_count)


def place(matrix: ComplexArray, phases: tuple[int, ...], phase_count: int) -> ComplexArray:
    """Put the matrix of an element with some phases into m x m; absent phases stay zero."""
    if phase_count == 1:
        return np.asarray(matrix, dtype=np.complex128)
    full = np.zeros((phase_count, phase_count), dtype=np.complex128)
    index = np.array(phases) - 1
    full[np.ix_(index, index)] = matrix
    return full


def _apply(matrices: ComplexArray, vectors: ComplexArray) -> ComplexArray:
    if matrices.shape[1] == 1:
        return np.asarray(matrices * vectors)
    return np.asarray(matrices @ vectors)


def _subtree_sums(zone: Zone, value: ComplexArray) -> ComplexArray:
    count, m, batch = value.shape
    cumulative = np.zeros((count + 1, m, batch), dtype=np.complex128)
    np.cumsum(value, axis=0, out=cumulative[1:])
    return np.asarray(cumulative[zone.last_of_subtree] - cumulative[:-1])


def _path_sums(zone: Zone, value: ComplexArray) -> ComplexArray:
    count, m, batch = value.shape
    tour = np.empty((2 * count, m, batch), dtype=np.complex128)
    tour[zone.entry] = value
    tour[zone.leave] = -value
    np.cumsum(tour, axis=0, out=tour)
    return np.asarray(tour[zone.entry])
