"""The street for a few minutes, in every way of running it."""

import json
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hil.broker import find_mosquitto
from hil.cli import main
from hil.frames import load_record
from hil.orchestrate import Order, run_order
from hil.results import UNCOORDINATED, WITH_ENVELOPES, Results
from hil.scenario import SHIPPED, FaultMixEntry, LoadedScenario, load_scenario
from hil.toml_text import toml_text

MINUTES = 12.0
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")


def stormy(minutes: float = MINUTES) -> LoadedScenario:
    """The street with every shipped fault, often, from the first minute."""
    loaded = load_scenario("street")
    scenario = loaded.scenario
    mix = tuple(
        FaultMixEntry(kind=entry.kind, max_per_day=min(100.0, 40.0 * entry.max_per_day), shortest_s=10.0, longest_s=60.0)
        for entry in scenario.faults.mix
    )
    faults = msgspec.structs.replace(scenario.faults, quiet_h=0.05, mix=mix)
    day = msgspec.structs.replace(scenario.day, duration_h=minutes / 60.0)
    homes = msgspec.structs.replace(scenario.homes, history_days=0)
    return msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(scenario, faults=faults, day=day, homes=homes))


def silent(run: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_the_same_seed_leaves_the_same_bytes_in_virtual_time(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "other"):
        order = Order(loaded=stormy(), mode="sim", seed=7, out=tmp_path / name, variants=(WITH_ENVELOPES,))
        results = run_order(order, silent)
        assert len(results.faults) > 5
        texts.append((tmp_path / name / "results.json").read_bytes())
    assert texts[0] == texts[1]
    assert b"wall" not in texts[0]


def test_a_storm_of_faults_leaves_nothing_unserved_unbalanced_or_unsigned(tmp_path: Path) -> None:
    order = Order(loaded=stormy(), mode="sim", seed=3, out=tmp_path, variants=(UNCOORDINATED, WITH_ENVELOPES))
    results = run_order(order, silent)
    by_name = {(entry.run, entry.name): entry for entry in results.checkers}
    for name in ("p1_never_shed", "energy_conserved", "money_conserved", "soc_within_limits"):
        for run in order.variants:
            assert by_name[run, name].violations == 0, f"seed 3: {by_name[run, name].details}"
            assert by_name[run, name].checks > 0
    for name in ("no_unverified_envelope", "signed_only", "forgeries_refused", "published_envelopes_hold"):
        assert by_name[WITH_ENVELOPES, name].violations == 0, f"seed 3: {by_name[WITH_ENVELOPES, name].details}"
        assert by_name[WITH_ENVELOPES, name].checks > 0
    assert results.runs[WITH_ENVELOPES].counters["edge_restarts"] > 0


@needs_mosquitto
def test_real_sockets_tell_the_same_story_as_memory(tmp_path: Path) -> None:
    """Without faults a run on sockets does to every watt what the run in memory does: nothing depends on who is faster."""
    loaded = stormy(5.0)
    scenario = msgspec.structs.replace(loaded.scenario, faults=msgspec.structs.replace(loaded.scenario.faults, enabled=False))
    calm = msgspec.structs.replace(loaded, scenario=scenario)
    series = []
    for mode in ("sim", "lockstep"):
        run_order(Order(loaded=calm, mode=mode, seed=1, out=tmp_path / mode, variants=(WITH_ENVELOPES,)), silent)
        series.append(load_record(tmp_path / mode / f"{WITH_ENVELOPES}.npz").home["net_import_w"])
    assert np.abs(series[0] - series[1]).max() < 1.0


@needs_mosquitto
def test_the_command_leaves_report_and_results_and_prints_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["run", "street", "--mode", "lockstep", "--hours", "0.05", "--no-faults", "--out", str(tmp_path), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert status == (0 if printed["passed"] else 1)
    assert {checker["name"] for checker in printed["checkers"]} >= {"envelope_held", "p1_never_shed", "network_limits"}
    saved = msgspec.json.decode((tmp_path / "results.json").read_bytes(), type=Results)
    assert saved.homes == 30 and set(saved.runs) == {UNCOORDINATED, WITH_ENVELOPES}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6 and "src=" not in page and "@import" not in page and "<link" not in page


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "nowhere"],
        ["run", "street", "--hours", "99"],
        ["run", "street", "--seed", str(2**32)],
        ["sweep", "street", "--seeds", "5:2"],
        ["run", "victoria-lv28", "--data", "/nonexistent"],
        ["bench", "--only", "no-such-row"],
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and captured.err.startswith("commonwatt-hil: ")


def test_a_configuration_survives_its_way_through_a_file() -> None:
    for path in SHIPPED.glob("*.toml"):
        scenario = load_scenario("street").scenario
        fields = tomllib.loads(toml_text(scenario))
        assert msgspec.convert(fields, type=type(scenario)) == scenario, path
