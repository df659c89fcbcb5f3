"""The planner: always a legal plan within its deadline, or a named refusal.

Three rungs: the solver's plan; else the last solver's plan, shifted to now and repaired, while it is young enough; else rule-based
self-consumption. Whatever is made passes `check_schedule` before it is returned.

Exclusivity. (1) Charging and discharging at once is optimal only where the marginal value of power at the node is below
-(wear (1 + eta) + slope (charge + eta · discharge)) / (1 - eta), eta the round-trip efficiency: paid disposal of energy, -0.57 per kWh
with a wear of 0.03 and eta of 0.9. Where the relaxation does it nevertheless, the direction of the net power is fixed and the problem
solved again (1 to 2.5 % from the exclusive optimum on days on which every hour pays for burning; following net powers: 2 to 6 %).
(2) Buying and selling at once is optimal wherever selling pays more than buying costs, which is ordinary (a cheap night and a flat
feed-in price). There the problem is solved with the selling price lowered to the buying price, the direction of net import is read and
fixed, and the problem solved again with the true price. That costs what the exclusive optimum costs on days with real wear (netting
alone: up to 7 cents more); where a battery wears so little that importing in one interval and exporting in the next pays, it does not
find that trade (8 cents a day at a wear of 0.005 and a spread of 0.04). (3) What is left is netted: only net powers are ever used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from edge.schedule.arrays import Structure, Vectors
from edge.schedule.check import check_schedule
from edge.schedule.errors import HouseholdError
from edge.schedule.extract import SIMULTANEOUS_KW, extract
from edge.schedule.follow import Wishes, follow, self_consumption
from edge.schedule.ladder import PriorityLadder, ladder_findings, ladder_for
from edge.schedule.model import Array, Household, Schedule, ScheduleInputs
from edge.schedule.sanitise import Adjustment, Refusal, RefusalReason, Sanitised, sanitise
from edge.schedule.solve import PiqpBackend, Solution, SolveStatus
from edge.schedule.validate import household_findings

DEADLINE_S = 1.0
SOLVER_SHARE_FRAC = 0.7
"""Of the deadline: what is left over must do for the two lower rungs."""
MAX_PLAN_AGE_S = 7200.0
MAX_ROUNDS = 4

MadeBy = Literal["solver", "shifted", "rule"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule that passed the check, who made it, what was moved in the inputs, and why no higher rung made it."""

    schedule: Schedule
    made_by: MadeBy
    adjustments: tuple[Adjustment, ...]
    reasons: tuple[str, ...]
    iterations: int
    elapsed_s: float


class Backend(Protocol):
    """A solver for one structure; the caller fills `vectors`."""

    vectors: Vectors

    def solve(self, deadline_s: float) -> Solution:
        """Solve before the deadline on the monotonic clock."""
        ...


BackendMaker = Callable[[Structure, Callable[[], float]], Backend]


