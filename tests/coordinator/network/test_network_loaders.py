"""Networks read from files are the published ones, and a bad file is refused with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.errors import CoordinatorError, NetworkError
from coordinator.network.cases import check, load
from coordinator.network.matlab import constant
from coordinator.network.model import NetworkKind
from coordinator.network.validate import validate

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "networks"
FOLDERS = ("case33bw", "case69", "au_vic_lv28", "au_vic_lv31", "csiro_lvft_L", "csiro_lvft_M", "ieee_eu_lv", "au_vic_hpk11")

CASE_M = """function mpc = case3
mpc.version = '2';
mpc.baseMVA = 30/3;   % ten
mpc.bus = [ %% kW
    1 3 0   0  0 0 1 1 0 12.66 1 1.0 1.0;
    2 1 100 60 0 0 1 1 0 12.66 1 1.1 0.9;
    3 1 90  40 0 0 1 1 0 12.66 1 1.1 0.9;
];
mpc.gen = [1 0 0 10 -10 1.02 100 1 10 0];
mpc.branch = [
    1 2 0.0922 0.0470 0 0 0 0 0 0 1 -360 360;
    2 3 0.4930 0.2511 0 5 0 0 0 0 1 -360 360;
    1 3 2.0    2.0    0 0 0 0 0 0 0 -360 360;
];
mpc.bus_name = {
    'one; %'; 'two'; 'three';
};
Vbase = mpc.bus(1, BASE_KV) * 1e3;
Sbase = mpc.baseMVA * 1e6;
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
"""


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"the data of network {name} is not at {path}")
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def branches_folder(folder: Path, branches: str, buses: str = "id,kv,p_kw,q_kvar\n1,12.66,0,0\n2,12.66,100,60\n") -> Path:
    write(folder / "buses.csv", buses)
    write(folder / "branches.csv", branches)
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_of_the_data_is_a_valid_network(name: str) -> None:
    assert validate(load(shared(name))) == []


@pytest.mark.parametrize(("name", "case"), [("case33bw", "ieee33"), ("case69", "ieee69")])
def test_the_typed_in_tables_equal_the_fetched_ones(name: str, case: str) -> None:
    fetched, typed = load(shared(name)), load(case)
    assert typed.lines == fetched.lines
    assert {(c.bus, c.p_w, c.q_var) for c in typed.connections} == {(c.bus, c.p_w, c.q_var) for c in fetched.connections}


def test_the_published_totals_are_right() -> None:
    """Baran and Wu: 3715 kW + j 2300 kvar on 33 buses; 3802.1 kW + j 2694.7 kvar (as MATPOWER's case69) on 69."""
    for case, p_w, q_var, ties in (("ieee33", 3.715e6, 2.3e6, 5), ("ieee69", 3.8021e6, 2.6947e6, 5)):
        network = load(case)
        assert network.base_power_w().sum() == pytest.approx(p_w, rel=1e-4)
        assert network.base_reactive_var().sum() == pytest.approx(q_var, rel=1e-4)
        assert sum(line.is_tie for line in network.lines) == ties
        assert validate(network, require_radial=True) == []


def test_the_regional_rule_gives_every_customer_a_connection() -> None:
    network = load(shared("au_vic_hpk11"))
    assert len(network.connections) == 5275
    assert len(network.transformers) == 44
    assert validate(network, require_radial=True) == []


def test_a_service_line_that_renumbers_its_phase_keeps_the_real_one() -> None:
    """In au_vic_lv31 a service of phase 2 ends at node 1 of a single-phase bus; the customer is on phase 2."""
    network = load(shared("au_vic_lv31"))
    buses = {bus.id: bus for bus in network.buses}
    used = {connection.phases for connection in network.connections}
    assert used == {(1,), (2,), (3,)}
    assert all(connection.phases == buses[connection.bus].phases for connection in network.connections)


@pytest.mark.parametrize(
    ("branches", "where"),
    [
        ("branch,from_bus,to_bus,r_ohm,x_ohm\n1,1,2,abc,0.2\n", "branches.csv line 2 column r_ohm"),
        ("branch,from_bus,to_bus,r_ohm,x_ohm\n1,1,2,0.1,nan\n", "branches.csv line 2 column x_ohm"),
        ("branch,from_bus,to_bus,r_ohm,x_ohm\n\n1,1,,0.1,0.1\n", "branches.csv line 3 column to_bus"),
        ("branch,from_bus,to_bus,r_ohm\n1,1,2,0.1\n", "branches.csv line 1"),
        ("branch,from_bus,to_bus,r_ohm,x_ohm\n1,1,2,0.1\n", "branches.csv line 2"),
        ("branch,from_bus,to_bus,r_ohm,x_ohm,is_tie\n1,1,2,0.1,0.1,maybe\n", "branches.csv line 2 column is_tie"),
        ("\0\0\0", "branches.csv"),
        ("", "branches.csv line 1"),
    ],
)
def test_a_garbage_cell_is_named_by_file_line_and_column(tmp_path: Path, branches: str, where: str) -> None:
    assert where in [finding.where for finding in check(branches_folder(tmp_path, branches))]


def test_all_bad_cells_are_reported_together(tmp_path: Path) -> None:
    buses = "id,kv,p_kw,q_kvar\n1,x,0,0\n2,12.66,y,z\n"
    found = check(branches_folder(tmp_path, "branch,from_bus,to_bus,r_ohm,x_ohm\n1,1,2,?,!\n", buses))
    assert len(found) == 5


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    branches_folder(tmp_path, "x")
    (tmp_path / "branches.csv").write_bytes(b"\xff\xfe\x00\x81")
    assert [finding.code for finding in check(tmp_path)] == ["unreadable-file"]


@pytest.mark.parametrize("name", ["nothing/here", "/dev/null"])
def test_an_unknown_network_says_what_would_be_known(name: str) -> None:
    with pytest.raises(NetworkError, match=r"ieee33|\.dss"):
        load(name)


def test_an_empty_folder_says_which_tables_it_needs(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"branches\.csv, lines\.csv or mv_nodes\.csv"):
        load(tmp_path)


def test_limits_can_be_replaced_when_loading() -> None:
    network = load("ieee33", vmin_pu=0.95, vmax_pu=1.05)
    assert (network.vmin_pu, network.vmax_pu) == (0.95, 1.05)


def test_a_distribution_case_is_converted_as_its_trailing_code_says(tmp_path: Path) -> None:
    network = load(write(tmp_path / "case3.m", CASE_M))
    assert network.kind is NetworkKind.BALANCED
    assert network.lines[0].r_ohm == ((pytest.approx(0.0922, rel=1e-12),),)
    assert network.connections[0].p_w == 100e3
    assert network.source.voltage_pu == 1.02
    assert network.lines[2].is_tie
    assert network.lines[1].ampacity_a == pytest.approx(5e6 / (3**0.5 * 12660.0))
    assert (network.vmin_pu, network.vmax_pu) == (0.9, 1.1)
    assert validate(network, require_radial=True) == []


def test_a_case_in_per_unit_and_megawatts_stays_so(tmp_path: Path) -> None:
    plain = CASE_M[: CASE_M.index("Vbase")]
    network = load(write(tmp_path / "case3.m", plain))
    assert network.connections[0].p_w == 100e6
    assert network.lines[0].r_ohm[0][0] == pytest.approx(0.0922 * 12660.0**2 / 10e6)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("/ 1e3;", "/ 1e4;", "unknown-statement"),
        ("Sbase = mpc.baseMVA * 1e6;", "Sbase = 1;", "unknown-statement"),
        ("0.0922", "r12", "not-a-number"),
        ("30/3", "system('x')", "not-a-number"),
        ("mpc.gen", "mpc.generators", "missing-table"),
        ("1 2 0.0922 0.0470 0 0 0 0 0 0 1 -360 360;", "1 2 0.0922;", "wrong-cell-count"),
        ("3 1 90  40 0 0 1 1 0 12.66", "3 1 90  40 0 0 1 1 0 0.0", "not-positive"),
        ("2 3 0.4930", "2 9 0.4930", "unknown-bus"),
        ("];\nmpc.gen", "\nmpc.gen", "not-a-number"),
    ],
)
def test_a_case_that_is_not_understood_is_refused_with_its_line(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert old in CASE_M
    assert code in {finding.code for finding in check(write(tmp_path / "case3.m", CASE_M.replace(old, new)))}


@pytest.mark.parametrize(
    ("text", "value"), [("12/sqrt(3)", 6.92820323027551), ("50/3", 50 / 3), ("-2^2", -4.0), ("1e-3", 1e-3), ("(1+2)*3", 9.0)]
)
def test_constant_arithmetic_is_evaluated(text: str, value: float) -> None:
    assert constant(text) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("text", ["__import__('os')", "1;2", "x", "", "1/0", "9**9**9**9", "(" * 300 + "1" + ")" * 300])
def test_nothing_but_constant_arithmetic_is_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match="constant"):
        constant(text)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([".m", ".json", "branches.csv"]))
def test_no_bytes_make_a_loader_fail_without_a_reason(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / f"net{kind}" if kind.startswith(".") else branches_folder(tmp_path, "x") / kind
    path.write_bytes(content)
    try:
        validate(load(path if kind.startswith(".") else tmp_path))
    except CoordinatorError as error:
        assert str(error)
