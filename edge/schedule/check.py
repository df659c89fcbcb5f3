"""Physics and priorities of any schedule, whoever made it: a plan is used only if this finds nothing.

Checked against the inputs alone, by other formulas than those that make plans: balance at the node with priority 1 in full, ranges of
every device, energy paths, and that the envelope is breached only after everything that may yield has yielded.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge.schedule.model import Array, Household, Schedule, ScheduleInputs
from edge.schedule.profiles import FlexibleLoad, flexible_loads

TOLERANCE = 1.0
"""W or Wh."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, where it is worst, and by how much (W or Wh)."""

    rule: str
    step: int
    excess: float


def check_schedule(household: Household, inputs: ScheduleInputs, schedule: Schedule) -> list[Finding]:
    """Every broken rule, each once at its worst interval; an empty list means that the schedule may be used."""
    findings = _shape_findings(household, inputs, schedule)
    if findings:
        return findings
    excesses = _node_excesses(inputs, schedule)
    for index, (battery, state) in enumerate(zip(household.batteries, inputs.batteries, strict=True)):
        power_w, energy_wh = schedule.battery_w[index], schedule.battery_wh[index]
        gain_w = np.where(power_w > 0.0, power_w * battery.charge_efficiency_frac, power_w / battery.discharge_efficiency_frac)
        path_wh = battery.capacity_wh * state.soc_frac + inputs.step_h * np.cumsum(gain_w)
        excesses[f"{battery.name}: power"] = np.maximum(power_w - battery.max_charge_w, -power_w - battery.max_discharge_w)
        excesses[f"{battery.name}: energy path"] = np.abs(energy_wh - path_wh)
        excesses[f"{battery.name}: energy range"] = np.maximum(
            path_wh - battery.capacity_wh * battery.max_soc_frac, battery.capacity_wh * battery.min_soc_frac - path_wh
        )
    for index, load in enumerate(flexible_loads(household, inputs)):
        _flexible_excesses(excesses, load, inputs, schedule, index)
    for index, generator in enumerate(household.generators):
        power_w = schedule.generator_w[index]
        excesses[f"{generator.name}: power"] = np.maximum(power_w, -power_w - generator.max_w)
    excesses |= _priority_excesses(household, inputs, schedule)
    findings = []
    for rule, excess in excesses.items():
        worst = int(excess.argmax())
        if not excess[worst] <= TOLERANCE:
            findings.append(Finding(rule=rule, step=worst, excess=float(excess[worst])))
    return findings


def _shape_findings(household: Household, inputs: ScheduleInputs, schedule: Schedule) -> list[Finding]:
    """Wrong shapes, or numbers that are not finite."""
    steps, flexible = inputs.steps, len(household.flexible_names)
    shapes = {
        "net_import_w": (steps,),
        "p2_shed_w": (steps,),
        "pv_curtailed_w": (steps,),
        "import_breach_w": (steps,),
        "export_breach_w": (steps,),
        "battery_w": (len(household.batteries), steps),
        "battery_wh": (len(household.batteries), steps),
        "flexible_w": (flexible, steps),
        "flexible_wh": (flexible, steps),
        "flexible_shortfall_wh": (flexible, steps),
        "generator_w": (len(household.generators), steps),
    }
    findings = []
    for name, shape in shapes.items():
        values: Array = getattr(schedule, name)
        if values.shape != shape:
            findings.append(Finding(rule=f"{name}: shape", step=0, excess=float("inf")))
        elif not bool(np.isfinite(values).all()):
            step = int(np.argwhere(~np.isfinite(values))[0][-1])
            findings.append(Finding(rule=f"{name}: finite", step=step, excess=float("inf")))
    return findings


def _node_excesses(inputs: ScheduleInputs, schedule: Schedule) -> dict[str, Array]:
    """Balance with priority 1 in full, the ranges of what may be shed and curtailed, and honest breaches."""
    parts_w = inputs.p1_load_w + inputs.p2_load_w - schedule.p2_shed_w + inputs.pv_w + schedule.pv_curtailed_w
    for rows in (schedule.battery_w, schedule.flexible_w, schedule.generator_w):
        parts_w = parts_w + rows.sum(axis=0)
    over_w = np.maximum(schedule.net_import_w - inputs.import_limit_w, 0.0)
    under_w = np.maximum(-schedule.net_import_w - inputs.export_limit_w, 0.0)
    return {
        "node: balance": np.abs(schedule.net_import_w - parts_w),
        "priority 2: shed": np.maximum(schedule.p2_shed_w - inputs.p2_load_w, -schedule.p2_shed_w),
        "pv: curtailed": np.maximum(schedule.pv_curtailed_w + inputs.pv_w, -schedule.pv_curtailed_w),
        "node: breach told": np.maximum(np.abs(schedule.import_breach_w - over_w), np.abs(schedule.export_breach_w - under_w)),
    }


def _flexible_excesses(excesses: dict[str, Array], load: FlexibleLoad, inputs: ScheduleInputs, schedule: Schedule, index: int) -> None:
    """Power range, energy path with the shortfall that is owned up to, and floor and ceiling of the store."""
    power_w, energy_wh = schedule.flexible_w[index], schedule.flexible_wh[index]
    missing_wh = schedule.flexible_shortfall_wh[index]
    before_wh = np.concatenate(([load.energy_wh], energy_wh[:-1]))
    gain_wh = inputs.step_h * load.efficiency_frac * power_w - load.demand_wh + missing_wh
    excesses[f"{load.name}: power"] = np.maximum(power_w - load.max_w, -power_w)
    excesses[f"{load.name}: energy path"] = np.abs(energy_wh - load.retention_frac * before_wh - gain_wh)
    excesses[f"{load.name}: energy range"] = np.maximum(energy_wh - load.ceiling_wh, load.floor_wh - energy_wh)
    excesses[f"{load.name}: shortfall"] = -missing_wh


def _priority_excesses(household: Household, inputs: ScheduleInputs, schedule: Schedule) -> dict[str, Array]:
    """While the import limit is breached: nothing flexible draws, no battery charges, no PV is curtailed, all of priority 2 is shed.

    Likewise for exports. While priority 2 is shed nothing flexible draws, no PV is curtailed and every generator gives all it has; a
    battery may charge then, because that may spare a breach later.
    """
    over = schedule.import_breach_w > TOLERANCE
    under = schedule.export_breach_w > TOLERANCE
    shed = schedule.p2_shed_w > TOLERANCE
    flexible_w = schedule.flexible_w.sum(axis=0)
    charging_w = np.maximum(schedule.battery_w, 0.0).sum(axis=0)
    discharging_w = np.maximum(-schedule.battery_w, 0.0).sum(axis=0)
    idle_w = sum(generator.max_w for generator in household.generators) + schedule.generator_w.sum(axis=0)
    unshed_w = inputs.p2_load_w - schedule.p2_shed_w
    producing_w = -inputs.pv_w - schedule.pv_curtailed_w
    yielding_w = np.maximum.reduce([flexible_w, idle_w, schedule.pv_curtailed_w])
    return {
        "envelope: import": np.where(over, np.maximum.reduce([yielding_w, charging_w, unshed_w]), 0.0),
        "envelope: export": np.where(under, np.maximum(discharging_w, producing_w), 0.0),
        "priority 2 before 3": np.where(shed, yielding_w, 0.0),
    }
