"""`commonwatt-hil study NAME --live`: a study's mechanism for a day in the bench, against the same day in this process.

Thirty controllers of the scenario `street` answer the coordinator over a real broker and drive their devices over real Modbus/TCP, in
lockstep. Two things are held against a run without sockets: every negotiation, which is held again in this process by the same homes with
the same plans (`hil.market_ledger`), and the day itself, whose bills, energies and losses are compared with the same day in `sim`.
Controllers act as often as in the scenario: a home that acts once a minute cannot keep an envelope while a cloud passes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from coordinator.market.wire import SECURING
from hil.errors import ScenarioError
from hil.orchestrate import Mode, Order, run_order
from hil.results import WITH_ENVELOPES, Results, RunSummary
from hil.scenario import LoadedScenario, load_scenario
from hil.scratch import scratch
from hil.studies.result import Findings, Row, Say, Verdict, Word

SCENARIO = "street"
WITHIN = 0.01
MECHANISM_OF = {"doe": "doe", "p2pdnr": "p2p", "community": "p2p", "disco33": "disco", "dfe69": "dfe", "hierarchical594": "hierarchical"}
"""What a study's mechanism is called where homes hold it; `doe` has no study of its own."""


def live_study(name: str, *, seed: int, hours: float, mosquitto: Path | None, say: Say) -> Findings:
    """Run the mechanism of a study live and in process; ScenarioError where no scenario can hold it."""
    mechanism = MECHANISM_OF.get(name)
    if mechanism is None:
        raise ScenarioError(f"study {name!r} has no live form, expected one of {', '.join(MECHANISM_OF)}")
    if not 0.0 < hours <= 24.0:
        raise ScenarioError(f"--hours must be above 0 and at most 24, got {hours:g}")
    loaded = street_holding(mechanism, hours)
    runs: dict[Mode, RunSummary] = {}
    violations = 0
    with scratch("live") as folder:
        for mode in ("lockstep", "sim"):
            say(f"{hours:g} h of {mechanism} with 30 homes, {mode}")
            results = _play(loaded, mode, seed, folder / mode, mosquitto)
            runs[mode] = results.runs[WITH_ENVELOPES]
            violations += sum(entry.violations for entry in results.checkers if mode == "lockstep")
    rows = (*_agreement_rows(runs["lockstep"], loaded), *_day_rows(runs["lockstep"], runs["sim"]), _checker_row(violations))
    met = all(row.met is not False for row in rows)
    return Findings(
        source=f"mechanism {mechanism} held live by 30 controllers, against the same in one process",
        inputs={
            "scenario": f"{SCENARIO}, without faults, {hours:g} h, controllers act every {loaded.scenario.control.cycle_s:g} s",
            "mechanism": mechanism,
            "seed": f"{seed}, of the run; homes and weather are the scenario's",
        },
        rows=rows,
        verdicts=(
            Verdict(
                claim=f"{mechanism} over MQTT and Modbus ends within 1 % of {mechanism} in one process",
                word=Word.REPRODUCED if met else Word.MISSED,
                because="both are the same mechanism and the same controllers; the rows say how far they are apart",
            ),
        ),
        plots={},
    )


def street_holding(mechanism: str, hours: float) -> LoadedScenario:
    """The street with one mechanism, and without faults."""
    loaded = load_scenario(SCENARIO)
    scenario = loaded.scenario
    return msgspec.structs.replace(
        loaded,
        scenario=msgspec.structs.replace(
            scenario,
            day=msgspec.structs.replace(scenario.day, duration_h=hours),
            coordinator=msgspec.structs.replace(scenario.coordinator, mechanism=mechanism),
            faults=msgspec.structs.replace(scenario.faults, enabled=False),
        ),
    )


def _play(loaded: LoadedScenario, mode: Mode, seed: int, out: Path, mosquitto: Path | None) -> Results:
    order = Order(loaded=loaded, mode=mode, seed=seed, out=out, mosquitto=mosquitto, variants=(WITH_ENVELOPES,))
    return run_order(order, lambda run, done, total: None)


