"""The specification as sparse arrays, built once; per solve only q, b, l, u change (and the diagonal of P when rho does).

    minimise  1/2 x' P x + q' x   subject to  A x = b,  l <= x <= u        P diagonal

The names of the blocks are those of `specification`, interval by interval inside each block. Inside these arrays powers are kW,
energies kWh and the objective is per hour: numbers stay near one, whatever the interval is. Nowhere else is anything scaled.
Every soft requirement is a slack inside an equality, so bounds and equalities always have a solution once the states lie in their ranges.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edge.schedule.ladder import PriorityLadder
from edge.schedule.model import Array, Household, Negotiation, ScheduleInputs
from edge.schedule.profiles import flexible_loads, retention_frac, shortfall_prices_per_kwh
from edge.schedule.sparse import Csc, Entries, diagonal_matrix

KILO = 1e-3


class Structure:
    """Blocks, constraint matrix and constant costs for one household, number of intervals and interval length.

    `overruns` are the signs by name of those that inputs may have (`model.Negotiation`): whatever inputs leave out costs nothing.
    """

    def __init__(self, household: Household, steps: int, step_s: float, overruns: Mapping[str, float] | None = None) -> None:
        self.household = household
        self.steps = steps
        self.step_s = step_s
        self.step_h = step_s / 3600.0
        self.overruns = {} if overruns is None else overruns
        names = ["net_import", "bought", "sold", "import_breach", "export_breach", "p2_shed", "pv_curtailed"]
        for index in range(len(household.batteries)):
            names += [f"charge_{index}", f"discharge_{index}", f"battery_energy_{index}"]
        for index in range(len(household.flexible_names)):
            names += [f"flexible_{index}", f"flexible_energy_{index}", f"shortfall_{index}"]
        names += [f"generation_{index}" for index in range(len(household.generators))]
        names += [f"{overrun}_{part}" for overrun in self.overruns for part in ("over", "room")]
        self.block = {name: slice(k * steps, (k + 1) * steps) for k, name in enumerate(names)}
        self.variables = len(names) * steps
        for index in range(len(household.batteries)):
            for name in (f"reserve_missing_{index}", f"reserve_spare_{index}"):
                self.block[name] = slice(self.variables, self.variables + 1)
                self.variables += 1
        self.equality = self._equality()
        self.quadratic = self._quadratic()

    def _equality(self) -> Csc:
        """Rows: balance, split of net import, one energy equation for each battery and flexible load; then each battery's reserve.

        The reserve is a single row: last energy + missing - spare = wanted at the end. Last, net import - over + room = free.
        """
        household, steps, step_h = self.household, self.steps, self.step_h
        entries = Entries()

        def put(row: int, name: str, value: float, *, below: int = 0) -> None:
            entries.diagonal(row, self.block[name].start, steps, value, below=below)

        for name, value in (("net_import", 1.0), ("p2_shed", 1.0), ("pv_curtailed", -1.0)):
            put(0, name, value)
        for name, value in (("net_import", 1.0), ("bought", -1.0), ("sold", 1.0), ("import_breach", -1.0), ("export_breach", 1.0)):
            put(steps, name, value)
        row = 2 * steps
        for index, battery in enumerate(household.batteries):
            put(0, f"charge_{index}", -1.0)
            put(0, f"discharge_{index}", 1.0)
            put(row, f"battery_energy_{index}", 1.0)
            put(row, f"battery_energy_{index}", -1.0, below=1)
            put(row, f"charge_{index}", -step_h * battery.charge_efficiency_frac)
            put(row, f"discharge_{index}", step_h / battery.discharge_efficiency_frac)
            row += steps
        for index, (efficiency_frac, kept_frac) in enumerate(self._stores()):
            put(0, f"flexible_{index}", -1.0)
            put(row, f"flexible_energy_{index}", 1.0)
            put(row, f"flexible_energy_{index}", -kept_frac, below=1)
            put(row, f"flexible_{index}", -step_h * efficiency_frac)
            put(row, f"shortfall_{index}", -1.0)
            row += steps
        for index in range(len(household.generators)):
            put(0, f"generation_{index}", 1.0)
        self.reserve_row = row
        for index in range(len(household.batteries)):
            entries.diagonal(row, self.block[f"battery_energy_{index}"].stop - 1, 1, 1.0)
            entries.diagonal(row, self.block[f"reserve_missing_{index}"].start, 1, 1.0)
            entries.diagonal(row, self.block[f"reserve_spare_{index}"].start, 1, -1.0)
            row += 1
        self.overrun_row = row
        for overrun, sign in self.overruns.items():
            put(row, "net_import", sign)
            put(row, f"{overrun}_over", -1.0)
            put(row, f"{overrun}_room", 1.0)
            row += steps
        return entries.matrix((row, self.variables))

    def _stores(self) -> list[tuple[float, float]]:
        """Efficiency and retention of each flexible load."""
        household = self.household
        return (
            [(vehicle.charge_efficiency_frac, 1.0) for vehicle in household.vehicles]
            + [(tank.efficiency_frac, retention_frac(tank, self.step_h)) for tank in household.tanks]
            + [(1.0, 1.0)] * len(household.appliances)
        )

    def _quadratic(self) -> Array:
        """The diagonal of P without the proximal term."""
        household, diagonal = self.household, np.zeros(self.variables)
        for index, battery in enumerate(household.batteries):
            diagonal[self.block[f"charge_{index}"]] = battery.wear_slope_per_kwh_w / KILO
            diagonal[self.block[f"discharge_{index}"]] = battery.wear_slope_per_kwh_w / KILO
        for index in range(len(household.flexible_names)):
            diagonal[self.block[f"flexible_{index}"]] = household.comfort_slope_per_kwh_w / KILO
        for index, generator in enumerate(household.generators):
            diagonal[self.block[f"generation_{index}"]] = generator.fuel_slope_per_kwh_w / KILO
        return diagonal


class Vectors:
    """q, b, l, u and the diagonal of P for one set of inputs; allocated once and written over for each solve."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.diagonal = structure.quadratic.copy()
        self.revision = 0
        """How often the quadratic part has changed."""
        self.q = np.zeros(structure.variables)
        self.b = np.zeros(structure.equality.shape[0])
        self.l = np.zeros(structure.variables)
        self.u = np.full(structure.variables, np.inf)
        self.l[structure.block["net_import"]] = -np.inf
        self.constant = 0.0

    def fill(self, inputs: ScheduleInputs, ladder: PriorityLadder) -> None:
        """Write everything that depends on the inputs; the inputs must be sane (`sanitise`) and the envelope finite."""
        block, steps = self.structure.block, self.structure.steps
        self._fill_node(inputs, ladder)
        self._fill_terms(inputs)
        self._fill_batteries(inputs, ladder)
        row = (2 + len(inputs.batteries)) * steps
        prices = shortfall_prices_per_kwh(self.structure.household, ladder)
        for index, load in enumerate(flexible_loads(self.structure.household, inputs)):
            self.u[block[f"flexible_{index}"]] = KILO * load.max_w
            energy = block[f"flexible_energy_{index}"]
            self.l[energy] = KILO * load.floor_wh
            self.u[energy] = KILO * load.ceiling_wh
            self.q[block[f"shortfall_{index}"]] = prices[index] / self.structure.step_h
            self.b[row : row + steps] = -KILO * load.demand_wh
            self.b[row] += KILO * load.energy_wh * load.retention_frac
            row += steps
        for index, generator in enumerate(self.structure.household.generators):
            self.q[block[f"generation_{index}"]] = generator.fuel_per_kwh
            self.u[block[f"generation_{index}"]] = KILO * generator.max_w

    def _fill_node(self, inputs: ScheduleInputs, ladder: PriorityLadder) -> None:
        block, steps = self.structure.block, self.structure.steps
        self.b[:steps] = KILO * (inputs.p1_load_w + inputs.p2_load_w + inputs.pv_w)
        self.q[block["bought"]] = inputs.buy_price_per_kwh
        self.q[block["sold"]] = -inputs.sell_price_per_kwh
        self.q[block["import_breach"]] = ladder.breach_per_kwh
        self.q[block["export_breach"]] = ladder.breach_per_kwh
        self.q[block["p2_shed"]] = ladder.p2_per_kwh
        self.q[block["pv_curtailed"]] = self.structure.household.curtailment_per_kwh
        self.u[block["bought"]] = KILO * inputs.import_limit_w
        self.u[block["sold"]] = KILO * inputs.export_limit_w
        self.u[block["p2_shed"]] = KILO * inputs.p2_load_w
        self.u[block["pv_curtailed"]] = -KILO * inputs.pv_w

    def _fill_terms(self, inputs: ScheduleInputs) -> None:
        """extra · x + rho/2 (x - target + dual)², expanded; the part without x is kept as `constant`."""
        node, terms = self.structure.block["net_import"], inputs.negotiation
        rho = 0.0 if terms is None else terms.rho_per_kwh_w / KILO
        before = self.diagonal.copy()
        self.diagonal[node] = rho
        self._fill_overruns(terms)
        self.revision += not np.array_equal(before, self.diagonal)
        if terms is None:
            self.q[node] = 0.0
            self.constant = 0.0
            return
        anchor_kw = KILO * (terms.target_w - terms.dual_w)
        self.q[node] = terms.extra_price_per_kwh - rho * anchor_kw
        self.constant = 0.5 * rho * float(anchor_kw @ anchor_kw)

    def _fill_overruns(self, terms: Negotiation | None) -> None:
        """What lies beyond a threshold costs; where inputs have none, all is free."""
        given = {} if terms is None else {name: overrun for name, _, overrun in terms.overruns}
        row, steps = self.structure.overrun_row, self.structure.steps
        for name in self.structure.overruns:
            over, overrun = self.structure.block[f"{name}_over"], given.get(name)
            self.b[row : row + steps] = 0.0 if overrun is None else KILO * overrun.free_w
            self.q[over] = 0.0 if overrun is None else overrun.price_per_kwh
            self.diagonal[over] = 0.0 if overrun is None else overrun.rho_per_kwh_w / KILO
            row += steps

    def _fill_batteries(self, inputs: ScheduleInputs, ladder: PriorityLadder) -> None:
        block, steps = self.structure.block, self.structure.steps
        for index, (battery, state) in enumerate(zip(self.structure.household.batteries, inputs.batteries, strict=True)):
            charge, discharge, energy = (block[f"{name}_{index}"] for name in ("charge", "discharge", "battery_energy"))
            self.q[charge] = battery.wear_per_kwh
            self.q[discharge] = battery.wear_per_kwh
            self.u[charge] = KILO * battery.max_charge_w
            self.u[discharge] = KILO * battery.max_discharge_w
            capacity_kwh = KILO * battery.capacity_wh
            self.l[energy] = capacity_kwh * battery.min_soc_frac
            self.u[energy] = capacity_kwh * battery.max_soc_frac
            self.q[energy.stop - 1] = -state.end_value_per_kwh / self.structure.step_h
            self.q[block[f"reserve_missing_{index}"]] = ladder.reserve_per_kwh / self.structure.step_h
            end_frac = battery.min_soc_frac if state.end_min_soc_frac is None else state.end_min_soc_frac
            self.b[self.structure.reserve_row + index] = capacity_kwh * end_frac
            self.b[(2 + index) * steps] = capacity_kwh * state.soc_frac

    def lower_selling_price(self, inputs: ScheduleInputs) -> None:
        """Let selling pay no more than buying costs, so that doing both at once cannot pay."""
        self.q[self.structure.block["sold"]] = -np.minimum(inputs.sell_price_per_kwh, inputs.buy_price_per_kwh)

    def fix_node_directions(self, x: Array, inputs: ScheduleInputs, where: npt.NDArray[np.bool_]) -> None:
        """The true selling price again, and in the chosen intervals only the direction that net import has at `x`."""
        block = self.structure.block
        importing = x[block["net_import"]] >= 0.0
        self.q[block["sold"]] = -inputs.sell_price_per_kwh
        self.u[block["sold"]][where & importing] = 0.0
        self.u[block["bought"]][where & ~importing] = 0.0

    def fix_battery_directions(self, x: Array, threshold_kw: float) -> bool:
        """Where `x` charges and discharges at once allow only the direction of the net power; tells whether that was anywhere."""
        block, found = self.structure.block, False
        for index in range(len(self.structure.household.batteries)):
            charge, discharge = block[f"charge_{index}"], block[f"discharge_{index}"]
            both = np.minimum(x[charge], x[discharge]) > threshold_kw
            if bool(both.any()):
                found = True
                charging = x[charge] >= x[discharge]
                self.u[discharge][both & charging] = 0.0
                self.u[charge][both & ~charging] = 0.0
        return found

    def quadratic(self) -> Csc:
        """P with its whole diagonal stored, zeros too: a solver that is updated must find the entries that it was set up with.

        (PIQP 0.6 only prints "P nonzeros missmatch" otherwise and goes on with the old problem.)
        """
        return diagonal_matrix(self.diagonal)

    def objective(self, x: Array) -> float:
        """The objective of the specification at `x`, per hour."""
        return float(0.5 * (self.diagonal * x) @ x + self.q @ x) + self.constant
