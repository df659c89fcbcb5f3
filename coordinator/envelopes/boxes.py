"""Boxes of operating points: who may move, how far, and what power that draws where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.envelopes.rules import Demand
from coordinator.envelopes.values import EnvelopeProblem, Participant, PassiveLoad
from coordinator.powerflow.radial import BoolArray, ComplexArray, FloatArray, IntArray, RadialFeeder
from protocols.messages import Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class Movers:
    """Participants first, then passive loads: p watts at mover u draw p (1 + j q_per_w) + j q_var at connection `connection[u]`.

    `mover_of_point` (points,) says who draws at a point and `point_per_w` how much complex power more per watt of that mover.
    """

    connection: IntArray
    q_per_w: FloatArray
    q_var: FloatArray
    mover_of_point: IntArray
    point_per_w: ComplexArray
    participants: int

    def power_va(self, p_w: FloatArray) -> ComplexArray:
        """Connection powers (connections, snapshots) of mover powers (movers, snapshots)."""
        power = np.zeros((self.connection.size, p_w.shape[1]), dtype=np.complex128)
        power[self.connection] = p_w * (1.0 + 1j * self.q_per_w[:, None]) + 1j * self.q_var[:, None]
        return power

    def slopes(self, pulled: ComplexArray) -> FloatArray:
        """Derivative per watt of every mover (rows, movers) from functionals of the point powers (rows, points)."""
        per_point = (pulled * np.conj(self.point_per_w)).real
        slopes = np.zeros((self.connection.size, per_point.shape[0]))
        np.add.at(slopes, self.mover_of_point, per_point.T)
        return np.ascontiguousarray(slopes.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box over the movers whose sides follow the limits x = (exports, imports) where `follows_export` / `follows_import` say so.

    Otherwise the participants' sides are `fixed_low_w` and `fixed_high_w`; those of passive loads always are.
    """

    follows_export: bool
    follows_import: bool
    fixed_low_w: FloatArray
    fixed_high_w: FloatArray
    participants: int

    def sides(self, limits_w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner (movers,) at limits x (2N,)."""
        low, high = self.fixed_low_w.copy(), self.fixed_high_w.copy()
        if self.follows_export:
            low[: self.participants] = -limits_w[: self.participants]
        if self.follows_import:
            high[: self.participants] = limits_w[self.participants :]
        return low, high

    def packing_rows(self, slopes: FloatArray, at_high: BoolArray) -> FloatArray:
        """Turn slopes (rows, movers) at corners `at_high` into coefficients of x; a worst corner makes them all non-negative."""
        count = self.participants
        rows = np.zeros((slopes.shape[0], 2 * count))
        if self.follows_export:
            rows[:, :count] = np.maximum(np.where(at_high[:, :count], 0.0, -slopes[:, :count]), 0.0)
        if self.follows_import:
            rows[:, count:] = np.maximum(np.where(at_high[:, :count], slopes[:, :count], 0.0), 0.0)
        return rows


def collect_movers(problem: EnvelopeProblem, feeder: RadialFeeder) -> Movers:
    """List everything that moves, in the order participants, passive loads."""
    items: tuple[Participant | PassiveLoad, ...] = (*problem.participants, *problem.passive)
    index = problem.network.connection_index
    connection = np.array([index[item.connection] for item in items], dtype=np.int64)
    q_per_w = np.array([item.q_per_w for item in items])
    mover_of_connection = np.empty(connection.size, dtype=np.int64)
    mover_of_connection[connection] = np.arange(connection.size)
    points = feeder.points
    mover = mover_of_connection[points.connection]
    return Movers(
        connection=connection,
        q_per_w=q_per_w,
        q_var=np.array([item.q_var for item in items]),
        mover_of_point=mover,
        point_per_w=points.share_frac * (1.0 + 1j * q_per_w[mover]),
        participants=len(problem.participants),
    )


def collect_boxes(problem: EnvelopeProblem) -> tuple[Box, ...]:
    """The boxes that the guarantee class covers (see `coordinator.envelopes.values`)."""
    count = len(problem.participants)
    band_low = [load.low_w for load in problem.passive]
    band_high = [load.high_w for load in problem.passive]
    low = np.array([-participant.background_export_w for participant in problem.participants] + band_low)
    high = np.array([participant.coincident_import_w for participant in problem.participants] + band_high)
    sides = [(True, True)] if problem.guarantee is Guarantee.ROBUST else [(True, False), (False, True)]
    return tuple(
        Box(follows_export=export, follows_import=imports, fixed_low_w=low, fixed_high_w=high, participants=count)
        for export, imports in sides
    )


def collect_demand(problem: EnvelopeProblem) -> Demand:
    """Bounds and weights of the limits, exports first."""
    people = problem.participants
    return Demand(
        floor_w=np.array([item.export_floor_w for item in people] + [item.import_floor_w for item in people]),
        cap_w=np.array([item.max_export_w for item in people] + [item.max_import_w for item in people]),
        weight=np.array(
            [item.weight * problem.export_weight for item in people] + [item.weight * problem.import_weight for item in people]
        ),
    )
