"""The two Grafana dashboards, as data: `python -m hil.grafana deploy/grafana` writes them again. Pure but for that.

A dashboard is a list of rows of panels; what Grafana wants besides (identifiers, grid, JSON) follows from that. Generation is shown as a
positive number, as everything that people look at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

WIDTH: Final = 24
SCHEMA_VERSION: Final = 39
"""Of Grafana 11; later ones migrate it by themselves."""

EDGE, FEEDER = "commonwatt_edge", "commonwatt_coordinator"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
PART: Final = 'instance=~"$instance"'
GOOD_BAD: Final = (("green", None), ("red", 1.0))
BAD_GOOD: Final = (("red", None), ("green", 1.0))

Steps = tuple[tuple[str, float | None], ...]


class Series(Struct, frozen=True, kw_only=True):
    """One query and what its lines are called."""

    query: str
    legend: str = ""


class Panel(Struct, frozen=True, kw_only=True):
    """One panel; `steps` colour a stat, or a line's background, from a value on. `words` is what the (i) of the panel says."""

    title: str
    words: str
    series: tuple[Series, ...]
    kind: Literal["timeseries", "stat", "state-timeline"] = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    steps: Steps = (("green", None),)
    mappings: tuple[tuple[str, str], ...] = ()


def _one(query: str, legend: str = "") -> tuple[Series, ...]:
    return (Series(query=query, legend=legend),)


def _stat(title: str, words: str, query: str, unit: str, steps: Steps, *, names: tuple[tuple[str, str], ...] = (), width: int = 4) -> Panel:
    return Panel(title=title, words=words, series=_one(query), kind="stat", unit=unit, width=width, height=4, steps=steps, mappings=names)


HOUSEHOLD: Final = (
    (
        _stat(
            "Failsafe", "1 while the strictest known limits hold and any load is assumed.",
            f'{EDGE}_safety_state{{{PART}, state="failsafe"}}', "short", GOOD_BAD, names=(("0", "no"), ("1", "FAILSAFE")),
        ),
        _stat("Broker", "Whether the broker is connected.", f"{EDGE}_broker_connected{{{PART}}}", "short", BAD_GOOD,
              names=(("0", "AWAY"), ("1", "connected"))),
        _stat("Meter age", "Age of the newest believed reading.", f"{EDGE}_meter_age_seconds{{{PART}}}", "s",
              (("green", None), ("orange", 5.0), ("red", 15.0))),
        _stat("Outside limits today", "Time outside the limits by more than the tolerance, in 24 h.",
              f"sum(increase({EDGE}_envelope_exceeded_seconds_total{{{PART}}}[24h]))", "s", (("green", None), ("red", 15.0))),
        _stat("Cycle, 99 %", "Duration of a control cycle that 99 of 100 keep.",
              f"histogram_quantile(0.99, sum by (le) (rate({EDGE}_cycle_duration_seconds_bucket{{{PART}}}[10m])))", "s",
              (("green", None), ("orange", 0.5), ("red", 1.0))),
        _stat("Certificate", "Time until the first certificate in use expires.",
              f"min({EDGE}_certificate_expiry_timestamp_seconds{{{PART}}}) - time()", "s",
              (("red", None), ("orange", 7 * 86400.0), ("green", 21 * 86400.0))),
    ),
    (
        Panel(
            title="Connection point",
            words="Net import between the limits in force; export is below zero.",
            series=(
                Series(query=f"{EDGE}_net_import_watts{{{PART}}}", legend="net import"),
                Series(query=f'{EDGE}_limit_watts{{{PART}, direction="import"}}', legend="import limit"),
                Series(query=f'-{EDGE}_limit_watts{{{PART}, direction="export"}}', legend="export limit"),
            ),
            unit="watt",
            width=16,
            height=10,
        ),
        Panel(title="Devices", words="Power into each device; PV is shown as generation.", unit="watt", height=10, series=(
            Series(query=f'{EDGE}_device_power_watts{{{PART}, device!~"pv.*|meter.*"}}', legend="{{device}}"),
            Series(query=f'-{EDGE}_device_power_watts{{{PART}, device=~"pv.*"}}', legend="{{device}} generation"),
        )),
    ),
    (
        Panel(title="State of charge", words="Batteries.", unit="percentunit",
              series=_one(f"{EDGE}_battery_soc_ratio{{{PART}}}", "{{device}}")),
        Panel(title="Voltage", words="At the connection point, by phase.", unit="volt",
              series=_one(f"{EDGE}_voltage_volts{{{PART}}}", "phase {{phase}}")),
        Panel(title="What sets the limit", words="The stage that set the limit in force.", kind="state-timeline",
              series=_one(f"{EDGE}_limit_source{{{PART}}} == 1", "{{direction}}: {{source}}")),
    ),
    (
        Panel(title="Refused messages", words="Messages that broke a rule, by rule, in five minutes.",
              series=_one(f"increase({EDGE}_messages_refused_total{{{PART}}}[5m]) > 0", "{{reason}}")),
        Panel(title="Controls", words="What became of controls, in five minutes.",
              series=_one(f"increase({EDGE}_controls_total{{{PART}}}[5m]) > 0", "{{outcome}}")),
        Panel(title="Process", words="CPU in cores, and resident memory.", series=(
            Series(query='rate(process_cpu_seconds_total{job="commonwatt-edge", instance=~"$instance"}[5m])', legend="cores"),
            Series(query='process_resident_memory_bytes{job="commonwatt-edge", instance=~"$instance"} / 1e6', legend="MB"),
        )),
    ),
    (
        Panel(title="Community", words="Leader known, leading, and term.", width=12, series=(
            Series(query=f"{EDGE}_leader_known{{{PART}}}", legend="leader known"),
            Series(query=f"{EDGE}_leader{{{PART}}}", legend="leads"),
            Series(query=f"{EDGE}_leader_term{{{PART}}}", legend="term"),
        )),
        Panel(title="Rounds led", words="Rounds opened, failed; reports refused.", width=12,
              series=_one(f"increase({EDGE}_rounds_total{{{PART}}}[15m])", "{{outcome}}")),
    ),
)  # fmt: skip

