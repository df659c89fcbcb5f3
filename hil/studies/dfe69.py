"""Study `dfe69`: source 001 on its 69-bus network. Base case, the operator's own envelopes (DOE) and agreed ones (DFE).

The paper prints three rows of losses and no input but the network; `dfe69_case.Choices` is the list of what was chosen instead. Losses are
those of an exact AC power flow of the cleared net imports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context

from coordinator.mechanisms.conversation import ConversationError, Talk, converse
from coordinator.mechanisms.dfe.central import CentralProblem, Cleared
from coordinator.mechanisms.dfe.negotiation import Agreement
from hil.errors import RunError
from hil.report.style import BLUE, GREY, ORANGE, STYLE, hours_axis, new_figure, to_svg
from hil.studies.dfe69_case import BASE_LOSS_WH, HOURS, NAMES, Choices, DfeCase, FloatArray, chosen, load_dfe_case
from hil.studies.dfe69_coverage import coverage_rows
from hil.studies.result import Findings, Row, Say, StudyOrder, Verdict, Word, relative

SOURCE = "M. Sedaghat, E. Rokrok, M. Doostizadeh, dynamic flexibility envelopes, J. Southern Communication Engineering, 2025, Table I"
PRINTED = {"base": (2929.0, 1351.0), "DOE": (2550.0, 1168.0), "DFE": (2380.0, 1086.0)}
TARGET_PCT = -18.74
SCALES = (0.85, 1.0, 1.1, 1.2)
WEIGHT_FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
MAX_ROUNDS = 60
GAP_TARGET_PCT = 0.05
SWEEPS: dict[str, tuple[float, ...]] = {
    "loss_per_kwh": (0.0, 0.12, 0.24, 0.36),
    "source_voltage_pu": (1.03, 1.035, 1.04, 1.045),
    "operator_share_frac": (1.0, 0.5, 0.3),
    "confidence_frac": (0.8, 0.9, 0.95, 0.99),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One way of clearing a day. `sold_kwh` is all that communities exported, `peer_kwh` what of it other communities took."""

    net_w: FloatArray
    loss_kwh: float
    loss_kvarh: float
    served_kwh: float
    sold_kwh: float
    peer_kwh: float

    @property
    def change_pct(self) -> float:
        """Losses against the paper's base case."""
        return 100.0 * (self.loss_kwh * 1e3 / BASE_LOSS_WH - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The three rows of the paper's table under one set of choices, and how the negotiation went."""

    case: DfeCase
    base: Outcome
    doe: Outcome
    dfe: Outcome
    talk: Talk[Agreement]
    agreement: Agreement
    gap_pct: float


def dfe69(order: StudyOrder, say: Say) -> Findings:
    """Compare the three ways at three scales, from five first weights, and under every choice."""
    case = load_dfe_case(order.data, order.seed)
    compared = {}
    for scale in SCALES:
        compared[scale] = compare(chosen(case, sources_scale=scale))
        say(f"sources x {scale:g}: DFE {compared[scale].dfe.change_pct:.2f} %, {compared[scale].talk.rounds} rounds")
    reference = compared[1.0]
    weights = _weight_rows(reference, say)
    sweeps = [row for name, values in SWEEPS.items() for row in _sweep_rows(case, name, values)]
    say("every choice swept")
    rows = (
        *_table_rows(reference),
        *(row for scale in SCALES for row in _order_rows(compared[scale], scale)),
        *_safety_rows(compared),
        *weights,
        *sweeps,
        *coverage_rows(case, order.seed),
    )
    say("coverage of margins counted")
    return Findings(
        source=SOURCE,
        inputs=_inputs(order, reference.case),
        rows=rows,
        verdicts=_verdicts(reference, rows),
        plots={"dfe69-envelopes": lambda: _envelope_plot(reference), "dfe69-losses": lambda: _loss_plot(compared)},
    )


def compare(case: DfeCase) -> Compared:
    """Clear the day three ways."""
    central = case.central()
    optimum = central.optimum()
    talk = negotiate(case)
    if talk.outcome is None:
        raise RunError(f"the communities did not agree within {MAX_ROUNDS} rounds")
    return Compared(
        case=case,
        base=_outcome(case, central.alone()),
        doe=_outcome(case, central.within(*case.envelopes_w())),
        dfe=_outcome(case, carried_out(central, talk.outcome)),
        talk=talk,
        agreement=talk.outcome,
        gap_pct=gap_pct(central, optimum, talk.outcome),
    )


def negotiate(case: DfeCase) -> Talk[Agreement]:
    """Hold the conversation with the five communities in this process."""
    return converse(case.negotiation(), dict(zip(NAMES, case.communities, strict=True)), max_rounds=MAX_ROUNDS)


def carried_out(central: CentralProblem, agreement: Agreement) -> Cleared:
    """What every community does behind its agreed net import."""
    solutions = tuple(item.inside(agreement.net_w[place]) for place, item in enumerate(central.communities))
    return Cleared(
        net_w=agreement.net_w,
        import_limit_w=agreement.import_limit_w,
        export_limit_w=agreement.export_limit_w,
        solutions_kw=solutions,
    )


def gap_pct(central: CentralProblem, optimum: Cleared, agreement: Agreement) -> float:
    """How much more the agreement costs everybody than the central optimum."""
    least = central.cost(optimum)
    return 100.0 * (central.cost(carried_out(central, agreement)) - least) / abs(least)


def _outcome(case: DfeCase, cleared: Cleared) -> Outcome:
    losses = case.feeder.losses_va(cleared.net_w).sum() / 1e3
    sold, bought = (-cleared.net_w).clip(min=0.0).sum(axis=0), cleared.net_w.clip(min=0.0).sum(axis=0)
    served = 0.0
    for community, solution in zip(case.communities, cleared.solutions_kw, strict=True):
        flexible, unserved = solution[community.place("flexible")], solution[community.place("unserved")]
        served += float(community.fixed_load_w.sum() / 1e3 + flexible.sum() - unserved.sum())
    return Outcome(
        net_w=cleared.net_w,
        loss_kwh=float(losses.real),
        loss_kvarh=float(losses.imag),
        served_kwh=served,
        sold_kwh=float(sold.sum() / 1e3),
        peer_kwh=float(np.minimum(sold, bought).sum() / 1e3),
    )


def _table_rows(compared: Compared) -> list[Row]:
    """Table I: active and reactive losses of the three ways."""
    (base_kwh, base_kvarh), base = PRINTED["base"], compared.base
    near, is_near = relative(base_kwh, base.loss_kwh, 0.001)
    close, is_close = relative(base_kvarh, base.loss_kvarh, 0.01)
    rows = [
        Row(quantity="base, losses [kWh]", paper=base_kwh, ours=base.loss_kwh, target=near, met=is_near, note="the load is scaled to this"),
        Row(quantity="base, reactive losses [kvarh]", paper=base_kvarh, ours=base.loss_kvarh, target=close, met=is_close),
    ]
    for name, outcome in (("DOE", compared.doe), ("DFE", compared.dfe)):
        active, reactive = PRINTED[name]
        is_dfe = name == "DFE"
        rows += [
            Row(quantity=f"{name}, losses [kWh]", paper=active, ours=outcome.loss_kwh),
            Row(quantity=f"{name}, reactive losses [kvarh]", paper=reactive, ours=outcome.loss_kvarh),
            Row(
                quantity=f"{name}, change of losses [%]",
                paper=100.0 * (active / base_kwh - 1.0),
                ours=outcome.change_pct,
                target=f"<= {TARGET_PCT:g}" if is_dfe else "",
                met=outcome.change_pct <= TARGET_PCT if is_dfe else None,
                note="printed as -19.75 %, which 2380 / 2929 is not" if is_dfe else "no hidden conservatism: see operator_share_frac",
            ),
        ]
    return rows


def _order_rows(compared: Compared, scale: float) -> list[Row]:
    doe, dfe, where = compared.doe, compared.dfe, f"sources x {scale:g}"
    return [
        Row(
            quantity=f"DFE losses, {where} [kWh]",
            ours=dfe.loss_kwh,
            target="below DOE",
            met=dfe.loss_kwh < doe.loss_kwh,
            note=f"{dfe.change_pct:.2f} %, DOE {doe.loss_kwh:,.1f} ({doe.change_pct:.2f} %)",
        ),
        Row(
            quantity=f"DFE energy served, {where} [kWh]",
            ours=dfe.served_kwh,
            target=">= DOE",
            met=dfe.served_kwh >= doe.served_kwh - 0.1,
            note=f"DOE {doe.served_kwh:,.1f}",
        ),
        Row(
            quantity=f"DFE energy sold, {where} [kWh]",
            ours=dfe.sold_kwh,
            target="> DOE",
            met=dfe.sold_kwh > doe.sold_kwh,
            note=f"DOE {doe.sold_kwh:,.1f}",
        ),
        Row(
            quantity=f"DFE energy between communities, {where} [kWh]",
            ours=dfe.peer_kwh,
            target="> DOE",
            met=dfe.peer_kwh > doe.peer_kwh,
            note=f"DOE {doe.peer_kwh:,.1f}",
        ),
    ]


def _safety_rows(compared: dict[float, Compared]) -> list[Row]:
    checks = [item.agreement.check for item in compared.values()]
    margin = min(extreme.margin for check in checks for extreme in check.extremes)
    return [
        Row(
            quantity="least voltage margin at any corner of any agreed envelope [pu]",
            ours=margin,
            target=">= 0",
            met=all(check.holds for check in checks),
            note=f"exact AC power flow at {sum(check.corners for check in checks)} corners",
        )
    ]


def _weight_rows(reference: Compared, say: Say) -> list[Row]:
    """The negotiation from first weights that are a hundred times too small to a hundred times too large."""
    central = reference.case.central()
    optimum = central.optimum()
    rows = []
    for factor in WEIGHT_FACTORS:
        talk = negotiate(chosen(reference.case, weight=factor * reference.case.choices.weight))
        agreed = talk.outcome
        gap = float("inf") if agreed is None else gap_pct(central, optimum, agreed)
        say(f"first weight x {factor:g}: {talk.rounds} rounds, gap {gap:.3f} %")
        rows.append(
            Row(
                quantity=f"rounds, first weight x {factor:g}",
                ours=talk.rounds,
                target=f"<= {MAX_ROUNDS}",
                met=agreed is not None,
                note=f"{talk.messages} messages",
            )
        )
        rows.append(
            Row(
                quantity=f"gap to the central optimum, first weight x {factor:g} [%]",
                ours=gap,
                target=f"<= {GAP_TARGET_PCT:g}",
                met=gap <= GAP_TARGET_PCT,
                note=f"of {central.cost(optimum):,.2f} for everybody, losses at their price included",
            )
        )
    return rows


def _sweep_rows(case: DfeCase, name: str, values: tuple[float, ...]) -> list[Row]:
    """One choice at a time: the central optimum of what is negotiated, and the operator's own envelopes."""
    rows = []
    for value in values:
        changed = chosen(case, **{name: value})
        central = changed.central()
        dfe = _outcome(changed, central.optimum())
        quantity = f"DFE, change of losses, {name} {value:g} [%]"
        priced = changed.choices.loss_per_kwh > 0.0
        try:
            doe = _outcome(changed, central.within(*changed.envelopes_w()))
        except ConversationError:
            rows.append(Row(quantity=quantity, ours=dfe.change_pct, note="under DOE the margins do not fit: no clearing"))
            continue
        note = f"DOE {doe.change_pct:.2f} %; sold {dfe.sold_kwh:,.0f} and {doe.sold_kwh:,.0f} kWh"
        rows.append(
            Row(
                quantity=quantity,
                ours=dfe.change_pct,
                target="below DOE" if priced else "",
                met=dfe.loss_kwh < doe.loss_kwh if priced else None,
                note=note if priced else note + "; nobody pays for losses",
            )
        )
    return rows


def _verdicts(reference: Compared, rows: tuple[Row, ...]) -> tuple[Verdict, ...]:
    ordered = [row for row in rows if "DOE" in row.target]
    agreed = [row for row in rows if "first weight" in row.quantity]
    dfe = reference.dfe
    return (
        Verdict(
            claim="DFE loses 18.74 % less than the base case",
            word=Word.REPRODUCED if dfe.change_pct <= TARGET_PCT else Word.MISSED,
            because=f"{dfe.change_pct:.2f} % with communities of our own, since the paper publishes none. Their sizes and the price "
            "of losses were tuned until this figure was reached, so it shows that the table is possible, not that it follows: "
            "smaller communities (sources x 0.85) or cheaper losses (0.12 per kWh) miss it. "
            "The base case equals the paper's because load is scaled to it.",
        ),
        Verdict(
            claim="DFE loses 19.75 % less, as printed",
            word=Word.NOT_REPRODUCIBLE,
            because="It is an arithmetic slip: the table's own 2380 / 2929 is -18.74 %.",
        ),
        Verdict(
            claim="DFE loses less than DOE and trades more",
            word=Word.REPRODUCED if all(row.met for row in ordered) else Word.MISSED,
            because="It holds at all scales and under every choice that was swept as long as losses have a price; without one both lose "
            "the same, because the operator's verified equal shares hardly bind here. The paper's -12.9 % for DOE needs a third of these "
            "shares (operator_share_frac 0.3).",
        ),
        Verdict(
            claim="The negotiation ends, wherever it begins",
            word=Word.BEATEN if all(row.met for row in agreed) else Word.MISSED,
            because="The paper says nothing about rounds or gaps. Here every first weight within a factor of 10,000 ends in time, at the "
            "central optimum.",
        ),
    )


def _inputs(order: StudyOrder, case: DfeCase) -> dict[str, str]:
    used, default = case.choices, Choices()
    assert used == default
    folder = order.data / "profiles"
    return {
        "network": "built-in case ieee69; communities at buses 22, 32, 46, 49 and 60 as printed, at unity power factor",
        "load": f"shape of {folder / 'vic_homes99_30min_wh_1day.csv'}, peak {case.load_scale:.4f} of the published: CALIBRATED to 2929 kWh",
        "sun": f"shape of {folder / 'vic_pv_5min_1day.csv'}",
        "communities": "TUNED, their sources swept: loads, sun, wind, generators and storage of dfe69_case.FLEETS; the paper has none",
        "sources_scale": f"CHOSEN, swept: {_listed(SCALES)}",
        **{
            name: f"{'TUNED' if name == 'loss_per_kwh' else 'CHOSEN'} {getattr(default, name):g}, swept: {_listed(values)}"
            for name, values in SWEEPS.items()
        },
        "voltage limits": f"CHOSEN {default.vmin_pu:g} to {default.vmax_pu:g} pu, not swept",
        "first weight": f"CHOSEN {default.weight:g} per kWh and W, swept: x {_listed(WEIGHT_FACTORS)}",
    }


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _envelope_plot(compared: Compared) -> str:
    with rc_context(STYLE):
        figure, axes = new_figure(2, 3, 5.6)
        hours = np.arange(HOURS + 1.0)
        agreed = compared.agreement

        def stairs(values: FloatArray) -> FloatArray:
            return np.append(values, values[-1])

        for place, name in enumerate(agreed.names):
            axis = axes[place]
            low, high = stairs(-agreed.export_limit_w[place] / 1e3), stairs(agreed.import_limit_w[place] / 1e3)
            axis.fill_between(hours, low, high, step="post", color=GREY, alpha=0.3, label="agreed envelope")
            axis.step(hours, stairs(agreed.net_w[place] / 1e3), where="post", color=BLUE, label="net import")
            axis.set_title(name)
            hours_axis(axis, float(HOURS))
        axes[0].set_ylabel("kW")
        axes[3].set_ylabel("kW")
        axes[0].legend()
        price = axes[5]
        for row in agreed.price_per_kwh:
            price.step(hours, stairs(row), where="post", color=ORANGE, linewidth=1.0)
        price.set_title("price of net import at each community")
        hours_axis(price, float(HOURS))
        return to_svg(figure)


def _loss_plot(compared: dict[float, Compared]) -> str:
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, 3.4)
        ways: tuple[tuple[str, str, Callable[[Compared], Outcome]], ...] = (
            ("DOE", ORANGE, lambda item: item.doe),
            ("DFE", BLUE, lambda item: item.dfe),
        )
        for place, (label, colour, way) in enumerate(ways):
            values = [way(item).change_pct for item in compared.values()]
            axes[0].bar(np.arange(len(values)) + 0.4 * place - 0.2, values, width=0.36, color=colour, label=label)
        axes[0].axhline(TARGET_PCT, color=GREY, linestyle="--", label="paper, DFE")
        axes[0].set_xticks(range(len(compared)), [f"sources x {scale:g}" for scale in compared])
        axes[0].set_ylabel("change of losses [%]")
        axes[0].legend()
        return to_svg(figure)
