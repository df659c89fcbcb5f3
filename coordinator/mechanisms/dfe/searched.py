"""What the operator knows of any feeder, phases included, with dozens of communities or households on it.

The corners of so many cannot all be tried. Each limit of the network (a voltage, a conductor, a transformer; `envelopes.monitors`) has a
worst corner by the signs of its slopes, and the limits that are negotiated may go as far as the excess at that corner lets them: linear
with the slopes found in the middle of what could be asked for, and corrected by exact power flow at the corner itself. Before anything is
agreed every interval is searched as a published envelope is (`envelopes.robust`), which is a search and not a proof.

Everybody holds at least a floor, the default that is out in any case and was verified for all at once; who is left out keeps to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import msgspec
import numpy as np

from coordinator.envelopes.boxes import Box, Movers, collect_boxes, collect_movers
from coordinator.envelopes.certificate import Check
from coordinator.envelopes.compute import PreparedFeeder, check_envelopes
from coordinator.envelopes.corners import CornerSearch, phase_corners, unique_corners
from coordinator.envelopes.values import EnvelopeProblem, Participant, PassiveLoad
from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.dfe.asked import Bounds
from coordinator.mechanisms.dfe.quadratic import W_PER_KW, FloatArray, nearest_below
from coordinator.powerflow.radial import BoolArray, IntArray
from protocols.messages import Guarantee

# Rows that a wish comes this close to (per unit voltage, or share of rating) are in the program that moves it.
NEAR = 0.01
SAME_W = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """The rows of one box of operating points: slopes as packing rows over (exports, imports), and each row's corner among `at_high`."""

    box: Box
    rows: FloatArray
    at_high: BoolArray
    corner_of_row: IntArray


