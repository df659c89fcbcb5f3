"""A scenario is read whole or refused in one line that says where."""

from pathlib import Path

import pytest

from hil.errors import ScenarioError
from hil.scenario import SHIPPED, decode_scenario, find_scenario, load_scenario

STREET = (SHIPPED / "street.toml").read_text(encoding="utf-8")


def test_every_shipped_scenario_decodes() -> None:
    for path in SHIPPED.glob("*.toml"):
        assert decode_scenario(path.read_bytes(), str(path)).name == path.stem


def test_the_street_needs_nothing_but_what_is_shipped() -> None:
    loaded = load_scenario("street")
    assert (loaded.network_folder / "lines.csv").is_file()
    assert loaded.scenario.day.duration_h == 24.0
    assert loaded.scenario.control.cycle_s <= 10.0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cycle_s = 10.0", "cycle_s = 7.0", "plant_step_s"),
        ("cycle_s = 10.0", "cycle_s = 0.0", "cycle_s"),
        ("seed = 1\n", "seed = -1\n", "seed"),
        ("horizon_s = 3600.0", "horizon_s = 400.0", "twice"),
        ("voltage_min_v = 216.0", "voltage_min_v = 260.0", "voltage_min_v"),
        ("enabled = true", "enabled = true\nsurprise = 1", "surprise"),
        ("+11:00", "", "offset"),
        ("shortest_s = 10.0, longest_s = 120.0", "shortest_s = 900.0, longest_s = 120.0", "longest_s"),
        ("[network]", "[network", "TOML"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(old: str, new: str, words: str) -> None:
    assert old in STREET
    with pytest.raises(ScenarioError) as caught:
        decode_scenario(STREET.replace(old, new, 1).encode(), "street.toml")
    message = str(caught.value)
    assert message.startswith("street.toml: ")
    assert words in message
    assert "\n" not in message.removesuffix("\n")


def test_a_scenario_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ScenarioError, match="street"):
        find_scenario("nowhere")


def test_a_missing_network_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(STREET.replace("../networks/street", "no/such/folder"), encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"network\.folder names .*no/such/folder"):
        load_scenario(str(path))


def test_absent_public_data_are_asked_for_by_option(tmp_path: Path) -> None:
    path = tmp_path / "real.toml"
    path.write_text(STREET.replace("../networks/street", "{data}/networks/au_vic_lv28"), encoding="utf-8")
    with pytest.raises(ScenarioError, match="--data"):
        load_scenario(str(path), data=tmp_path / "absent")
