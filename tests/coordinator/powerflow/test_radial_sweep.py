"""The coordinator's own sweep agrees with two engines that share no code with it, and says when there is no solution.

Answers: OpenDSS 9 (dss_python_backend 0.14) and power-grid-model 1.12, to 1e-8 pu in complex voltage; 33-bus 202.677 kW and 0.91309 pu,
69-bus 224.992 kW and 0.90919 pu (MATPOWER 8).
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
from coordinator.powerflow.balanced import balanced_feeder, solve_balanced
from coordinator.powerflow.opendss import OpenDssEngine
from coordinator.powerflow.pgm import PgmEngine
from coordinator.powerflow.radial import FlowSolution, RadialFeeder
from coordinator.powerflow.radial_reduced import reduce_feeder
from coordinator.powerflow.unbalanced import solve_unbalanced, unbalanced_feeder

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "networks"
STREET = Path(__file__).resolve().parents[3] / "hil" / "networks" / "street"
RADIAL = ("ieee_eu_lv", "au_vic_lv31", "au_vic_lv28", "csiro_lvft_L")
AGREE_PU = 1e-8


def feeder_named(name: str) -> Network:
    path = STREET if name == "street" else SHARED / name
    if not path.is_dir():
        pytest.skip(f"the data of network {name} is not at {path}")
    return load(path)


def random_power(network: Network, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (len(network.connections), count)
    return rng.uniform(-5e3, 4e3, shape) + 1j * rng.uniform(-1e3, 1e3, shape)


def worst_difference_pu(flow: FlowSolution, voltage_ln_v: np.ndarray, network: Network) -> float:
    ours = np.moveaxis(flow.voltage_v(), 2, 0)
    assert np.array_equal(np.isnan(ours), np.isnan(voltage_ln_v))
    return float(np.nanmax(np.abs(ours - voltage_ln_v) / network.nominal_ln_v[:, None]))


@pytest.mark.parametrize(("case", "loss_w", "loss_var", "vmin_pu"), [
    ("ieee33", 202677.1, 135141.0, 0.913091), ("ieee69", 224991.7, 102158.0, 0.909188),
])  # fmt: skip
def test_the_published_losses_come_out(case: str, loss_w: float, loss_var: float, vmin_pu: float) -> None:
    network = load(case)
    flow = solve_balanced(network)
    loss = flow.source_power_va()[0] - complex(network.base_power_w().sum(), network.base_reactive_var().sum())
    assert loss.real == pytest.approx(loss_w, abs=1.0)
    assert loss.imag == pytest.approx(loss_var, abs=1.0)
    assert flow.voltage_pu().min() == pytest.approx(vmin_pu, abs=1e-6)


@pytest.mark.parametrize("case", ["ieee33", "ieee69"])
def test_balanced_feeders_agree_with_power_grid_model_and_opendss(case: str) -> None:
    network = load(case)
    power = (network.base_power_w() + 1j * network.base_reactive_var())[:, None] * np.array([1.0, -0.4, 0.0])
    flow = balanced_feeder(network).solve(power)
    for engine in (PgmEngine(network), OpenDssEngine(network)):
        other = engine.solve(power.real.T, power.imag.T)
        assert worst_difference_pu(flow, other.voltage_ln_v, network) < AGREE_PU
        np.testing.assert_allclose(np.moveaxis(flow.line_current_a(), 2, 0), other.line_current_a, atol=1e-5)


@pytest.mark.parametrize("name", [*RADIAL, "street"])
def test_three_phase_feeders_agree_with_opendss(name: str) -> None:
    network = feeder_named(name)
    power = random_power(network, 3, seed=11)
    flow = unbalanced_feeder(network).solve(power)
    other = OpenDssEngine(network).solve(power.real.T, power.imag.T)
    assert flow.converged.all()
    assert worst_difference_pu(flow, other.voltage_ln_v, network) < AGREE_PU
    ours_a = np.moveaxis(flow.line_current_a(), 2, 0)
    exists = ~np.isnan(other.line_current_a)
    np.testing.assert_allclose(ours_a[exists], other.line_current_a[exists], atol=1e-5, rtol=1e-7)
    np.testing.assert_allclose(flow.source_power_va().real, other.source_p_w, rtol=1e-6, atol=0.1)


@pytest.mark.parametrize("name", ["au_vic_lv28", "street"])
def test_three_phase_feeders_agree_with_power_grid_model(name: str) -> None:
    network = feeder_named(name)
    power = random_power(network, 4, seed=5)
    flow = unbalanced_feeder(network).solve(power)
    other = PgmEngine(network).solve(power.real.T, power.imag.T)
    assert worst_difference_pu(flow, other.voltage_ln_v, network) < AGREE_PU


def matrix(own: float, mutual: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(own if row == column else mutual for column in range(3)) for row in range(3))


def village(vector_group: str = "Dyn1") -> Network:
    """Taps, no-load branch, capacitance, a shunt, single-phase laterals, and a second transformer further down."""
    return Network(
        name="village",
        kind=NetworkKind.UNBALANCED,
        frequency_hz=50.0,
        buses=(
            Bus(id="mv", nominal_ln_v=22000.0 / math.sqrt(3.0)),
            Bus(id="far", nominal_ln_v=22000.0 / math.sqrt(3.0)),
            Bus(id="lv", nominal_ln_v=230.0),
            Bus(id="pole", nominal_ln_v=230.0),
            Bus(id="house", nominal_ln_v=230.0, phases=(2,)),
            Bus(id="mill", nominal_ln_v=230.0),
        ),
        sources=(Source(bus="mv", voltage_pu=1.01, angle_rad=0.1, r1_ohm=0.5, x1_ohm=2.0, r0_ohm=0.7, x0_ohm=1.5),),
        lines=(
            Line(id="mains", from_bus="pole", to_bus="lv", r_ohm=matrix(0.2, 0.05), x_ohm=matrix(0.1, 0.03), c_f=matrix(2e-6, -4e-7)),
            Line(id="service", from_bus="pole", to_bus="house", phases=(2,), r_ohm=((0.05,),), x_ohm=((0.004,),), c_f=((1e-8,),)),
            Line(id="spur", from_bus="mv", to_bus="far", r_ohm=matrix(3.0, 0.5), x_ohm=matrix(2.0, 0.8), c_f=matrix(5e-8, -1e-8)),
        ),
        transformers=(
            Transformer(
                id="tx", from_bus="mv", to_bus="lv", rated_va=1e5, from_ll_v=22000.0, to_ll_v=433.0, r_frac=0.013, x_frac=0.04,
                vector_group=vector_group, no_load_w=200.0, magnetising_frac=0.004, from_tap_frac=1.025,
            ),
            Transformer(
                id="mill", from_bus="far", to_bus="mill", rated_va=5e4, from_ll_v=22000.0, to_ll_v=415.0, r_frac=0.02, x_frac=0.04,
                vector_group=vector_group, to_tap_frac=0.99,
            ),
        ),
        connections=(
            Connection(id="home", bus="house", phases=(2,), p_w=5000.0, q_var=800.0),
            Connection(id="shop", bus="pole", p_w=9000.0, q_var=3000.0),
            Connection(id="solar", bus="pole", phases=(1, 3), p_w=-8000.0),
            Connection(id="mill", bus="mill", phases=(1,), p_w=7000.0, q_var=-500.0),
        ),
        shunts=(Shunt(id="cap", bus="pole", phases=(1, 2), g_siemens=1e-4, b_siemens=2e-2),),
        vmin_pu=0.9,
        vmax_pu=1.1,
    )  # fmt: skip


@pytest.mark.parametrize("vector_group", ["Dyn1", "Dyn11", "YNyn0"])
def test_vector_groups_taps_shunts_and_capacitance_agree_with_opendss(vector_group: str) -> None:
    network = village(vector_group)
    flow = solve_unbalanced(network)
    other = OpenDssEngine(network).solve()
    assert worst_difference_pu(flow, other.voltage_ln_v, network) < AGREE_PU
    exists = ~np.isnan(other.line_current_a)
    np.testing.assert_allclose(np.moveaxis(flow.line_current_a(), 2, 0)[exists], other.line_current_a[exists], atol=1e-6)


@pytest.mark.parametrize("clock", [1, 3, 5, 7, 9, 11])
def test_the_clock_number_is_the_lag_of_the_low_side(clock: int) -> None:
    """IEC 60076-1, section 6: the clock number times 30 degrees is what the low-voltage phasor lags by."""
    idle = msgspec.structs.replace(village(f"Dyn{clock}"), connections=(), shunts=())
    lines = tuple(msgspec.structs.replace(line, c_f=()) for line in idle.lines)
    transformers = tuple(msgspec.structs.replace(item, no_load_w=0.0, magnetising_frac=0.0) for item in idle.transformers)
    flow = solve_unbalanced(msgspec.structs.replace(idle, lines=lines, transformers=transformers))
    voltage = flow.voltage_v()[:, :, 0]
    turned = voltage[idle.bus_index["mill"]] / voltage[idle.bus_index["far"]]
    assert np.allclose(turned, 415.0 * 0.99 / 22000.0 * np.exp(-1j * np.pi / 6 * clock))


def test_the_reduced_feeder_solves_the_same_power_flow() -> None:
    network = village()
    feeder = unbalanced_feeder(network)
    power = random_power(network, 5, seed=2)
    reduced = reduce_feeder(feeder)
    state = reduced.solve(power)
    flow = feeder.solve(power)
    everywhere = np.tensordot(reduced.voltage_map, state.current_a, axes=1) + reduced.no_load_v[:, :, None]
    assert np.allclose(everywhere, flow.node_voltage_v, rtol=1e-9)
    currents = np.tensordot(reduced.current_map, state.current_a, axes=1) + reduced.no_load_a[:, :, None]
    assert np.allclose(currents, flow.feed_current_a, rtol=1e-8, atol=1e-8)


def test_adjoint_slopes_equal_differences_of_power_flows() -> None:
    network = village()
    reduced = reduce_feeder(unbalanced_feeder(network))
    power = random_power(network, 1, seed=3)
    state = reduced.solve(power)
    rng = np.random.default_rng(4)
    weights = rng.normal(size=(2, reduced.point_no_load_v.size)) + 1j * rng.normal(size=(2, reduced.point_no_load_v.size))
    volts, amps = np.repeat(state.voltage_v.T, 2, axis=0), np.repeat(state.current_a.T, 2, axis=0)
    pulled = reduced.pull_back(volts, amps, weights, tolerance=1e-12)
    for position in range(len(network.connections)):
        step = np.zeros((len(network.connections), 2), dtype=complex)
        step[position] = [1.0 + 0.3j, -1.0 - 0.3j]
        moved = reduced.solve(power + step).current_a
        measured = ((weights @ (moved[:, 0] - moved[:, 1])) / 2.0).real
        mine = reduced.feeder.points.connection == position
        share = reduced.feeder.points.share_frac[mine] * (1.0 - 0.3j)
        assert np.allclose((pulled[:, mine] * share).real.sum(axis=1), measured, rtol=1e-5, atol=1e-12)


def test_a_snapshot_without_solution_is_flagged_and_leaves_the_others_alone() -> None:
    network = load("ieee33")
    base = (network.base_power_w() + 1j * network.base_reactive_var())[:, None]
    flow = balanced_feeder(network).solve(base * np.array([1.0, 30.0, 0.5]))
    assert flow.converged.tolist() == [True, False, True]
    assert np.isnan(flow.voltage_pu()[:, :, 1]).all()
    assert not (flow.voltage_pu()[:, :, 1] >= 0.0).any(), "a comparison with what has no solution must never come out true"
    assert flow.voltage_pu()[:, :, 0].min() == pytest.approx(0.913091, abs=1e-6)


def test_a_looped_feeder_is_refused_by_name() -> None:
    network = load("ieee33")
    closed = msgspec.structs.replace(network, lines=tuple(msgspec.structs.replace(line, in_service=True) for line in network.lines))
    with pytest.raises(NetworkError, match=r"not radial: .* closes a loop"):
        balanced_feeder(closed)


def test_the_looped_taxonomy_feeder_is_refused() -> None:
    with pytest.raises(NetworkError, match="not radial"):
        unbalanced_feeder(feeder_named("csiro_lvft_M"))


def test_an_island_is_refused_by_name() -> None:
    network = load("ieee33")
    cut = tuple(msgspec.structs.replace(line, in_service=line.in_service and line.to_bus != "18") for line in network.lines)
    with pytest.raises(NetworkError, match="no path from source bus 1 to 18"):
        balanced_feeder(msgspec.structs.replace(network, lines=cut))


@pytest.mark.parametrize("group", ["Dyn2", "Yyn0", "Dd0", "YNyn1"])
def test_a_winding_that_the_sweep_cannot_carry_is_refused(group: str) -> None:
    with pytest.raises(NetworkError, match=f"vector group {group}"):
        unbalanced_feeder(village(group))


def test_a_missing_conductor_is_refused() -> None:
    network = village()
    wrong = tuple(msgspec.structs.replace(item, phases=(3,)) if item.id == "home" else item for item in network.connections)
    with pytest.raises(NetworkError, match="home needs phase 3"):
        unbalanced_feeder(msgspec.structs.replace(network, connections=wrong))


def test_power_of_the_wrong_shape_is_refused() -> None:
    feeder: RadialFeeder = balanced_feeder(load("ieee33"))
    with pytest.raises(PowerFlowError, match="expected"):
        feeder.solve(np.zeros(33, dtype=complex))
