"""Streets of any size for study `community`: households drawn from a seed on the published 33-bus feeder.

Loads are measured ones (99 Victorian homes on one day, scaled at random), the sun is that of the same day. Members of the market have
panels, a battery and flexible load of drawn sizes; in a mixed street most homes lack some of them. The feeder's own load is replaced by the
households, and its impedances shrink as households multiply, so that 200 and 10,000 households press the network alike.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from coordinator.envelopes.values import Limits
from coordinator.mechanisms.dfe.feeder import OperatedFeeder, with_communities
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.sharing.households import FloatArray, Households
from coordinator.mechanisms.sharing.market import SharingMarket
from coordinator.mechanisms.sharing.responder import RespondingHouseholds
from coordinator.network.cases import load_case
from coordinator.network.model import Line, Network
from hil.errors import ScenarioError

HOURS = 24
HOUR_S = 3600.0
# The number of households at which `strength_frac` 1 means the published impedances.
REFERENCE = 1000
GROUP = 200
VMIN_PU, VMAX_PU = 0.95, 1.05
MIXED_PANELS_FRAC, MIXED_BATTERY_FRAC, MIXED_FLEXIBLE_FRAC = 0.4, 0.6, 0.4
# Panels in watts, batteries in watt hours, flexible load in watts.
SIZES = {"sun": (2e3, 6e3), "battery": (6e3, 14e3), "flexible": (1.5e3, 3.5e3)}
LOST_LOAD_PER_KWH = 5.0
PEAK, DAY, NIGHT, FEED_IN = 0.42, 0.28, 0.20, 0.06


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Measured shapes: loads of homes (24, homes) in watts, sun (24,) relative to its highest."""

    home_w: FloatArray
    sun_frac: FloatArray


@dataclass(frozen=True, kw_only=True)
class CommunityCase:
    """`strength_frac` multiplies impedances: small ones leave voltages free, larger ones make more hours bind."""

    count: int
    seed: int
    strength_frac: float
    shapes: Shapes
    mixed: bool = False

    @cached_property
    def network(self) -> Network:
        """The 33-bus feeder with one connection at each load bus and nothing else."""
        plain = load_case("ieee33")
        scale = self.strength_frac * REFERENCE / self.count
        lines = tuple(_scaled(line, scale) for line in plain.lines)
        buses = [bus.id for bus in plain.buses[1:]]
        empty = msgspec.structs.replace(plain, lines=lines, connections=())
        return with_communities(empty, [f"bus {bus}" for bus in buses], buses)

    @cached_property
    def feeder(self) -> OperatedFeeder:
        """Nothing but households is connected; the source holds 1 per unit."""
        load = np.zeros((0, HOURS), dtype=np.complex128)
        return OperatedFeeder(network=self.network, load_va=load, limits=Limits(vmin_pu=VMIN_PU, vmax_pu=VMAX_PU))

    @cached_property
    def households(self) -> Households:
        """The households, spread over the buses in turn."""
        rng = np.random.default_rng((self.seed, self.count))
        kinds = rng.integers(0, self.shapes.home_w.shape[1], self.count)
        load = self.shapes.home_w[:, kinds] * rng.uniform(0.7, 1.4, self.count)
        sizes = {name: rng.uniform(*span, self.count) for name, span in SIZES.items()}
        if self.mixed:
            sizes["sun"] *= rng.random(self.count) < MIXED_PANELS_FRAC
            sizes["battery"] *= (rng.random(self.count) < MIXED_BATTERY_FRAC) & (sizes["sun"] > 0.0)
            sizes["flexible"] *= rng.random(self.count) < MIXED_FLEXIBLE_FRAC
        return Households(
            step_s=HOUR_S,
            buses=len(self.network.connections),
            bus=np.arange(self.count) % len(self.network.connections),
            load_w=load,
            sun_w=np.outer(self.shapes.sun_frac, sizes["sun"]),
            battery_wh=sizes["battery"],
            battery_w=0.4 * sizes["battery"],
            initial_frac=np.full(self.count, 0.3),
            flexible_w=np.tile(sizes["flexible"], (HOURS, 1)),
            flexible_wh=2.5 * sizes["flexible"],
            efficiency_frac=0.95,
            wear_per_kwh=0.02,
            smooth_per_kwh_kw=0.01,
            lost_load_per_kwh=LOST_LOAD_PER_KWH,
        )

    @cached_property
    def tariff(self) -> Tariff:
        """A time-of-use retail price and a flat feed-in price."""
        hour = np.arange(HOURS)
        retail = np.where((hour >= 16) & (hour < 22), PEAK, np.where((hour >= 7) & (hour < 16), DAY, NIGHT))
        return Tariff(retail_per_kwh=retail, feed_in_per_kwh=np.full(HOURS, FEED_IN))

    @property
    def parts(self) -> dict[str, Households]:
        """The households in groups of at most `GROUP`, each spread over the whole feeder."""
        groups = -(-self.count // GROUP)
        return {f"group {place + 1}": self.households.part(np.arange(place, self.count, groups)) for place in range(groups)}

    def market(self, forecast_w: Mapping[str, FloatArray]) -> SharingMarket:
        """The mechanism for groups that would take `forecast_w` (buses, T) if they did nothing."""
        others = np.zeros((len(self.network.connections), HOURS))
        return SharingMarket(feeder=self.feeder, tariff=self.tariff, step_s=HOUR_S, forecast_w=forecast_w, others_w=others)

    def begin(self) -> tuple[SharingMarket, dict[str, RespondingHouseholds]]:
        """The mechanism and the households that answer it, before the first round."""
        responders = {name: RespondingHouseholds(part) for name, part in self.parts.items()}
        return self.market({name: responder.fixed_w for name, responder in responders.items()}), responders


def load_shapes(data: Path) -> Shapes:
    """Read the measured shapes in the folder of public data sets."""
    folder = data / "profiles"
    halves = _columns(folder / "vic_homes99_30min_wh_1day.csv", [f"h{index:02d}" for index in range(2 * HOURS)])
    sun = _columns(folder / "vic_pv_5min_1day.csv", ["pv_kw_per_kw"])[:, 0]
    if sun.size != 12 * HOURS:
        raise ScenarioError(f"{folder}: expected {12 * HOURS} five-minute values of sun, got {sun.size}")
    sun_frac = sun.reshape(HOURS, 12).mean(axis=1)
    return Shapes(home_w=halves.reshape(-1, HOURS, 2).sum(axis=2).T, sun_frac=sun_frac / sun_frac.max())


def _scaled(line: Line, scale: float) -> Line:
    return msgspec.structs.replace(
        line,
        r_ohm=tuple(tuple(scale * value for value in row) for row in line.r_ohm),
        x_ohm=tuple(tuple(scale * value for value in row) for row in line.x_ohm),
    )


def _columns(path: Path, names: list[str]) -> FloatArray:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"study community: {path} cannot be read ({error!r}); give the folder of data sets with --data DIR") from error
