"""A configuration is right, or it is one line that names file, path and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.assembly import beside, read_signer, read_verifier
from coordinator.config import check_config, decode_config, load_config
from coordinator.errors import ConfigError
from coordinator.network.cases import load
from protocols.messages import Guarantee

GOOD = """
[identity]
community = "street"
key_file = "coordinator.key"

[feeder]
network = "ieee33"
vmin_pu = 0.95
vmax_pu = 1.05

[[nodes]]
name = "east"
connection = "load18"
import_rating_w = 100000.0
export_rating_w = 200000
key_files = ["east.pub"]

[[nodes]]
name = "west"
connection = "load22"
import_rating_w = 100000.0
export_rating_w = 0.0
key_files = ["west.pub"]

[envelopes]
rule = "max-volume"
guarantee = "coincident"
horizon_s = 86400
interval_s = 900

[defaults]
export_w = 0.0
"""


def test_a_good_configuration_is_read_as_it_is_written() -> None:
    config = decode_config(GOOD.encode(), "feeder.toml")
    assert check_config(config) is None
    assert config.envelopes.guarantee is Guarantee.COINCIDENT
    assert config.defaults.export_w == 0.0
    assert config.nodes[1].export_rating_w == 0.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("community = ", "comunity = ", "unknown field comunity - at $.identity"),
        ("vmin_pu = 0.95", "vmin_pu = 1.2", "vmin_pu (1.2) must be below vmax_pu (1.05) - at $.feeder.vmin_pu"),
        ("vmin_pu = 0.95", "vmin_pu = nan", "$.feeder.vmin_pu"),
        ("import_rating_w = 100000.0", "import_rating_w = -1.0", "$.nodes[0].import_rating_w"),
        ("export_rating_w = 200000", "export_rating_w = inf", "$.nodes[0].export_rating_w"),
        ('name = "west"', 'name = "east"', "node name 'east' is used twice - at $.nodes[1].name"),
        ('name = "west"', 'name = "coordinator"', "must not be called 'coordinator'"),
        ('"load22"', '"load18"', "connection 'load18' has two nodes"),
        ('"coincident"', '"unverified"', "nothing unverified is published"),
        ('"max-volume"', '"biggest"', "$.envelopes.rule"),
        ("horizon_s = 86400", "horizon_s = 1000", "horizon_s (1000) must be a multiple of interval_s (900)"),
        ("horizon_s = 86400", "horizon_s = 900\nperiod_s = 500", "must be at least twice period_s"),
        ("export_w = 0.0", "export_w = '0'", "$.defaults.export_w"),
        ("[defaults]", "[defaults", "not TOML"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_path(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        decode_config(GOOD.replace(old, new).encode(), "feeder.toml")
    assert str(caught.value).startswith("feeder.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file"):
        load_config(tmp_path / "gone.toml")


def test_relative_paths_are_beside_the_configuration(tmp_path: Path) -> None:
    config = beside(decode_config(GOOD.encode(), "x"), tmp_path)
    assert config.identity.key_file == str(tmp_path / "coordinator.key")
    assert config.nodes[0].key_files == (str(tmp_path / "east.pub"),)
    assert config.store.url == f"sqlite:///{tmp_path / 'coordinator.db'}"
    assert config.feeder.network == "ieee33", "a built-in case is no path"


def test_a_node_without_keys_and_a_coordinator_without_one_are_refused() -> None:
    config = decode_config(GOOD.replace('key_file = "coordinator.key"', "").replace('key_files = ["west.pub"]', "").encode(), "x")
    with pytest.raises(ConfigError, match=r"\$\.identity\.key_file"):
        read_signer(config)
    with pytest.raises(ConfigError, match=r"node west has no key_files.*\$\.nodes\[1\]"):
        read_verifier(config)


def test_the_connections_of_the_example_exist() -> None:
    network = load("ieee33")
    assert {"load18", "load22"} <= network.connection_index.keys()
