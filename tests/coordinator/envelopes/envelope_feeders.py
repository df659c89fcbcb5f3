"""Feeders and problems for the envelope tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.envelopes import AllocationRule, EnvelopeProblem, EnvelopeResult, Infeasible, Limits, Participant, PassiveLoad
from coordinator.network.cases import load
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Source, Transformer
from coordinator.powerflow.opendss import OpenDssEngine
from protocols.messages import Guarantee

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "networks"
STREET = Path(__file__).resolve().parents[3] / "hil" / "networks" / "street"


def feeder_named(name: str) -> Network:
    """A shipped case, the shipped street, or a fetched feeder (skipped where it is absent)."""
    if name in ("ieee33", "ieee69"):
        return load(name)
    path = STREET if name == "street" else SHARED / name
    if not path.is_dir():
        pytest.skip(f"the data of network {name} is not at {path}")
    return load(path)


def problem_for(
    network: Network,
    *,
    import_w: float = 10e3,
    export_w: float = 10e3,
    rule: AllocationRule = AllocationRule.PROPORTIONAL_FAIR,
    guarantee: Guarantee = Guarantee.ROBUST,
    limits: Limits | None = None,
    floor_w: float = 0.0,
    passive: int = 0,
) -> EnvelopeProblem:
    """Everybody alike, per phase; the last `passive` connections are passive loads between 0 and 1 kW."""
    limits = Limits() if limits is None else limits
    active = network.connections[: len(network.connections) - passive]
    return EnvelopeProblem(
        network=network,
        participants=tuple(
            Participant(
                connection=item.id, max_import_w=import_w * len(item.phases), max_export_w=export_w * len(item.phases),
                import_floor_w=floor_w * len(item.phases), q_per_w=0.1,
            )
            for item in active
        ),
        passive=tuple(
            PassiveLoad(connection=item.id, low_w=0.0, high_w=1000.0) for item in network.connections[len(active) :]
        ),
        limits=limits,
        rule=rule,
        guarantee=guarantee,
    )  # fmt: skip


def solved(result: EnvelopeResult | Infeasible) -> EnvelopeResult:
    """The result, or a failed test that says why there is none."""
    assert isinstance(result, EnvelopeResult), result.reason
    return result


def limits_of(result: EnvelopeResult) -> tuple[np.ndarray, np.ndarray]:
    """Export and import limits in watts, in the participants' order."""
    envelopes = result.envelopes
    return np.array([item.export_limit_w for item in envelopes]), np.array([item.import_limit_w for item in envelopes])


def opendss_extremes(network: Network, power_va: np.ndarray) -> tuple[float, float, float, float]:
    """Lowest and highest voltage [pu], worst line loading, and worst apparent source power [VA] by OpenDSS over (connections, corners)."""
    flow = OpenDssEngine(network).solve(power_va.real.T, power_va.imag.T)
    ampacity = np.array([np.inf if line.ampacity_a is None else line.ampacity_a for line in network.lines])
    loading = np.nan_to_num(flow.line_current_a / ampacity[:, None])
    source_va = np.hypot(flow.source_p_w, flow.source_q_var)
    return float(np.nanmin(flow.voltage_pu)), float(np.nanmax(flow.voltage_pu)), float(loading.max()), float(source_va.max())


def small_feeder(rng: np.random.Generator, homes: int, *, spread: float = 1.0) -> Network:
    """A random three-phase tree behind a delta-wye transformer with single-phase homes and an odd three-phase one."""
    buses = [Bus(id="mv", nominal_ln_v=12701.7), Bus(id="n0", nominal_ln_v=230.0)]
    lines = []
    for number in range(1, max(3, homes)):
        length = rng.uniform(0.3, 1.5) * spread
        r, x, mutual = 0.06 * length, rng.uniform(0.02, 0.08) * length, rng.uniform(0.2, 0.6)
        matrix = tuple(tuple(r if i == j else mutual * r for j in range(3)) for i in range(3))
        reactance = tuple(tuple(x if i == j else mutual * x for j in range(3)) for i in range(3))
        buses.append(Bus(id=f"n{number}", nominal_ln_v=230.0))
        lines.append(
            Line(
                id=f"l{number}", from_bus=f"n{rng.integers(max(0, number - 2), number)}", to_bus=f"n{number}",
                r_ohm=matrix, x_ohm=reactance, ampacity_a=float(rng.uniform(60.0, 200.0)),
            )
        )  # fmt: skip
    connections = tuple(
        Connection(id=f"h{number}", bus=f"n{rng.integers(1, len(buses) - 1)}", phases=(1, 2, 3) if number == 4 else (number % 3 + 1,))
        for number in range(homes)
    )
    return Network(
        name="small",
        kind=NetworkKind.UNBALANCED,
        frequency_hz=50.0,
        buses=tuple(buses),
        sources=(Source(bus="mv", voltage_pu=1.0, r1_ohm=0.5, x1_ohm=2.0, r0_ohm=0.5, x0_ohm=2.0),),
        lines=tuple(lines),
        transformers=(
            Transformer(
                id="tx", from_bus="mv", to_bus="n0", rated_va=100e3, from_ll_v=22000.0, to_ll_v=415.0, r_frac=0.012, x_frac=0.04
            ),
        ),
        connections=connections,
        vmin_pu=0.94,
        vmax_pu=1.10,
    )
