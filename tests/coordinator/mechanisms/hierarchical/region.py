"""A small region for tests: a backbone with three transformers, each with one low-voltage feeder of twelve customers."""

from __future__ import annotations

import math

import numpy as np

from coordinator.mechanisms.hierarchical.areas import Area
from coordinator.mechanisms.hierarchical.devices import Batteries, Panels, Vehicles
from coordinator.mechanisms.hierarchical.members import Fleet
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Source, Transformer
from coordinator.network.phasing import sequence_matrix

PERIODS = 8
STEP_S = 3.0 * 3600.0
CUSTOMERS = 12
TRANSFORMERS = 3
LV_LN_V = 400.0 / math.sqrt(3.0)
SUN = np.array([0.0, 0.0, 0.3, 0.9, 1.0, 0.4, 0.0, 0.0])


def line(name: str, near: str, far: str, z1: complex, z0: complex, ampacity_a: float) -> Line:
    return Line(
        id=name, from_bus=near, to_bus=far, r_ohm=sequence_matrix(z1.real, z0.real), x_ohm=sequence_matrix(z1.imag, z0.imag),
        ampacity_a=ampacity_a,
    )  # fmt: skip


def region(*, backbone_ohm: complex = 1.5 + 1.0j, section_ohm: complex = 0.02 + 0.008j, source_pu: float = 1.0) -> Network:
    """Three transformers along a backbone; customers of each on a chain, one phase after the other."""
    buses = [Bus(id="mv0", nominal_ln_v=22e3 / math.sqrt(3.0))]
    lines, transformers, connections = [], [], []
    for number in range(TRANSFORMERS):
        buses.append(Bus(id=f"mv{number + 1}", nominal_ln_v=22e3 / math.sqrt(3.0)))
        lines.append(line(f"backbone{number}", f"mv{number}", f"mv{number + 1}", backbone_ohm, 3.0 * backbone_ohm, 200.0))
        transformers.append(
            Transformer(
                id=f"t{number}", from_bus=f"mv{number + 1}", to_bus=f"lv{number}", rated_va=100e3, from_ll_v=22e3, to_ll_v=415.0,
                r_frac=0.015, x_frac=0.04, no_load_w=200.0,
            )
        )  # fmt: skip
        buses.append(Bus(id=f"lv{number}", nominal_ln_v=LV_LN_V))
        previous = f"lv{number}"
        for position in range(CUSTOMERS):
            bus = f"lv{number}_{position}"
            buses.append(Bus(id=bus, nominal_ln_v=LV_LN_V))
            lines.append(line(f"{bus}_main", previous, bus, section_ohm, 3.0 * section_ohm, 250.0))
            connections.append(Connection(id=f"home{number}_{position}", bus=bus, phases=(position % 3 + 1,)))
            previous = bus
    return Network(
        name="region", kind=NetworkKind.UNBALANCED, frequency_hz=50.0, buses=tuple(buses),
        sources=(Source(bus="mv0", voltage_pu=source_pu),), lines=tuple(lines), transformers=tuple(transformers),
        connections=tuple(connections), vmin_pu=0.94, vmax_pu=1.10,
    )  # fmt: skip


def fleet(seed: int, *, panels_w: float = 5000.0, load_factor: float = 1.0) -> Fleet:
    """Twelve members, every other one with panels, every third with a vehicle, every fourth with a battery."""
    rng = np.random.default_rng(seed)
    load_w = load_factor * rng.uniform(200.0, 1200.0, (CUSTOMERS, PERIODS))
    panels, vehicles, batteries = np.arange(0, CUSTOMERS, 2), np.arange(0, CUSTOMERS, 3), np.arange(0, CUSTOMERS, 4)
    there = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    present = np.where(vehicles[:, None] % 2 == 0, 1.0, there)
    return Fleet(
        name=f"t{seed}", step_s=STEP_S, load_w=load_w, load_var=0.2 * load_w,
        panels=Panels(member=panels, available_w=panels_w * rng.uniform(0.9, 1.0, (panels.size, 1)) * SUN),
        vehicles=Vehicles(
            member=vehicles, max_w=3000.0 * present, energy_wh=rng.uniform(6e3, 15e3, vehicles.size), step_s=STEP_S
        ),
        batteries=Batteries(
            member=batteries, capacity_wh=np.full(batteries.size, 10e3), power_w=np.full(batteries.size, 3e3),
            initial_wh=np.full(batteries.size, 2e3), efficiency_frac=0.95, wear_per_kwh=0.01, step_s=STEP_S,
        ),
    )  # fmt: skip


def tariff() -> Tariff:
    retail = np.array([0.18, 0.18, 0.22, 0.22, 0.22, 0.25, 0.32, 0.26])
    return Tariff(retail_per_kwh=retail, feed_in_per_kwh=np.full(PERIODS, 0.07))


def customer_rows(network: Network, area: Area) -> list[int]:
    return [network.connection_index[customer] for customer in area.customers]
