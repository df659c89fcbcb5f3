"""The schedule's rows of `commonwatt-hil bench`: CPU time against cvxpy and EMHASS, objective gap, and worst breach.

Everything is measured in one interleaved run with one BLAS thread, in process CPU time: for each drawn day every method solves the same
96 intervals before the next day is drawn, so a busy machine slows all of them alike. The ratios are medians of the ratios of one day.

What is compared. *Ours* is one whole `Planner.plan`: sanitising the inputs, filling the vectors, PIQP, extraction, physics check; the
solver object exists already, as it does in the controller. *cvxpy rebuilt* is stating `edge.schedule.specification` for the day's
inputs and solving it, once with the solver that cvxpy chooses by itself and once with Clarabel, each with its default settings. *EMHASS*
is its optimiser step alone (`Optimization`, an exact mixed-integer programme with HiGHS), on a smaller problem that both can state:
a battery that ends as it began, PV that may be curtailed, two energies to be placed inside windows, a limit for each interval, wear. Ours
solves that same problem in the comparison, and the two bills must agree to five digits on the median day. (On one day in ten EMHASS's
is up to 3e-5 dearer: its cost coefficients, currency per watt, come near HiGHS's dual tolerance; the exclusive specification, in kW
with HiGHS, agrees with ours to 1e-9 there.) EMHASS does far more than this step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edge.schedule.check import check_schedule
from edge.schedule.ladder import PriorityLadder, ladder_for
from edge.schedule.model import (
    Appliance,
    ApplianceState,
    Battery,
    BatteryState,
    Departure,
    Generator,
    Household,
    Negotiation,
    ScheduleInputs,
    Tank,
    TankState,
    Vehicle,
    VehicleState,
)
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Sanitised, sanitise
from hil.errors import HilError

STEPS = 96
STEP_S = 900.0
HELPER = Path(__file__).with_name("bench_emhass.py")
EXACT_GAP = 1e-9
"""EMHASS passes a gap of zero on as "not set", which HiGHS reads as 1e-4."""
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}

FULL_HOUSE = Household(
    pv_rated_w=6600.0,
    batteries=(Battery(name="battery", capacity_wh=10_000.0, max_charge_w=5000.0, max_discharge_w=5000.0, wear_slope_per_kwh_w=1e-6),),
    vehicles=(Vehicle(name="car", capacity_wh=60_000.0, max_charge_w=7200.0),),
    tanks=(Tank(name="tank", capacity_wh=12_000.0, max_heat_w=3600.0, min_energy_wh=2000.0, loss_frac_per_h=0.01),),
    appliances=(Appliance(name="washer", max_w=2000.0),),
    generators=(Generator(name="genset", max_w=2000.0, fuel_per_kwh=0.6),),
)
SHARED_HOUSE = Household(
    pv_rated_w=6600.0,
    batteries=(Battery(name="battery", capacity_wh=10_000.0, max_charge_w=5000.0, max_discharge_w=5000.0),),
    appliances=(Appliance(name="car", max_w=7200.0), Appliance(name="tank", max_w=3000.0)),
    comfort_slope_per_kwh_w=0.0,
    curtailment_per_kwh=0.0,
)


def schedule_rows(*, days: int = 24, seed: int = 1, emhass_python: Path | None = None) -> list[dict[str, Any]]:
    """Measure in a child process with one BLAS thread; `emhass_python` is an interpreter whose environment has EMHASS, if there is one."""
    command = [sys.executable, "-m", "hil.bench_schedule", "--days", str(days), "--seed", str(seed)]
    if emhass_python is not None:
        command += ["--emhass-python", str(emhass_python)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HilError(f"schedule benchmark: child ended with exit {done.returncode}: {last_line}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def full_day(rng: np.random.Generator) -> ScheduleInputs:
    """A day of the full model: sun, a time-of-use tariff, an envelope that binds, a car that leaves, and a round of negotiation."""
    hour = (np.arange(STEPS) + 0.5) * STEP_S / 3600.0
    sun = np.clip(np.sin((hour - 6.0) / 12.0 * np.pi), 0.0, None) * rng.uniform(0.3, 1.0, STEPS)
    leaves_s = float(rng.uniform(7.0, 18.0)) * 3600.0
    trip = Departure(depart_s=leaves_s, return_s=leaves_s + 5 * 3600.0, needed_soc_frac=float(rng.uniform(0.5, 0.9)), trip_wh=8000.0)
    return ScheduleInputs(
        start_s=0.0,
        step_s=STEP_S,
        p1_load_w=rng.uniform(200.0, 2500.0, STEPS),
        p2_load_w=rng.uniform(0.0, 800.0, STEPS),
        pv_w=-FULL_HOUSE.pv_rated_w * sun,
        import_limit_w=rng.uniform(1000.0, 8000.0, STEPS),
        export_limit_w=rng.uniform(0.0, 5000.0, STEPS),
        buy_price_per_kwh=np.where((hour > 16.0) & (hour < 21.0), 0.45, 0.25),
        sell_price_per_kwh=np.full(STEPS, 0.05),
        batteries=(BatteryState(soc_frac=float(rng.uniform(0.2, 0.9)), end_value_per_kwh=0.1),),
        vehicles=(VehicleState(soc_frac=float(rng.uniform(0.2, 0.6)), departures=(trip,)),),
        tanks=(TankState(energy_wh=float(rng.uniform(3000.0, 9000.0)), draw_w=rng.uniform(0.0, 600.0, STEPS)),),
        appliances=(ApplianceState(remaining_wh=1500.0, earliest_s=9 * 3600.0, deadline_s=20 * 3600.0),),
        negotiation=Negotiation(
            extra_price_per_kwh=rng.normal(0.0, 0.02, STEPS),
            target_w=rng.normal(0.0, 1000.0, STEPS),
            dual_w=rng.normal(0.0, 300.0, STEPS),
            rho_per_kwh_w=5e-5,
        ),
    )


def shared_day(rng: np.random.Generator) -> ScheduleInputs:
    """A day of the smaller problem that EMHASS can state; its limits are hard, so they leave room for priority 1."""
    day = full_day(rng)
    limits = np.random.default_rng(7)
    return ScheduleInputs(
        start_s=day.start_s,
        step_s=day.step_s,
        p1_load_w=day.p1_load_w,
        p2_load_w=np.zeros(STEPS),
        pv_w=day.pv_w,
        import_limit_w=limits.uniform(6000.0, 10_000.0, STEPS),
        export_limit_w=limits.uniform(1000.0, 5000.0, STEPS),
        buy_price_per_kwh=day.buy_price_per_kwh + rng.uniform(0.0, 0.02, STEPS),
        sell_price_per_kwh=day.sell_price_per_kwh,
        batteries=(BatteryState(soc_frac=0.5, end_min_soc_frac=0.5),),
        appliances=(
            ApplianceState(remaining_wh=14_400.0, earliest_s=0.0, deadline_s=7.5 * 3600.0),
            ApplianceState(remaining_wh=6000.0, earliest_s=5 * 3600.0, deadline_s=22.5 * 3600.0),
        ),
    )


def emhass_problem(inputs: ScheduleInputs, *, fresh: bool) -> dict[str, Any]:
    """The same problem in the words of `bench_emhass`, to be solved exactly."""
    battery, state = SHARED_HOUSE.batteries[0], inputs.batteries[0]
    return {
        "steps": inputs.steps,
        "step_s": inputs.step_s,
        "load_w": inputs.p1_load_w.tolist(),
        "pv_produced_w": (-inputs.pv_w).tolist(),
        "import_limit_w": inputs.import_limit_w.tolist(),
        "export_limit_w": inputs.export_limit_w.tolist(),
        "buy_price_per_kwh": inputs.buy_price_per_kwh.tolist(),
        "sell_price_per_kwh": inputs.sell_price_per_kwh.tolist(),
        "battery": {name: getattr(battery, name) for name in battery.__struct_fields__ if name != "name"} | {"soc_frac": state.soc_frac},
        "loads": [
            {
                "max_w": appliance.max_w,
                "energy_wh": wanted.remaining_wh,
                "first_step": round(wanted.earliest_s / inputs.step_s),
                "end_step": round(wanted.deadline_s / inputs.step_s),
            }
            for appliance, wanted in zip(SHARED_HOUSE.appliances, inputs.appliances, strict=True)
        ],
        "relative_gap": EXACT_GAP,
        "fresh": fresh,
    }


class _Ours:
    """One planner, timed."""

    def __init__(self, household: Household) -> None:
        self.household = household
        self.planner = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0)

    def plan(self, inputs: ScheduleInputs) -> tuple[Plan, float]:
        """The plan and its CPU time; anything but the solver's plan ends the benchmark."""
        started_s = time.process_time()
        plan = self.planner.plan(inputs, 0.0)
        cpu_s = time.process_time() - started_s
        if not isinstance(plan, Plan) or plan.made_by != "solver":
            raise HilError(f"schedule benchmark: the solver made no plan: {plan if not isinstance(plan, Plan) else plan.reasons}")
        return plan, cpu_s


