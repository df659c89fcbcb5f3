"""From a scenario to the day that it describes: homes, loads, sun, source voltage and prices, at the plant's step."""

from __future__ import annotations

import msgspec

from hil.errors import ScenarioError
from hil.households import NeighbourhoodDay
from hil.households.street import street_day
from hil.households.tariffs import TARIFFS
from hil.households.victoria import victoria_day
from hil.scenario import LoadedScenario


def build_day(loaded: LoadedScenario) -> NeighbourhoodDay:
    """The day of a scenario. Raises `ScenarioError` for a tariff that nobody knows and for data that are not there."""
    scenario = loaded.scenario
    start_s, step_s, run_s = scenario.day.start_s, scenario.control.plant_step_s, scenario.day.duration_h * 3600.0
    if scenario.homes.source == "street":
        day = street_day(
            scenario.homes.seed,
            start_s=start_s,
            step_s=step_s,
            run_s=run_s,
            utc_offset_s=scenario.day.utc_offset_s,
            sky=scenario.homes.sky,
            history_days=scenario.homes.history_days,
        )
    else:
        assert loaded.homes_folder is not None, "checked when the scenario was read"
        day = victoria_day(
            loaded.homes_folder,
            scenario.homes.seed,
            start_s=start_s,
            step_s=step_s,
            run_s=run_s,
            history_days=scenario.homes.history_days,
        )
    name = scenario.tariff.name
    if name is None:
        return day
    if name not in TARIFFS:
        raise ScenarioError(f"{loaded.path}: tariff.name must be one of {', '.join(sorted(TARIFFS))}, got {name!r} - at $.tariff")
    return msgspec.structs.replace(day, tariff=TARIFFS[name])
