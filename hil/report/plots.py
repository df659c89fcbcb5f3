"""The plots of the report, each a function of the records of both runs that returns an SVG element.

Series are drawn once a minute: bands and loadings as the worst of the minute, powers as its mean. Generation and export point down,
as they do at the meter; axes say so.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes

from hil.faults import FEEDER_KINDS, Fault
from hil.figures import HomeFigures
from hil.frames import Record
from hil.report.style import FREE, GREEN, GREY, HELD, LIMIT, ORANGE, PURPLE, SKY, STYLE, hours_axis, new_figure, to_svg
from hil.results import RUN_TITLES, UNCOORDINATED, WITH_ENVELOPES
from hil.scenario import LimitsSection

Floats = npt.NDArray[np.float64]
COLOUR = {UNCOORDINATED: FREE, WITH_ENVELOPES: HELD}
MINUTE_S = 60.0

FAULT_WORDS = {
    "modbus_timeout": "device silent",
    "modbus_exception_6": "device busy (exception 6)",
    "stuck_value": "values stuck",
    "not_implemented": "values not implemented",
    "device_reboot": "device reboot",
    "second_master": "second master",
    "edge_power_cycle": "edge power cycle",
    "forged_command": "forged commands",
    "broker_restart": "broker restart",
    "coordinator_unreachable": "coordinator unreachable",
}


def voltage_band(records: dict[str, Record], limits: LimitsSection) -> str:
    """Highest and lowest voltage of all homes, the two runs side by side."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, len(records), 3.6, share_y=True)
        for axis, (run, record) in zip(axes, records.items(), strict=True):
            hours = _hours(record)
            low = _minutes(record, record.home["voltage_min_v"], "min").min(axis=1)
            high = _minutes(record, record.home["voltage_max_v"], "max").max(axis=1)
            axis.fill_between(hours, low, high, color=COLOUR[run], alpha=0.35, linewidth=0)
            axis.plot(hours, high, color=COLOUR[run], linewidth=1.0)
            axis.plot(hours, low, color=COLOUR[run], linewidth=1.0)
            above, below = np.maximum(high, limits.voltage_max_v), np.minimum(low, limits.voltage_min_v)
            axis.fill_between(hours, limits.voltage_max_v, above, color=LIMIT, alpha=0.8, linewidth=0)
            axis.fill_between(hours, below, limits.voltage_min_v, color=LIMIT, alpha=0.8, linewidth=0)
            _limit(axis, limits.voltage_max_v)
            _limit(axis, limits.voltage_min_v)
            axis.set_title(RUN_TITLES[run])
            hours_axis(axis, _duration_h(record))
        axes[0].set_ylabel("voltage at the homes [V]")
        return to_svg(figure)


def transformer_loading(records: dict[str, Record], limits: LimitsSection) -> str:
    """Loading of the transformer, and of the line that is loaded most."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, 3.2, share_y=True)
        parts = (("transformer_frac", "transformer", limits.transformer_frac), ("line_frac", "line loaded most", limits.line_frac))
        for axis, (name, title, limit_frac) in zip(axes, parts, strict=True):
            for run, record in records.items():
                values = 100.0 * _minutes(record, record.feeder[name], "max")
                axis.plot(_hours(record), values, color=COLOUR[run], linewidth=1.1, label=RUN_TITLES[run])
            _limit(axis, 100.0 * limit_frac)
            axis.set_title(title.capitalize())
            hours_axis(axis, _duration_h(next(iter(records.values()))))
        # Both panels share the axis; the room above the limit is for the legend.
        axes[0].set_ylim(0.0, 1.2 * axes[0].get_ylim()[1])
        axes[0].set_ylabel("loading [% of rating]")
        axes[0].legend(loc="upper left", ncols=2)
        return to_svg(figure)


def net_import(records: dict[str, Record], homes: tuple[HomeFigures, ...]) -> str:
    """The feeder's net import in both runs, and the meters of a few homes against their envelopes."""
    with rc_context(STYLE):
        figure, axes = new_figure(2, 2, 6.4)
        for run, record in records.items():
            total_kw = _minutes(record, record.home["net_import_w"].sum(axis=1), "mean") / 1000.0
            axes[0].plot(_hours(record), total_kw, color=COLOUR[run], linewidth=1.1, label=RUN_TITLES[run])
        axes[0].axhline(0.0, color=GREY, linewidth=0.8)
        axes[0].set_title("All homes together")
        axes[0].legend(loc="best")
        held = records.get(WITH_ENVELOPES, next(iter(records.values())))
        for axis, home in zip(axes[1:], _telling_homes(homes), strict=False):
            _meter_against_envelope(axis, held, home)
        for axis in axes:
            hours_axis(axis, _duration_h(held))
        for axis in axes[::2]:
            axis.set_ylabel("net import [kW]   (export below 0)")
        return to_svg(figure)