class _Measured:
    """What one interleaved run collects, day by day."""

    def __init__(self) -> None:
        self.ours_s: list[float] = []
        self.default_s: list[float] = []
        self.default_status: set[str] = set()
        self.clarabel_s: list[float] = []
        self.gaps: list[float] = []
        self.breaches_w: list[float] = []
        self.shared_s: list[float] = []
        self.emhass_s: dict[bool, list[float]] = {True: [], False: []}
        self.bill_gaps: list[float] = []


def measure(days: int, seed: int, emhass_python: Path | None) -> list[dict[str, Any]]:
    """The rows, measured in this process."""
    measured = _Measured()
    full, shared = _Ours(FULL_HOUSE), _Ours(SHARED_HOUSE)
    helper = None if emhass_python is None else _Helper(emhass_python)
    rng = np.random.default_rng(seed)
    full.plan(full_day(rng))
    shared.plan(shared_day(rng))
    for _ in range(days):
        _compare_with_cvxpy(full, full_day(rng), measured)
        if helper is not None:
            _compare_with_emhass(shared, shared_day(rng), helper, measured)
    versions = None if helper is None else helper.close()
    return _rows(measured, versions)


def _compare_with_cvxpy(ours: _Ours, inputs: ScheduleInputs, measured: _Measured) -> None:
    from edge.schedule.specification import Specification

    clean = sanitise(ours.household, inputs)
    assert isinstance(clean, Sanitised)
    ladder = ladder_for(PriorityLadder(), clean.inputs, clean.reach_w)
    plan, cpu_s = ours.plan(inputs)
    measured.ours_s.append(cpu_s)
    started_s = time.process_time()
    exact = Specification(ours.household, clean.inputs, ladder)
    best = exact.solve("CLARABEL")
    measured.clarabel_s.append(time.process_time() - started_s)
    started_s = time.process_time()
    default = Specification(ours.household, clean.inputs, ladder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        default.solve()
    measured.default_s.append(time.process_time() - started_s)
    solver = default.problem.solver_stats.solver_name
    measured.default_status.add(f"{solver}: {default.problem.status}")
    measured.gaps.append(abs(exact.value_of(plan.schedule) - best) / abs(best))
    net_w = plan.schedule.net_import_w
    over_w = np.maximum(net_w - inputs.import_limit_w, -net_w - inputs.export_limit_w)
    told_w = plan.schedule.import_breach_w + plan.schedule.export_breach_w
    findings = check_schedule(ours.household, clean.inputs, plan.schedule)
    measured.breaches_w.append(max([float((over_w - told_w).max()), 0.0, *(finding.excess for finding in findings)]))


def _compare_with_emhass(ours: _Ours, inputs: ScheduleInputs, helper: _Helper, measured: _Measured) -> None:
    """The same smaller problem on both sides; the first day of a kept EMHASS object builds it and is not counted."""
    plan, cpu_s = ours.plan(inputs)
    measured.shared_s.append(cpu_s)
    bill = _bill(inputs, plan)
    for fresh in (True, False):
        answer = helper.solve(emhass_problem(inputs, fresh=fresh))
        if answer["status"] != "Optimal":
            raise HilError(f"schedule benchmark: EMHASS says {answer['status']}, expected Optimal")
        measured.emhass_s[fresh].append(answer["cpu_s"])
        measured.bill_gaps.append(abs(bill - answer["objective"]) / abs(answer["objective"]))


def _bill(inputs: ScheduleInputs, plan: Plan) -> float:
    """Energy bought and sold, and wear, in currency."""
    net_w, battery_w = plan.schedule.net_import_w, plan.schedule.battery_w[0]
    cost = inputs.buy_price_per_kwh @ np.maximum(net_w, 0.0) - inputs.sell_price_per_kwh @ np.maximum(-net_w, 0.0)
    return float((cost + SHARED_HOUSE.batteries[0].wear_per_kwh * np.abs(battery_w).sum()) * inputs.step_h / 1000.0)


class _Helper:
    """EMHASS as a coprocess in its own environment."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(HELPER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
        )
        self.versions: dict[str, str] = self._read()

    def solve(self, problem: dict[str, Any]) -> dict[str, Any]:
        """One problem, one answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(problem) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> dict[str, str]:
        """End the coprocess; returns its versions."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60.0)
        return self.versions

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise HilError(f"schedule benchmark: {HELPER.name} ended with exit {self._process.wait()} before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _rows(measured: _Measured, versions: dict[str, str] | None) -> list[dict[str, Any]]:
    """The measured figures against their targets; a comparison that could not be made has no value and says why."""
    ours_s, default_s, clarabel_s = measured.ours_s, measured.default_s, measured.clarabel_s
    days = f"{len(ours_s)} days"
    rows = [
        _row("schedule: CPU of one plan, 96 steps, full model", 1e3 * statistics.median(ours_s), "ms", "<= 4", days),
        _row(
            "schedule: cvxpy rebuilt with its default solver / ours",
            _median_ratio(default_s, ours_s),
            "x",
            ">= 100",
            f"{1e3 * statistics.median(default_s):.0f} ms; {', '.join(sorted(measured.default_status))}",
        ),
        _row(
            "schedule: cvxpy rebuilt with Clarabel / ours",
            _median_ratio(clarabel_s, ours_s),
            "x",
            ">= 12",
            f"{1e3 * statistics.median(clarabel_s):.1f} ms",
        ),
        _row("schedule: objective above the optimum, worst day", max(measured.gaps), "relative", "<= 1e-6", days),
        _row("schedule: worst broken limit", max(measured.breaches_w), "W", "<= 1", days),
    ]
    return rows + _emhass_rows(measured, versions)


def _emhass_rows(measured: _Measured, versions: dict[str, str] | None) -> list[dict[str, Any]]:
    name = "schedule: EMHASS's optimiser / ours, same problem"
    if versions is None:
        skipped = "skipped: no interpreter with EMHASS was given (--emhass-python)"
        return [{"name": name, "value": None, "unit": "x", "target": ">= 100", "met": None, "note": skipped}]
    fresh_s, kept_s, ours_s = measured.emhass_s[True], measured.emhass_s[False][1:], measured.shared_s
    built_ms = 1e3 * statistics.median(fresh_s)
    note = (
        f"emhass {versions['emhass']}, gap {EXACT_GAP:g}; its problem built for each day's envelope {built_ms:.0f} ms, ours"
        f" {1e3 * statistics.median(ours_s):.2f} ms; its kept problem, whose envelope cannot change,"
        f" {1e3 * statistics.median(kept_s):.0f} ms ({_median_ratio(kept_s, ours_s[1:]):.0f} x)"
    )
    return [
        _row(name, _median_ratio(fresh_s, ours_s), "x", ">= 100", note),
        _row(
            "schedule: bills of EMHASS and ours differ by, median day",
            statistics.median(measured.bill_gaps),
            "relative",
            "<= 1e-5",
            f"the same problem on both sides; worst day {max(measured.bill_gaps):.1e}",
        ),
    ]


def _median_ratio(theirs_s: list[float], ours_s: list[float]) -> float:
    return statistics.median(theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True))


def _row(name: str, value: float, unit: str, target: str, note: str) -> dict[str, Any]:
    sense, bound = target.split()
    met = value >= float(bound) if sense == ">=" else value <= float(bound)
    return {"name": name, "value": value, "unit": unit, "target": target, "met": met, "note": note}


def main(argv: list[str] | None = None) -> int:
    """Print the rows as one JSON document; `schedule_rows` calls this in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--emhass-python", type=Path)
    options = parser.parse_args(argv)
    sys.stdout.write(json.dumps(measure(options.days, options.seed, options.emhass_python), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
