"""The worst corners of a box of operating points, row by row.

On an unbalanced feeder import at one phase raises the voltage of another, so neither all-up nor all-low is the worst case. The worst corner of a
row is searched by signs: every mover goes to the end of its range at which the row gets worse, by the exact derivative *at that corner*, until
corner and signs agree (no single mover can make it worse to first order). All rows are also tried at each other's corners, which frees a
search that has stopped at the smaller of two local maxima. A row that stays legal even if it moved SWINGS times as far as its slopes say is idle:
it gets no corner of its own (it stands at all-high or all-low) and is merely looked at in the corners of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.boxes import Movers
from coordinator.envelopes.monitors import Monitors
from coordinator.powerflow.radial import BoolArray, FloatArray
from coordinator.powerflow.radial_reduced import PointState

MAX_TURNS = 6
# A slope below this share of its row's largest does not turn a mover round: it would only multiply corners.
FLAT = 1e-6
# Slopes change by some ten per cent over a legal box; a row that stays legal at three times its linear swing needs no corner of its own.
SWINGS = 3.0


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

    def begin(self, low_w: FloatArray, high_w: FloatArray) -> RowState | None:
        """First guess: voltage rows by the slopes in the middle of the box, magnitudes by those at all-high and all-low."""
        starts = np.stack([0.5 * (low_w + high_w), high_w, low_w], axis=1)
        state = self.monitors.reduced.solve(self.movers.power_va(starts))
        if not np.all(state.converged):
            return None
        rows = np.arange(self.monitors.bound.size)
        is_voltage = self.monitors.quantity < self.monitors.nominal_v.size
        start = np.where(is_voltage, 0, np.where(self.monitors.starts_high, 1, 2))
        slopes = np.zeros((rows.size, low_w.size))
        for snapshot in range(3):
            mine = rows[start == snapshot]
            slopes[mine] = self._slopes(state, snapshot, mine)
        begun = RowState(at_high=slopes > 0.0, slopes=slopes, excess=np.full(rows.size, np.nan))
        level = begun.at_high[~is_voltage]
        flat = np.abs(slopes[~is_voltage]) <= FLAT * np.max(np.abs(slopes[~is_voltage]), axis=1, keepdims=True, initial=0.0)
        begun.at_high[~is_voltage] = np.where(flat, self.monitors.starts_high[~is_voltage][:, None], level)
        return begun

    def settle(self, rows: RowState, low_w: FloatArray, high_w: FloatArray, *, near: float, turns: int = MAX_TURNS) -> bool:
        """Move every row to its worst corner and refresh its excess; False where some corner has no power flow solution.

        Slopes are refreshed for rows whose excess is above -near only; with near infinite, all rows settle.
        """
        done = np.zeros(rows.excess.size, dtype=np.bool_)
        for _ in range(turns):
            unique, back = unique_corners(rows.at_high)
            state = self.monitors.reduced.solve(self.movers.power_va(np.where(unique, high_w, low_w).T))
            if not np.all(state.converged):
                return False
            excess = self.monitors.excess(self.monitors.values(state))
            own = excess[np.arange(back.size), back]
            other = np.argmax(excess, axis=1)
            better = excess[np.arange(back.size), other] > own + 1e-12
            back = np.where(better, other, back)
            rows.at_high[better] = unique[back[better]]
            rows.excess[:] = np.where(better, excess[np.arange(back.size), other], own)
            idle = ~rows.relevant(low_w, high_w)
            rows.at_high[idle] = self.monitors.starts_high[idle][:, None]
            done = (done & ~better) | idle
            todo = np.flatnonzero(~done & (rows.excess > -near))
            if todo.size == 0:
                return True
            for corner in np.unique(back[todo]):
                mine = todo[back[todo] == corner]
                slopes = self._slopes(state, int(corner), mine)
                rows.slopes[mine] = slopes
                flat = np.abs(slopes) <= FLAT * np.max(np.abs(slopes), axis=1, keepdims=True)
                turned = np.where(flat, rows.at_high[mine], slopes > 0.0)
                done[mine] = np.all(turned == rows.at_high[mine], axis=1)
                rows.at_high[mine] = turned
            if np.all(done[todo]):
                return True
        return self._refresh(rows, low_w, high_w)

    def _refresh(self, rows: RowState, low_w: FloatArray, high_w: FloatArray) -> bool:
        unique, back = unique_corners(rows.at_high)
        state = self.monitors.reduced.solve(self.movers.power_va(np.where(unique, high_w, low_w).T))
        if not np.all(state.converged):
            return False
        rows.excess[:] = self.monitors.excess(self.monitors.values(state))[np.arange(back.size), back]
        return True

    def _slopes(self, state: PointState, snapshot: int, mine: FloatArray) -> FloatArray:
        if mine.size == 0:
            return np.zeros((0, self.movers.connection.size))
        volts, amps = state.voltage_v[:, snapshot], state.current_a[:, snapshot]
        change = self.monitors.reduced.current_jacobian(volts, amps, self.movers.per_w)
        return self.monitors.slopes(mine, amps, change)


def unique_corners(at_high: BoolArray) -> tuple[BoolArray, FloatArray]:
    """The different corners (corners, movers) among the rows and which of them each row has."""
    packed = np.packbits(at_high, axis=1)
    as_one = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, back = np.unique(as_one, return_index=True, return_inverse=True)
    return at_high[first], back.reshape(-1)