def battery_state(records: dict[str, Record]) -> str:
    """State of charge of all batteries: the middle half, the whole range, and the mean."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, len(records), 3.2, share_y=True)
        for axis, (run, record) in zip(axes, records.items(), strict=True):
            soc = 100.0 * _minutes(record, record.home["soc_frac"], "last")
            soc = soc[:, ~np.isnan(soc).any(axis=0)]
            axis.set_title(RUN_TITLES[run])
            hours_axis(axis, _duration_h(record))
            axis.set_ylim(0.0, 100.0)
            if soc.shape[1] == 0:
                axis.text(0.5, 0.5, "no batteries", ha="center", transform=axis.transAxes)
                continue
            hours, (low, high) = _hours(record), np.percentile(soc, [25, 75], axis=1)
            axis.fill_between(hours, soc.min(axis=1), soc.max(axis=1), color=COLOUR[run], alpha=0.12, linewidth=0, label="all")
            axis.fill_between(hours, low, high, color=COLOUR[run], alpha=0.3, linewidth=0, label="middle half")
            axis.plot(hours, soc.mean(axis=1), color=COLOUR[run], linewidth=1.6, label="mean")
            axis.legend(loc="upper left", ncols=3)
        axes[0].set_ylabel("state of charge [%]")
        return to_svg(figure)


def bills(homes: dict[str, tuple[HomeFigures, ...]], currency: str) -> str:
    """What each home pays for the day in both runs, ordered by its uncoordinated bill."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, 3.6)
        axis = axes[0]
        first = next(iter(homes.values()))
        order = sorted(range(len(first)), key=lambda home: first[home].bill)
        places = np.arange(len(order))
        both = [np.array([figures[home].bill for home in order]) for figures in homes.values()]
        if len(both) == 2:
            axis.vlines(places, np.minimum(*both), np.maximum(*both), color="#c5ced6", linewidth=2.0, zorder=1)
        for run, values, marker in zip(homes, both, ("o", "D"), strict=False):
            axis.scatter(places, values, color=COLOUR[run], s=26, marker=marker, label=RUN_TITLES[run], zorder=2)
        axis.axhline(0.0, color=GREY, linewidth=0.8)
        every = 1 if len(order) <= 40 else 5
        axis.set_xticks(places[::every], [first[home].name for home in order][::every], rotation=60, ha="right", fontsize=8.5)
        axis.set_xlim(-0.8, len(order) - 0.2)
        axis.set_ylabel(f"bill of the day [{currency}]   (earning below 0)")
        axis.grid(axis="x", visible=False)
        axis.legend(loc="upper left")
        return to_svg(figure)


