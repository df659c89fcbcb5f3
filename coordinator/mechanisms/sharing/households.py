"""What many households have: load, sun, a battery and flexible load each, as arrays, and what a schedule of them costs.

Arrays are (intervals, households), so that an operation on one interval runs over all households at once. Per household and interval, with
c charge, d discharge, f flexible load, w sun that is spilt and u load that is not served, all between zero and their highest,

    net = load - sun + c - d + f + w - u
    stored_t = stored_0 + sum_{s <= t} (efficiency c_s - d_s / efficiency) h  in [0, capacity],   stored_T >= stored_0
    sum_t f_t h = what the flexible load needs - m,     m >= 0 what of it is not met

own cost = sum_t h (wear (c + d) + smooth / 2 (c^2 + d^2 + f^2 + w^2) + lost_load u) + lost_load m.

The quadratic term stands for losses that rise with power, and makes schedules unique. Unserved and unmet load are the slack that keeps
every hour possible: it is priced far above any tariff and always reported; unserved load is shared by the households of a bus in proportion
to their load.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coordinator.mechanisms.conversation import ConversationError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
W_PER_KW = 1e3
# A battery need not end fuller than this, so that one that begins full may move at all.
FULLEST_END_FRAC = 0.98


@dataclass(frozen=True, kw_only=True)
class Households:
    """`bus` (N,) places each household on one of `buses` buses. `load_w`, `sun_w` and `flexible_w` are (T, N) magnitudes, the last what
    the flexible load may draw at most (zero where a vehicle is away); the battery's data and `flexible_wh` are (N,), zero for who has none.
    """

    step_s: float
    buses: int
    bus: IntArray
    load_w: FloatArray
    sun_w: FloatArray
    battery_wh: FloatArray
    battery_w: FloatArray
    initial_frac: FloatArray
    flexible_w: FloatArray
    flexible_wh: FloatArray
    efficiency_frac: float
    wear_per_kwh: float
    smooth_per_kwh_kw: float
    lost_load_per_kwh: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = np.asarray(getattr(self, field.name))
            bad = np.argwhere(~np.isfinite(value) | (value < 0))
            if bad.size:
                where = f" of household {bad[0][-1]}" if value.ndim else ""
                raise ConversationError(f"{field.name}{where} is {value[tuple(bad[0])]}, expected a finite number that is not negative")
        self._check_shapes()
        self._check_relations()

    @property
    def hours(self) -> float:
        """Length of an interval."""
        return self.step_s / 3600.0

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.load_w.shape[0])

    @property
    def count(self) -> int:
        """How many households there are."""
        return int(self.bus.size)

    @cached_property
    def fixed_w(self) -> FloatArray:
        """Net import (T, N) of households that do nothing."""
        return np.asarray(self.load_w - self.sun_w)

    def at_buses(self, values: FloatArray) -> FloatArray:
        """Sums (buses, T) of something (T, N) that households have."""
        sums = np.empty((self.buses, values.shape[0]))
        for interval, row in enumerate(values):
            sums[:, interval] = np.bincount(self.bus, weights=row, minlength=self.buses)
        return sums

    def least_w(self) -> FloatArray:
        """The least net import (buses, T) in each interval if no other interval mattered."""
        return self.at_buses(self.fixed_w - self.battery_w)

    def part(self, chosen: IntArray) -> Households:
        """Some of the households."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in kept.items():
            if isinstance(value, np.ndarray):
                kept[name] = value[..., chosen]
        return Households(**kept)

    def _check_shapes(self) -> None:
        for name in ("load_w", "sun_w", "flexible_w"):
            shape = getattr(self, name).shape
            if shape != (self.load_w.shape[0], self.bus.size):
                raise ConversationError(f"{name} has shape {shape} for {self.bus.size} households")
        for name in ("battery_wh", "battery_w", "initial_frac", "flexible_wh"):
            shape = getattr(self, name).shape
            if shape != self.bus.shape:
                raise ConversationError(f"{name} has shape {shape} for {self.bus.size} households")
        if self.bus.size and int(self.bus.max()) >= self.buses:
            raise ConversationError(f"a household is at bus {int(self.bus.max())}, and there are {self.buses}")

    def _check_relations(self) -> None:
        most_wh = self.flexible_w.sum(axis=0) * self.hours
        short = np.flatnonzero(self.flexible_wh > most_wh * (1.0 + 1e-9))
        if short.size:
            first = short[0]
            raise ConversationError(
                f"household {first}: flexible load needs {self.flexible_wh[first]:.0f} Wh, and may draw {most_wh[first]:.0f} Wh"
            )
        if self.step_s == 0.0 or self.smooth_per_kwh_kw == 0.0 or not 0.0 < self.efficiency_frac <= 1.0 or np.any(self.initial_frac > 1.0):
            raise ConversationError("expected positive step and smoothness, an efficiency in (0, 1] and batteries at most full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedules:
    """What households do: charge, discharge, flexible load and spilt sun (T, N), unserved load (buses, T), unmet flexible load (N,)."""

    charge_w: FloatArray
    discharge_w: FloatArray
    flexible_w: FloatArray
    spilt_w: FloatArray
    unserved_w: FloatArray
    unmet_wh: FloatArray

    def net_w(self, households: Households) -> FloatArray:
        """Net import (T, N) of every household, unserved load shared in proportion to load."""
        bound = self.charge_w - self.discharge_w + self.flexible_w + self.spilt_w
        return np.asarray(households.fixed_w + bound - self.lost_w(households))

    def lost_w(self, households: Households) -> FloatArray:
        """Each household's part (T, N) of what stays unserved at its bus."""
        load_w = households.at_buses(households.load_w)
        share = np.divide(self.unserved_w, load_w, out=np.zeros_like(load_w), where=load_w > 0.0)
        return np.asarray(households.load_w * share.T[:, households.bus])

    def own_costs(self, households: Households) -> FloatArray:
        """What the schedule costs each household (N,) itself."""
        wear = households.wear_per_kwh * (self.charge_w + self.discharge_w).sum(axis=0)
        square = sum((part**2).sum(axis=0) for part in (self.charge_w, self.discharge_w, self.flexible_w, self.spilt_w))
        lost = households.lost_load_per_kwh * (self.lost_w(households).sum(axis=0) + self.unmet_wh / households.hours)
        smooth = 0.5 * households.smooth_per_kwh_kw * square / W_PER_KW
        return np.asarray((wear + lost + smooth) * households.hours / W_PER_KW)
