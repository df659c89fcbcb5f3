"""Is a scenario worth coordinating? `python -m hil.households.street_check` answers with crude behaviours, without any controller.

Five days on the same feeder with the plant's own power flow: P1 load alone; all load alone; every home for itself, at full power in
its cheapest hours; the same spread evenly over those hours and their equals; and the third held inside one static envelope per home.
The scenario is sound if the third breaks a limit and the first two and the last do not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np
import numpy.typing as npt

from hil.feeder import read_feeder
from hil.households.profiles import Floats, HouseholdProfiles, NeighbourhoodDay
from hil.households.street import street_day
from hil.households.victoria import NETWORK, victoria_day
from hil.networks.street import FOLDER, MAXIMUM_V, MINIMUM_V
from hil.plant import Plant

Flags = npt.NDArray[np.bool_]
EVENING_S = (15.0 * 3600.0, 21.0 * 3600.0)
SPREAD = "each for itself, spread"
EXPORT_LIMIT_W = 2000.0
IMPORT_LIMIT_W = 4500.0


class DayOnTheFeeder(msgspec.Struct, frozen=True, kw_only=True):
    """What one behaviour does to the feeder; voltages are of the connection points, line to neutral."""

    behaviour: str
    highest_v: float
    lowest_v: float
    over_voltage_minutes: float
    under_voltage_minutes: float
    transformer_peak_frac: float
    transformer_overload_minutes: float
    line_peak_frac: float
    curtailed_wh: float

    @property
    def legal(self) -> bool:
        return self.over_voltage_minutes + self.under_voltage_minutes + self.transformer_overload_minutes == 0.0


def check_day(day: NeighbourhoodDay, network: Path) -> list[DayOnTheFeeder]:
    """One row per behaviour, over the run of `day` (whose step should be a minute or more: each step is a power flow)."""
    essential = _stack(day, "p1_load_w")
    load = essential + _stack(day, "p2_load_w")
    available = _stack(day, "pv_available_w")
    greedy = np.array([_alone(profiles, day, at_once=True) for profiles in day.households])
    spread = np.array([_alone(profiles, day, at_once=False) for profiles in day.households])
    held = np.clip(greedy, -EXPORT_LIMIT_W, np.maximum(IMPORT_LIMIT_W, load - available))
    curtailed_wh = float(np.maximum(held - greedy, 0.0).sum()) * day.step_s / 3600.0
    plant = Plant(read_feeder(network))
    return [
        _run(plant, day, "essential load alone", essential),
        _run(plant, day, "all load alone", load),
        _run(plant, day, "each for itself, at once", greedy),
        _run(plant, day, SPREAD, spread),
        _run(plant, day, "inside static envelopes", held, curtailed_wh),
    ]


def _stack(day: NeighbourhoodDay, series: str) -> Floats:
    return np.array([getattr(profiles, series)[: day.run_steps] for profiles in day.households], dtype=np.float64)


def _alone(profiles: HouseholdProfiles, day: NeighbourhoodDay, at_once: bool) -> Floats:
    """Net import of one home that looks at prices only: car, tank and battery when it is cheapest, PV always out."""
    site, steps, step_s = profiles.site, day.run_steps, day.step_s
    times_s = profiles.times_s[:steps]
    second = times_s - day.start_s
    price, _ = day.tariff.prices(times_s, day.utc_offset_s)
    net_w = profiles.load_w[:steps].astype(np.float64) - profiles.pv_available_w[:steps]
    wants = [(tank.rated_w, tank.energy_needed_wh, _inside(times_s, tank.windows[0])) for tank in site.shiftable]
    session = site.ev.connected_at(day.start_s) if site.ev is not None else None
    if site.ev is not None and session is not None:
        energy_wh = session.energy_needed_wh / site.ev.charge_efficiency_frac
        wants.append((site.ev.rated_w, energy_wh, _inside(times_s, (session.arrival_s, session.departure_s))))
    if site.battery is not None:
        energy_wh = (1.0 - site.battery.initial_soc_frac) * site.battery.capacity_wh / site.battery.charge_efficiency_frac
        wants.append((site.battery.max_charge_w, energy_wh, second < EVENING_S[0]))
        evening = (second >= EVENING_S[0]) & (second < EVENING_S[1])
        usable_wh = (1.0 - site.battery.minimum_soc_frac) * site.battery.capacity_wh
        discharge_w = np.where(evening, np.clip(net_w, 0.0, site.battery.max_discharge_w), 0.0)
        net_w -= np.where(np.cumsum(discharge_w) * step_s / 3600.0 <= usable_wh, discharge_w, 0.0)
    for rated_w, energy_wh, allowed in wants:
        net_w += _cheapest(price, allowed, rated_w, energy_wh, step_s, at_once)
    return net_w


def _inside(times_s: Floats, window: tuple[float, float]) -> Flags:
    return np.asarray((times_s >= window[0]) & (times_s < window[1]))


def _cheapest(price: Floats, allowed: Flags, rated_w: float, energy_wh: float, step_s: float, at_once: bool) -> Floats:
    """Full power in the cheapest allowed intervals, earliest first among equals; or evenly over all those of the highest price so used."""
    order = np.flatnonzero(allowed)[np.argsort(price[allowed], kind="stable")]
    needed = min(round(energy_wh * 3600.0 / (rated_w * step_s)), len(order))
    power_w = np.zeros(len(price))
    if needed == 0:
        return power_w
    chosen = order[:needed] if at_once else np.flatnonzero(allowed & (price <= price[order[needed - 1]]))
    power_w[chosen] = energy_wh * 3600.0 / (len(chosen) * step_s)
    return np.minimum(power_w, rated_w)


def _run(plant: Plant, day: NeighbourhoodDay, behaviour: str, net_import_w: Floats, curtailed_wh: float = 0.0) -> DayOnTheFeeder:
    reactive = _stack(day, "load_var")
    row_of = {profiles.site.connection: row for row, profiles in enumerate(day.households)}
    order = [row_of[connection.name] for connection in plant.feeder.connections]
    steps = net_import_w.shape[1]
    highest, lowest, transformer, line = np.empty((4, steps))
    for step in range(steps):
        state = plant.solve(net_import_w[order, step], reactive[order, step], float(day.source_voltage_pu[step]))
        highest[step], lowest[step] = np.nanmax(state.voltage_v), np.nanmin(state.voltage_v)
        transformer[step], line[step] = state.transformer_loading.max(), state.line_loading.max()
    minutes = day.step_s / 60.0
    return DayOnTheFeeder(
        behaviour=behaviour,
        highest_v=float(highest.max()),
        lowest_v=float(lowest.min()),
        over_voltage_minutes=float((highest > MAXIMUM_V).sum() * minutes),
        under_voltage_minutes=float((lowest < MINIMUM_V).sum() * minutes),
        transformer_peak_frac=float(transformer.max()),
        transformer_overload_minutes=float((transformer > 1.0).sum() * minutes),
        line_peak_frac=float(line.max()),
        curtailed_wh=curtailed_wh,
    )


def main(argv: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    parser = argparse.ArgumentParser(prog="python -m hil.households.street_check", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of the real data: check network 28 instead of the street")
    parser.add_argument("--step", type=float, default=60.0, help="seconds per power flow")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(argv)
    if options.data is None:
        rows = check_day(street_day(options.seed, step_s=options.step, history_days=0), FOLDER)
    else:
        day = victoria_day(options.data, options.seed, step_s=options.step, history_days=0)
        rows = check_day(day, options.data / NETWORK)
    sound = [row.legal for row in rows if row.behaviour != SPREAD] == [True, True, False, True]
    if options.json:
        out.write(json.dumps({"seed": options.seed, "sound": sound, "rows": [msgspec.to_builtins(row) for row in rows]}) + "\n")
    else:
        out.write(f"{'behaviour':28}{'V min':>8}{'V max':>8}{'min <216':>10}{'min >253':>10}{'trafo':>8}{'min >1':>8}{'line':>7}\n")
        for row in rows:
            out.write(
                f"{row.behaviour:28}{row.lowest_v:8.1f}{row.highest_v:8.1f}{row.under_voltage_minutes:10.0f}"
                f"{row.over_voltage_minutes:10.0f}{row.transformer_peak_frac:8.2f}{row.transformer_overload_minutes:8.0f}"
                f"{row.line_peak_frac:7.2f}\n"
            )
        out.write("sound\n" if sound else "not sound: a day without coordination must break a limit, the others must not\n")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
