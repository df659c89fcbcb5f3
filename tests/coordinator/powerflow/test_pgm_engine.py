"""Exact power flow gives published losses and agrees with OpenDSS, which shares no code with it.

Answers: 33-bus 202.677 kW, 0.91309 pu; 69-bus 224.992 kW, 0.90919 pu (MATPOWER 8 on case33bw and case69). OpenDSS is version 9 of
dss_python_backend 0.14; agreement 1e-8 pu in complex voltage, 1e-6 A, 1e-6 of the loss.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.errors import NetworkError, PowerFlowError
from coordinator.network.cases import load
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Shunt, Source, Transformer
from coordinator.network.opendss_export import export_opendss
from coordinator.powerflow.opendss import OpenDssEngine
from coordinator.powerflow.pgm import PgmEngine
from coordinator.powerflow.result import PowerFlowResult, line_loading_frac

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "networks"
UNBALANCED = ("ieee_eu_lv", "au_vic_lv31", "au_vic_lv28", "csiro_lvft_L", "csiro_lvft_M")


def shared(name: str) -> Network:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"the data of network {name} is not at {path}")
    return load(path)


def phase_matrix(own: float, mutual: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(own if row == column else mutual for column in range(3)) for row in range(3))


def small(vector_group: str = "Dyn1", tap_frac: float = 1.025) -> Network:
    """A feeder with everything the model has: taps, no-load loss, capacitance, a shunt on two phases, one- and three-phase homes."""
    return Network(
        name="small",
        kind=NetworkKind.UNBALANCED,
        frequency_hz=50.0,
        buses=(
            Bus(id="mv", nominal_ln_v=22000.0 / math.sqrt(3.0)),
            Bus(id="lv", nominal_ln_v=230.0),
            Bus(id="pole", nominal_ln_v=230.0),
            Bus(id="house", nominal_ln_v=230.0, phases=(2,)),
        ),
        sources=(Source(bus="mv", voltage_pu=1.01, angle_rad=0.1, r1_ohm=0.5, x1_ohm=2.0, r0_ohm=0.7, x0_ohm=1.5),),
        lines=(
            Line(
                id="main", from_bus="lv", to_bus="pole", r_ohm=phase_matrix(0.2, 0.05), x_ohm=phase_matrix(0.1, 0.03),
                c_f=phase_matrix(2e-6, -4e-7), ampacity_a=200.0,
            ),
            Line(id="service", from_bus="pole", to_bus="house", phases=(2,), r_ohm=((0.05,),), x_ohm=((0.004,),), c_f=((1e-8,),)),
            Line(id="spare", from_bus="lv", to_bus="pole", r_ohm=phase_matrix(0.2, 0), x_ohm=phase_matrix(0.1, 0), in_service=False),
        ),
        transformers=(
            Transformer(
                id="tx", from_bus="mv", to_bus="lv", rated_va=1e5, from_ll_v=22000.0, to_ll_v=433.0, r_frac=0.013, x_frac=0.04,
                vector_group=vector_group, no_load_w=200.0, magnetising_frac=0.004, from_tap_frac=tap_frac,
            ),
        ),
        connections=(
            Connection(id="home", bus="house", phases=(2,), p_w=5000.0, q_var=800.0),
            Connection(id="shop", bus="pole", p_w=9000.0, q_var=3000.0),
            Connection(id="solar", bus="pole", phases=(1, 3), p_w=-8000.0),
        ),
        shunts=(Shunt(id="cap", bus="pole", phases=(1, 2), g_siemens=1e-4, b_siemens=2e-2),),
        vmin_pu=0.9,
        vmax_pu=1.1,
    )  # fmt: skip


def assert_same(ours: PowerFlowResult, other: PowerFlowResult, network: Network) -> None:
    voltage_error = np.abs(ours.voltage_ln_v - other.voltage_ln_v) / network.nominal_ln_v[:, None]
    assert np.array_equal(np.isnan(ours.voltage_pu), np.isnan(other.voltage_pu))
    assert np.nanmax(voltage_error) < 1e-8
    np.testing.assert_allclose(ours.line_current_a, other.line_current_a, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.loss_w, other.loss_w, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(ours.source_p_w, other.source_p_w, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(("case", "loss_w", "vmin_pu", "at_bus"), [("ieee33", 202677, 0.91309, "18"), ("ieee69", 224992, 0.90919, "65")])
def test_the_published_losses_come_out(case: str, loss_w: float, vmin_pu: float, at_bus: str) -> None:
    network = load(case)
    result = PgmEngine(network).solve()
    assert result.loss_w[0] == pytest.approx(loss_w, abs=1.0)
    assert result.voltage_pu.min() == pytest.approx(vmin_pu, abs=1e-5)
    assert network.buses[int(result.voltage_pu[0, :, 0].argmin())].id == at_bus


def test_the_best_known_switching_of_the_33_bus_feeder_has_its_published_loss() -> None:
    """Open 7, 9, 14, 32, 37: 139.551 kW, proven optimal by enumeration of all 50751 spanning trees."""
    network = load("ieee33")
    closed = frozenset(line.id for line in network.lines) - {"7", "9", "14", "32", "37"}
    result = PgmEngine(network.with_closed(closed)).solve()
    assert result.loss_w[0] == pytest.approx(139551, abs=1.0)
    assert result.voltage_pu.min() == pytest.approx(0.93782, abs=1e-5)


@pytest.mark.parametrize("name", UNBALANCED)
def test_unbalanced_feeders_agree_with_opendss(name: str) -> None:
    network = shared(name)
    rng = np.random.default_rng(7)
    count = len(network.connections)
    p_w = np.stack([network.base_power_w(), rng.uniform(-5e3, 4e3, count), np.zeros(count)])
    q_var = np.stack([network.base_reactive_var(), rng.uniform(-1e3, 1e3, count), np.zeros(count)])
    assert_same(PgmEngine(network).solve(p_w, q_var), OpenDssEngine(network).solve(p_w, q_var), network)


@pytest.mark.parametrize("case", ["ieee33", "ieee69"])
def test_balanced_feeders_agree_with_opendss(case: str) -> None:
    network = load(case)
    p_w = np.stack([network.base_power_w(), -0.4 * network.base_power_w()])
    assert_same(PgmEngine(network).solve(p_w), OpenDssEngine(network).solve(p_w), network)


@pytest.mark.parametrize("vector_group", ["Dyn1", "Dyn11", "YNyn0"])
def test_taps_shunts_capacitance_and_vector_groups_agree_with_opendss(vector_group: str) -> None:
    network = small(vector_group)
    assert_same(PgmEngine(network).solve(), OpenDssEngine(network).solve(), network)


def test_a_balanced_feeder_with_a_transformer_agrees_with_opendss() -> None:
    balanced = msgspec.structs.replace(
        small(),
        kind=NetworkKind.BALANCED,
        buses=tuple(msgspec.structs.replace(bus, phases=(1, 2, 3)) for bus in small().buses),
        lines=(
            Line(id="main", from_bus="lv", to_bus="pole", r_ohm=((0.2,),), x_ohm=((0.1,),), c_f=((1e-6,),)),
            Line(id="service", from_bus="pole", to_bus="house", r_ohm=((0.1,),), x_ohm=((0.01,),)),
        ),
        connections=(Connection(id="home", bus="house", p_w=15000.0, q_var=4000.0),),
        shunts=(Shunt(id="cap", bus="pole", g_siemens=1e-4, b_siemens=2e-2),),
    )
    assert_same(PgmEngine(balanced).solve(), OpenDssEngine(balanced).solve(), balanced)


def test_a_batch_is_its_rows() -> None:
    network = small()
    rng = np.random.default_rng(3)
    p_w = rng.uniform(-4e3, 6e3, (9, 3))
    engine = PgmEngine(network)
    together = engine.solve(p_w)
    for row in range(9):
        np.testing.assert_allclose(engine.solve(p_w[row]).voltage_pu[0], together.voltage_pu[row], rtol=1e-9)


def test_energy_is_conserved() -> None:
    network = msgspec.structs.replace(small(), shunts=())
    result = PgmEngine(network).solve()
    assert result.source_p_w[0] == pytest.approx(network.base_power_w().sum() + result.loss_w[0], abs=1e-3)


def test_power_per_phase_overrides_the_equal_split() -> None:
    network = small()
    p_w = np.zeros((1, 3, 3))
    p_w[0, 1] = (9000.0, 0.0, 0.0)
    uneven = PgmEngine(network).solve(p_w, np.zeros(3))
    even = PgmEngine(network).solve(np.array([0.0, 9000.0, 0.0]), np.zeros(3))
    pole = network.bus_index["pole"]
    assert uneven.voltage_pu[0, pole, 0] < even.voltage_pu[0, pole, 0] - 0.01


def test_the_source_voltage_can_change_by_scenario() -> None:
    result = PgmEngine(load("ieee33")).solve(source_voltage_pu=np.array([1.0, 1.05]))
    assert result.voltage_pu[:, 0, 0] == pytest.approx([1.0, 1.05], abs=1e-9)


def test_a_line_is_loaded_as_its_worst_phase_and_a_transformer_by_the_sum_of_its_phases() -> None:
    network = small()
    result = PgmEngine(network).solve()
    main_a = result.line_current_a[0, 0]
    assert line_loading_frac(network, result.line_current_a)[0, 0] == pytest.approx(main_a.max() / 200.0)
    assert np.isnan(line_loading_frac(network, result.line_current_a)[0, 1])
    apparent_va = float(np.sum(np.abs(result.voltage_ln_v[0, 1]) * main_a))
    assert result.transformer_loading_frac[0, 0] == pytest.approx(apparent_va / 1e5, rel=0.06)


def test_a_phase_that_a_bus_does_not_have_has_no_voltage() -> None:
    result = PgmEngine(small()).solve()
    assert np.isnan(result.voltage_pu[0, 3]).tolist() == [True, False, True]


def test_a_feeder_that_cannot_carry_the_load_is_an_error_and_names_the_scenarios() -> None:
    network = load("ieee33")
    p_w = np.stack([network.base_power_w(), 30.0 * network.base_power_w()])
    with pytest.raises(PowerFlowError) as caught:
        PgmEngine(network).solve(p_w)
    assert caught.value.failed_rows == (1,)


@pytest.mark.parametrize("wrong", [np.zeros(5), np.zeros((2, 3, 4)), np.array([0.0, np.nan, 0.0])])
def test_power_of_the_wrong_shape_or_not_a_number_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(PowerFlowError, match="small"):
        PgmEngine(small()).solve(wrong)


def test_an_invalid_network_is_not_solved() -> None:
    with pytest.raises(NetworkError, match="no source"):
        PgmEngine(msgspec.structs.replace(small(), sources=()))


def test_names_of_a_file_never_reach_the_opendss_parser() -> None:
    network = msgspec.structs.replace(small(), name="x\nquit", connections=(Connection(id="a\nset editor=x", bus="pole"),))
    assert not any("\n" in command or "editor" in command for command in export_opendss(network))
