"""A legal schedule from any wishes: walk through the horizon, keep every store and device in its range, then obey the envelope.

Used for a plan that was shifted, a plan that must be netted, and the rule-based plan. Ordered and closed-form per interval, so it
needs no solver and cannot fail. While too much would be imported: release curtailed PV, discharge, generate, let flexible loads yield
(tank, appliance, vehicle: the ladder's order), shed priority 2. While too much would be exported: stop generating, charge, curtail PV.
Priority 2 is never shed on a wish.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from edge.schedule.model import Array, Battery, Household, Schedule, ScheduleInputs
from edge.schedule.profiles import FlexibleLoad, flexible_loads, latest_start_wh


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """Setpoints that somebody would like, in the signs and rows of `Schedule`; `nan` means no wish (idle). Nobody wishes to shed."""

    battery_w: Array
    flexible_w: Array
    generator_w: Array
    pv_curtailed_w: Array


def self_consumption(household: Household, inputs: ScheduleInputs) -> Wishes:
    """The rule: batteries take the surplus and give for the deficit, flexible loads wait for their latest start, nothing is shed."""
    shape, steps = len(household.flexible_names), inputs.steps
    net_w = inputs.p1_load_w + inputs.p2_load_w + inputs.pv_w
    total_w = sum(battery.max_charge_w + battery.max_discharge_w for battery in household.batteries)
    shares = [(battery.max_charge_w + battery.max_discharge_w) / total_w for battery in household.batteries]
    return Wishes(
        battery_w=np.array([-share * net_w for share in shares]).reshape(len(shares), steps),
        flexible_w=np.zeros((shape, steps)),
        generator_w=np.zeros((len(household.generators), steps)),
        pv_curtailed_w=np.zeros(steps),
    )


def follow(household: Household, inputs: ScheduleInputs, wishes: Wishes) -> Schedule:
    """The legal schedule next to the wishes; flexible loads are raised to their latest start, then the envelope goes first."""
    walk = _Walk(household, inputs)
    for step in range(inputs.steps):
        walk.step(step, wishes)
    return walk.schedule()


class _Walk:
    """The state of the house while the horizon is walked through, in plain floats: arrays of one interval would only be slower."""

    def __init__(self, household: Household, inputs: ScheduleInputs) -> None:
        self.household = household
        self.inputs = inputs
        self.loads = list(flexible_loads(household, inputs))
        self.least_wh = [latest_start_wh(load, inputs.step_h).tolist() for load in self.loads]
        self.battery_now_wh = [b.capacity_wh * s.soc_frac for b, s in zip(household.batteries, inputs.batteries, strict=True)]
        self.load_now_wh = [load.energy_wh for load in self.loads]
        steps = inputs.steps
        self.net_import_w = np.zeros(steps)
        self.p2_shed_w = np.zeros(steps)
        self.pv_curtailed_w = np.zeros(steps)
        self.battery_w = np.zeros((len(household.batteries), steps))
        self.battery_wh = np.zeros((len(household.batteries), steps))
        self.flexible_w = np.zeros((len(self.loads), steps))
        self.flexible_wh = np.zeros((len(self.loads), steps))
        self.shortfall_wh = np.zeros((len(self.loads), steps))
        self.generator_w = np.zeros((len(household.generators), steps))

    def step(self, step: int, wishes: Wishes) -> None:
        """Decide one interval and move the stores to its end."""
        inputs, household = self.inputs, self.household
        p2_w, available_w = float(inputs.p2_load_w[step]), -float(inputs.pv_w[step])
        curtailed_w = _between(wishes.pv_curtailed_w[step], 0.0, available_w)
        ranges_w = [self._battery_range_w(b, now) for b, now in zip(household.batteries, self.battery_now_wh, strict=True)]
        batteries_w = [_between(wishes.battery_w[i, step], low, high) for i, (low, high) in enumerate(ranges_w)]
        loads_w = [self._load_w(index, step, float(wishes.flexible_w[index, step])) for index in range(len(self.loads))]
        generators_w = [_between(wishes.generator_w[i, step], -g.max_w, 0.0) for i, g in enumerate(household.generators)]
        fixed_w = float(inputs.p1_load_w[step]) + p2_w - available_w
        net_w = fixed_w + curtailed_w + sum(batteries_w) + sum(loads_w) + sum(generators_w)
        shed_w = 0.0

        too_much_w = net_w - float(inputs.import_limit_w[step])
        if too_much_w > 0.0:
            curtailed_w, too_much_w = _lower(curtailed_w, 0.0, too_much_w)
            for index, (low_w, _) in enumerate(ranges_w):
                batteries_w[index], too_much_w = _lower(batteries_w[index], low_w, too_much_w)
            for index, generator in enumerate(household.generators):
                generators_w[index], too_much_w = _lower(generators_w[index], -generator.max_w, too_much_w)
            for index in self._yielding_order():
                loads_w[index], too_much_w = _lower(loads_w[index], 0.0, too_much_w)
            shed_w = min(too_much_w, p2_w)
        too_little_w = -float(inputs.export_limit_w[step]) - net_w
        if too_little_w > 0.0:
            for index, power_w in enumerate(generators_w):
                generators_w[index], too_little_w = _raise(power_w, 0.0, too_little_w)
            for index, (_, high_w) in enumerate(ranges_w):
                batteries_w[index], too_little_w = _raise(batteries_w[index], high_w, too_little_w)
            curtailed_w += min(too_little_w, available_w - curtailed_w)

        self.p2_shed_w[step], self.pv_curtailed_w[step] = shed_w, curtailed_w
        self.battery_w[:, step], self.flexible_w[:, step], self.generator_w[:, step] = batteries_w, loads_w, generators_w
        self.net_import_w[step] = fixed_w - shed_w + curtailed_w + sum(batteries_w) + sum(loads_w) + sum(generators_w)
        self._advance(step, batteries_w, loads_w)

    def _battery_range_w(self, battery: Battery, now_wh: float) -> tuple[float, float]:
        """What the battery can do for a whole interval without leaving its range of charge."""
        step_h = self.inputs.step_h
        room_wh = max(battery.capacity_wh * battery.max_soc_frac - now_wh, 0.0)
        usable_wh = max(now_wh - battery.capacity_wh * battery.min_soc_frac, 0.0)
        low_w = -min(battery.max_discharge_w, usable_wh * battery.discharge_efficiency_frac / step_h)
        return low_w, min(battery.max_charge_w, room_wh / battery.charge_efficiency_frac / step_h)

    def _load_w(self, index: int, step: int, wish_w: float) -> float:
        """The wish, at least what the latest start needs, at most what fits."""
        load = self.loads[index]
        per_w = load.efficiency_frac * self.inputs.step_h
        before_wh = load.retention_frac * self.load_now_wh[index] - float(load.demand_wh[step])
        needed_w = (self.least_wh[index][step] - before_wh) / per_w
        most_w = max(min(float(load.max_w[step]), (load.ceiling_wh - before_wh) / per_w), 0.0)
        return _between(max(needed_w, wish_w if math.isfinite(wish_w) else 0.0), 0.0, most_w)

    def _yielding_order(self) -> list[int]:
        """Tanks first, then appliances, vehicles last, as the ladder prices them."""
        vehicles, tanks = len(self.household.vehicles), len(self.household.tanks)
        return [*range(vehicles, vehicles + tanks), *range(vehicles + tanks, len(self.loads)), *range(vehicles)]

    def _advance(self, step: int, batteries_w: list[float], loads_w: list[float]) -> None:
        step_h = self.inputs.step_h
        for index, (battery, power_w) in enumerate(zip(self.household.batteries, batteries_w, strict=True)):
            gain_w = power_w * battery.charge_efficiency_frac if power_w > 0.0 else power_w / battery.discharge_efficiency_frac
            self.battery_now_wh[index] += step_h * gain_w
            self.battery_wh[index, step] = self.battery_now_wh[index]
        for index, (load, power_w) in enumerate(zip(self.loads, loads_w, strict=True)):
            after_wh = _after_wh(load, self.load_now_wh[index], power_w, step, step_h)
            missing_wh = max(float(load.floor_wh[step]) - after_wh, 0.0)
            self.load_now_wh[index] = after_wh + missing_wh
            self.flexible_wh[index, step] = self.load_now_wh[index]
            self.shortfall_wh[index, step] = missing_wh

    def schedule(self) -> Schedule:
        """What was decided, with the breaches that were left."""
        inputs = self.inputs
        return Schedule(
            start_s=inputs.start_s,
            step_s=inputs.step_s,
            net_import_w=self.net_import_w,
            p2_shed_w=self.p2_shed_w,
            pv_curtailed_w=self.pv_curtailed_w,
            battery_w=self.battery_w,
            battery_wh=self.battery_wh,
            flexible_w=self.flexible_w,
            flexible_wh=self.flexible_wh,
            flexible_shortfall_wh=self.shortfall_wh,
            generator_w=self.generator_w,
            import_breach_w=np.maximum(self.net_import_w - inputs.import_limit_w, 0.0),
            export_breach_w=np.maximum(-self.net_import_w - inputs.export_limit_w, 0.0),
        )


def _after_wh(load: FlexibleLoad, now_wh: float, power_w: float, step: int, step_h: float) -> float:
    return load.retention_frac * now_wh + step_h * load.efficiency_frac * power_w - float(load.demand_wh[step])


def _between(value: float, low: float, high: float) -> float:
    """The value inside the range; idle where it is not a number."""
    value = float(value) if math.isfinite(value) else 0.0
    return min(max(value, low), high)


def _lower(value: float, floor: float, excess: float) -> tuple[float, float]:
    """Lower the value by up to the excess, not below the floor; returns it and the excess that is left."""
    take = min(max(value - floor, 0.0), excess)
    return value - take, excess - take


def _raise(value: float, ceiling: float, excess: float) -> tuple[float, float]:
    give = min(max(ceiling - value, 0.0), excess)
    return value + give, excess - give
