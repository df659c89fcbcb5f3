"""`commonwatt-hil compare SCENARIO`: the same day under several mechanisms, in one table.

Every column is a whole run of the bench: the same homes, sun, people and prices, the same controllers, and a power-flow plant. `none` is
every home for itself; `doe` is verified envelopes alone; the others negotiate inside those envelopes. Faults stay out unless asked for.
Bills are those of the meters at the scenario's tariff; where members trade, less what they gained by it; where the
network operator buys services, less what it paid for those that were delivered.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from coordinator.market.settings import HeldName
from hil.errors import ScenarioError
from hil.figures import gini
from hil.orchestrate import Mode, Order, load_records, run_order
from hil.results import UNCOORDINATED, WITH_ENVELOPES, RunSummary
from hil.scenario import LoadedScenario, load_scenario, part_of_day

NONE = "none"
HELD = (NONE, "doe", *get_args(HeldName))


class Compared(Struct, frozen=True, kw_only=True):
    """One mechanism's day. Costs are in the scenario's currency; `gini` is that of what each home pays above the lowest bill; `remarks` say
    what was left out or taken otherwise than it was given.
    """

    mechanism: str
    cost: float
    cost_per_home: float
    cost_lowest: float
    cost_highest: float
    gini: float
    losses_kwh: float
    voltage_min_v: float
    voltage_max_v: float
    voltage_outside_min: float
    transformer_peak_frac: float
    overload_min: float
    curtailed_kwh: float
    served_kwh: float
    unserved_kwh: float
    traded_kwh: float
    services_kwh: float
    services_paid: float
    negotiations: int
    agreed: int
    rounds: int
    messages: int
    violations: int
    seconds: float
    remarks: tuple[str, ...] = ()


class Comparison(Struct, frozen=True, kw_only=True):
    """All columns of one scenario."""

    scenario: str
    mode: str
    seed: int
    hours: float
    homes: int
    currency: str
    rows: tuple[Compared, ...]


def compare_command(options: argparse.Namespace) -> int:
    """Run the day under each mechanism; 0 when no checker was violated in a coordinated run."""
    names = mechanisms_named(options.mechanisms)
    loaded = part_of_day(load_scenario(options.scenario, data=options.data), options.from_h, options.hours)
    scenario = loaded.scenario
    if scenario.community is not None:
        raise ScenarioError(f"{loaded.path}: compare asks homes by name, and those of this scenario sum in secret - at $.community")
    if not options.faults:
        scenario = msgspec.structs.replace(scenario, faults=msgspec.structs.replace(scenario.faults, enabled=False))
    seed = scenario.seed if options.seed is None else options.seed
    out = Path("out") / f"{scenario.name}-compared" if options.out is None else options.out
    loaded = msgspec.structs.replace(loaded, scenario=scenario)
    rows = tuple(_run(loaded, name, options.mode, seed, out, options.mosquitto) for name in names)
    comparison = Comparison(
        scenario=scenario.name,
        mode=options.mode,
        seed=seed,
        hours=scenario.day.duration_h,
        homes=len(load_records(out / names[0], (_variant(names[0]),))[_variant(names[0])].homes),
        currency=scenario.tariff.currency,
        rows=rows,
    )
    (out / "comparison.json").write_bytes(msgspec.json.format(msgspec.json.encode(comparison)) + b"\n")
    if options.json:
        sys.stdout.write(msgspec.json.encode(comparison).decode() + "\n")
    else:
        print_comparison(comparison)
        sys.stdout.write(f"\nseries and results of every run: {out}\n")
    return 0 if all(row.violations == 0 for row in rows if row.mechanism != NONE) else 1


def mechanisms_named(text: str) -> tuple[str, ...]:
    """The mechanisms of a list with commas; each must be one that a scenario can hold, and named once."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise ScenarioError(f"--mechanisms names none, expected some of {', '.join(HELD)}")
    for name in names:
        if name not in HELD:
            raise ScenarioError(f"mechanism {name!r} does not exist, expected some of {', '.join(HELD)}")
    if len(set(names)) != len(names):
        raise ScenarioError(f"--mechanisms names one of them twice: {text}")
    return names