class Planner:
    """Plans for one household. `monotonic_s` is the clock of the deadline; `plan` itself takes the time of day as an argument."""

    def __init__(
        self,
        household: Household,
        *,
        monotonic_s: Callable[[], float],
        ladder: PriorityLadder | None = None,
        deadline_s: float = DEADLINE_S,
        max_plan_age_s: float = MAX_PLAN_AGE_S,
        backend: BackendMaker = PiqpBackend,
    ) -> None:
        """Raises HouseholdError with every reason why this household or its ladder cannot be planned with."""
        self._household = household
        self._ladder = PriorityLadder() if ladder is None else ladder
        findings = household_findings(household)
        findings += ladder_findings(self._ladder, household) if not findings else []
        if findings:
            raise HouseholdError("; ".join(findings))
        self._monotonic_s = monotonic_s
        self._deadline_s = deadline_s
        self._max_plan_age_s = max_plan_age_s
        self._make_backend = backend
        self._backend: Backend | None = None
        self._last: Schedule | None = None
        self._last_made_s = -np.inf

    def plan(self, inputs: ScheduleInputs, now_s: float) -> Plan | Refusal:
        """A legal plan for the inputs; the inputs are sanitised first and every adjustment is named in the plan."""
        started_s = self._monotonic_s()
        clean = sanitise(self._household, inputs)
        if isinstance(clean, Refusal):
            return clean
        reasons: list[str] = []
        schedule, iterations = self._solve(clean, started_s + SOLVER_SHARE_FRAC * self._deadline_s, reasons)
        made_by: MadeBy = "solver"
        if schedule is not None:
            self._last, self._last_made_s = schedule, now_s
        else:
            schedule, made_by = self._shifted(clean.inputs, now_s, reasons), "shifted"
        if schedule is None:
            rule = follow(self._household, clean.inputs, self_consumption(self._household, clean.inputs))
            schedule, made_by = self._checked(clean.inputs, rule, "rule", reasons), "rule"
        if schedule is None:
            return Refusal(reason=RefusalReason.NO_LEGAL_PLAN, detail="; ".join(reasons))
        return Plan(
            schedule=schedule,
            made_by=made_by,
            adjustments=clean.adjustments,
            reasons=tuple(reasons),
            iterations=iterations,
            elapsed_s=self._monotonic_s() - started_s,
        )

    def _solve(self, clean: Sanitised, until_s: float, reasons: list[str]) -> tuple[Schedule | None, int]:
        """The first rung, with the exclusivity rules; None and a reason where the solver did not get there."""
        inputs = clean.inputs
        backend = self._backend_for(inputs)
        vectors = backend.vectors
        vectors.fill(inputs, ladder_for(self._ladder, inputs, clean.reach_w))
        arbitrage = inputs.sell_price_per_kwh > inputs.buy_price_per_kwh
        directed = bool(arbitrage.any())
        if directed:
            vectors.lower_selling_price(inputs)
        iterations = 0
        best: Array | None = None
        for _ in range(MAX_ROUNDS):
            solution = backend.solve(until_s)
            iterations += solution.iterations
            if solution.status is not SolveStatus.SOLVED:
                reasons.append(f"solver: {solution.status.value} after {iterations} iterations")
                break
            best = solution.x
            again = vectors.fix_battery_directions(best, SIMULTANEOUS_KW)
            if directed:
                vectors.fix_node_directions(best, inputs, arbitrage)
                directed, again = False, True
            if not again:
                return self._checked(inputs, extract(vectors, inputs, best), "solver", reasons), iterations
        if best is None:
            return None, iterations
        return self._checked(inputs, self._netted(inputs, extract(vectors, inputs, best)), "solver", reasons), iterations

    def _backend_for(self, inputs: ScheduleInputs) -> Backend:
        """The solver object for this horizon; one is kept, because horizons rarely change."""
        backend = self._backend
        terms = inputs.negotiation
        overruns = {} if terms is None else {name: sign for name, sign, _ in terms.overruns}
        if backend is not None:
            structure = backend.vectors.structure
            if (structure.steps, structure.step_s, structure.overruns) == (inputs.steps, inputs.step_s, overruns):
                return backend
        structure = Structure(self._household, inputs.steps, inputs.step_s, overruns)
        self._backend = self._make_backend(structure, self._monotonic_s)
        return self._backend

    def _netted(self, inputs: ScheduleInputs, schedule: Schedule) -> Schedule:
        """A solver's answer that still charges and discharges at once: follow its net powers."""
        return follow(self._household, inputs, _wishes(schedule, np.arange(inputs.steps)))

    def _shifted(self, inputs: ScheduleInputs, now_s: float, reasons: list[str]) -> Schedule | None:
        """The second rung: the last plan's setpoints at the same times of day, idle beyond its end."""
        if self._last is None:
            reasons.append("shifted: there is no earlier plan")
            return None
        age_s = now_s - self._last_made_s
        if not 0.0 <= age_s <= self._max_plan_age_s:
            reasons.append(f"shifted: the last plan is {age_s:.0f} s old, at most {self._max_plan_age_s:.0f} s are trusted")
            return None
        middle_s = inputs.start_s + inputs.step_s * (np.arange(inputs.steps) + 0.5)
        at = np.floor((middle_s - self._last.start_s) / self._last.step_s).astype(np.int64)
        return self._checked(inputs, follow(self._household, inputs, _wishes(self._last, at)), "shifted", reasons)

    def _checked(self, inputs: ScheduleInputs, schedule: Schedule, made_by: MadeBy, reasons: list[str]) -> Schedule | None:
        findings = check_schedule(self._household, inputs, schedule)
        if not findings:
            return schedule
        first = findings[0]
        reasons.append(f"{made_by}: {first.rule} is off by {first.excess:.3g} at interval {first.step}")
        return None


def _wishes(schedule: Schedule, at: npt.NDArray[np.int64]) -> Wishes:
    """The setpoints of a schedule at the given intervals, `nan` outside it."""
    inside = (at >= 0) & (at < schedule.steps)
    index = np.clip(at, 0, schedule.steps - 1)

    def pick(rows: Array) -> Array:
        return np.where(inside, rows[..., index], np.nan)

    return Wishes(
        battery_w=pick(schedule.battery_w),
        flexible_w=pick(schedule.flexible_w),
        generator_w=pick(schedule.generator_w),
        pv_curtailed_w=pick(schedule.pv_curtailed_w),
    )
