"""An energy community at one bus of a feeder: sun, wind, a dispatchable generator, fixed and flexible load and storage.

Its problem, per interval t (source 001, section 3; the paper prints no equation, so these are ours):

    net = fixed + flexible - unserved + charge - discharge - sun - wind - generator
    import limit >= net + margin above,   export limit >= -net + margin below           (margins: `uncertainty.py`)
    sum of flexible = what it needs in the horizon;   storage between empty and full, at the end as full as at the beginning

and its cost is fuel (linear and quadratic), wear of storage, unserved load, and a small price on the width of the envelope, without which
any width would be as good. What it pays for net import is the market's side of the negotiation. Power is positive into the community.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.dfe.asked import Answer, Asked
from coordinator.mechanisms.dfe.quadratic import W_PER_KW, FloatArray, QuadraticProgram

BLOCKS = ("sun", "wind", "generator", "charge", "discharge", "flexible", "unserved", "net", "import_limit", "export_limit")
AGREED = ("net", "import_limit", "export_limit")
NEGLIGIBLE_W = 1e-6


@dataclass(frozen=True, kw_only=True)
class EnergyCommunity:
    """One community. Profiles are (T,) in watts; `connection_w` bounds both limits; costs are per kWh, the quadratic one per kWh and kW."""

    name: str
    bus: str
    step_s: float
    connection_w: float
    fixed_load_w: FloatArray
    flexible_max_w: FloatArray
    flexible_wh: float
    sun_w: FloatArray
    wind_w: FloatArray
    generator_w: float
    generator_per_kwh: float
    generator_per_kwh_kw: float
    storage_wh: float
    storage_w: float
    storage_efficiency_frac: float
    storage_initial_frac: float
    wear_per_kwh: float
    unserved_per_kwh: float
    width_per_kwh: float
    margin_above_w: FloatArray
    margin_below_w: FloatArray

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            if not np.isfinite(value).all() or np.any(np.asarray(value) < 0.0):
                raise ConversationError(f"{self.name}: {field.name} is negative or not a finite number")
            if isinstance(value, np.ndarray) and value.shape != self.fixed_load_w.shape:
                raise ConversationError(f"{self.name}: {field.name} has shape {value.shape}, expected {self.fixed_load_w.shape}")
        if self.flexible_wh > self.flexible_max_w.sum() * self.hours_per_step:
            raise ConversationError(f"{self.name}: flexible load needs {self.flexible_wh:.0f} Wh, more than it may draw")
        widest_w = float(max(self.margin_above_w.max(), self.margin_below_w.max()))
        if widest_w > self.connection_w:
            raise ConversationError(
                f"{self.name}: a margin of {widest_w:.0f} W does not fit a connection of {self.connection_w:.0f} W"
            )

    @property
    def hours_per_step(self) -> float:
        """Length of an interval."""
        return self.step_s / 3600.0

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.fixed_load_w.size)

    def place(self, block: str) -> slice:
        """Where a block of variables is in `program`."""
        first = BLOCKS.index(block) * self.periods
        return slice(first, first + self.periods)

    @cached_property
    def program(self) -> QuadraticProgram:
        """The problem without the market, in kilowatts."""
        hours, count = self.hours_per_step, self.periods
        quadratic, linear = np.zeros(len(BLOCKS) * count), np.zeros(len(BLOCKS) * count)
        quadratic[self.place("generator")] = 2.0 * self.generator_per_kwh_kw * hours
        linear[self.place("generator")] = self.generator_per_kwh * hours
        linear[self.place("charge")] = linear[self.place("discharge")] = self.wear_per_kwh * hours
        linear[self.place("unserved")] = self.unserved_per_kwh * hours
        linear[self.place("import_limit")] = linear[self.place("export_limit")] = self.width_per_kwh * hours
        equal, equal_to = self._equalities()
        below, below_to = self._inequalities()
        return QuadraticProgram(
            quadratic=quadratic, linear=linear, equal=equal, equal_to=equal_to, below=below, below_to=below_to
        )

    def respond(self, asked: Asked, /) -> Answer:
        """The best response to what is asked."""
        program, hours = self.program, self.hours_per_step
        quadratic, linear = program.quadratic.copy(), program.linear.copy()
        for row, block in enumerate(AGREED):
            weight = asked.weight[row] * W_PER_KW * hours
            quadratic[self.place(block)] += weight
            linear[self.place(block)] += asked.price_per_kwh[row] * hours - weight * asked.target_w[row] / W_PER_KW
        found = replace(program, quadratic=quadratic, linear=linear).solve(self.name)
        return Answer(wish_w=self.agreed_w(found))

    def agreed_w(self, solution_kw: FloatArray) -> FloatArray:
        """The rows (3, T) that are negotiated, of a solution of the program."""
        rows = np.array([solution_kw[self.place(block)] for block in AGREED]) * W_PER_KW
        rows[1] = np.maximum(rows[1], rows[0] + self.margin_above_w).clip(0.0)
        rows[2] = np.maximum(rows[2], -rows[0] + self.margin_below_w).clip(0.0)
        return rows

    def inside(self, net_w: FloatArray) -> FloatArray:
        """The cheapest solution of the program whose net import is the given one, within what solvers leave open."""
        program, place = self.program, self.place("net")
        rows = sparse.eye(program.linear.size, format="csc")[place]
        slack = NEGLIGIBLE_W * self.connection_w / W_PER_KW
        below = sparse.vstack([program.below, rows, -rows], format="csc")
        below_to = np.concatenate([program.below_to, net_w / W_PER_KW + slack, -net_w / W_PER_KW + slack])
        return replace(program, below=below, below_to=below_to).solve(f"{self.name} at the agreed net import")

    def cost(self, solution_kw: FloatArray) -> float:
        """What a solution of the program costs without the market."""
        return float(self.program.linear @ solution_kw + 0.5 * self.program.quadratic @ solution_kw**2)

    def _equalities(self) -> tuple[sparse.csc_matrix, FloatArray]:
        count, hours = self.periods, self.hours_per_step
        signs = {"sun": -1.0, "wind": -1.0, "generator": -1.0, "charge": 1.0, "discharge": -1.0, "flexible": 1.0, "unserved": -1.0}
        balance = sparse.hstack([signs.get(block, -1.0 if block == "net" else 0.0) * sparse.eye(count) for block in BLOCKS])
        needs = sparse.csc_matrix(self._row("flexible", hours)[None])
        cyclic = self._stored()[count - 1]
        equal_to = np.concatenate([-self.fixed_load_w / W_PER_KW, [self.flexible_wh / W_PER_KW, 0.0]])
        return sparse.vstack([balance, needs, cyclic], format="csc"), equal_to

    def _inequalities(self) -> tuple[sparse.csc_matrix, FloatArray]:
        count, size = self.periods, len(BLOCKS) * self.periods
        ends = np.ones(count)
        highest_w = {
            "sun": self.sun_w, "wind": self.wind_w, "generator": self.generator_w * ends, "charge": self.storage_w * ends,
            "discharge": self.storage_w * ends, "flexible": self.flexible_max_w, "unserved": self.fixed_load_w,
            "import_limit": self.connection_w * ends, "export_limit": self.connection_w * ends,
        }  # fmt: skip
        identity = sparse.eye(size, format="csr")
        bounded = np.concatenate([np.arange(size)[self.place(block)] for block in highest_w])
        rooms = self._stored()
        net, above, under = (identity[self.place(block)] for block in AGREED)
        below = sparse.vstack([identity[bounded], -identity[bounded], rooms, -rooms, net - above, -net - under], format="csc")
        empty_kwh = self.storage_initial_frac * self.storage_wh / W_PER_KW
        below_to = np.concatenate(
            [
                np.concatenate(list(highest_w.values())) / W_PER_KW,
                np.zeros(bounded.size),
                ends * (self.storage_wh / W_PER_KW - empty_kwh),
                ends * empty_kwh,
                -self.margin_above_w / W_PER_KW,
                -self.margin_below_w / W_PER_KW,
            ]
        )
        return below, below_to

    def _row(self, block: str, value: float) -> FloatArray:
        row = np.zeros(len(BLOCKS) * self.periods)
        row[self.place(block)] = value
        return row

    def _stored(self) -> sparse.csr_matrix:
        """What every variable has added to the energy in storage by the end of each interval, in kilowatt hours per kilowatt."""
        hours, kept = self.hours_per_step, self.storage_efficiency_frac
        shares = {"charge": kept * hours, "discharge": -hours / kept}
        since_start = np.tril(np.ones((self.periods, self.periods)))
        return sparse.hstack([sparse.csr_matrix(shares.get(block, 0.0) * since_start) for block in BLOCKS], format="csr")
