"""Level 1: the members of one community, with what they own, and how they answer prices together.

A member's net import is load + panels + vehicles + batteries. Inside a community one price holds for import and export alike (what one
exports another imports), so a member's devices answer prices independently of each other, and a whole community answers in a few array
operations. Nothing here leaves level 1 except the sums that `Sums` names, each over all members of the community.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.hierarchical.devices import HOUR_S, Batteries, BatteryProjection, Panels, Vehicles
from coordinator.mechanisms.signals import FloatArray

W_PER_KW = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Members and what they own; `load_w` and `load_var` (members, T) cannot be moved."""

    name: str
    step_s: float
    load_w: FloatArray
    load_var: FloatArray
    panels: Panels
    vehicles: Vehicles
    batteries: Batteries

    def __post_init__(self) -> None:
        for name, values in (("load_w", self.load_w), ("load_var", self.load_var)):
            if values.shape != self.load_w.shape or not np.isfinite(values).all():
                wrong = np.argwhere(~np.isfinite(values))
                where = f"member {wrong[0][0]}, interval {wrong[0][1]}" if wrong.size else f"shape {values.shape}"
                raise ConversationError(f"community {self.name}: {name} is not a finite number ({where})")
        for kind, owner in (("panels", self.panels), ("vehicles", self.vehicles), ("batteries", self.batteries)):
            if np.any((owner.member < 0) | (owner.member >= self.members)):
                raise ConversationError(f"community {self.name}: {kind} belong to members {owner.member}, expected 0 to {self.members - 1}")

    @property
    def members(self) -> int:
        """How many members there are."""
        return int(self.load_w.shape[0])

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.load_w.shape[1])

    @property
    def kwh_per_w(self) -> float:
        """Energy of one watt over one interval."""
        return self.step_s / HOUR_S / W_PER_KW

    def net_w(self, schedule: Schedule) -> FloatArray:
        """Net import (members, T)."""
        net = self.load_w.copy()
        np.add.at(net, self.panels.member, schedule.panels_w)
        np.add.at(net, self.vehicles.member, schedule.vehicles_w)
        np.add.at(net, self.batteries.member, schedule.charge_w - schedule.discharge_w)
        return net

    def wear(self, schedule: Schedule) -> FloatArray:
        """What every member's battery loses in value (members,)."""
        wear = np.zeros(self.members)
        used = (schedule.charge_w + schedule.discharge_w).sum(axis=1)
        np.add.at(wear, self.batteries.member, self.batteries.wear_per_kwh * self.kwh_per_w * used)
        return wear


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What devices do, (devices, T) each: panels are negative, charging and discharging both positive."""

    panels_w: FloatArray
    vehicles_w: FloatArray
    charge_w: FloatArray
    discharge_w: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Everything that level 1 tells level 2: sums over all members. `end_w` (ends, T) weighs members by how they move a feeder's end."""

    net_w: FloatArray
    reactive_var: FloatArray
    end_w: FloatArray
    wear: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How many prices look at a member: `common` at its net import, and `end_scale` at each end, times its weight there."""

    common: float
    end_scale: float


@dataclass(slots=True)
class Members:
    """The members of a fleet, answering; `end_weight` (members, ends) and `end_var_weight` are what the operator told each of them."""

    fleet: Fleet
    end_weight: FloatArray
    end_var_weight: FloatArray
    schedule: Schedule = field(init=False)
    contracted: Schedule | None = field(init=False)
    _projection: BatteryProjection = field(init=False)

    def __post_init__(self) -> None:
        self._projection = BatteryProjection(batteries=self.fleet.batteries, periods=self.fleet.periods)
        self.restart()

    @property
    def name(self) -> str:
        """The community."""
        return self.fleet.name

    @property
    def count(self) -> int:
        """How many members there are."""
        return self.fleet.members

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return self.fleet.periods

    def restart(self) -> None:
        """Back to where nobody has heard a price: panels give all, vehicles charge evenly, batteries rest."""
        fleet = self.fleet
        rest = np.zeros((fleet.batteries.member.size, fleet.periods))
        even = fleet.vehicles.nearest(np.zeros_like(fleet.vehicles.max_w))
        self.schedule = Schedule(panels_w=-fleet.panels.available_w, vehicles_w=even, charge_w=rest, discharge_w=rest)
        self.contracted = None
        self._projection.reset()

    def contract(self) -> None:
        """What was answered last is what was contracted."""
        self.contracted = self.schedule

    @property
    def contracted_w(self) -> FloatArray:
        """Net imports (members, T) as contracted: as answered last where nothing was moved since."""
        return self.fleet.net_w(self.schedule if self.contracted is None else self.contracted)

    @property
    def reach(self) -> tuple[float, FloatArray]:
        """How many devices answer a price of the sum, and of each end: what levels above choose their steps by."""
        devices = self._devices_of_member()
        return float(devices.sum()), np.asarray(devices @ np.abs(self.end_weight))

    def answer(self, price_per_kwh: FloatArray, end_price_per_kwh: FloatArray, step_w: float, looked: Looked) -> Sums:
        """One proximal step for a price of the sum (T,) and prices of the ends (ends, T).

        The more prices look at a member, the shorter its step, so that the answers of all do not overshoot (T. Pock and A. Chambolle,
        Diagonal preconditioning, 2011, lemma 2, alpha = 1).
        """
        fleet, last = self.fleet, self.schedule
        step = step_w / (looked.common + looked.end_scale * np.abs(self.end_weight).sum(axis=1))

        def wish(owner: Panels | Vehicles | Batteries, present_w: FloatArray, sign: float, own_per_kwh: float) -> FloatArray:
            price = price_per_kwh + self.end_weight[owner.member] @ end_price_per_kwh
            return np.asarray(present_w - step[owner.member][:, None] * (sign * price + own_per_kwh))

        wear = fleet.batteries.wear_per_kwh
        charge = wish(fleet.batteries, last.charge_w, 1.0, wear)
        discharge = wish(fleet.batteries, last.discharge_w, -1.0, wear)
        stored = self._projection.nearest(np.hstack((charge, discharge)))
        self.schedule = Schedule(
            panels_w=fleet.panels.nearest(wish(fleet.panels, last.panels_w, 1.0, 0.0)),
            vehicles_w=fleet.vehicles.nearest(wish(fleet.vehicles, last.vehicles_w, 1.0, 0.0)),
            charge_w=stored[:, : fleet.periods],
            discharge_w=stored[:, fleet.periods :],
        )
        return self.sums()

    def sums(self) -> Sums:
        """What the present schedules add up to."""
        net = self.fleet.net_w(self.schedule)
        return Sums(
            net_w=net.sum(axis=0),
            reactive_var=self.fleet.load_var.sum(axis=0),
            end_w=self.end_weight.T @ net + self.end_var_weight.T @ self.fleet.load_var,
            wear=float(self.fleet.wear(self.schedule).sum()),
        )

    def _devices_of_member(self) -> FloatArray:
        """A battery counts twice: it answers by charging and by discharging."""
        fleet = self.fleet
        owners = np.concatenate((fleet.panels.member, fleet.vehicles.member, fleet.batteries.member, fleet.batteries.member))
        return np.bincount(owners, minlength=fleet.members).astype(np.float64)