def print_comparison(comparison: Comparison) -> None:
    """One column for each mechanism."""
    console = Console(highlight=False, markup=False)
    console.print(
        f"{comparison.scenario}: {comparison.homes} homes, {comparison.hours:g} h, {comparison.mode}, seed {comparison.seed}", style="bold"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for row in comparison.rows:
        table.add_column(row.mechanism, justify="right")
    for words, field, form in ROWS:
        table.add_row(words.format(currency=comparison.currency), *(form.format(getattr(row, field)) for row in comparison.rows))
    console.print(table)
    for row in comparison.rows:
        for remark in row.remarks:
            console.print(f"{row.mechanism}: {remark}", soft_wrap=True)


ROWS = (
    ("cost in total [{currency}]", "cost", "{:.2f}"),
    ("cost per household [{currency}]", "cost_per_home", "{:.3f}"),
    ("lowest [{currency}]", "cost_lowest", "{:.2f}"),
    ("highest [{currency}]", "cost_highest", "{:.2f}"),
    ("Gini of costs above the lowest", "gini", "{:.3f}"),
    ("losses [kWh]", "losses_kwh", "{:.2f}"),
    ("lowest voltage [V]", "voltage_min_v", "{:.1f}"),
    ("highest voltage [V]", "voltage_max_v", "{:.1f}"),
    ("voltage outside [min]", "voltage_outside_min", "{:.1f}"),
    ("transformer at most", "transformer_peak_frac", "{:.0%}"),
    ("overload [min]", "overload_min", "{:.1f}"),
    ("curtailed [kWh]", "curtailed_kwh", "{:.2f}"),
    ("served [kWh]", "served_kwh", "{:.1f}"),
    ("not served [kWh]", "unserved_kwh", "{:.2f}"),
    ("traded [kWh]", "traded_kwh", "{:.2f}"),
    ("grid services delivered [kWh]", "services_kwh", "{:.2f}"),
    ("paid for them [{currency}]", "services_paid", "{:.2f}"),
    ("negotiations", "negotiations", "{}"),
    ("agreed", "agreed", "{}"),
    ("rounds", "rounds", "{}"),
    ("messages", "messages", "{}"),
    ("checkers violated", "violations", "{}"),
    ("seconds", "seconds", "{:.0f}"),
)
"""What the table calls a figure, its name, and how it is written."""


def _variant(name: str) -> str:
    return UNCOORDINATED if name == NONE else WITH_ENVELOPES


def _run(loaded: LoadedScenario, name: str, mode: Mode, seed: int, out: Path, mosquitto: Path | None) -> Compared:
    """One run and its column."""
    scenario, variant = loaded.scenario, _variant(name)
    if name != NONE:
        coordinator = msgspec.structs.replace(scenario.coordinator, mechanism=name)
        loaded = msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(scenario, coordinator=coordinator))
    begun_s = time.monotonic()

    def progress(run: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{name}: {100 * done // total} % of the day, {time.monotonic() - begun_s:.0f} s ")

    order = Order(loaded=loaded, mode=mode, seed=seed, out=out / name, mosquitto=mosquitto, variants=(variant,))
    results = run_order(order, progress)
    sys.stderr.write("\n")
    violations = sum(entry.violations for entry in results.checkers)
    return column(name, results.runs[variant], violations, time.monotonic() - begun_s)


def column(name: str, summary: RunSummary, violations: int, seconds: float) -> Compared:
    """The figures of one run as a column."""
    figures, market = summary.figures, summary.market
    bills = np.array([home.bill for home in summary.homes])
    if market is not None and market.trading is not None:
        bills = bills - np.array(market.trading.gains)
    services = None if market is None else market.services
    if services is not None:
        bills = bills - np.array(services.paid)
    return Compared(
        mechanism=name,
        cost=float(bills.sum()),
        cost_per_home=float(bills.mean()),
        cost_lowest=float(bills.min()),
        cost_highest=float(bills.max()),
        gini=gini(bills - bills.min()),
        losses_kwh=figures.losses_kwh,
        voltage_min_v=figures.voltage_min_v,
        voltage_max_v=figures.voltage_max_v,
        voltage_outside_min=figures.voltage_outside_min,
        transformer_peak_frac=figures.transformer_peak_frac,
        overload_min=max(figures.transformer_overload_min, figures.line_overload_min),
        curtailed_kwh=figures.curtailed_kwh,
        served_kwh=figures.load_kwh + figures.ev_kwh,
        unserved_kwh=figures.p2_shed_kwh + figures.ev_missing_kwh,
        traded_kwh=0.0 if market is None or market.trading is None else market.trading.traded_kwh,
        services_kwh=0.0 if services is None else services.delivered_kwh,
        services_paid=0.0 if services is None else sum(services.paid),
        negotiations=0 if market is None else market.negotiations,
        agreed=0 if market is None else market.agreed,
        rounds=0 if market is None else market.rounds,
        messages=0 if market is None else market.messages,
        violations=violations,
        seconds=seconds,
        remarks=() if market is None else tuple(words for words in (market.remark, *market.refusals, *market.left_out) if words),
    )