COMMUNITY: Final = (
    (
        _stat("Nodes away", "Offline or not heard.",
              f'sum({FEEDER}_nodes{{{PART}, state=~"offline|unheard"}})', "short", GOOD_BAD),
        _stat("In failsafe", "Nodes whose strictest known limits hold.",
              f'sum({FEEDER}_nodes{{{PART}, state="failsafe"}})', "short", GOOD_BAD),
        _stat("Envelopes reach", "Until when every node has a control.", f"{FEEDER}_envelope_horizon_seconds{{{PART}}}", "s",
              (("red", None), ("orange", 300.0), ("green", 900.0))),
        _stat("Stored within, 99 %", "From telemetry's own time until it is on the disk.",
              f"histogram_quantile(0.99, sum by (le) (rate({FEEDER}_report_delay_seconds_bucket{{{PART}}}[10m])))", "s",
              (("green", None), ("orange", 1.0), ("red", 5.0))),
        _stat("Rows waiting", "Not on the disk yet.", f"{FEEDER}_store_waiting_rows{{{PART}}}", "short",
              (("green", None), ("orange", 1000.0), ("red", 10000.0))),
        _stat("First certificate", "Time until the first member's certificate expires.",
              f"min({FEEDER}_certificate_expiry_timestamp_seconds{{{PART}}}) - time()", "s",
              (("red", None), ("orange", 7 * 86400.0), ("green", 21 * 86400.0))),
    ),
    (
        Panel(title="Net import of all nodes", words="Sum of the newest telemetry; export is below zero.", unit="watt", width=16,
              height=10, series=_one(f"{FEEDER}_net_import_watts{{{PART}}}", "net import")),
        Panel(title="Nodes by state", words="What each node says of itself.", height=10,
              series=_one(f"{FEEDER}_nodes{{{PART}}} > 0", "{{state}}")),
    ),
    (
        Panel(title="Outside its envelope", words="Time that nodes reported outside their envelope, in 15 minutes.", unit="s", width=12,
              series=_one(f"topk(10, increase({FEEDER}_node_envelope_exceeded_seconds_total{{{PART}}}[15m]) > 0)", "{{node}}")),
        Panel(title="Conditions", words="What the coordinator's status says.", kind="state-timeline", width=12,
              series=_one(f"{FEEDER}_condition{{{PART}}}", "{{condition}}")),
    ),
    (
        Panel(title="Messages", words="Believed, and refused by rule, per second.", series=(
            Series(query=f"rate({FEEDER}_messages_received_total{{{PART}}}[5m])", legend="believed"),
            Series(query=f"rate({FEEDER}_messages_refused_total{{{PART}}}[5m]) > 0", legend="{{reason}}"),
        )),
        Panel(title="Published", words="Intervals computed and controls sent, in five minutes.", series=(
            Series(query=f"increase({FEEDER}_envelopes_computed_total{{{PART}}}[5m])", legend="intervals"),
            Series(query=f"increase({FEEDER}_controls_published_total{{{PART}}}[5m])", legend="controls"),
        )),
        Panel(title="Rounds", words="Sums opened and refused, and the leader's term.", series=(
            Series(query=f"increase({FEEDER}_rounds_total{{{PART}}}[15m])", legend="{{outcome}}"),
            Series(query=f"{FEEDER}_leader_term{{{PART}}}", legend="term"),
        )),
    ),
)  # fmt: skip

DASHBOARDS: Final = {
    "commonwatt-household": ("Commonwatt: household", f"{EDGE}_build_info", HOUSEHOLD),
    "commonwatt-feeder": ("Commonwatt: feeder", f"{FEEDER}_build_info", COMMUNITY),
}


def dashboard(name: str) -> dict[str, Any]:
    """The document that Grafana imports."""
    title, origin, rows = DASHBOARDS[name]
    return {
        "uid": name,
        "title": title,
        "tags": ["commonwatt"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source_variable(), _instance_variable(origin)]},
        "panels": _panels(rows),
    }


def document(name: str) -> str:
    """The same as the file has it."""
    return json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _instance_variable(origin: str) -> dict[str, Any]:
    query = f"label_values({origin}, instance)"
    return {
        "name": "instance", "label": "Instance", "type": "query", "datasource": SOURCE,
        "query": {"query": query, "refId": "instance"}, "refresh": 2, "sort": 1, "includeAll": False, "multi": False,
    }  # fmt: skip


def _panels(rows: Sequence[Sequence[Panel]]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        left = 0
        for panel in row:
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            panels.append(_panel(panel, len(panels) + 1, place))
            left += panel.width
        assert left == WIDTH, f"a row is {left} wide"
        top += row[0].height
    return panels


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"color": colour, "value": value} for colour, value in panel.steps]
    names = {value: {"text": text, "index": index} for index, (value, text) in enumerate(panel.mappings)}
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if names:
        defaults["mappings"] = [{"type": "value", "options": names}]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind == "stat" else {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": series.query, "legendFormat": series.legend}
            for index, series in enumerate(panel.series)
        ],
    }


def main() -> None:
    """Write every dashboard into a folder."""
    folder = Path(sys.argv[1])
    for name in DASHBOARDS:
        (folder / f"{name}.json").write_text(document(name), encoding="utf-8")


if __name__ == "__main__":
    main()
