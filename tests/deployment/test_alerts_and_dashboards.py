"""Alerts and dashboards ask for figures that are really exported, and an alert fires when what it is named for happens."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from coordinator.observation import catalogue as coordinator_catalogue
from edge.observation import catalogue as edge_catalogue
from hil.grafana import DASHBOARDS, document
from protocols.observation.book import PROCESS_FAMILIES, Family, MetricBook

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "prometheus" / "commonwatt-alerts.yml"
PROMTOOL = shutil.which("promtool")
FAMILIES = {family.name: family for family in (*edge_catalogue.FAMILIES, *coordinator_catalogue.FAMILIES, *PROCESS_FAMILIES)}
TARGET_LABELS = {"job", "instance", "le"}
STATES = {
    ("commonwatt_edge_safety_state", "state"): set(edge_catalogue.STATES),
    ("commonwatt_edge_condition", "condition"): set(edge_catalogue.CONDITIONS),
    ("commonwatt_edge_messages_refused_total", "reason"): set(edge_catalogue.REFUSALS),
    ("commonwatt_edge_limit_watts", "direction"): set(edge_catalogue.DIRECTIONS),
    ("commonwatt_coordinator_condition", "condition"): set(coordinator_catalogue.CONDITIONS),
    ("commonwatt_coordinator_messages_refused_total", "reason"): set(coordinator_catalogue.REFUSALS),
    ("commonwatt_coordinator_nodes", "state"): {*coordinator_catalogue.STATES, coordinator_catalogue.UNHEARD},
}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for name in DASHBOARDS:
        for panel in json.loads(document(name))["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def family_of(name: str) -> Family | None:
    return FAMILIES.get(name) or FAMILIES.get(re.sub(r"_(bucket|sum|count)$", "", name))


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_query_asks_for_figures_labels_and_states_that_exist(where: str, query: str) -> None:
    found = re.findall(r"\b((?:commonwatt|process)_[a-z_]+)(?:\{([^}]*)\})?", query)
    assert found or query.startswith("up{"), where
    for name, selector in found:
        family = family_of(name)
        assert family is not None, f"{where}: {name} is not exported"
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|=|!=)\s*"([^"]*)"', selector):
            assert label in family.labels or label in TARGET_LABELS, f"{where}: {name} has no label {label}"
            states = STATES.get((name, label))
            if states is not None and operator in ("=", "=~"):
                assert set(value.split("|")) <= states, f"{where}: {name} has no {label} {value}"


def test_the_six_dangers_have_an_alert_with_words_for_people() -> None:
    named = {rule["alert"] for rule in rules()}
    wanted = {"EnvelopeBreach", "EdgeFailsafe", "MeterStale", "NoLeader", "RoundRefused", "CertificateExpires"}
    assert {f"Commonwatt{name}" for name in wanted} <= named
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_the_dashboards_in_the_repository_are_those_of_the_code() -> None:
    for name in DASHBOARDS:
        assert (ROOT / "deploy" / "grafana" / f"{name}.json").read_text(encoding="utf-8") == document(name)


def differing(ours: Any, theirs: Any, where: str = "$") -> Iterator[str]:
    """Every place at which something of ours is not in theirs as well."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from differing(value, theirs.get(key), f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differing(one, other, f"{where}[{index}]")
    elif ours != theirs:
        yield f"{where}: {ours!r} is read as {theirs!r}"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_s_own_types_read_a_dashboard_and_lose_nothing_of_it(name: str) -> None:
    """By grafana-foundation-sdk 11.0.0: what its types do not know is gone when they write again what they read."""
    register_default_plugins()
    dashboard = Dashboard.from_json(json.loads(document(name)))
    read = json.loads(JSONEncoder(sort_keys=True).encode(dashboard))
    assert len(read["panels"]) > 10
    assert list(differing(json.loads(document(name)), read)) == []


def test_no_figure_is_shown_nowhere_that_somebody_must_act_on() -> None:
    """Every gauge of state and every counter of trouble is on a dashboard or in an alert."""
    asked = " ".join(query for _, query in queries())
    troubles = [name for name in FAMILIES if re.search(r"refused|exceeded|failsafe|lost|expiry|condition|state$|rounds", name)]
    assert [name for name in troubles if name not in asked] == []


def exposition(families: tuple[Family, ...]) -> bytes:
    """A scrape in which every declared figure has a series."""
    book = MetricBook(families)
    for family in families:
        labels = ["x"] * len(family.labels)
        match family.kind:
            case "gauge":
                book.set(family.name, 1.0, *labels)
            case "counter":
                book.add(family.name, 1.0, *labels)
            case "histogram":
                book.observe(family.name, 0.1)
            case "info":
                book.tell(family.name, version="1")
    return book.render()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian package prometheus) is not installed")
@pytest.mark.parametrize("families", [edge_catalogue.FAMILIES, coordinator_catalogue.FAMILIES], ids=["edge", "coordinator"])
def test_promtool_finds_no_name_that_breaks_a_convention(families: tuple[Family, ...]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=exposition(families), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("families", [edge_catalogue.FAMILIES, coordinator_catalogue.FAMILIES], ids=["edge", "coordinator"])
def test_names_end_in_their_unit(families: tuple[Family, ...]) -> None:
    """Base units and suffixes of Prometheus; what counts things or names a state has none."""
    units = r"(watts|volts|seconds|joules|ratio|rows|bytes)(_total)?$|_info$|_total$"
    plain = r"(state|source|condition|connected|leader|leader_known|leader_term|device_up|nodes|node_online|node_failsafe)$"
    for family in families:
        assert re.search(units, family.name) or re.search(plain, family.name), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.name.endswith("_info") == (family.kind == "info"), family.name
        assert family.words.endswith("."), family.name


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian package prometheus) is not installed")
def test_promtool_accepts_rules_and_configuration_and_each_alert_fires() -> None:
    assert PROMTOOL is not None
    for arguments in (
        ["check", "rules", str(RULES)],
        ["check", "config", str(RULES.parent / "prometheus.yml")],
        ["test", "rules", str(Path(__file__).parent / "alerts.test.yml")],
    ):
        done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
