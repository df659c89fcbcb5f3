# mypy: disable-error-code="attr-defined"
"""The household schedule, stated once and readably; the arrays that the controller solves are tested against this.

It is a convex quadratic programme per interval t, in kW, kWh and currency per hour. Only tests and benchmarks import this module.

The relaxation lets a battery charge and discharge at once and the node buy and sell at once. `exclusive=True` forbids both with
binary variables and so gives the true optimum that the rules of `planner` are measured against.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np

from edge.schedule.ladder import PriorityLadder
from edge.schedule.model import Household, Schedule, ScheduleInputs
from edge.schedule.profiles import appliance_load, vehicle_load

KILO = 1e-3

Expression = Any
"""cvxpy's types do not follow its own operators, and it does not mark what it exports (hence the first line of this file)."""


class Specification:
    """A cvxpy problem with its variables by name; `problem.value` is the objective per hour."""

    def __init__(self, household: Household, inputs: ScheduleInputs, ladder: PriorityLadder, *, exclusive: bool = False) -> None:
        self.steps = inputs.steps
        self.step_h = inputs.step_h
        self.exclusive = exclusive
        self.variables: dict[str, cp.Variable] = {}
        self.cost: list[Expression] = []
        self.rules: list[cp.Constraint] = []
        power_kw = KILO * (inputs.p1_load_w + inputs.p2_load_w + inputs.pv_w)
        power_kw = power_kw + self._yielding(household, inputs, ladder)
        power_kw = power_kw + self._batteries(household, inputs, ladder)
        power_kw = power_kw + self._vehicles(household, inputs, ladder)
        power_kw = power_kw + self._tanks(household, inputs, ladder)
        power_kw = power_kw + self._appliances(household, inputs, ladder)
        power_kw = power_kw - self._generators(household)
        self._node(power_kw, inputs, ladder)
        self.problem = cp.Problem(cp.Minimize(sum(self.cost)), self.rules)

    def solve(self, solver: str | None = None, **options: object) -> float:
        """Solve with the named solver, or with the one that cvxpy chooses; returns the optimum."""
        problem: Any = self.problem
        return float(problem.solve(solver=solver, **options))

    def value_of(self, schedule: Schedule) -> float:
        """The objective at somebody's schedule. Net import decides what is bought and sold, and a battery never does both."""
        net_kw = KILO * schedule.net_import_w
        breach_kw = KILO * (schedule.import_breach_w - schedule.export_breach_w)
        values = {
            "p2_shed": KILO * schedule.p2_shed_w,
            "pv_curtailed": KILO * schedule.pv_curtailed_w,
            "net_import": net_kw,
            "bought": np.maximum(net_kw - breach_kw, 0.0),
            "sold": np.maximum(breach_kw - net_kw, 0.0),
            "import_breach": KILO * schedule.import_breach_w,
            "export_breach": KILO * schedule.export_breach_w,
        }
        for index, (power_w, energy_wh) in enumerate(zip(schedule.battery_w, schedule.battery_wh, strict=True)):
            values[f"charge_{index}"] = KILO * np.maximum(power_w, 0.0)
            values[f"discharge_{index}"] = KILO * np.maximum(-power_w, 0.0)
            values[f"battery_energy_{index}"] = KILO * energy_wh
        for index, power_w in enumerate(schedule.flexible_w):
            values[f"flexible_{index}"] = KILO * power_w
            values[f"flexible_energy_{index}"] = KILO * schedule.flexible_wh[index]
            values[f"shortfall_{index}"] = KILO * schedule.flexible_shortfall_wh[index]
        for index, power_w in enumerate(schedule.generator_w):
            values[f"generation_{index}"] = -KILO * power_w
        for name, variable in self.variables.items():
            variable.save_value(values[name])
        return float(self.problem.objective.value)

    def _positive(self, name: str) -> cp.Variable:
        self.variables[name] = cp.Variable(self.steps, name=name, nonneg=True)
        return self.variables[name]

    def _yielding(self, household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> Expression:
        """Priority 2 load may be shed for its price, PV curtailed for next to nothing."""
        p2_shed, pv_curtailed = self._positive("p2_shed"), self._positive("pv_curtailed")
        self.rules += [p2_shed <= KILO * inputs.p2_load_w, pv_curtailed <= -KILO * inputs.pv_w]
        self.cost += [ladder.p2_per_kwh * cp.sum(p2_shed), household.curtailment_per_kwh * cp.sum(pv_curtailed)]
        return pv_curtailed - p2_shed

    def _batteries(self, household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> Expression:
        total: Expression = cp.Constant(np.zeros(self.steps))
        for index, (battery, state) in enumerate(zip(household.batteries, inputs.batteries, strict=True)):
            charge, discharge = self._positive(f"charge_{index}"), self._positive(f"discharge_{index}")
            energy = self._positive(f"battery_energy_{index}")
            capacity_kwh = KILO * battery.capacity_wh
            before = cp.hstack([capacity_kwh * state.soc_frac, energy[:-1]])
            stored = battery.charge_efficiency_frac * charge - discharge / battery.discharge_efficiency_frac
            self.rules += [
                energy == before + self.step_h * stored,
                charge <= KILO * battery.max_charge_w,
                discharge <= KILO * battery.max_discharge_w,
                energy >= capacity_kwh * battery.min_soc_frac,
                energy <= capacity_kwh * battery.max_soc_frac,
            ]
            if state.end_min_soc_frac is not None:
                missing = cp.pos(capacity_kwh * state.end_min_soc_frac - energy[-1])
                self.cost.append(ladder.reserve_per_kwh / self.step_h * missing)
            if self.exclusive:
                charging = cp.Variable(self.steps, boolean=True)
                self.rules += [
                    charge <= KILO * battery.max_charge_w * charging,
                    discharge <= KILO * battery.max_discharge_w * (1 - charging),
                ]
            self.cost += [
                battery.wear_per_kwh * cp.sum(charge + discharge),
                -state.end_value_per_kwh / self.step_h * energy[-1],
            ]
            if battery.wear_slope_per_kwh_w > 0.0:
                slope = battery.wear_slope_per_kwh_w / KILO
                self.cost.append(slope / 2 * (cp.sum_squares(charge) + cp.sum_squares(discharge)))
            total = total + charge - discharge
        return total

    def _vehicles(self, household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> Expression:
        total: Expression = cp.Constant(np.zeros(self.steps))
        for index, (vehicle, state) in enumerate(zip(household.vehicles, inputs.vehicles, strict=True)):
            times = vehicle_load(vehicle, state, inputs)
            power, energy, missing = self._flexible(index, household)
            before = cp.hstack([KILO * vehicle.capacity_wh * state.soc_frac, energy[:-1]])
            self.rules += [
                energy == before + self.step_h * vehicle.charge_efficiency_frac * power - KILO * times.demand_wh + missing,
                power <= KILO * times.max_w,
                energy >= KILO * times.floor_wh,
                energy <= KILO * vehicle.capacity_wh * vehicle.max_soc_frac,
            ]
            self.cost.append(ladder.vehicle_per_kwh / vehicle.charge_efficiency_frac / self.step_h * cp.sum(missing))
            total = total + power
        return total

    def _tanks(self, household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> Expression:
        total: Expression = cp.Constant(np.zeros(self.steps))
        for index, (tank, state) in enumerate(zip(household.tanks, inputs.tanks, strict=True), len(household.vehicles)):
            power, energy, missing = self._flexible(index, household)
            kept = (1 - tank.loss_frac_per_h) ** self.step_h
            before = kept * cp.hstack([KILO * state.energy_wh, energy[:-1]])
            drawn = KILO * self.step_h * state.draw_w
            self.rules += [
                energy == before + self.step_h * tank.efficiency_frac * power - drawn + missing,
                power <= KILO * tank.max_heat_w,
                energy >= KILO * tank.min_energy_wh,
                energy <= KILO * tank.capacity_wh,
            ]
            self.cost.append(ladder.tank_per_kwh / tank.efficiency_frac / self.step_h * cp.sum(missing))
            total = total + power
        return total

    def _appliances(self, household: Household, inputs: ScheduleInputs, ladder: PriorityLadder) -> Expression:
        total: Expression = cp.Constant(np.zeros(self.steps))
        first = len(household.vehicles) + len(household.tanks)
        for index, (appliance, state) in enumerate(zip(household.appliances, inputs.appliances, strict=True), first):
            times = appliance_load(appliance, state, inputs)
            power, energy, missing = self._flexible(index, household)
            self.rules += [
                energy == cp.hstack([0.0, energy[:-1]]) + self.step_h * power + missing,
                power <= KILO * times.max_w,
                energy >= KILO * times.floor_wh,
                energy <= KILO * state.remaining_wh,
            ]
            self.cost.append(ladder.appliance_per_kwh / self.step_h * cp.sum(missing))
            total = total + power
        return total

    def _flexible(self, index: int, household: Household) -> tuple[cp.Variable, cp.Variable, cp.Variable]:
        """Power, stored energy and missing energy of one priority 3 load."""
        power = self._positive(f"flexible_{index}")
        if household.comfort_slope_per_kwh_w > 0.0:
            self.cost.append(household.comfort_slope_per_kwh_w / KILO / 2 * cp.sum_squares(power))
        return power, self._positive(f"flexible_energy_{index}"), self._positive(f"shortfall_{index}")

    def _generators(self, household: Household) -> Expression:
        total: Expression = cp.Constant(np.zeros(self.steps))
        for index, generator in enumerate(household.generators):
            power = self._positive(f"generation_{index}")
            self.rules.append(power <= KILO * generator.max_w)
            self.cost.append(generator.fuel_per_kwh * cp.sum(power))
            if generator.fuel_slope_per_kwh_w > 0.0:
                self.cost.append(generator.fuel_slope_per_kwh_w / KILO / 2 * cp.sum_squares(power))
            total = total + power
        return total

    def _node(self, power_kw: Expression, inputs: ScheduleInputs, ladder: PriorityLadder) -> None:
        """Net import is what is bought minus what is sold inside the envelope, plus what breaches it."""
        net_import = self.variables["net_import"] = cp.Variable(self.steps, name="net_import")
        bought, sold = self._positive("bought"), self._positive("sold")
        import_breach, export_breach = self._positive("import_breach"), self._positive("export_breach")
        self.rules += [
            net_import == power_kw,
            net_import == bought - sold + import_breach - export_breach,
            bought <= KILO * inputs.import_limit_w,
            sold <= KILO * inputs.export_limit_w,
        ]
        if self.exclusive:
            importing = cp.Variable(self.steps, boolean=True)
            self.rules += [
                bought <= cp.multiply(KILO * inputs.import_limit_w, importing),
                sold <= cp.multiply(KILO * inputs.export_limit_w, 1 - importing),
            ]
        self.cost += [
            inputs.buy_price_per_kwh @ bought - inputs.sell_price_per_kwh @ sold,
            ladder.breach_per_kwh * cp.sum(import_breach + export_breach),
        ]
        terms = inputs.negotiation
        if terms is not None:
            deviation = net_import - KILO * (terms.target_w - terms.dual_w)
            self.cost += [terms.extra_price_per_kwh @ net_import, terms.rho_per_kwh_w / KILO / 2 * cp.sum_squares(deviation)]
        for _, sign, overrun in () if terms is None else terms.overruns:
            over = cp.pos(sign * net_import - KILO * overrun.free_w)
            self.cost += [overrun.price_per_kwh @ over, overrun.rho_per_kwh_w / KILO / 2 @ cp.square(over)]
