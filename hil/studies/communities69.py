"""Five energy communities on the 69-bus feeder, at the buses of source 001 (22, 32, 46, 49, 60).

The sources publish where the communities are and what kinds of assets they have, and no number. Every number here is therefore *ours*: a
documented mix in which no two communities are alike, scaled by one factor for all renewable and dispatchable generation. Shapes over the
day are typical ones, written out below. The load of the rest of the feeder is the published one times a residential shape times a factor
that is calibrated, in the study, to the one published loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from coordinator.mechanisms.p2p.community import Community, FlexibleLoad, Generator, Storage, Tariff
from coordinator.network.cases import load_case
from coordinator.network.model import Connection, Network
from coordinator.reconfiguration.loops import ComplexArray, FloatArray

HOURS = 24
HOUR_S = 3600.0
RESIDENTIAL = np.array([
    0.38, 0.34, 0.32, 0.31, 0.32, 0.37, 0.48, 0.60, 0.62, 0.60, 0.59, 0.60,
    0.62, 0.60, 0.58, 0.60, 0.67, 0.80, 0.95, 1.00, 0.96, 0.85, 0.67, 0.48,
])  # fmt: skip
SUN = np.array([0, 0, 0, 0, 0, 0.02, 0.10, 0.25, 0.45, 0.64, 0.80, 0.90, 0.94, 0.92, 0.84, 0.70, 0.52, 0.32, 0.14, 0.04, 0, 0, 0, 0])
WIND = np.array([
    0.62, 0.65, 0.66, 0.64, 0.60, 0.55, 0.48, 0.42, 0.36, 0.32, 0.30, 0.31,
    0.34, 0.38, 0.42, 0.46, 0.50, 0.54, 0.57, 0.60, 0.62, 0.63, 0.62, 0.61,
])  # fmt: skip
PLUGGED = np.array([1.0] * 7 + [0.0] * 11 + [1.0] * 6)
RETAIL = np.where((np.arange(HOURS) >= 16) & (np.arange(HOURS) < 22), 0.30, 0.22)
FEED_IN = np.full(HOURS, 0.08)


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """What one community has, in kilowatts and kilowatt hours. `flexible_frac` of the load's energy may be moved within 8 to 22 h."""

    load_kw: float
    flexible_frac: float
    sun_kw: float
    wind_kw: float
    machine_kw: float
    machine_per_kwh: float
    storage_kwh: float
    vehicles_kwh: float


MIXES = {
    "22": Mix(
        load_kw=120, flexible_frac=0.20, sun_kw=160, wind_kw=0, machine_kw=60, machine_per_kwh=0.12, storage_kwh=250, vehicles_kwh=150
    ),
    "32": Mix(load_kw=90, flexible_frac=0.10, sun_kw=60, wind_kw=110, machine_kw=0, machine_per_kwh=0.12, storage_kwh=150, vehicles_kwh=80),
    "46": Mix(
        load_kw=150, flexible_frac=0.15, sun_kw=90, wind_kw=60, machine_kw=120, machine_per_kwh=0.11, storage_kwh=200, vehicles_kwh=120
    ),
    "49": Mix(
        load_kw=260, flexible_frac=0.25, sun_kw=120, wind_kw=0, machine_kw=80, machine_per_kwh=0.13, storage_kwh=300, vehicles_kwh=250
    ),
    "60": Mix(
        load_kw=180, flexible_frac=0.15, sun_kw=200, wind_kw=120, machine_kw=150, machine_per_kwh=0.10, storage_kwh=300, vehicles_kwh=150
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """The feeder with a connection for every community, the load of the rest at factor one, and the communities in the same order."""

    network: Network
    communities: tuple[Community, ...]
    buses: tuple[str, ...]
    tariff: Tariff
    shape: FloatArray

    def power_va(self, factor: float, net_w: FloatArray) -> ComplexArray:
        """Powers of all connections (connections, T): the rest of the feeder at a factor, communities at unity power factor."""
        network = self.network
        base = network.base_power_w() + 1j * network.base_reactive_var()
        power = factor * base[:, None] * self.shape
        for place, bus in enumerate(self.buses):
            power[network.connection_index[f"community{bus}"]] = net_w[place]
        return np.asarray(power, dtype=np.complex128)


def neighbourhood(scale: float) -> Neighbourhood:
    """The five communities, with generation times `scale`."""
    network = load_case("ieee69")
    added = tuple(Connection(id=f"community{bus}", bus=bus) for bus in MIXES)
    return Neighbourhood(
        network=msgspec.structs.replace(network, connections=network.connections + added),
        communities=tuple(_community(bus, mix, scale) for bus, mix in MIXES.items()),
        buses=tuple(MIXES),
        tariff=Tariff(retail_per_kwh=RETAIL, feed_in_per_kwh=FEED_IN),
        shape=RESIDENTIAL,
    )


def _community(bus: str, mix: Mix, scale: float) -> Community:
    load_w = 1e3 * mix.load_kw * RESIDENTIAL
    day = (np.arange(HOURS) >= 8) & (np.arange(HOURS) < 22)
    moved_wh = mix.flexible_frac * float(load_w.sum())
    vehicles_wh = 1e3 * mix.vehicles_kwh
    return Community(
        name=bus,
        step_s=HOUR_S,
        fixed_w=(1.0 - mix.flexible_frac) * load_w,
        renewable_w=1e3 * scale * (mix.sun_kw * SUN + mix.wind_kw * WIND),
        generator=Generator(max_w=1e3 * scale * mix.machine_kw, first_per_kwh=mix.machine_per_kwh, rise_per_kwh_kw=2e-4 / scale),
        storage=Storage(
            capacity_wh=1e3 * mix.storage_kwh,
            power_w=250.0 * mix.storage_kwh,
            efficiency_frac=0.95,
            initial_frac=0.5,
            degradation_per_kwh=0.01,
        ),
        flexible=(
            FlexibleLoad(energy_wh=moved_wh, max_w=np.where(day, 3.0 * moved_wh / day.sum(), 0.0)),
            FlexibleLoad(energy_wh=vehicles_wh, max_w=PLUGGED * 3.0 * vehicles_wh / PLUGGED.sum()),
        ),
    )
