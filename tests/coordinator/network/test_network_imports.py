"""Networks from OpenDSS scripts and pandapower files solve to what those tools compute, and what they cannot express is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.errors import NetworkError
from coordinator.network.cases import check, load
from coordinator.network.model import Network
from coordinator.network.opendss_export import export_opendss
from coordinator.network.opendss_session import new_session
from coordinator.network.pandapower import from_pandapower
from coordinator.network.validate import validate
from coordinator.powerflow.pgm import PgmEngine

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "networks"

STREET_DSS = """! a street
Clear
Set DefaultBaseFrequency=50
New Circuit.street bus1=src basekv=11 pu=1.02 R1=0.4 X1=1.2 R0=0.4 X0=1.2
New Linecode.main nphases=3 r1=0.25 x1=0.07 r0=0.9 x0=0.3 c1=10 c0=5 units=km
Redirect parts/homes.dss
New Transformer.tx phases=3 windings=2 buses=(src lv.1.2.3.0) conns=(delta wye) kvs=(11 0.4)
~ kvas=(250 250) %rs=(0.5 0.5) xhl=4 %noloadloss=0.2 taps=(1.0 1.0)
New Line.a bus1=lv bus2=pole linecode=main length=120 units=m normamps=240
New Line.s bus1=pole.2 bus2=house.1 phases=1 rmatrix=(0.05) xmatrix=(0.01) cmatrix=(0) length=1 units=none
New Line.sw bus1=lv bus2=pole linecode=main length=100 units=m switch=no
Open Line.sw 1
New Capacitor.c bus1=pole kv=0.4 kvar=12
New Monitor.m element=line.a
Set VoltageBases=[11 0.4]
CalcVoltageBases
Solve
"""
HOMES_DSS = """New Loadshape.day npts=3 interval=1 csvfile=secret.csv
New Load.home bus1=house.1 phases=1 kv=0.23 kw=4 kvar=1 model=1 daily=day vminpu=0.3 vmaxpu=2
New Load.shop bus1=pole phases=3 kv=0.4 kw=20 pf=0.9 model=1 vminpu=0.3 vmaxpu=2
New Generator.pv bus1=pole.3 phases=1 kv=0.23 kw=6 kvar=0 model=1
"""


def street(folder: Path, script: str = STREET_DSS, homes: str = HOMES_DSS) -> Path:
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "parts" / "homes.dss").write_text(homes, encoding="utf-8")
    (folder / "street.dss").write_text(script, encoding="utf-8")
    return folder / "street.dss"


def node_voltages(commands: list[str]) -> dict[str, float]:
    """Solve commands with OpenDSS directly; magnitude of every node in volts."""
    session = new_session()
    for command in commands:
        session.Text.Command(command)
    session.Text.Command("Solve")
    assert session.Solution.Converged()
    return dict(zip(session.Circuit.AllNodeNames(), session.Circuit.AllBusVMag(), strict=True))


def test_a_script_solves_to_what_opendss_computes(tmp_path: Path) -> None:
    network = load(street(tmp_path))
    assert validate(network) == []
    plain = HOMES_DSS.replace("New Loadshape.day npts=3 interval=1 csvfile=secret.csv\n", "").replace("daily=day", "")
    commands = STREET_DSS.replace("Redirect parts/homes.dss\n", "").replace("Solve\n", plain + "Set tolerance=1e-10").splitlines()
    expected = node_voltages(commands)
    result = PgmEngine(network).solve()
    relabelled = {"house.1": ("house", 2)}
    for node, volts in expected.items():
        bus, phase = relabelled.get(node, (node.split(".")[0], int(node.split(".")[1])))
        assert abs(result.voltage_ln_v[0, network.bus_index[bus], phase - 1]) == pytest.approx(volts, rel=1e-6), node


def test_a_script_keeps_phases_ratings_and_open_switches(tmp_path: Path) -> None:
    network = load(street(tmp_path))
    lines = {line.id: line for line in network.lines}
    assert lines["s"].phases == (2,)
    assert lines["a"].ampacity_a == 240.0
    assert not lines["sw"].in_service
    assert {connection.id: connection.p_w for connection in network.connections}["gen_pv"] == -6000.0
    assert network.frequency_hz == 50.0


@pytest.mark.parametrize("name", ["ieee_eu_lv", "au_vic_lv28", "csiro_lvft_M"])
def test_an_exported_feeder_comes_back_the_same(tmp_path: Path, name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"the data of network {name} is not at {SHARED / name}")
    network = load(SHARED / name)
    path = tmp_path / "feeder.dss"
    path.write_text("\n".join(export_opendss(network)[:-1]), encoding="utf-8")
    again = load(path)
    ours, theirs = PgmEngine(network).solve(), PgmEngine(again).solve()
    order = [again.bus_index[f"b{position}"] for position in range(len(network.buses))]
    np.testing.assert_allclose(np.abs(ours.voltage_ln_v), np.abs(theirs.voltage_ln_v[:, order]), rtol=1e-9)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("Export voltages /tmp/x.csv\nDos rm -rf /", "dos"),
        ("Set datapath=/etc", "datapath"),
        ("Set editor=/bin/sh", "editor"),
        ("Redirect ../../etc/passwd", "outside"),
        ("Compile missing.dss", "does not exist"),
        ("New Load.x bus1=lv kw=(file=/etc/passwd)", "reads a file"),
        ("New Load.x bus1=lv\n~ yearly=(file=secret)", "reads a file"),
        ("New RegControl.r transformer=tx winding=2", "regcontrol"),
        ("cd /", "cd"),
        ("fileedit x", "fileedit"),
    ],
)
def test_a_script_may_only_describe_a_circuit(tmp_path: Path, command: str, reason: str) -> None:
    findings = check(street(tmp_path, STREET_DSS.replace("Solve\n", command + "\n")))
    assert any(finding.code == "refused-command" and reason in finding.message.lower() for finding in findings), findings


@pytest.mark.parametrize(
    ("homes", "code"),
    [
        (HOMES_DSS.replace("kvar=1 model=1", "kvar=1 model=2"), "unsupported-load"),
        (HOMES_DSS.replace("bus1=pole phases=3", "bus1=pole phases=3 conn=delta"), "unknown-connection"),
    ],
)
def test_an_element_that_the_model_cannot_express_is_refused(tmp_path: Path, homes: str, code: str) -> None:
    assert code in {finding.code for finding in check(street(tmp_path, homes=homes))}


def test_a_script_that_opendss_cannot_compile_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="OpenDSS refused it"):
        load(street(tmp_path, STREET_DSS.replace("linecode=main", "linecode=other")))


def pandapower() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("pandapower"), pytest.importorskip("pandapower.networks")


def solved(name: str) -> tuple[Any, Network]:
    pp, networks = pandapower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = getattr(networks, name)()
        pp.runpp(net, tolerance_mva=1e-10, calculate_voltage_angles=True, trafo_model="pi", numba=False)
    return net, from_pandapower(net)


@pytest.mark.parametrize(
    ("name", "tolerance_pu"),
    [("case33bw", 1e-9), ("create_cigre_network_lv", 1e-9), ("create_cigre_network_mv", 5e-4), ("simple_four_bus_system", 5e-4)],
)
def test_a_pandapower_network_solves_to_what_pandapower_computes(name: str, tolerance_pu: float) -> None:
    """pandapower 3.5 splits a transformer's no-load branch over both sides, which shows in the cases that have one."""
    net, network = solved(name)
    assert validate(network) == []
    result = PgmEngine(network).solve()
    expected = np.array([net.res_bus.vm_pu.loc[int(bus.id)] for bus in network.buses])
    assert np.abs(result.voltage_pu[0, :, 0] - expected).max() < tolerance_pu


