"""One view of all flexible loads: vehicles, tanks and appliances are stores with a demand, a floor and a ceiling.

Stored energy follows  energy' = retention · energy + step · efficiency · power - demand + shortfall.  A deadline lies at the end of the
last interval that is over by then, and an interval in which a vehicle leaves or returns counts as away: both round towards less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from edge.schedule.ladder import PriorityLadder
from edge.schedule.model import (
    Appliance,
    ApplianceState,
    Array,
    Household,
    ScheduleInputs,
    Tank,
    TankState,
    Vehicle,
    VehicleState,
)


class FlexibleLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A priority 3 load as the arrays see it; `floor_wh` and `ceiling_wh` bound the energy at the end of each interval."""

    name: str
    efficiency_frac: float
    retention_frac: float
    energy_wh: float
    max_w: Array
    demand_wh: Array
    floor_wh: Array
    ceiling_wh: float


def flexible_loads(household: Household, inputs: ScheduleInputs) -> Iterator[FlexibleLoad]:
    """Every priority 3 load in the order of `Household.flexible_names`."""
    for vehicle, vehicle_state in zip(household.vehicles, inputs.vehicles, strict=True):
        yield vehicle_load(vehicle, vehicle_state, inputs)
    for tank, tank_state in zip(household.tanks, inputs.tanks, strict=True):
        yield tank_load(tank, tank_state, inputs)
    for appliance, appliance_state in zip(household.appliances, inputs.appliances, strict=True):
        yield appliance_load(appliance, appliance_state, inputs)


def shortfall_prices_per_kwh(household: Household, ladder: PriorityLadder) -> list[float]:
    """The ladder's price of a missing *stored* kWh: its price per kWh of electricity over the efficiency that stores it."""
    return (
        [ladder.vehicle_per_kwh / vehicle.charge_efficiency_frac for vehicle in household.vehicles]
        + [ladder.tank_per_kwh / tank.efficiency_frac for tank in household.tanks]
        + [ladder.appliance_per_kwh] * len(household.appliances)
    )


def retention_frac(tank: Tank, step_h: float) -> float:
    """The share of a tank's energy that is left after one interval."""
    return float((1.0 - tank.loss_frac_per_h) ** step_h)


def vehicle_load(vehicle: Vehicle, state: VehicleState, inputs: ScheduleInputs) -> FlexibleLoad:
    """At home it can charge; at each departure it must hold what is needed; each trip costs energy just before the return."""
    steps, step_s = inputs.steps, inputs.step_s
    ceiling_wh = vehicle.capacity_wh * vehicle.max_soc_frac
    max_w = np.full(steps, vehicle.max_charge_w)
    demand_wh = np.zeros(steps)
    floor_wh = np.zeros(steps)
    if not state.connected:
        returns_s = [d.return_s for d in state.departures if d.depart_s <= inputs.start_s < d.return_s]
        max_w[: _first_step(min(returns_s, default=math.inf), inputs)] = 0.0
    for departure in state.departures:
        leaves = math.floor((departure.depart_s - inputs.start_s) / step_s)
        returns = _first_step(departure.return_s, inputs)
        if leaves >= steps or returns <= 0:
            continue
        max_w[max(leaves, 0) : returns] = 0.0
        if leaves >= 1:
            floor_wh[leaves - 1] = min(departure.needed_soc_frac * vehicle.capacity_wh, ceiling_wh)
        if departure.return_s <= inputs.start_s + steps * step_s:
            demand_wh[returns - 1] += departure.trip_wh
    return FlexibleLoad(
        name=vehicle.name,
        efficiency_frac=vehicle.charge_efficiency_frac,
        retention_frac=1.0,
        energy_wh=state.soc_frac * vehicle.capacity_wh,
        max_w=max_w,
        demand_wh=demand_wh,
        floor_wh=floor_wh,
        ceiling_wh=ceiling_wh,
    )


def tank_load(tank: Tank, state: TankState, inputs: ScheduleInputs) -> FlexibleLoad:
    """Loses a share of its heat and is drawn from; never below its minimum."""
    return FlexibleLoad(
        name=tank.name,
        efficiency_frac=tank.efficiency_frac,
        retention_frac=retention_frac(tank, inputs.step_h),
        energy_wh=state.energy_wh,
        max_w=np.full(inputs.steps, tank.max_heat_w),
        demand_wh=state.draw_w * inputs.step_h,
        floor_wh=np.full(inputs.steps, tank.min_energy_wh),
        ceiling_wh=tank.capacity_wh,
    )


def appliance_load(appliance: Appliance, state: ApplianceState, inputs: ScheduleInputs) -> FlexibleLoad:
    """Starts empty and must hold all that remains by its deadline; one that is late already may still run to the end of the horizon."""
    steps, step_s = inputs.steps, inputs.step_s
    opens = min(max(math.ceil((state.earliest_s - inputs.start_s) / step_s), 0), steps)
    closes = math.floor((state.deadline_s - inputs.start_s) / step_s)
    max_w = np.zeros(steps)
    max_w[opens : closes if closes > opens else steps] = appliance.max_w
    floor_wh = np.zeros(steps)
    if closes <= steps:
        floor_wh[max(closes - 1, 0) :] = state.remaining_wh
    return FlexibleLoad(
        name=appliance.name,
        efficiency_frac=1.0,
        retention_frac=1.0,
        energy_wh=0.0,
        max_w=max_w,
        demand_wh=np.zeros(steps),
        floor_wh=floor_wh,
        ceiling_wh=state.remaining_wh,
    )


def latest_start_wh(load: FlexibleLoad, step_h: float) -> Array:
    """The least energy at the end of each interval from which every later floor can still be met at full power, never above the ceiling."""
    least_wh = load.floor_wh.copy()
    for step in range(len(least_wh) - 2, -1, -1):
        gain_wh = step_h * load.efficiency_frac * load.max_w[step + 1]
        before_wh = (least_wh[step + 1] + load.demand_wh[step + 1] - gain_wh) / load.retention_frac
        least_wh[step] = min(max(least_wh[step], before_wh), load.ceiling_wh)
    return least_wh


def _first_step(time_s: float, inputs: ScheduleInputs) -> int:
    """The first interval that starts at `time_s` or later, at most the number of intervals."""
    steps = (time_s - inputs.start_s) / inputs.step_s
    return inputs.steps if steps >= inputs.steps else max(math.ceil(steps), 0)
