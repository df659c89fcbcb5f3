"""Level 4: the network operator, who keeps the network secure by prices alone, and pays for what they move.

What must hold in every interval, and the price that sees to it (all per kWh of net import, (rows, T)):

* the voltage at every watched end lies in [vmin, vmax] less a margin: `end`, negative (paid for taking) while it would rise too high;
* every transformer, and every backbone line that came near its rating, carries no more than it may: `branch`.

A price grows while its row is broken and falls back to zero once it is not. Backbone voltages are exact (AC power flow of the sums that
communities answer); only the response of an end to its own area is linear (`areas`, on the safe side). An end's voltage also moves with the
net imports of all other communities through the backbone: each of them is charged or paid for that too (`network` price).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.hierarchical.areas import Area, Backbone
from coordinator.mechanisms.signals import FloatArray
from coordinator.powerflow.balanced import CONDUCTORS
from coordinator.powerflow.radial import ComplexArray
from coordinator.powerflow.radial_tree import IntArray

# Rows may be scaled without changing what they say. Ends are scaled up, since they bind; lines down, since they seldom do: how much a row
# counts in the steps of a primal-dual method is how fast its price moves, and how much it slows everything else.
END_SCALE = 10.0
LINE_SCALE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkState:
    """What the network is like for some sums.

    Voltages at the high side of transformers (communities, T), at ends for the upper and for the lower limit (ends, T); power of branches
    (branches, T; of a transformer at the side that carries more); lowest and highest voltage of the backbone (T,).
    """

    head_pu: FloatArray
    high_pu: FloatArray
    low_pu: FloatArray
    branch_va: ComplexArray
    backbone_min_pu: FloatArray
    backbone_max_pu: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPrices:
    """Prices of ends (ends, T) and of branches (branches, T)."""

    end_per_kwh: FloatArray
    branch_per_kwh: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSums:
    """What the operator hears, communities in order: net import and reactive power (communities, T), ends (ends, T)."""

    net_w: FloatArray
    reactive_var: FloatArray
    end_w: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How many devices answer, of every community (communities,) and weighted at every end (ends,)."""

    communities: FloatArray
    ends: FloatArray


