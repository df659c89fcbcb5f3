"""Level 1: what members own, many of a kind at once, each answering a price with its own schedule.

A device's answer to a price is a proximal step: the schedule x of least price x + own cost + |x - last|^2 / (2 step) within its limits,
where `last` is its last answer and `step` (in watts per unit of price per kWh) how far it may move for a price. All three kinds are solved
exactly for a whole batch: panels by clipping, vehicles by filling water to their energy, batteries by a small operator splitting whose
matrix is the same for all of them. Arrays are (devices, T); power is positive into the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.signals import FloatArray

IntArray = NDArray[np.int64]
HOUR_S = 3600.0
RELAXATION = 1.6
BATTERY_ACCURACY_W = 0.5
BATTERY_SWEEPS = 400
SWEEPS_BETWEEN_CHECKS = 5
# Measured on days of 48 half hours: a fifth of the sweeps that 4 takes, half of those of 64.
STORED_SCALE = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """PV systems: between what the sun gives and nothing. `member` says whose each is."""

    member: IntArray
    available_w: FloatArray

    def __post_init__(self) -> None:
        _refuse("panels", "available_w", self.available_w, self.member.size)

    def nearest(self, wish_w: FloatArray) -> FloatArray:
        """The allowed power nearest to a wish; generation is negative."""
        return np.asarray(np.clip(wish_w, -self.available_w, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vehicles:
    """Vehicles that need `energy_wh` within the day and take up to `max_w`, which is zero while they are away."""

    member: IntArray
    max_w: FloatArray
    energy_wh: FloatArray
    step_s: float

    def __post_init__(self) -> None:
        _refuse("vehicles", "max_w", self.max_w, self.member.size)
        room_wh = self.max_w.sum(axis=1) * self.step_s / HOUR_S
        wrong = np.flatnonzero(~((self.energy_wh >= 0.0) & (self.energy_wh <= room_wh * (1.0 + 1e-9))))
        if wrong.size:
            first = int(wrong[0])
            raise ConversationError(
                f"vehicle of member {int(self.member[first])} needs {self.energy_wh[first]:.0f} Wh, and could take {room_wh[first]:.0f} Wh "
                "while it is there"
            )

    def nearest(self, wish_w: FloatArray) -> FloatArray:
        """The allowed power nearest to a wish: clip(wish - level, 0, max) with the level at which the energy is met.

        The energy falls linearly in the level between the 2 T levels at which an interval starts to give way or is empty.
        """
        if not self.member.size:
            return wish_w
        levels = np.concatenate((wish_w - self.max_w, wish_w), axis=1)
        order = np.argsort(levels, axis=1)
        levels = np.take_along_axis(levels, order, axis=1)
        active = np.cumsum(np.where(order < wish_w.shape[1], 1.0, -1.0), axis=1)
        taken_w = self.max_w.sum(axis=1)[:, None] - np.cumsum(active[:, :-1] * np.diff(levels, axis=1), axis=1)
        needed_w = self.energy_wh * HOUR_S / self.step_s
        place = np.minimum((taken_w > needed_w[:, None]).sum(axis=1), taken_w.shape[1] - 1)
        row = np.arange(place.size)
        slope = np.maximum(active[row, place], 1.0)
        level = levels[row, place + 1] + (taken_w[row, place] - needed_w) / slope
        return np.asarray(np.clip(wish_w - level[:, None], 0.0, self.max_w))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batteries:
    """Batteries that end the day as they began it. `wear_per_kwh` is paid for every kWh in and every kWh out."""

    member: IntArray
    capacity_wh: FloatArray
    power_w: FloatArray
    initial_wh: FloatArray
    efficiency_frac: float
    wear_per_kwh: float
    step_s: float

    def __post_init__(self) -> None:
        for name, values in (("capacity_wh", self.capacity_wh), ("power_w", self.power_w), ("initial_wh", self.initial_wh)):
            _refuse("batteries", name, values, self.member.size)
        if np.any(self.initial_wh > self.capacity_wh):
            first = int(np.flatnonzero(self.initial_wh > self.capacity_wh)[0])
            raise ConversationError(
                f"battery of member {int(self.member[first])} begins with {self.initial_wh[first]:.0f} Wh, and holds "
                f"{self.capacity_wh[first]:.0f} Wh"
            )


@dataclass(slots=True)
class BatteryProjection:
    """The nearest schedules of charging and discharging (batteries, 2 T) to a wish, by operator splitting from where the last one ended.

    With S x the energy added by the end of each interval: minimise |x - wish|^2 / 2 over x = y, S x = s with y in [0, power], s in
    [-initial, capacity - initial] and s_T = 0. S is scaled to norm `STORED_SCALE` (`rows`).
    """

    batteries: Batteries
    periods: int
    rows: FloatArray = field(init=False)
    inverse: FloatArray = field(init=False)
    scale: float = field(init=False)
    kept: tuple[FloatArray, FloatArray] = field(init=False)

    def __post_init__(self) -> None:
        hours = self.batteries.step_s / HOUR_S
        since = np.tril(np.ones((self.periods, self.periods))) * hours
        rows = np.hstack((since * self.batteries.efficiency_frac, -since / self.batteries.efficiency_frac))
        self.scale = float(np.linalg.norm(rows, 2))
        self.rows = STORED_SCALE / self.scale * rows
        self.inverse = np.asarray(np.linalg.inv(2.0 * np.eye(2 * self.periods) + self.rows.T @ self.rows), dtype=np.float64)
        self.reset()

    def reset(self) -> None:
        """Forget where the last one ended."""
        shape = (self.batteries.member.size, 3 * self.periods)
        self.kept = (np.zeros(shape), np.zeros(shape))

    def nearest(self, wish_w: FloatArray) -> FloatArray:
        """Charging and discharging (batteries, 2 T), within `BATTERY_ACCURACY_W` of every limit."""
        if not self.batteries.member.size:
            return wish_w
        low, high = self._limits()
        rows, inverse = self.rows, self.inverse
        split, dual = self.kept
        width = 2 * self.periods
        x = wish_w
        for sweep in range(1, BATTERY_SWEEPS + 1):
            pull = split - dual
            x = (wish_w + pull[:, :width] + pull[:, width:] @ rows) @ inverse
            image = np.hstack((x, x @ rows.T))
            moved = RELAXATION * image + (1.0 - RELAXATION) * split
            split = np.clip(moved + dual, low, high)
            dual += moved - split
            if sweep % SWEEPS_BETWEEN_CHECKS == 0 and np.abs(image - split).max() <= BATTERY_ACCURACY_W:
                break
        self.kept = (split, dual)
        return np.asarray(np.clip(x, 0.0, self.batteries.power_w[:, None]))

    def _limits(self) -> tuple[FloatArray, FloatArray]:
        own, periods = self.batteries, self.periods
        factor = STORED_SCALE / self.scale
        most = np.repeat((own.capacity_wh - own.initial_wh)[:, None], periods, axis=1)
        least = -np.repeat(own.initial_wh[:, None], periods, axis=1)
        most[:, -1] = least[:, -1] = 0.0
        power = np.repeat(own.power_w[:, None], 2 * periods, axis=1)
        return np.hstack((np.zeros_like(power), factor * least)), np.hstack((power, factor * most))


def _refuse(kind: str, name: str, values: FloatArray, count: int) -> None:
    """Values must be one row for each device, finite and not negative."""
    if values.shape[0] != count:
        raise ConversationError(f"{kind}: {name} has {values.shape[0]} rows, expected {count}")
    wrong = np.argwhere(~(np.isfinite(values) & (values >= 0.0)))
    if wrong.size:
        where = ", ".join(map(str, wrong[0]))
        raise ConversationError(f"{kind}: {name}[{where}] is {values[tuple(wrong[0])]}, expected a finite number that is not negative")
