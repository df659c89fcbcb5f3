"""The figures of one run, from its record: what the report's tables and `results.json` say.

Generation and curtailment are positive numbers here, because people read them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from hil.frames import Record
from hil.scenario import LimitsSection

Floats = npt.NDArray[np.float64]


class HomeFigures(Struct, frozen=True, kw_only=True):
    """One home over the run."""

    name: str
    bill: float
    import_kwh: float
    export_kwh: float
    pv_available_kwh: float
    curtailed_kwh: float
    ev_kwh: float
    p2_shed_kwh: float
    mean_export_limit_w: float | None
    mean_import_limit_w: float | None
    outside_envelope_s: float


class RunFigures(Struct, frozen=True, kw_only=True):
    """The whole feeder over the run. Loadings are shares of the rating; Gini coefficients are 0 where all homes fare alike.

    `fairness_gini` is that of the share of its available PV energy that each PV home could use; `export_limit_gini` that of the mean
    export limits (None without envelopes); `bill_gini` that of what each home pays above the lowest bill.
    """

    voltage_min_v: float
    voltage_max_v: float
    voltage_outside_min: float
    transformer_peak_frac: float
    transformer_overload_min: float
    line_peak_frac: float
    line_overload_min: float
    losses_kwh: float
    source_import_kwh: float
    source_export_kwh: float
    pv_available_kwh: float
    pv_used_kwh: float
    curtailed_kwh: float
    curtailed_frac: float
    load_kwh: float
    p2_shed_kwh: float
    ev_kwh: float
    ev_missing_kwh: float
    battery_throughput_kwh: float
    bills: float
    bill_lowest: float
    bill_highest: float
    fairness_gini: float
    export_limit_gini: float | None
    bill_gini: float
    outside_envelope_min: float


def gini(values: Floats) -> float:
    """Gini coefficient of non-negative values: mean absolute difference over twice the mean; 0 where all are alike or nothing is."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total = float(ordered.sum())
    count = len(ordered)
    if count == 0 or total <= 0.0:
        return 0.0
    ranks = np.arange(1, count + 1)
    return float(2.0 * (ranks * ordered).sum() / (count * total) - (count + 1) / count)


def home_figures(record: Record, bills: Floats, outside_s: Floats, import_wh: Floats, export_wh: Floats) -> list[HomeFigures]:
    """Figures of every home, in the order of the record. Bills are in currency, energies of the meter in Wh."""
    kwh = record.sample_s / 3600.0 / 1000.0
    series = {name: values[: record.samples].astype(np.float64) for name, values in record.home.items()}
    return [
        HomeFigures(
            name=name,
            bill=float(bills[home]),
            import_kwh=float(import_wh[home]) / 1000.0,
            export_kwh=float(export_wh[home]) / 1000.0,
            pv_available_kwh=float(series["pv_available_w"][:, home].sum()) * kwh,
            curtailed_kwh=float((series["pv_available_w"][:, home] + series["pv_w"][:, home]).clip(0.0).sum()) * kwh,
            ev_kwh=float(series["ev_w"][:, home].sum()) * kwh,
            p2_shed_kwh=float((series["p2_wanted_w"][:, home] - series["p2_w"][:, home]).clip(0.0).sum()) * kwh,
            mean_export_limit_w=_finite_mean(series["export_limit_w"][:, home]),
            mean_import_limit_w=_finite_mean(series["import_limit_w"][:, home]),
            outside_envelope_s=float(outside_s[home]),
        )
        for home, name in enumerate(record.homes)
    ]


def run_figures(
    record: Record,
    homes: list[HomeFigures],
    limits: LimitsSection,
    outside_s: dict[str, float],
    ev_missing_wh: float,
) -> RunFigures:
    """Figures of the feeder. `outside_s` are seconds outside the limits by quantity, counted at every plant step."""
    kwh = record.sample_s / 3600.0 / 1000.0
    series = {name: values[: record.samples].astype(np.float64) for name, values in record.home.items()}
    feeder = {name: values[: record.samples] for name, values in record.feeder.items()}
    available_kwh = sum(home.pv_available_kwh for home in homes)
    curtailed_kwh = sum(home.curtailed_kwh for home in homes)
    bills = np.array([home.bill for home in homes])
    used_frac = [1.0 - home.curtailed_kwh / home.pv_available_kwh for home in homes if home.pv_available_kwh > 0.0]
    export_limits_w = [home.mean_export_limit_w for home in homes if home.mean_export_limit_w is not None]
    return RunFigures(
        voltage_min_v=float(series["voltage_min_v"].min()),
        voltage_max_v=float(series["voltage_max_v"].max()),
        voltage_outside_min=outside_s["voltage"] / 60.0,
        transformer_peak_frac=float(feeder["transformer_frac"].max()),
        transformer_overload_min=outside_s["transformer"] / 60.0,
        line_peak_frac=float(feeder["line_frac"].max()),
        line_overload_min=outside_s["line"] / 60.0,
        losses_kwh=float(feeder["losses_w"].sum()) * kwh,
        source_import_kwh=float(feeder["source_w"].clip(0.0).sum()) * kwh,
        source_export_kwh=float((-feeder["source_w"]).clip(0.0).sum()) * kwh,
        pv_available_kwh=available_kwh,
        pv_used_kwh=float(-series["pv_w"].sum()) * kwh,
        curtailed_kwh=curtailed_kwh,
        curtailed_frac=curtailed_kwh / available_kwh if available_kwh > 0.0 else 0.0,
        load_kwh=float((series["p1_w"] + series["p2_w"]).sum()) * kwh,
        p2_shed_kwh=sum(home.p2_shed_kwh for home in homes),
        ev_kwh=sum(home.ev_kwh for home in homes),
        ev_missing_kwh=ev_missing_wh / 1000.0,
        battery_throughput_kwh=float(np.abs(series["battery_w"]).sum()) * kwh,
        bills=float(bills.sum()),
        bill_lowest=float(bills.min()),
        bill_highest=float(bills.max()),
        fairness_gini=gini(np.array(used_frac)),
        export_limit_gini=gini(np.array(export_limits_w)) if len(export_limits_w) > 0 else None,
        bill_gini=gini(bills - bills.min()),
        outside_envelope_min=sum(home.outside_envelope_s for home in homes) / 60.0,
    )


def _finite_mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
