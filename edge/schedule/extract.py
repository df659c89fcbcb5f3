"""From the solver's variables to a schedule: netted, summed again from its parts, in SI.

Setpoints are clipped to their boxes, and net import and battery energy are computed from them again, so the schedule obeys physics
exactly and not to a solver's tolerance. Net import alone decides what is bought, sold and breached.
"""

from __future__ import annotations

import numpy as np

from edge.schedule.arrays import KILO, Structure, Vectors
from edge.schedule.model import Array, Schedule, ScheduleInputs

SIMULTANEOUS_KW = 1e-5


def extract(vectors: Vectors, inputs: ScheduleInputs, x: Array) -> Schedule:
    """The schedule at `x`, the solution for these vectors and inputs."""
    structure = vectors.structure
    household, step_h = structure.household, structure.step_h
    si = np.clip(x, vectors.l, vectors.u) / KILO
    block, flexible = structure.block, len(household.flexible_names)
    battery_w = np.zeros((len(household.batteries), inputs.steps))
    battery_wh = np.zeros_like(battery_w)
    for index, (battery, state) in enumerate(zip(household.batteries, inputs.batteries, strict=True)):
        power_w = si[block[f"charge_{index}"]] - si[block[f"discharge_{index}"]]
        gain_w = np.where(power_w > 0.0, power_w * battery.charge_efficiency_frac, power_w / battery.discharge_efficiency_frac)
        battery_w[index] = power_w
        battery_wh[index] = battery.capacity_wh * state.soc_frac + step_h * np.cumsum(gain_w)
    flexible_w = _rows(structure, si, "flexible", flexible, inputs.steps)
    generator_w = -_rows(structure, si, "generation", len(household.generators), inputs.steps)
    p2_shed_w, pv_curtailed_w = si[block["p2_shed"]], si[block["pv_curtailed"]]
    net_import_w = inputs.p1_load_w + inputs.p2_load_w - p2_shed_w + inputs.pv_w + pv_curtailed_w
    net_import_w += battery_w.sum(axis=0) + flexible_w.sum(axis=0) + generator_w.sum(axis=0)
    return Schedule(
        start_s=inputs.start_s,
        step_s=inputs.step_s,
        net_import_w=net_import_w,
        p2_shed_w=p2_shed_w,
        pv_curtailed_w=pv_curtailed_w,
        battery_w=battery_w,
        battery_wh=battery_wh,
        flexible_w=flexible_w,
        flexible_wh=_rows(structure, si, "flexible_energy", flexible, inputs.steps),
        flexible_shortfall_wh=_rows(structure, si, "shortfall", flexible, inputs.steps),
        generator_w=generator_w,
        import_breach_w=np.maximum(net_import_w - inputs.import_limit_w, 0.0),
        export_breach_w=np.maximum(-net_import_w - inputs.export_limit_w, 0.0),
    )


def _rows(structure: Structure, si: Array, name: str, count: int, steps: int) -> Array:
    rows = np.empty((count, steps))
    for index in range(count):
        rows[index] = si[structure.block[f"{name}_{index}"]]
    return rows