def test_an_unbalanced_pandapower_network_solves_to_what_pandapower_computes() -> None:
    """Tolerance 1e-3: pandapower gives a Dyn transformer a finite zero-sequence magnetising impedance, the model does not."""
    pp, networks = pandapower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = networks.ieee_european_lv_asymmetric("on_peak_566")
        pp.runpp_3ph(net, tolerance_mva=1e-10, numba=False)
    network = from_pandapower(net)
    assert validate(network, require_radial=True) == []
    result = PgmEngine(network).solve()
    expected = net.res_bus_3ph[["vm_a_pu", "vm_b_pu", "vm_c_pu"]].loc[[int(bus.id) for bus in network.buses]].to_numpy()
    assert np.abs(result.voltage_pu[0] - expected).max() < 1e-3


def test_a_pandapower_file_is_read_without_pandapower(tmp_path: Path) -> None:
    pp, _ = pandapower()
    net, network = solved("create_cigre_network_lv")
    path = tmp_path / "cigre.json"
    pp.to_json(net, str(path))
    again = load(path)
    assert again.lines == network.lines
    assert again.transformers == network.transformers
    np.testing.assert_allclose(PgmEngine(again).solve().voltage_pu, PgmEngine(network).solve().voltage_pu, rtol=1e-12)


def frame(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = sorted({key for row in rows for key in row})
    data = [[row.get(column) for column in columns] for row in rows]
    content = {"columns": columns, "index": list(range(len(rows))), "data": data}
    return {"_module": "pandas.core.frame", "_class": "DataFrame", "_object": json.dumps(content), "orient": "split"}


def pandapower_file(path: Path, **tables: list[dict[str, Any]]) -> Path:
    base: dict[str, list[dict[str, Any]]] = {
        "bus": [{"vn_kv": 10.0}, {"vn_kv": 10.0}],
        "ext_grid": [{"bus": 0, "vm_pu": 1.0, "va_degree": 0.0, "in_service": True}],
        "line": [{"from_bus": 0, "to_bus": 1, "length_km": 1.0, "r_ohm_per_km": 0.1, "x_ohm_per_km": 0.1, "c_nf_per_km": 0.0}],
        "load": [{"bus": 1, "p_mw": 1.0, "q_mvar": 0.1}],
    }
    content = {name: frame(rows) for name, rows in {**base, **tables}.items()}
    document = {"_module": "pandapower.auxiliary", "_class": "pandapowerNet", "_object": {**content, "f_hz": 60.0, "name": "x"}}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_closed_bus_switches_make_one_bus_and_open_line_switches_a_tie(tmp_path: Path) -> None:
    network = load(
        pandapower_file(
            tmp_path / "net.json",
            bus=[{"vn_kv": 10.0}] * 3,
            switch=[{"et": "b", "bus": 1, "element": 2, "closed": True}, {"et": "l", "bus": 0, "element": 1, "closed": False}],
            line=[
                {"from_bus": 0, "to_bus": bus, "length_km": 1.0, "r_ohm_per_km": 0.1, "x_ohm_per_km": 0.1, "c_nf_per_km": 0.0}
                for bus in (1, 2)
            ],
        )
    )
    assert len(network.buses) == 2
    assert [line.is_tie for line in network.lines] == [False, True]
    assert validate(network, require_radial=True) == []


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        ({"gen": [{"bus": 1, "p_mw": 1.0, "vm_pu": 1.0, "in_service": True}]}, "unsupported-element"),
        ({"load": [{"bus": 1, "p_mw": None, "q_mvar": 0.0}]}, "not-a-number"),
        ({"load": [{"bus": 1, "p_mw": 1.0, "q_mvar": 0.0, "const_z_p_percent": 50.0}]}, "unsupported-load"),
    ],
)
def test_what_a_pandapower_file_cannot_say_here_is_refused(tmp_path: Path, tables: Any, code: str) -> None:
    assert code in {finding.code for finding in check(pandapower_file(tmp_path / "net.json", **tables))}


@pytest.mark.parametrize("text", ["{", "[]", '{"_class": "pandapowerNet", "_object": {"bus": {"_class": "DataFrame", "_object": "x"}}}'])
def test_a_json_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NetworkError, match=r"net\.json"):
        load(path)
