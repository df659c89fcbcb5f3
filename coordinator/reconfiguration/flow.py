"""Exact AC power flow of many radial configurations at once.

The sweep of `coordinator.powerflow.radial` sums currents over the subtrees of one tree. Here every member of the batch has its own tree,
so both sweeps run over the reference tree and are corrected through the loops (`coordinator.reconfiguration.loops`): with B the loop
matrix, O the open branches and J0 the branch currents of the reference tree,

    backward:  J = J0 + B^T j,         j = -B[:, O]^-T J0[O]            (no current flows in an open branch),
    forward:   d = z J,  d[O] = -B[:, O]^-1 B d,  V = V_source - path sums of d over the reference tree   (no voltage around a loop).

The correction is a small unimodular matrix for each configuration; everything else is shared, and there is no loop over nodes in Python.

Currents are counted in volt-amperes per conductor at nominal voltage and impedances are divided by the square of it, so that a voltage is
per unit of its own bus and transformers at nominal ratio are branches like others. A configuration that does not converge gets an infinite
loss, never a number: on the 33-bus feeder, stopping after a fixed number of iterations yields an "optimum" of 70 kW.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.network.model import Network
from coordinator.powerflow.radial import COLLAPSE_PU, MAX_ITERATIONS
from coordinator.reconfiguration.loops import ComplexArray, FloatArray, IntArray, LoopSpace
from coordinator.reconfiguration.values import ReconfigurationError

CONDUCTORS = 3
TOLERANCE_PU = 1e-10
# Sweeps between two looks at what has converged; most configurations need seven to twelve, one near collapse many more.
ITERATIONS_AT_ONCE = 5
# Branches times configurations in one batch: arrays of this many complex numbers stay in the cache of one core.
BATCH_CELLS = 32768
RATIO_TOLERANCE_FRAC = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """Answers for a batch, one entry each: loss infinite and the others NaN where there is no solution."""

    loss_w: FloatArray
    vmin_pu: FloatArray
    vmax_pu: FloatArray
    loading_frac: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedFeeder:
    """A feeder whose configurations can be solved.

    `z` (branches,) is impedance over nominal voltage squared; `shunt` (nodes,) and `half_charging` (branches,), at each end of a closed
    branch, are admittances times nominal voltage squared; `ampacity_va` (branches,) is infinite where no rating is known.
    """

    space: LoopSpace
    z: ComplexArray
    shunt: ComplexArray
    half_charging: ComplexArray
    ampacity_va: FloatArray
    source_pu: float
    source_z: complex

    @property
    def has_shunts(self) -> bool:
        """Whether anything draws at a node apart from its connections."""
        return bool(np.any(self.shunt) or np.any(self.half_charging))

    def node_power_va(self, power_va: ComplexArray) -> ComplexArray:
        """Power per conductor drawn at each node (nodes, snapshots) by three-phase totals of the connections (connections, snapshots)."""
        space, network = self.space, self.space.network
        node = space.node_of_bus[[network.bus_index[connection.bus] for connection in network.connections]]
        total = np.zeros((space.node_count, power_va.shape[1]), dtype=np.complex128)
        np.add.at(total, node, power_va / CONDUCTORS)
        return total

    def solve(self, open_sets: IntArray, node_power_va: ComplexArray) -> Flows:
        """Solve configurations `open_sets` (B, loops), each with its own node powers (nodes, B)."""
        size = max(1, BATCH_CELLS // self.z.size)
        parts = [
            self._solve_batch(open_sets[first : first + size], node_power_va[:, first : first + size])
            for first in range(0, open_sets.shape[0], size)
        ]
        return Flows(
            loss_w=np.concatenate([part.loss_w for part in parts]),
            vmin_pu=np.concatenate([part.vmin_pu for part in parts]),
            vmax_pu=np.concatenate([part.vmax_pu for part in parts]),
            loading_frac=np.concatenate([part.loading_frac for part in parts]),
        )

    def _solve_batch(self, open_sets: IntArray, power: ComplexArray) -> Flows:
        count = open_sets.shape[0]
        voltage = np.full((self.space.node_count, count), complex(self.source_pu))
        current = np.zeros((self.z.size, count), dtype=np.complex128)
        converged = np.zeros(count, dtype=np.bool_)
        left = np.arange(count)
        with np.errstate(all="ignore"):
            for _ in range(MAX_ITERATIONS // ITERATIONS_AT_ONCE):
                voltage[:, left], current[:, left], change = self._iterate(open_sets[left], power[:, left], voltage[:, left])
                converged[left] = change <= TOLERANCE_PU
                left = left[(change > TOLERANCE_PU) & np.isfinite(change)]
                if not left.size:
                    break
            magnitude = np.abs(voltage)
            converged &= np.min(magnitude, axis=0) >= COLLAPSE_PU
            loss = CONDUCTORS * (self.z.real @ np.abs(current) ** 2)
            loading = np.max(np.abs(current) / self.ampacity_va[:, None], axis=0)
        return Flows(
            loss_w=np.where(converged, loss, np.inf),
            vmin_pu=np.where(converged, np.min(magnitude, axis=0), np.nan),
            vmax_pu=np.where(converged, np.max(magnitude, axis=0), np.nan),
            loading_frac=np.where(converged, loading, np.nan),
        )

    def _iterate(
        self, open_sets: IntArray, power: ComplexArray, voltage: ComplexArray
    ) -> tuple[ComplexArray, ComplexArray, FloatArray]:
        """Sweep a few times; voltages, branch currents and the change of the last sweep, NaN once a configuration has collapsed."""
        opened, column = open_sets.T, np.arange(open_sets.shape[0])
        inverse = np.rint(np.linalg.inv(self.space.loop[:, open_sets].transpose(1, 0, 2)))
        shunt = self._node_shunt(opened) if self.has_shunts else None
        for _ in range(ITERATIONS_AT_ONCE):
            previous = voltage
            drawn = np.conj(power / previous)
            if shunt is not None:
                drawn += shunt * previous
            current = self._backward(drawn, opened, column, inverse)
            voltage = self._forward(current, np.sum(drawn, axis=0), opened, column, inverse)
        return voltage, current, np.max(np.abs(voltage - previous), axis=0)

    def _backward(self, drawn: ComplexArray, opened: IntArray, column: IntArray, inverse: FloatArray) -> ComplexArray:
        """Branch currents from what the nodes draw."""
        current = self.space.tree_flow(drawn)
        around = -np.einsum("bki,kb->ib", inverse, current[opened, column])
        current += _real_product(self.space.loop.T, around)
        current[opened, column] = 0.0
        return current

    def _forward(
        self, current: ComplexArray, source: ComplexArray, opened: IntArray, column: IntArray, inverse: FloatArray
    ) -> ComplexArray:
        """Node voltages from branch currents."""
        drop = self.z[:, None] * current
        drop[opened, column] = -np.einsum("bik,kb->ib", inverse, _real_product(self.space.loop, drop))
        nodes, batch = self.space.node_count, column.size
        tour = np.zeros((2 * nodes, batch), dtype=np.complex128)
        tour[self.space.entry[1:]] = drop[: nodes - 1]
        tour[self.space.leave[1:]] = -drop[: nodes - 1]
        np.cumsum(tour, axis=0, out=tour)
        head = self.source_pu - self.source_z * source
        return np.asarray(head - tour[self.space.entry])

    def _node_shunt(self, opened: IntArray) -> ComplexArray:
        """What is at the nodes (nodes, B): fixed shunts, and half the charging of every branch that is closed there."""
        space = self.space
        every = self.shunt.copy()
        np.add.at(every, space.tail, self.half_charging)
        np.add.at(every, space.head, self.half_charging)
        shunt = np.repeat(every[:, None], opened.shape[1], axis=1)
        column = np.broadcast_to(np.arange(opened.shape[1]), opened.shape)
        np.subtract.at(shunt, (space.tail[opened], column), self.half_charging[opened])
        np.subtract.at(shunt, (space.head[opened], column), self.half_charging[opened])
        return shunt


def switched_feeder(space: LoopSpace) -> SwitchedFeeder:
    """Fill the per-unit matrices of a balanced network; ReconfigurationError names what cannot be put per unit."""
    network = space.network
    if not network.is_balanced:
        raise ReconfigurationError(f"{network.name}: reconfiguration needs a balanced network, got {network.kind.value}")
    nominal = network.nominal_ln_v[space.bus_of_node]
    z = np.zeros(space.line.size, dtype=np.complex128)
    half = np.zeros(space.line.size, dtype=np.complex128)
    ampacity = np.full(space.line.size, np.inf)
    shunt = np.zeros(space.node_count, dtype=np.complex128)
    for branch in range(space.line.size):
        tail, head = int(space.tail[branch]), int(space.head[branch])
        if space.transformer[branch] >= 0:
            transformer = network.transformers[int(space.transformer[branch])]
            low = int(space.node_of_bus[network.bus_index[transformer.to_bus]])
            _require_ratio(network, transformer.id, transformer.turns_ratio, nominal[tail + head - low] / nominal[low])
            z[branch] = transformer.impedance_to_side_ohm() / nominal[low] ** 2
            shunt[low] += transformer.no_load_siemens() * nominal[low] ** 2
        else:
            line = network.lines[int(space.line[branch])]
            _require_ratio(network, line.id, 1.0, nominal[tail] / nominal[head])
            z[branch] = line.impedance_ohm()[0, 0] / nominal[head] ** 2
            if line.c_f != ():
                half[branch] = 1j * np.pi * network.frequency_hz * line.c_f[0][0] * nominal[head] ** 2
            if line.ampacity_a is not None:
                ampacity[branch] = line.ampacity_a * nominal[head]
    for item in network.shunts:
        node = int(space.node_of_bus[network.bus_index[item.bus]])
        shunt[node] += complex(item.g_siemens, item.b_siemens) * nominal[node] ** 2
    source = network.source
    return SwitchedFeeder(
        space=space,
        z=z,
        shunt=shunt,
        half_charging=half,
        ampacity_va=ampacity,
        source_pu=source.voltage_pu,
        source_z=complex(source.r1_ohm, source.x1_ohm) / float(nominal[0]) ** 2,
    )


def _require_ratio(network: Network, name: str, ratio: float, nominal_ratio: float) -> None:
    if abs(ratio / nominal_ratio - 1.0) > RATIO_TOLERANCE_FRAC:
        raise ReconfigurationError(
            f"{network.name}: {name} has voltage ratio {ratio:.6g} between buses of nominal ratio {nominal_ratio:.6g}; "
            "reconfiguration needs branches at nominal ratio"
        )


def _real_product(matrix: FloatArray, values: ComplexArray) -> ComplexArray:
    """A real matrix times complex columns, without promoting the matrix to complex."""
    rows, batch = values.shape
    product: ComplexArray = (matrix @ np.ascontiguousarray(values).view(np.float64).reshape(rows, 2 * batch)).view(np.complex128)
    return product
