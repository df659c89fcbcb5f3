"""Feeders of any size, grown from a seed: for measurements at sizes that no published feeder has.

A tree of 11 kV underground cable. It grows by streets: most buses continue the street of the one before, every fifth or so starts a new
street somewhere. Every bus has one lumped load, drawn from a log-normal distribution around an equal share of the feeder's peak. Each
branch gets the smallest cable of a short catalogue whose rating covers 1.7 times the peak below it, in parallel where the largest is too
small, as planners do; then all lengths are scaled so that the peak drops the lowest voltage to a stated value.

The catalogue is XLPE aluminium, three-core, 11 kV, laid in ground: resistance at 90 C from the maximum at 20 C of IEC 60228, reactance
and rating as manufacturers tabulate them.
"""

from __future__ import annotations

import math

import numpy as np

from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Source
from coordinator.powerflow.balanced import solve_balanced

LINE_V = 11e3
PEAK_W = 8e6
POWER_FACTOR = 0.97
CONTINUES = 0.8
PLANNED = 1.7
# Cross section in mm2, ohm per km (resistance, reactance), ampere.
CABLES = ((50, 0.822, 0.119, 160.0), (95, 0.411, 0.107, 230.0), (185, 0.211, 0.097, 330.0), (300, 0.130, 0.091, 425.0))


def grown_feeder(buses: int, *, seed: int = 1, lowest_pu: float = 0.965) -> Network:
    """A feeder of so many buses beside the source bus, whose peak load takes its lowest voltage to `lowest_pu`."""
    rng = np.random.default_rng(seed)
    parent = np.zeros(buses + 1, dtype=np.int64)
    for bus in range(2, buses + 1):
        parent[bus] = bus - 1 if rng.random() < CONTINUES else rng.integers(0, bus)
    share = rng.lognormal(sigma=0.7, size=buses)
    load_w = PEAK_W * share / share.sum()
    length_km = rng.uniform(0.05, 0.25, buses)
    stretch = 1.0
    # Voltage falls nearly in proportion to length, so a few corrections are enough.
    for _ in range(8):
        network = _network(parent, load_w, stretch * length_km)
        flow = solve_balanced(network)
        fall = 1.0 - float(np.nanmin(flow.voltage_pu()))
        stretch *= 0.3 if not np.all(flow.converged) else (1.0 - lowest_pu) / fall
    return _network(parent, load_w, stretch * length_km)


def _network(parent: np.ndarray, load_w: np.ndarray, length_km: np.ndarray) -> Network:
    below_w = np.concatenate([[0.0], load_w])
    for bus in range(parent.size - 1, 0, -1):
        below_w[parent[bus]] += below_w[bus]
    nominal_v = LINE_V / math.sqrt(3.0)
    reactive = math.tan(math.acos(POWER_FACTOR))
    lines = []
    for bus in range(1, parent.size):
        amps = PLANNED * float(below_w[bus]) / (3.0 * nominal_v * POWER_FACTOR)
        _, r, x, rated_a = next((cable for cable in CABLES if cable[3] >= amps), CABLES[-1])
        parallel = max(1, math.ceil(amps / rated_a))
        km = float(length_km[bus - 1]) / parallel
        lines.append(
            Line(
                id=f"line_{bus}", from_bus=f"bus_{parent[bus]}", to_bus=f"bus_{bus}",
                r_ohm=((r * km,),), x_ohm=((x * km,),), ampacity_a=rated_a * parallel,
            )
        )  # fmt: skip
    return Network(
        name=f"grown-{parent.size - 1}",
        kind=NetworkKind.BALANCED,
        frequency_hz=50.0,
        buses=tuple(Bus(id=f"bus_{bus}", nominal_ln_v=nominal_v) for bus in range(parent.size)),
        sources=(Source(bus="bus_0"),),
        lines=tuple(lines),
        connections=tuple(
            Connection(id=f"load_{bus}", bus=f"bus_{bus}", p_w=float(watt), q_var=float(watt) * reactive)
            for bus, watt in enumerate(load_w, start=1)
        ),
        vmin_pu=0.95,
        vmax_pu=1.05,
    )