def _agreement_rows(live: RunSummary, loaded: LoadedScenario) -> tuple[Row, ...]:
    """How the negotiations of the live day ended, and how far from their twins."""
    market = live.market
    if market is None:
        return ()
    gap = np.inf if market.worst_gap_frac is None else market.worst_gap_frac
    apart_w = np.inf if market.worst_apart_w is None else market.worst_apart_w
    words = "worst of all negotiations of the day; the same homes and plans without a bus"
    return (
        Row(
            quantity="negotiations agreed, of those held",
            ours=market.agreed / max(market.negotiations, 1),
            target="all",
            met=market.agreed == market.negotiations > 0,
            note=f"{market.agreed} of {market.negotiations}; {market.rounds} rounds, {market.messages} messages",
        ),
        Row(quantity="cost of an agreement, off its twin [%]", ours=100.0 * gap, target="<= 1 %", met=gap <= WITHIN, note=words),
        Row(quantity="net imports agreed, off their twin [W]", ours=apart_w, note=words),
        Row(quantity="homes left out", ours=float(len(market.left_out)), note="; ".join((*market.left_out, *market.refusals))),
        *_network_rows(live, loaded),
        *_service_rows(live),
    )


def _network_rows(live: RunSummary, loaded: LoadedScenario) -> tuple[Row, ...]:
    """What agreements that are kept to the watt would do to the network; only a mechanism that secures it has to answer for that."""
    market, limits = live.market, loaded.scenario.limits
    if market is None or market.flow is None:
        return ()
    flow, answers = market.flow, market.mechanism in SECURING
    words = "power-grid-model, all phases" if answers else "power-grid-model, all phases; this mechanism leaves the network to envelopes"
    rows = (
        ("highest voltage agreed [V]", flow.voltage_max_v, f"<= {limits.voltage_max_v:g}", flow.voltage_max_v <= limits.voltage_max_v),
        ("lowest voltage agreed [V]", flow.voltage_min_v, f">= {limits.voltage_min_v:g}", flow.voltage_min_v >= limits.voltage_min_v),
        ("transformer agreed [%]", 100.0 * flow.transformer_frac, "<= 100", flow.transformer_frac <= limits.transformer_frac),
    )
    return tuple(
        Row(quantity=name, ours=ours, target=target if answers else "", met=bool(met) if answers else None, note=words)
        for name, ours, target, met in rows
    )


def _service_rows(live: RunSummary) -> tuple[Row, ...]:
    """What the network operator bought, where it buys anything."""
    services = None if live.market is None else live.market.services
    if services is None:
        return ()
    words = f"{services.delivered_kwh:.1f} of {services.owed_kwh:.1f} kWh by the meters, from contracts made without the network"
    return (
        Row(quantity="grid services owed, most at once [kW]", ours=services.owed_kw),
        Row(quantity="grid services delivered [kWh]", ours=services.delivered_kwh, note=words),
        Row(quantity="paid for grid services [$]", ours=sum(services.paid), note="for what was delivered, at the price that moved it"),
    )


def _day_rows(live: RunSummary, alone: RunSummary) -> tuple[Row, ...]:
    """The figures of the day over sockets beside those without. A bill near nothing is measured against what homes paid and earned."""
    turnover = sum(abs(home.bill) for home in alone.homes)
    rows = [
        ("bills of all homes", live.figures.bills, alone.figures.bills, turnover),
        ("energy from the grid [kWh]", live.figures.source_import_kwh, alone.figures.source_import_kwh, None),
        ("solar energy used [kWh]", abs(live.figures.pv_used_kwh), abs(alone.figures.pv_used_kwh), None),
        ("losses [kWh]", live.figures.losses_kwh, alone.figures.losses_kwh, None),
        ("energy served [kWh]", live.figures.load_kwh + live.figures.ev_kwh, alone.figures.load_kwh + alone.figures.ev_kwh, None),
    ]
    found = []
    for words, ours, other, scale in rows:
        off = abs(ours - other) / max(abs(other) if scale is None else scale, 1e-9)
        found.append(
            Row(
                quantity=words, ours=ours, target="within 1 % of sim", met=bool(off <= WITHIN),
                note=f"{other:,.4g} in one process, {100.0 * off:.2f} % apart",
            )
        )  # fmt: skip
    return tuple(found)


def _checker_row(violations: int) -> Row:
    return Row(quantity="checkers violated, live", ours=float(violations), target="0", met=violations == 0)
