"""What the household could do differently: its dormant flexible resources as the feeder layer may use them.

Li et al. 2026, section 3.2: the load and storage capacity "currently not participating in dispatch, [...] subject to priority constraints",
told by three indicators: the adjustable power interval, the adjustable duration, and the availability factor rho in [0, 1].

Here: storage, priority 3 and generators count, PV by curtailment; priority 1 and 2 never do. Power is what can be added to or taken
from the planned net import in one interval without leaving the envelope. The duration is how long the stores sustain it, and no device
goes past what the plan itself needs later: a vehicle gives up only charging that its deadline leaves time to catch up. rho is the share
of the installed adjustable power (of both directions together) that is available now.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from edge.schedule.model import Household, Schedule, ScheduleInputs
from edge.schedule.profiles import flexible_loads, latest_start_wh


class Flexibility(msgspec.Struct, frozen=True, kw_only=True):
    """[-decrease_w, +increase_w] around the planned net import, each side for its duration; the fields of a FlexibilityDeclaration."""

    start_s: float
    increase_w: float
    decrease_w: float
    increase_duration_s: float
    decrease_duration_s: float
    availability_frac: float


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """One resource's share: power and for how long, in each direction."""

    increase_w: float
    increase_s: float
    decrease_w: float
    decrease_s: float
    installed_w: float


def flexibility(household: Household, inputs: ScheduleInputs, schedule: Schedule, step: int) -> Flexibility:
    """What can be declared for interval `step` of a checked schedule; the inputs are those it was planned on."""
    parts = _battery_parts(household, inputs, schedule, step)
    parts += _flexible_parts(household, inputs, schedule, step)
    parts += _source_parts(household, inputs, schedule, step)
    net_w = float(schedule.net_import_w[step])
    room_up_w = max(float(inputs.import_limit_w[step]) - net_w, 0.0)
    room_down_w = max(float(inputs.export_limit_w[step]) + net_w, 0.0)
    increase_w = min(sum(part.increase_w for part in parts), room_up_w)
    decrease_w = min(sum(part.decrease_w for part in parts), room_down_w)
    installed_w = sum(part.installed_w for part in parts)
    horizon_s = (inputs.steps - step) * inputs.step_s
    return Flexibility(
        start_s=inputs.start_s + step * inputs.step_s,
        increase_w=increase_w,
        decrease_w=decrease_w,
        increase_duration_s=_sustained_s([(part.increase_w, part.increase_s) for part in parts], increase_w, horizon_s),
        decrease_duration_s=_sustained_s([(part.decrease_w, part.decrease_s) for part in parts], decrease_w, horizon_s),
        availability_frac=min((increase_w + decrease_w) / installed_w, 1.0) if installed_w > 0.0 else 0.0,
    )


def _battery_parts(household: Household, inputs: ScheduleInputs, schedule: Schedule, step: int) -> list[_Part]:
    """A battery may move from its planned power to its full charge or discharge for as long as its range of charge allows."""
    parts = []
    for index, (battery, state) in enumerate(zip(household.batteries, inputs.batteries, strict=True)):
        planned_w = float(schedule.battery_w[index, step])
        now_wh = float(schedule.battery_wh[index, step - 1]) if step > 0 else battery.capacity_wh * state.soc_frac
        room_wh = max(battery.capacity_wh * battery.max_soc_frac - now_wh, 0.0) / battery.charge_efficiency_frac
        usable_wh = max(now_wh - battery.capacity_wh * battery.min_soc_frac, 0.0) * battery.discharge_efficiency_frac
        charge_w = min(battery.max_charge_w, room_wh / inputs.step_h)
        discharge_w = min(battery.max_discharge_w, usable_wh / inputs.step_h)
        parts.append(
            _Part(
                increase_w=max(charge_w - planned_w, 0.0),
                increase_s=_lasts_s(room_wh, charge_w),
                decrease_w=max(discharge_w + planned_w, 0.0),
                decrease_s=_lasts_s(usable_wh, discharge_w),
                installed_w=battery.max_charge_w + battery.max_discharge_w,
            )
        )
    return parts


def _flexible_parts(household: Household, inputs: ScheduleInputs, schedule: Schedule, step: int) -> list[_Part]:
    """A flexible load may fill up sooner, or wait as long as its latest start allows."""
    parts = []
    for index, load in enumerate(flexible_loads(household, inputs)):
        planned_w = float(schedule.flexible_w[index, step])
        now_wh = float(schedule.flexible_wh[index, step - 1]) if step > 0 else load.energy_wh
        after_wh = load.retention_frac * now_wh - float(load.demand_wh[step])
        per_w = load.efficiency_frac * inputs.step_h
        fits_w = min(float(load.max_w[step]), max(load.ceiling_wh - after_wh, 0.0) / per_w)
        least_wh = latest_start_wh(load, inputs.step_h)
        waits_w = min(max((float(least_wh[step]) - after_wh) / per_w, 0.0), planned_w)
        ahead_wh = load.retention_frac ** np.arange(1, inputs.steps - step + 1) * now_wh - np.cumsum(load.demand_wh[step:])
        late = ahead_wh < least_wh[step:]
        waits_s = inputs.step_s * (int(late.argmax()) if bool(late.any()) else inputs.steps - step)
        parts.append(
            _Part(
                increase_w=max(fits_w - planned_w, 0.0),
                increase_s=_lasts_s(max(load.ceiling_wh - after_wh, 0.0) / load.efficiency_frac, fits_w),
                decrease_w=planned_w - waits_w,
                decrease_s=max(waits_s, inputs.step_s),
                installed_w=float(load.max_w.max()),
            )
        )
    return parts


def _source_parts(household: Household, inputs: ScheduleInputs, schedule: Schedule, step: int) -> list[_Part]:
    """Curtailing or releasing PV, and running generators up or down, for as long as anyone likes."""
    curtailed_w, available_w = float(schedule.pv_curtailed_w[step]), -float(inputs.pv_w[step])
    parts = []
    if household.pv_rated_w > 0.0:
        pv = _Part(
            increase_w=max(available_w - curtailed_w, 0.0),
            increase_s=math.inf,
            decrease_w=curtailed_w,
            decrease_s=math.inf,
            installed_w=household.pv_rated_w,
        )
        parts.append(pv)
    for index, generator in enumerate(household.generators):
        running_w = -float(schedule.generator_w[index, step])
        source = _Part(
            increase_w=running_w,
            increase_s=math.inf,
            decrease_w=generator.max_w - running_w,
            decrease_s=math.inf,
            installed_w=generator.max_w,
        )
        parts.append(source)
    return parts


def _sustained_s(shares: list[tuple[float, float]], needed_w: float, horizon_s: float) -> float:
    """How long `needed_w` can be had when the resource that lasts shortest drops out first."""
    if needed_w <= 0.0:
        return 0.0
    left_w = sum(power_w for power_w, _ in shares)
    for power_w, lasts_s in sorted(shares, key=lambda share: share[1]):
        left_w -= power_w
        if left_w < needed_w * (1.0 - 1e-9):
            return min(lasts_s, horizon_s)
    return horizon_s


def _lasts_s(energy_wh: float, power_w: float) -> float:
    return math.inf if power_w <= 0.0 else 3600.0 * energy_wh / power_w
