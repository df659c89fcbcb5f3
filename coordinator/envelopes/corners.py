"""The worst corners of a box of operating points, row by row.

On an unbalanced feeder import at one phase raises the voltage of another, so neither all-up nor all-low is the worst case. The worst
corner of a row is searched by signs: every mover goes to the end of its range at which the row gets worse, by the exact derivative *at
that corner*, until corner and signs agree (no single mover can make it worse to first order). Where slopes change sign inside the box
there can be several such corners: voltage rows are therefore also searched from the eight *phase corners* (each phase wholly importing
or exporting) and tried at each other's corners. A row that stays legal even if it moved SWINGS times as far as its slopes say is idle:
it gets no corner of its own (it stands at all-high or all-low) and is merely looked at in the corners of the others.

This is a search, not a proof: trying all corners of 400 random feeders of six and eight homes found none worse than it had found
(1e-8), and the tests repeat that on fresh ones. On balanced feeders `monotone.py` proves instead.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Movers
from coordinator.envelopes.monitors import Monitors
from coordinator.powerflow.radial import BoolArray, FloatArray, IntArray, RadialFeeder
from coordinator.powerflow.radial_reduced import SLOPE_TOLERANCE, PointState

MAX_TURNS = 30
# An excess that grows by less than this has not grown.
IMPROVED = 1e-10
# Rows within this of their limit are searched from the phase corners too, where signs matter and digits do not.
OFFER_NEAR = 0.004
OFFER_TOLERANCE = 0.02
# A gain below this share of its row's largest does not turn a mover round: it would only multiply corners.
FLAT = 1e-6
# Slopes change by some ten per cent over a legal box; a row that stays legal at three times its linear swing needs no corner of its own.
SWINGS = 3.0
# In the certificate, rows this close to their limit have their PROBED least certain movers turned, COMBINED of them in every combination.
PROBE_NEAR = 0.002
PROBED = 16
COMBINED = 6
CARRIES = 0.3
NOBODY: IntArray = np.zeros(0, dtype=np.int64)


Box = tuple[FloatArray, FloatArray]


@dataclass(slots=True, kw_only=True)
class RowState:
    """What is known of each row: the end at which every mover stands, the slopes there, and the excess there."""

    at_high: BoolArray
    slopes: FloatArray
    excess: FloatArray

    def relevant(self, low_w: FloatArray, high_w: FloatArray) -> BoolArray:
        """Rows that could reach their limit somewhere in the box if they moved SWINGS times as far as their slopes say."""
        swing = np.abs(self.slopes) @ (high_w - low_w)
        return np.asarray(self.excess + SWINGS * swing > 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CornerSearch:
    """Search over one feeder's rows."""

    monitors: Monitors
    movers: Movers
    phase_corners: BoolArray

    @property
    def is_voltage(self) -> BoolArray:
        """Which rows are voltages."""
        return np.asarray(self.monitors.quantity < self.monitors.nominal_v.size)

    def begin(self, low_w: FloatArray, high_w: FloatArray) -> RowState | None:
        """First guess: voltage rows by the slopes in the middle of the box, magnitudes by those at the phase corner they start from."""
        starts = np.where(self.phase_corners, high_w, low_w)
        state = self.monitors.reduced.solve(self.movers.power_va(np.concatenate([starts, [0.5 * (low_w + high_w)]]).T))
        if not np.all(state.converged):
            return None
        rows = np.arange(self.monitors.bound.size)
        slopes = self._slopes(state, np.where(self.is_voltage, len(starts), self.monitors.start), rows)
        flat = np.abs(slopes) <= FLAT * np.max(np.abs(slopes), axis=1, keepdims=True, initial=0.0)
        at_high = np.where(flat, self.phase_corners[self.monitors.start], slopes > 0.0)
        return RowState(at_high=at_high, slopes=slopes, excess=np.full(rows.size, np.nan))

    def settle(self, rows: RowState, low_w: FloatArray, high_w: FloatArray, *, near: float) -> bool:
        """Move every row to its worst corner and refresh its excess; False where some corner has no power flow solution.

        Rows further than `near` below their limit keep their corner and slopes; with near infinite, all relevant rows settle.
        """
        box = (low_w, high_w)
        rows.excess[:] = -np.inf
        if not self._offer(rows, box, rows.at_high):
            return False
        offers = self._phase_offers(rows, box)
        if offers is None or not self._offer(rows, box, offers):
            return False
        idle = ~rows.relevant(low_w, high_w)
        rows.at_high[idle] = self.phase_corners[self.monitors.start[idle]]
        todo: IntArray | None = np.flatnonzero(~idle & (rows.excess > -near)).astype(np.int64)
        for _ in range(MAX_TURNS):
            if todo is None or not self._ascend(rows, box, todo):
                return False
            todo = self._probe(rows, box) if np.isinf(near) else NOBODY
            if todo is not None and todo.size == 0:
                break
        return todo is not None

    def _ascend(self, rows: RowState, box: Box, todo: IntArray) -> bool:
        """Turn wrong-way movers while that makes a row's exact excess grow."""
        for _ in range(MAX_TURNS):
            if todo.size == 0:
                break
            candidates = self._turned(rows, box, todo)
            before = rows.excess.copy()
            if candidates.size and not self._offer(rows, box, candidates, own=todo):
                return False
            todo = todo[rows.excess[todo] > before[todo] + IMPROVED]
        return True

    def _probe(self, rows: RowState, box: Box) -> IntArray | None:
        """Turn movers whose slope is not of one sign all over the box, alone and the most effective of them in every combination.

        A quantity that curves along a mover's range can be higher at the far end although it falls towards it at first. Returns the rows
        that became worse, None where some corner has no power flow solution.
        """
        mine = np.flatnonzero(rows.excess > -PROBE_NEAR)
        if mine.size == 0:
            return NOBODY
        count = len(self.phase_corners)
        state = self.monitors.reduced.solve(self.movers.power_va(np.where(self.phase_corners, box[1], box[0]).T))
        if not np.all(state.converged):
            return None
        elsewhere = self._slopes(state, np.repeat(np.arange(count), mine.size), np.tile(mine, count)).reshape(count, mine.size, -1)
        slopes = np.concatenate([elsewhere, rows.slopes[mine][None]])
        towards = np.where(rows.at_high[mine], -1.0, 1.0) * (box[1] - box[0])
        gain = slopes * towards
        hope = gain.max(axis=0) + 0.5 * np.ptp(gain, axis=0)
        # Movers that carry a magnitude must not turn: its rows for the two directions of flow would fall into one.
        size = np.abs(gain[-1])
        carries = ~self.is_voltage[mine][:, None] & (size > CARRIES * size.max(axis=1, keepdims=True))
        hope[carries] = -np.inf
        order = np.argsort(-hope, axis=1)[:, :PROBED]
        slots = [rows.at_high[mine]]
        number = np.arange(mine.size)
        for choice in _choices(order.shape[1]):
            turned = rows.at_high[mine].copy()
            for rank in choice:
                who = order[:, rank]
                turned[number, who] ^= np.isfinite(hope[number, who])
            slots.append(turned)
        before = rows.excess.copy()
        if not self._offer(rows, box, np.concatenate(slots), own=mine):
            return None
        return mine[rows.excess[mine] > before[mine] + IMPROVED]

    def _offer(self, rows: RowState, box: Box, corners: BoolArray, own: IntArray | None = None) -> bool:
        """Solve some corners and let rows move to worse ones; False where one has no power flow solution.

        Voltage rows look at all of them. A magnitude has one row per direction of flow and these must stay apart, so it looks only at those
        made for it: `corners` then has one block per row in `own` order, or is aligned with the rows.
        """
        unique, back = unique_corners(corners)
        state = self.monitors.reduced.solve(self.movers.power_va(np.where(unique, box[1], box[0]).T))
        if not np.all(state.converged):
            return False
        excess = self.monitors.excess(self.monitors.values(state))
        number = np.arange(rows.excess.size)
        best = np.argmax(excess, axis=1)
        takes = self.is_voltage & (excess[number, best] > rows.excess + IMPROVED)
        mine = number if own is None and len(corners) == number.size else own
        if mine is not None:
            blocks = back.reshape(-1, mine.size)
            for block in blocks:
                better = ~self.is_voltage[mine] & (excess[mine, block] > rows.excess[mine] + IMPROVED)
                best[mine[better]] = block[better]
                takes[mine[better]] = True
                rows.excess[mine[better]] = excess[mine[better], block[better]]
        rows.at_high[takes] = unique[best[takes]]
        rows.excess[takes] = excess[number, best][takes]
        return True

    def _turned(self, rows: RowState, box: Box, todo: IntArray) -> BoolArray:
        """Refresh some rows' slopes at their corners; return each with all wrong-way movers turned, then with the worst one turned."""
        unique, back = unique_corners(rows.at_high[todo])
        state = self.monitors.reduced.solve(self.movers.power_va(np.where(unique, box[1], box[0]).T))
        rows.slopes[todo] = self._slopes(state, back, todo)
        slopes, at_high = rows.slopes[todo], rows.at_high[todo]
        gain = np.where(at_high, -slopes, slopes) * (box[1] - box[0])
        wrong = gain > FLAT * np.max(np.abs(gain), axis=1, keepdims=True, initial=0.0)
        single = wrong & (gain >= np.max(gain, axis=1, keepdims=True))
        if not np.any(wrong):
            return np.zeros((0, at_high.shape[1]), dtype=np.bool_)
        return np.concatenate([at_high ^ wrong, at_high ^ single])

    def _phase_offers(self, rows: RowState, box: Box) -> BoolArray | None:
        """Corners that the slopes of nearly binding voltage rows point at from every phase corner; None without a power flow there."""
        mine = np.flatnonzero(self.is_voltage & (rows.excess > -OFFER_NEAR) & rows.relevant(*box))
        state = self.monitors.reduced.solve(self.movers.power_va(np.where(self.phase_corners, box[1], box[0]).T))
        if not np.all(state.converged):
            return None
        offers = [self.phase_corners]
        if mine.size:
            count = len(self.phase_corners)
            snapshot = np.repeat(np.arange(count), mine.size)
            offers.append(self._slopes(state, snapshot, np.tile(mine, count), tolerance=OFFER_TOLERANCE) > 0.0)
        return unique_corners(np.concatenate(offers))[0]

    def _slopes(
        self, state: PointState, snapshot: IntArray, mine: IntArray, *, tolerance: float = SLOPE_TOLERANCE
    ) -> FloatArray:
        """Slopes of some rows, each at its own snapshot of a solved batch."""
        volts, amps = state.voltage_v[:, snapshot].T, state.current_a[:, snapshot].T
        pulled = self.monitors.reduced.pull_back(volts, amps, self.monitors.weights(mine, amps), tolerance=tolerance)
        return self.movers.slopes(pulled)


def _choices(available: int) -> list[tuple[int, ...]]:
    """Every combination of the first few ranks, and every other rank alone."""
    few = range(min(COMBINED, available))
    together = [choice for size in range(1, len(few) + 1) for choice in itertools.combinations(few, size)]
    return together + [(rank,) for rank in range(len(few), available)]


def unique_corners(at_high: BoolArray) -> tuple[BoolArray, IntArray]:
    """The different corners (corners, movers) among the rows and which of them each row has."""
    packed = np.packbits(at_high, axis=1)
    as_one = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, back = np.unique(as_one, return_index=True, return_inverse=True)
    return at_high[first], back.reshape(-1)


def phase_corners(movers: Movers, feeder: RadialFeeder) -> BoolArray:
    """The 2^m corners at which each phase is wholly high or low, numbered with one bit per phase.

    A connection of several phases follows most of its phases.
    """
    m = feeder.phase_count
    on_phase = np.zeros((movers.connection.size, m))
    np.add.at(on_phase, (movers.mover_of_point, feeder.points.slot % m), 1.0)
    signs = 2 * ((np.arange(2**m)[:, None] >> np.arange(m)) & 1) - 1
    return np.asarray(signs @ on_phase.T > 0)
