"""`commonwatt-edge plan`: the plan that a configuration would make. No device is read or written."""

from __future__ import annotations

import csv
import datetime as dt
import io
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.config import EdgeConfig
from edge.errors import ConfigurationError
from edge.history import History, history_path
from edge.limits import Limit, LimitSet
from edge.made_plan import Made
from edge.planning import PlanMaker
from edge.values import DeviceKind, Reading
from edge.watch import DeviceWatch
from protocols.clock import ManualClock, SystemClock

COLUMNS = ("time", "load_w", "pv_w", "battery_w", "flexible_w", "net_import_w", "battery_wh", "buy_per_kwh", "sell_per_kwh")


class PlanTable(msgspec.Struct, frozen=True, kw_only=True):
    """One row for each interval in the order of `COLUMNS`; PV is shown as a positive number."""

    made_by: str
    step_s: float
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    adjustments: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What the configuration does not say, so that the plan is made without it."""


def make_table(
    config: EdgeConfig, *, start_s: float, soc_frac: float, forecasts: Path | None, folder: Path = Path()
) -> PlanTable:
    """Plan from `start_s` on, with what the edge of this configuration has learned in `folder` so far, if it has.

    Raises `ConfigurationError` in one line where the plan cannot be made.
    """
    history = History(history_path(folder / config.store.path))
    maker = PlanMaker(config, clock=ManualClock(start_s), history=history)
    site = config.site
    limits = LimitSet(
        export=Limit(limit_w=min(site.contract_export_w, site.export_rating_w), source="contract"),
        import_=Limit(
            limit_w=site.import_rating_w if site.contract_import_w is None else site.contract_import_w, source="contract"
        ),
    )
    job = maker.prepare(start_s, _watches(config, start_s, soc_frac), lambda times_s: [limits] * len(times_s))
    if forecasts is not None:
        steps = round(config.schedule.horizon_s / config.schedule.step_s)
        job = msgspec.structs.replace(job, given=read_forecasts(forecasts, steps))
    made = job.run()
    if made is None:
        raise ConfigurationError(f"no plan: {maker.refusal}")
    return _table(made, zoneinfo.ZoneInfo(site.timezone), tuple(_unplanned(config)))


def read_forecasts(path: Path, steps: int) -> tuple[list[float], list[float]]:
    """Columns `load_w` and `pv_w` (magnitudes) of a CSV file with one row for each interval of the plan."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames is None or not {"load_w", "pv_w"} <= set(reader.fieldnames):
        raise ConfigurationError(f"{path}: expected columns load_w and pv_w, got {reader.fieldnames} - at line 1")
    load_w: list[float] = []
    pv_w: list[float] = []
    for row in reader:
        try:
            load_w.append(float(row["load_w"]))
            pv_w.append(float(row["pv_w"]))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{path}: {error} - at line {reader.line_num}") from error
    if len(load_w) != steps:
        raise ConfigurationError(f"{path}: expected {steps} rows, one for each interval of the plan, got {len(load_w)}")
    return load_w, pv_w


def render_text(table: PlanTable) -> str:
    """Columns for a terminal: whole watts, prices with four digits; then what it amounts to."""
    lines = ["  ".join(f"{name:>{max(len(name), 7)}}" for name in table.columns)]
    for row in table.rows:
        lines.append("  ".join(_shown(cell, name) for name, cell in zip(table.columns, row, strict=True)))
    lines.append(f"made by: {table.made_by}; {_summed(table)}")
    lines += [f"moved: {adjustment}" for adjustment in table.adjustments]
    lines += [f"note: {note}" for note in table.notes]
    return "\n".join(lines)


def _shown(cell: str | float, name: str) -> str:
    width = max(len(name), 7)
    if isinstance(cell, str):
        return f"{cell:>{width}}"
    return f"{cell:>{width}.4f}" if name.endswith("_per_kwh") else f"{round(cell) + 0:>{width}d}"


def _summed(table: PlanTable) -> str:
    """Energies over the horizon and what they cost."""
    net, buy, sell = (table.columns.index(name) for name in ("net_import_w", "buy_per_kwh", "sell_per_kwh"))
    bought = sold = cost = 0.0
    for row in table.rows:
        kwh = float(row[net]) * table.step_s / 3.6e6
        bought += max(kwh, 0.0)
        sold += max(-kwh, 0.0)
        cost += kwh * float(row[buy] if kwh > 0.0 else row[sell])
    return f"buys {bought:.1f} kWh, sells {sold:.1f} kWh, costs {cost:.2f}"


def default_start_s() -> float:
    """The present quarter of an hour."""
    return SystemClock().now_s() // 900.0 * 900.0


def _unplanned(config: EdgeConfig) -> Iterator[str]:
    """Devices that a running edge asks for their ratings; here only the configuration is asked."""
    for device in config.devices:
        if device.kind is DeviceKind.PV and device.rated_w is None:
            yield f"{device.name}: planned without it, rated_w is not configured"
        elif device.kind is DeviceKind.BATTERY and device.capacity_wh is None:
            yield f"{device.name}: planned without it, capacity_wh is not configured"


def _watches(config: EdgeConfig, now_s: float, soc_frac: float) -> list[DeviceWatch]:
    watches = []
    for device in config.devices:
        watch = DeviceWatch(device.name, device.kind, device.rated_w)
        watch.last_reading = Reading(
            name=device.name,
            kind=device.kind,
            time_s=now_s,
            power_w=0.0,
            rated_w=device.rated_w,
            soc_frac=soc_frac if device.kind is DeviceKind.BATTERY else None,
            capacity_wh=device.capacity_wh,
            max_charge_w=device.max_charge_w,
            max_discharge_w=device.max_discharge_w,
        )
        watches.append(watch)
    return watches


def _table(made: Made, zone: dt.tzinfo, notes: tuple[str, ...]) -> PlanTable:
    schedule, inputs = made.solved.schedule, made.inputs
    rows = []
    for index in range(schedule.steps):
        time_s = schedule.start_s + index * schedule.step_s
        rows.append(
            (
                dt.datetime.fromtimestamp(time_s, zone).strftime("%H:%M"),
                round(float(inputs.p1_load_w[index] + inputs.p2_load_w[index]), 1),
                round(float(-inputs.pv_w[index] - schedule.pv_curtailed_w[index]), 1),
                round(float(schedule.battery_w[:, index].sum()), 1),
                round(float(schedule.flexible_w[:, index].sum()), 1),
                round(float(schedule.net_import_w[index]), 1),
                round(float(schedule.battery_wh[:, index].sum()), 1),
                round(float(inputs.buy_price_per_kwh[index]), 4),
                round(float(inputs.sell_price_per_kwh[index]), 4),
            )
        )
    return PlanTable(
        made_by=made.solved.made_by,
        step_s=schedule.step_s,
        columns=COLUMNS,
        rows=tuple(rows),
        adjustments=tuple(f"{adjustment.reason.value}: {adjustment.detail}" for adjustment in made.solved.adjustments),
        notes=notes,
    )
