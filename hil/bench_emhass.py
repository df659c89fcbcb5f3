"""EMHASS's optimiser as a coprocess, for `hil.bench_schedule`; it runs in an environment of its own and imports nothing of this repository.

    PYTHON_WITH_EMHASS hil/bench_emhass.py

Each line on stdin is one problem as JSON (the keys of `bench_schedule.emhass_problem`, SI), each line on stdout the answer: objective in
currency, EMHASS's status, and the process CPU time of `Optimization.perform_naive_mpc_optim`, either with its object made afresh (`fresh`)
or with the one kept from the last problem with the same battery, loads and limits (EMHASS keeps such a cached object when it serves; the
limits are constants of the built problem, so another envelope needs another object).

The problem in EMHASS's terms (emhass 0.18.7, cvxpy with HiGHS): profit cost function, one battery with start equal to end, wear as
charge and discharge weights, PV that may be curtailed, continuous deferrable loads as energies inside windows, limits per interval.
EMHASS adds a tie-break of 1e-7 per W curtailed, nearly a hundredth of the feed-in price; it is set to zero so that both solve one problem.
"""

import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import emhass
import emhass.optimization
import numpy as np
import pandas as pd
from emhass.optimization import Optimization

PV = "sensor.power_photovoltaics"
LOAD = "sensor.power_load_no_var_loads"


def main() -> int:
    """Answer one problem a line until stdin ends."""
    logging.disable(logging.CRITICAL)
    emhass.optimization.CURTAILMENT_TIEBREAK_EPS = 0.0
    kept: dict[str, Optimization] = {}
    _say({"emhass": version("emhass"), "cvxpy": version("cvxpy")})
    for line in sys.stdin:
        _say(_solve(json.loads(line), kept))
    return 0


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _solve(problem: dict[str, Any], kept: dict[str, Optimization]) -> dict[str, Any]:
    steps, step_s = problem["steps"], problem["step_s"]
    index = pd.date_range("2026-01-01", periods=steps, freq=f"{int(step_s)}s", tz="UTC")
    columns = {
        PV: problem["pv_produced_w"],
        LOAD: problem["load_w"],
        "unit_load_cost": problem["buy_price_per_kwh"],
        "unit_prod_price": problem["sell_price_per_kwh"],
    }
    data = pd.DataFrame(columns, index=index)
    constants = ("battery", "loads", "import_limit_w", "export_limit_w", "relative_gap")
    shape = json.dumps([steps, step_s, *(problem[name] for name in constants)])
    started_s = time.process_time()
    if problem["fresh"] or shape not in kept:
        kept[shape] = _optimization(problem)
    optimization = kept[shape]
    soc_frac = problem["battery"]["soc_frac"]
    result = optimization.perform_naive_mpc_optim(
        data,
        data[PV],
        data[LOAD],
        steps,
        soc_init=soc_frac,
        soc_final=soc_frac,
        def_total_hours=[load["energy_wh"] / load["max_w"] for load in problem["loads"]],
        def_start_timestep=[load["first_step"] for load in problem["loads"]],
        def_end_timestep=[load["end_step"] for load in problem["loads"]],
    )
    cpu_s = time.process_time() - started_s
    return {"objective": _objective(problem, result), "status": str(optimization.optim_status), "cpu_s": cpu_s}


def _optimization(problem: dict[str, Any]) -> Optimization:
    """A fresh EMHASS object on its own default configuration with what the problem says."""
    battery, loads = problem["battery"], problem["loads"]
    defaults = json.loads((Path(emhass.__file__).parent / "data" / "config_defaults.json").read_text())
    count = len(loads)
    settings = defaults | {
        "lp_solver_mip_rel_gap": problem["relative_gap"],
        "num_threads": 1,
        "set_use_battery": True,
        "set_use_pv": True,
        "set_nodischarge_to_grid": False,
        "set_nocharge_from_grid": False,
        "compute_curtailment": True,
        "weight_battery_charge": battery["wear_per_kwh"],
        "weight_battery_discharge": battery["wear_per_kwh"],
        "battery_charge_efficiency": battery["charge_efficiency_frac"],
        "battery_discharge_efficiency": battery["discharge_efficiency_frac"],
        "battery_charge_power_max": battery["max_charge_w"] * battery["charge_efficiency_frac"],
        "battery_discharge_power_max": battery["max_discharge_w"] / battery["discharge_efficiency_frac"],
        "battery_nominal_energy_capacity": battery["capacity_wh"],
        "battery_minimum_state_of_charge": battery["min_soc_frac"],
        "battery_maximum_state_of_charge": battery["max_soc_frac"],
        "battery_target_state_of_charge": battery["soc_frac"],
        "maximum_power_from_grid": problem["import_limit_w"],
        "maximum_power_to_grid": problem["export_limit_w"],
        "number_of_deferrable_loads": count,
        "nominal_power_of_deferrable_loads": [load["max_w"] for load in loads],
        "minimum_power_of_deferrable_loads": [0.0] * count,
        "operating_hours_of_each_deferrable_load": [load["energy_wh"] / load["max_w"] for load in loads],
        "start_timesteps_of_each_deferrable_load": [load["first_step"] for load in loads],
        "end_timesteps_of_each_deferrable_load": [load["end_step"] for load in loads],
        "treat_deferrable_load_as_semi_cont": [False] * count,
        "set_deferrable_load_single_constant": [False] * count,
    }
    retrieve = {
        "optimization_time_step": pd.Timedelta(seconds=problem["step_s"]),
        "time_zone": "UTC",
        "sensor_power_photovoltaics": PV,
        "sensor_power_load_no_var_loads": LOAD,
    }
    plant, optim = dict(settings), dict(settings)
    optim["delta_forecast_daily"] = pd.Timedelta(seconds=problem["step_s"] * problem["steps"])
    logger = logging.getLogger("emhass")
    return Optimization(
        retrieve, optim, plant, "unit_load_cost", "unit_prod_price", "profit", {"data_path": Path(), "root_path": Path()}, logger
    )


def _objective(problem: dict[str, Any], result: pd.DataFrame) -> float:
    """The bill with wear, computed from EMHASS's powers (it reports grid and battery power signed: import and discharge positive)."""
    step_h = problem["step_s"] / 3600.0
    grid_w = result["P_grid"].to_numpy()
    battery_w = result["P_batt"].to_numpy()
    buy, sell = np.array(problem["buy_price_per_kwh"]), np.array(problem["sell_price_per_kwh"])
    bill = buy @ np.maximum(grid_w, 0.0) - sell @ np.maximum(-grid_w, 0.0)
    return float((bill + problem["battery"]["wear_per_kwh"] * np.abs(battery_w).sum()) * step_h / 1000.0)


if __name__ == "__main__":
    sys.exit(main())