@dataclass(frozen=True, kw_only=True)
class SearchedFeeder:
    """`participants` are those of the negotiation, in its order: floors are their defaults, maxima what their connections carry.

    Losses are net^T losses_per_w2 net, taken to be the same in every interval (`coordinator.market.assembly.loss_form`).
    """

    prepared: PreparedFeeder
    participants: tuple[Participant, ...]
    passive: tuple[PassiveLoad, ...]
    guarantee: Guarantee
    losses_per_w2: FloatArray
    periods: int

    @property
    def loss_form(self) -> tuple[FloatArray, FloatArray]:
        """Q for every interval, and nothing linear: without the participants nothing flows."""
        count = len(self.participants)
        return np.broadcast_to(self.losses_per_w2, (self.periods, count, count)), np.zeros((count, self.periods))

    def bounds_w(self, place: int) -> Bounds:
        """From the default to what the connection carries."""
        item = self.participants[place]
        return (item.import_floor_w, item.max_import_w), (item.export_floor_w, item.max_export_w)

    def keeping(self, kept: Sequence[int]) -> Self:
        """Who is left out may be anywhere inside its default."""
        left = [item for place, item in enumerate(self.participants) if place not in kept]
        bands = tuple(
            PassiveLoad(
                connection=item.connection, low_w=-item.export_floor_w, high_w=item.import_floor_w, q_per_w=item.q_per_w, q_var=item.q_var
            )
            for item in left
        )
        return replace(
            self,
            participants=tuple(self.participants[place] for place in kept),
            passive=self.passive + bands,
            losses_per_w2=self.losses_per_w2[np.ix_(kept, kept)],
        )

    def nearest_limits_w(self, wish_w: FloatArray, last_w: FloatArray, clearance_pu: float) -> FloatArray:
        """Euclidean, interval by interval, in those where some limit of the network would be broken; never below the floors."""
        floor = self.floor_w
        wish = np.maximum(_by_direction(wish_w), floor[:, None])
        rows, right = self._linearised(np.maximum(_by_direction(last_w), floor[:, None]))
        right = np.maximum(right - 2.0 * clearance_pu, (rows @ floor)[:, None])
        spare = right - rows @ wish
        for interval in np.flatnonzero(np.any(spare < 0.0, axis=0)):
            near = np.flatnonzero(spare[:, interval] < NEAR)
            nearest = nearest_below(wish[:, interval], rows[near] * W_PER_KW, right[near, interval], floor)
            late = np.flatnonzero((rows @ nearest > right[:, interval]) & (spare[:, interval] >= NEAR))
            if late.size:
                near = np.concatenate((near, late))
                nearest = nearest_below(wish[:, interval], rows[near] * W_PER_KW, right[near, interval], floor)
            # What was not held back is the wish itself, and not nearly so.
            moved = np.abs(nearest - wish[:, interval]) > SAME_W
            wish[moved, interval] = nearest[moved]
        return _by_direction(wish)

    def check(self, import_limit_w: FloatArray, export_limit_w: FloatArray) -> Check:
        """Every interval's box as the envelopes are checked that are published; equal boxes once."""
        boxes = np.unique(np.concatenate((export_limit_w, import_limit_w)).T, axis=0)
        return worst_of([check_envelopes(self._problem(box), self.prepared) for box in boxes])

    def require_safe_floors(self) -> None:
        """ConversationError where the network's limits are broken before anybody gets more than its default."""
        check = check_envelopes(self._problem(self.floor_w), self.prepared)
        if not check.holds:
            broken = [f"{item.where} is {item.value:.5g}, limit {item.limit:.5g}" for item in check.extremes if not item.margin >= 0.0]
            words = "; ".join(broken) if check.converged else "the power flow has no solution"
            raise ConversationError(f"no envelope can be agreed, the defaults alone break the network's limits: {words}")

    @cached_property
    def floor_w(self) -> FloatArray:
        """The floors, exports first."""
        return np.array([item.export_floor_w for item in self.participants] + [item.import_floor_w for item in self.participants])

    @cached_property
    def _movers(self) -> Movers:
        return collect_movers(self._problem(self.floor_w), self.prepared.feeder)

    @cached_property
    def _corners(self) -> tuple[Corners, ...]:
        """Slopes and worst corners from the middle of what could be asked for, of what lies half way there, or of the floors alone."""
        most = np.array([item.max_export_w for item in self.participants] + [item.max_import_w for item in self.participants])
        for share in (1.0, 0.5, 0.0):
            found = self._searched(self.floor_w + share * (most - self.floor_w))
            if found is not None:
                return found
        raise ConversationError(f"{self.prepared.network.name}: no power-flow solution although everybody keeps to the default")

    def _searched(self, limits_w: FloatArray) -> tuple[Corners, ...] | None:
        monitors, movers = self.prepared.monitors, self._movers
        search = CornerSearch(monitors=monitors, movers=movers, phase_corners=phase_corners(movers, self.prepared.feeder))
        found = []
        for box in collect_boxes(self._problem(limits_w)):
            state = search.begin(*box.sides(limits_w))
            if state is None:
                return None
            at_high, back = unique_corners(state.at_high)
            found.append(Corners(box=box, rows=box.packing_rows(state.slopes, state.at_high), at_high=at_high, corner_of_row=back))
        return tuple(found)

    def _linearised(self, last_w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rows (k, limits) and right sides (k, T) around the boxes `last_w` (limits, T), exact at each row's corner.

        Where a corner has no power-flow solution, nothing above the floors is taken to be legal.
        """
        rows, right = [], []
        for corners in self._corners:
            sides = [corners.box.sides(box) for box in last_w.T]
            power_w = np.stack([np.where(corners.at_high, high, low) for low, high in sides])
            count = corners.at_high.shape[0]
            state = self.prepared.monitors.reduced.solve(self._movers.power_va(power_w.reshape(-1, power_w.shape[2]).T))
            excess = self.prepared.monitors.excess(self.prepared.monitors.values(state)).reshape(-1, self.periods, count)
            own = np.take_along_axis(excess, corners.corner_of_row[:, None, None], axis=2)[:, :, 0]
            solved = np.all(state.converged.reshape(self.periods, count), axis=1)
            rows.append(corners.rows)
            right.append(np.where(solved, corners.rows @ last_w - own, -np.inf))
        return np.concatenate(rows), np.concatenate(right)

    def _problem(self, limits_w: FloatArray) -> EnvelopeProblem:
        """The participants with some limits, exports first, as what they could want."""
        count = len(self.participants)
        pairs = zip(self.participants, limits_w[:count].tolist(), limits_w[count:].tolist(), strict=True)
        people = tuple(
            msgspec.structs.replace(item, max_export_w=export_w, max_import_w=import_w, import_floor_w=0.0, export_floor_w=0.0)
            for item, export_w, import_w in pairs
        )
        return EnvelopeProblem(
            network=self.prepared.network, participants=people, passive=self.passive, limits=self.prepared.limits, guarantee=self.guarantee
        )


def worst_of(checks: Sequence[Check]) -> Check:
    """Several checks as one: the worst of each kind, and all corners."""
    first = checks[0]

    def worst(kind: str) -> object:
        found = [item for item in (getattr(check, kind) for check in checks) if item is not None]
        return min(found, key=lambda item: item.margin if np.isfinite(item.margin) else -np.inf) if found else None

    kinds = ("highest_voltage", "lowest_voltage", "line", "transformer")
    return msgspec.structs.replace(
        first,
        corners=sum(check.corners for check in checks),
        converged=all(check.converged for check in checks),
        **{kind: worst(kind) for kind in kinds},
    )


def _by_direction(limits_w: FloatArray) -> FloatArray:
    """Limits (communities, 2, T) of import and export as (exports and imports, T), or back."""
    if limits_w.ndim == 3:
        return np.concatenate((limits_w[:, 1], limits_w[:, 0]))
    exports, imports = np.split(limits_w, 2)
    return np.stack((imports, exports), axis=1)
