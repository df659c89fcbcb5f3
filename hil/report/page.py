"""The page of the report: fills the template with words, tables and plots."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from hil.figures import RunFigures
from hil.frames import Record
from hil.report import plots
from hil.results import RUN_TITLES, UNCOORDINATED, WITH_ENVELOPES, Results

CHECKER_WORDS = {
    "envelope_held": "The meter is back inside its envelope within 15 s, to the lower of 4 % of rating and 100 W.",
    "p1_never_shed": "Essential load is served in full at every step.",
    "energy_conserved": "Every meter equals the sum of its parts; batteries, source and losses balance.",
    "network_limits": "Voltage band, transformer and lines stay inside at every step.",
    "soc_within_limits": "No battery is emptier than empty or fuller than full.",
    "money_conserved": "What homes owe is what the retailer is owed, to the last millionth.",
    "no_unverified_envelope": "Every published envelope names a guarantee that was proved.",
    "one_leader_per_term": "No term has two leaders, in any certificate that passed and among those who acted.",
    "sums_exact_or_refused": "Every sum that was opened is, watt by watt, what a group of that size reported.",
    "no_plaintext": "No household's power passed over the broker in the clear.",
    "no_actuation_under_an_old_term": "No home followed a leader whose term another's had replaced.",
    "negotiation_replays": "The operator's record of a negotiation gives every step of it again.",
    "negotiated_limit_held": "What the community agreed together stays inside the limits of its feeder's head.",
    "published_envelopes_hold": "The plant itself survives the phase corners of what was published.",
    "signed_only": "Every command that left the coordinator carries its signature.",
    "forgeries_refused": "Unsigned, altered and replayed commands were refused by every edge.",
}


class TableRow(NamedTuple):
    """One line of the side-by-side table; `worse` names the run whose number breaks a limit, if any."""

    label: str
    free: str
    held: str
    free_bad: bool = False
    held_bad: bool = False


def write_report(results: Results, records: dict[str, Record], path: Path) -> None:
    """Write the report as one self-contained file."""
    environment = Environment(
        loader=PackageLoader("hil.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    zone = dt.timezone(dt.timedelta(seconds=results.utc_offset_s))
    homes = {run: summary.homes for run, summary in results.runs.items()}
    shown = homes.get(WITH_ENVELOPES, next(iter(homes.values())))
    page = template.render(
        results=results,
        day=dt.datetime.fromtimestamp(results.start_s, zone).strftime("%A, %-d %B %Y"),
        rows=_table(results),
        titles=RUN_TITLES,
        checker_words=CHECKER_WORDS,
        voltage=Markup(plots.voltage_band(records, results.limits)),
        loading=Markup(plots.transformer_loading(records, results.limits)),
        net_import=Markup(plots.net_import(records, shown)),
        battery=Markup(plots.battery_state(records)),
        bills=Markup(plots.bills(homes, results.currency)),
        solar=Markup(plots.solar_use(shown, RUN_TITLES[WITH_ENVELOPES if WITH_ENVELOPES in homes else UNCOORDINATED])),
        faults=Markup(plots.fault_timeline(results.faults, results.start_s, results.duration_h)) if results.faults else None,
        clock=lambda time_s: dt.datetime.fromtimestamp(time_s, zone).strftime("%H:%M:%S"),
    )
    path.write_text(page, encoding="utf-8")


def _table(results: Results) -> list[TableRow]:
    """The figures side by side; a run that was not made shows a dash."""
    free, held = (results.runs.get(run) for run in (UNCOORDINATED, WITH_ENVELOPES))
    limits, currency = results.limits, results.currency

    def row(label: str, words: str, name: str, scale: float = 1.0, bad_above: float | None = None) -> TableRow:
        values = [None if run is None else getattr(run.figures, name) for run in (free, held)]
        texts = ["–" if value is None else format(value * scale, words) for value in values]
        bad = [value is not None and bad_above is not None and value > bad_above for value in values]
        return TableRow(label, texts[0], texts[1], bad[0], bad[1])

    lowest = row("Lowest voltage [V]", ".1f", "voltage_min_v")
    lowest = lowest._replace(
        free_bad=free is not None and _too_low(free.figures, limits.voltage_min_v),
        held_bad=held is not None and _too_low(held.figures, limits.voltage_min_v),
    )
    return [
        row("Highest voltage [V]", ".1f", "voltage_max_v", bad_above=limits.voltage_max_v),
        lowest,
        row("Voltage outside the band [min]", ".1f", "voltage_outside_min", bad_above=0.0),
        row("Transformer peak [% of rating]", ".1f", "transformer_peak_frac", 100.0, bad_above=limits.transformer_frac),
        row("Transformer overloaded [min]", ".1f", "transformer_overload_min", bad_above=0.0),
        row("Line peak [% of rating]", ".1f", "line_peak_frac", 100.0, bad_above=limits.line_frac),
        row("Lines overloaded [min]", ".1f", "line_overload_min", bad_above=0.0),
        row("Losses of the feeder [kWh]", ".1f", "losses_kwh"),
        row("Solar energy available [kWh]", ".1f", "pv_available_kwh"),
        row("Solar energy curtailed [kWh]", ".1f", "curtailed_kwh"),
        row("Solar energy curtailed [%]", ".1f", "curtailed_frac", 100.0),
        row("Fairness of curtailment [Gini, 0 is equal]", ".3f", "fairness_gini"),
        row("Fairness of export limits [Gini, 0 is equal]", ".3f", "export_limit_gini"),
        row("Vehicles charged [kWh]", ".1f", "ev_kwh"),
        row("Vehicles left short [kWh]", ".1f", "ev_missing_kwh"),
        row("Flexible load (P2) shed [kWh]", ".2f", "p2_shed_kwh"),
        row(f"Bills of all homes [{currency}]", ".2f", "bills"),
        row(f"Lowest bill [{currency}]", ".2f", "bill_lowest"),
        row(f"Highest bill [{currency}]", ".2f", "bill_highest"),
        row("Inequality of bills [Gini]", ".3f", "bill_gini"),
    ]


def _too_low(figures: RunFigures, voltage_min_v: float) -> bool:
    return figures.voltage_min_v < voltage_min_v