def solar_use(homes: tuple[HomeFigures, ...], title: str) -> str:
    """How each PV home's available energy was used and curtailed."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, 3.2)
        axis = axes[0]
        with_pv = sorted((home for home in homes if home.pv_available_kwh > 0.0), key=lambda home: -home.pv_available_kwh)
        places = np.arange(len(with_pv))
        used = np.array([home.pv_available_kwh - home.curtailed_kwh for home in with_pv])
        lost = np.array([home.curtailed_kwh for home in with_pv])
        axis.bar(places, used, color=ORANGE, width=0.75, label="used or exported")
        axis.bar(places, lost, bottom=used, color=PURPLE, width=0.75, label="curtailed")
        axis.set_xticks(places, [home.name for home in with_pv], rotation=60, ha="right", fontsize=8.5)
        axis.set_ylabel("solar energy [kWh]")
        axis.set_title(title)
        axis.grid(axis="x", visible=False)
        axis.legend(loc="upper right", ncols=2)
        return to_svg(figure)


def fault_timeline(faults: tuple[Fault, ...], start_s: float, duration_h: float) -> str:
    """When which kind of fault was active, all targets in one row."""
    with rc_context(STYLE):
        kinds = [kind for kind in FAULT_WORDS if any(fault.kind == kind for fault in faults)]
        figure, axes = new_figure(1, 1, 1.0 + 0.34 * max(1, len(kinds)))
        axis = axes[0]
        for row, kind in enumerate(kinds):
            spans = [
                ((fault.start_s - start_s) / 3600.0, max(fault.duration_s / 3600.0, duration_h / 600.0))
                for fault in faults
                if fault.kind == kind
            ]
            colour = GREEN if kind in FEEDER_KINDS else SKY
            axis.broken_barh(spans, (row - 0.36, 0.72), facecolors=colour, edgecolors=LIMIT, linewidth=0.3)
        labels = [f"{FAULT_WORDS[kind]} ({sum(fault.kind == kind for fault in faults)})" for kind in kinds]
        axis.set_yticks(range(len(kinds)), labels)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        hours_axis(axis, duration_h)
        return to_svg(figure)


def _meter_against_envelope(axis: Axes, record: Record, home: int) -> None:
    hours = _hours(record)
    meter_kw = _minutes(record, record.home["net_import_w"][:, home], "mean") / 1000.0
    import_kw = _minutes(record, record.home["import_limit_w"][:, home], "last") / 1000.0
    export_kw = _minutes(record, record.home["export_limit_w"][:, home], "last") / 1000.0
    axis.plot(hours, meter_kw, color=HELD, linewidth=0.9, label="meter")
    if np.isfinite(import_kw).any():
        reach_kw = 1.15 * max(float(np.abs(meter_kw).max()), 1.0)
        upper, lower = np.minimum(import_kw, 4.0 * reach_kw), -np.minimum(export_kw, 4.0 * reach_kw)
        axis.fill_between(hours, lower, upper, color=GREEN, alpha=0.14, linewidth=0, step="post", label="envelope")
        axis.step(hours, upper, color=GREEN, linewidth=0.8, where="post")
        axis.step(hours, lower, color=GREEN, linewidth=0.8, where="post")
        nearest_kw = max(reach_kw, min(1.2 * float(np.median(import_kw[np.isfinite(import_kw)])), 2.0 * reach_kw))
        axis.set_ylim(-max(reach_kw, 1.2 * min(float(-lower.min()), reach_kw)), nearest_kw)
    axis.axhline(0.0, color=GREY, linewidth=0.8)
    axis.set_title(record.homes[home])
    axis.legend(loc="lower right", ncols=2)


def _telling_homes(homes: tuple[HomeFigures, ...]) -> list[int]:
    """Three homes worth a look: curtailed most, charging a vehicle most, and the highest bill of the others."""
    chosen: list[int] = []
    for key in (
        lambda home: (homes[home].curtailed_kwh, homes[home].pv_available_kwh),
        lambda home: (homes[home].ev_kwh, 0.0),
        lambda home: (homes[home].bill, 0.0),
    ):
        rest = [home for home in range(len(homes)) if home not in chosen]
        if rest:
            chosen.append(max(rest, key=key))
    return chosen


def _limit(axis: Axes, value: float) -> None:
    axis.axhline(value, color=LIMIT, linewidth=1.2, linestyle=(0, (5, 3)))


def _duration_h(record: Record) -> float:
    return record.samples * record.sample_s / 3600.0


def _hours(record: Record) -> Floats:
    """Hours since the start of the run at the ends of the drawn minutes."""
    width = _width(record)
    count = record.samples // width
    return np.asarray((np.arange(count) + 1) * width * record.sample_s / 3600.0)


def _minutes(record: Record, values: npt.NDArray[np.floating], fold: str) -> Floats:
    """Series of one value a minute, folded by `min`, `max`, `mean` or `last` of the samples within."""
    width = _width(record)
    count = record.samples // width
    grouped = values[: count * width].astype(np.float64).reshape(count, width, *values.shape[1:])
    if fold == "last":
        return np.asarray(grouped[:, -1])
    return np.asarray(getattr(grouped, fold)(axis=1))


def _width(record: Record) -> int:
    return max(1, round(MINUTE_S / record.sample_s))