@dataclass(frozen=True, kw_only=True)
class NetworkOperator:
    """The operator of a backbone and of the areas that are communities.

    `background_va` (transformers, T) is what transformers without a community take, as measured at the transformer. Voltages are planned to
    stay `margin_pu` inside their limits, and branches to carry at most `rating_frac` of their rating.
    """

    backbone: Backbone
    areas: tuple[Area, ...]
    background_va: ComplexArray
    margin_pu: float
    rating_frac: float

    def __post_init__(self) -> None:
        network = self.backbone.network
        if self.background_va.ndim != 2 or self.background_va.shape[0] != len(network.connections):
            raise ConversationError(
                f"{network.name}: background has shape {self.background_va.shape}, expected ({len(network.connections)}, T)"
            )
        if not np.isfinite(self.background_va).all():
            raise ConversationError(f"{network.name}: what a transformer without a community takes is not a finite number")
        if self.vmin_pu >= self.vmax_pu:
            raise ConversationError(f"{network.name}: a margin of {self.margin_pu} pu leaves no voltage between the limits")

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.background_va.shape[1])

    @property
    def vmin_pu(self) -> float:
        """Lowest voltage that is planned for."""
        return self.backbone.network.vmin_pu + self.margin_pu

    @property
    def vmax_pu(self) -> float:
        """Highest voltage that is planned for."""
        return self.backbone.network.vmax_pu - self.margin_pu

    @cached_property
    def silent(self) -> NetworkPrices:
        """No price at all."""
        ends, branches = self.no_load_pu.size, self.rated_va.size
        return NetworkPrices(end_per_kwh=np.zeros((ends, self.periods)), branch_per_kwh=np.zeros((branches, self.periods)))

    @cached_property
    def elsewhere(self) -> FloatArray:
        """Watts of an end for each watt of every community (ends, communities), through the backbone."""
        mutual = self.backbone.fall_pu_per_w[np.ix_(self.place, self.place)]
        return np.asarray((self.no_load_pu / self.fall_pu_per_w)[:, None] * mutual[self.community_of_end])

    @cached_property
    def burden(self) -> FloatArray:
        """How much every community moves what is priced elsewhere (communities,), in units of its own net import."""
        return np.asarray(END_SCALE * self.elsewhere.sum(axis=0) + LINE_SCALE * (self.fed.sum(axis=0) - 1.0))

    def state(self, sums: NetworkSums) -> NetworkState:
        """Power flow of what communities answered; ConversationError where there is no solution."""
        low_va = sums.net_w + 1j * sums.reactive_var
        power = self._power_va(low_va)
        head_va = power[self.place]
        flow = self.backbone.feeder.solve(power)
        network = self.backbone.network
        if not flow.converged.all():
            interval = int(np.flatnonzero(~flow.converged)[0])
            raise ConversationError(f"{network.name}: no power-flow solution in interval {interval}")
        volts = flow.voltage_pu()[:, 0]
        head = volts[[network.bus_index[area.transformer.from_bus] for area in self.areas]]
        fall = self.fall_pu_per_w[:, None] * sums.end_w
        base = self.no_load_pu[:, None] * head[self.community_of_end]
        return NetworkState(
            head_pu=head,
            high_pu=base - fall,
            low_pu=base - self.low_factor[:, None] * fall,
            branch_va=np.concatenate((np.where(np.abs(low_va) > np.abs(head_va), low_va, head_va), self._below_lines @ power)),
            backbone_min_pu=volts.min(axis=0),
            backbone_max_pu=volts.max(axis=0),
        )

    def excess(self, state: NetworkState) -> tuple[float, float]:
        """By how much the worst voltage [pu] and the worst branch (of its planned rating) are beyond what is planned for."""
        voltage = max(float((state.high_pu - self.vmax_pu).max()), float((self.vmin_pu - state.low_pu).max()))
        voltage = max(voltage, float(state.backbone_max_pu.max()) - self.vmax_pu, self.vmin_pu - float(state.backbone_min_pu.min()))
        return voltage, float((np.abs(state.branch_va) / self.allowed_va[:, None]).max()) - 1.0

    def prices_after(self, prices: NetworkPrices, sums: NetworkSums, before: NetworkSums, reach: Reach, step_w: float) -> NetworkPrices:
        """Prices after communities have answered `sums`, and `before` in the round before; rows are looked at as far ahead as they moved.

        An end must take at least what keeps it below vmax and at most what keeps it above vmin, a branch between plus and minus what its
        rating leaves beside reactive power; the price is the proximal step of that interval's indicator.
        """
        state = self.state(sums)
        moved_w = sums.net_w - before.net_w
        mutual_w = self.elsewhere @ moved_w
        per_w = self.fall_pu_per_w[:, None]
        taken = sums.end_w + (sums.end_w - before.end_w) + mutual_w
        least = sums.end_w + (state.high_pu - self.vmax_pu) / per_w
        most = sums.end_w + (state.low_pu - self.vmin_pu) / (self.low_factor[:, None] * per_w)
        end_step = END_SCALE / (step_w * np.maximum(reach.ends + self.elsewhere @ reach.communities, 1.0))
        room = np.sqrt(np.maximum(self.allowed_va[:, None] ** 2 - state.branch_va.imag**2, 0.0))
        carried = state.branch_va.real + self.fed @ moved_w
        scale = np.where(np.arange(len(self.fed)) < len(self.areas), 1.0, LINE_SCALE)
        branch_step = scale / (step_w * np.maximum(self.fed @ reach.communities, 1.0))
        return NetworkPrices(
            end_per_kwh=_interval_price(prices.end_per_kwh, end_step[:, None], taken, least, most),
            branch_per_kwh=_interval_price(prices.branch_per_kwh, branch_step[:, None], carried, -room, room),
        )

    def network_price_per_kwh(self, prices: NetworkPrices) -> FloatArray:
        """The price of a community's net import (communities, T) for what it does to branches, and to ends through the backbone."""
        return np.asarray(self.fed.T @ prices.branch_per_kwh + self.elsewhere.T @ prices.end_per_kwh)

    def ends_of(self, community: int) -> slice:
        """Where a community's ends are."""
        first = int(np.searchsorted(self.community_of_end, community))
        return slice(first, first + len(self.areas[community].ends))

    def without(self, gone: frozenset[int]) -> Self:
        """Without some communities, whose transformers then take nothing that the operator could plan with."""
        return replace(self, areas=tuple(area for place, area in enumerate(self.areas) if place not in gone))

    @cached_property
    def place(self) -> IntArray:
        """Row in the backbone's connections of every community's transformer."""
        index = self.backbone.network.connection_index
        return np.array([index[area.transformer.id] for area in self.areas], dtype=np.int64)

    @cached_property
    def community_of_end(self) -> IntArray:
        """Which community every end belongs to."""
        return np.repeat(np.arange(len(self.areas)), [len(area.ends) for area in self.areas])

    @cached_property
    def fall_pu_per_w(self) -> FloatArray:
        """How much an end falls for a watt of weight one (ends,)."""
        return np.concatenate([area.fall_pu_per_w for area in self.areas])

    @cached_property
    def no_load_pu(self) -> FloatArray:
        """Voltage of an end without load for 1 pu at its transformer (ends,)."""
        return np.concatenate([area.no_load_pu for area in self.areas])

    @cached_property
    def low_factor(self) -> FloatArray:
        """How much more an end falls where voltages are at the lower limit (ends,)."""
        return self.no_load_pu / self.vmin_pu

    @cached_property
    def fed(self) -> FloatArray:
        """(branches, communities): 1 where a branch feeds a community; transformers first, then the lines that could be overloaded."""
        return np.concatenate((np.eye(len(self.areas)), self._below_lines[:, self.place]))

    @cached_property
    def rated_va(self) -> FloatArray:
        """Ratings of the branches (branches,)."""
        return np.concatenate(([area.transformer.rated_va for area in self.areas], self._line_va[list(self._lines)]))

    @property
    def allowed_va(self) -> FloatArray:
        """What branches are planned to carry at most (branches,)."""
        return self.rating_frac * self.rated_va

    @property
    def watched_lines(self) -> tuple[str, ...]:
        """The backbone lines that could be overloaded, in the order of their branches."""
        return tuple(self.backbone.network.lines[row].id for row in self._lines)

    @cached_property
    def _below_lines(self) -> FloatArray:
        """(lines, transformers): which transformers are fed through the lines that could be overloaded."""
        return self._below[list(self._lines)]

    @cached_property
    def _below(self) -> FloatArray:
        """(all lines, transformers): 1 where a transformer is fed through a line."""
        network, tree = self.backbone.network, self.backbone.feeder.tree
        below = np.zeros((len(network.lines), len(network.connections)))
        for place, connection in enumerate(network.connections):
            node = int(tree.node_of_bus[network.bus_index[connection.bus]])
            while node > 0:
                below[tree.line_of_node[node], place] = 1.0
                node = int(tree.parent[node])
        return below

    @cached_property
    def _line_va(self) -> FloatArray:
        """What every line may carry at nominal voltage; infinite where the network states no ampacity."""
        network = self.backbone.network
        ampacity = np.array([np.inf if line.ampacity_a is None else line.ampacity_a for line in network.lines])
        return CONDUCTORS * float(network.nominal_ln_v[0]) * ampacity

    @cached_property
    def _lines(self) -> tuple[int, ...]:
        """Lines rated below what the transformers behind them are rated; of several that feed the same ones, the weakest."""
        network = self.backbone.network
        ratings = np.zeros(len(network.connections))
        ratings[self.place] = [area.transformer.rated_va for area in self.areas]
        weakest: dict[bytes, tuple[float, int]] = {}
        for row in np.flatnonzero(self._line_va < self._below @ ratings):
            key = self._below[row].tobytes()
            weakest[key] = min(weakest.get(key, (np.inf, -1)), (float(self._line_va[row]), int(row)))
        return tuple(sorted(row for _, row in weakest.values()))

    def _power_va(self, low_va: ComplexArray) -> ComplexArray:
        """What every transformer takes from the backbone (transformers, T): what communities take below it, and its own losses."""
        of = [area.transformer for area in self.areas]
        impedance = np.array([complex(item.r_frac, item.x_frac) / item.rated_va for item in of])
        idle = np.array([complex(item.no_load_w, item.magnetising_frac * item.rated_va) for item in of])
        power = self.background_va.copy()
        power[self.place] = low_va + impedance[:, None] * np.abs(low_va) ** 2 + idle[:, None]
        return np.asarray(power, dtype=np.complex128)


def _interval_price(price: FloatArray, step: FloatArray, taken_w: FloatArray, least_w: FloatArray, most_w: FloatArray) -> FloatArray:
    """The multiplier of least <= taken <= most after one step; an empty interval counts as its middle."""
    middle = 0.5 * (least_w + most_w)
    low, high = np.where(least_w > most_w, middle, least_w), np.where(least_w > most_w, middle, most_w)
    moved = price + step * taken_w
    return np.asarray(moved - step * np.clip(moved / step, low, high))
