"""The inputs of study `hierarchical594`: feeder HPK11 with its customers, and what they own.

Real: the network (594 medium-voltage nodes, 44 transformers, 5,275 customers with phase and place), the half-hour energy of 99 Victorian
homes on one day and the sun of that day, the retail tariff, spot prices and network price of the time. The source publishes no input, so
who owns what is ours: each value in `Choices` is a round number, none was adjusted to a result, and the study sweeps those that matter.
Expected in the folder of data sets: `networks/au_vic_hpk11/` and the files of `profiles/` that are named here.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.errors import CoordinatorError
from coordinator.mechanisms.hierarchical.areas import Area, Backbone, split
from coordinator.mechanisms.hierarchical.devices import Batteries, Panels, Vehicles
from coordinator.mechanisms.hierarchical.members import Fleet, Members
from coordinator.mechanisms.hierarchical.operator import LEAST_MEMBERS
from coordinator.mechanisms.hierarchical.security import NetworkOperator
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.network.cases import load
from coordinator.network.model import Network
from hil.errors import ScenarioError
from hil.households.tariffs import AUSNET_NSP20_OTHER_MONTHS_2019, VIC_AGL_2019, read_aemo_30min
from hil.households.victoria import START_S, UTC_OFFSET_S

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

PERIODS = 48
STEP_S = 1800.0
HOURS_PER_STEP = 0.5
NETWORK = Path("networks/au_vic_hpk11")
HOMES = Path("profiles/vic_homes99_30min_wh_1day.csv")
SUN = Path("profiles/vic_pv_5min_1day.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What nobody publishes and somebody has to choose. `at_home_frac` of cars stay all day, the others from evening to morning."""

    source_voltage_pu: float = 1.0
    sun_frac: float = 0.4
    panels_w: float = 5000.0
    battery_frac: float = 0.1
    battery_wh: float = 10_000.0
    battery_w: float = 5000.0
    battery_initial_frac: float = 0.2
    battery_efficiency_frac: float = 0.95
    wear_per_kwh: float = 0.02
    vehicle_frac: float = 0.4
    vehicle_w: float = 7400.0
    vehicle_median_wh: float = 12_000.0
    at_home_frac: float = 0.3
    margin_pu: float = 0.005
    rating_frac: float = 0.95


@dataclass(frozen=True, kw_only=True)
class FeederDay:
    """One day of the feeder under one set of choices. `home_w` (homes, 48) are the real homes, `sun_frac` (48,) the sun per watt."""

    choices: Choices
    seed: int
    base: Network = field(repr=False)
    home_w: FloatArray
    sun_frac: FloatArray
    tariff: Tariff
    spot_per_kwh: FloatArray
    network_per_kwh: float
    supply_charge: float

    @cached_property
    def network(self) -> Network:
        """The feeder at the chosen voltage of its source."""
        source = msgspec.structs.replace(self.base.source, voltage_pu=self.choices.source_voltage_pu)
        return msgspec.structs.replace(self.base, sources=(source,))

    @cached_property
    def parts(self) -> tuple[Backbone, tuple[Area, ...]]:
        """What the network operator derives from its network."""
        return split(self.network)

    @cached_property
    def fleets(self) -> tuple[Fleet, ...]:
        """The customers of every transformer, in the order of transformers."""
        return tuple(self._fleet(area) for area in self.parts[1])

    @property
    def communities(self) -> tuple[int, ...]:
        """The transformers with enough customers for a community."""
        return tuple(place for place, area in enumerate(self.parts[1]) if len(area.customers) >= LEAST_MEMBERS)

    def operator(self) -> NetworkOperator:
        """The network operator; what it plans with for a transformer without community is what that takes if all vehicles charge evenly."""
        backbone, areas = self.parts
        background = [Members(fleet=fleet, end_weight=area.weight, end_var_weight=area.var_weight).sums()
                      for fleet, area in zip(self.fleets, areas, strict=True)]  # fmt: skip
        return NetworkOperator(
            backbone=backbone,
            areas=tuple(areas[place] for place in self.communities),
            background_va=np.array([sums.net_w + 1j * sums.reactive_var for sums in background]),
            margin_pu=self.choices.margin_pu,
            rating_frac=self.choices.rating_frac,
        )

    def members(self) -> dict[str, Members]:
        """The members of every community, by the community's name."""
        areas = self.parts[1]
        return {
            areas[place].transformer.id: Members(
                fleet=self.fleets[place], end_weight=areas[place].weight, end_var_weight=areas[place].var_weight
            )
            for place in self.communities
        }

    def rows_of(self, area: Area) -> NDArray[np.int64]:
        """Where an area's customers are among all of the feeder's connections."""
        index = self.base.connection_index
        return np.array([index[customer] for customer in area.customers], dtype=np.int64)

    def connection_power(self, nets_w: dict[int, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Active and reactive power of every connection (48, connections), of net imports (customers, 48) by transformer."""
        count = len(self.base.connections)
        power, reactive = np.full((PERIODS, count), np.nan), np.full((PERIODS, count), np.nan)
        for place, area in enumerate(self.parts[1]):
            rows = self.rows_of(area)
            power[:, rows] = nets_w[place].T
            reactive[:, rows] = self.fleets[place].load_var.T
        return power, reactive

    @cached_property
    def owners(self) -> dict[str, BoolArray]:
        """Which connections have panels, a battery, a vehicle, and one that stays at home."""
        rng = np.random.default_rng((self.seed, 1))
        count = len(self.base.connections)

        def drawn(frac: float, among: NDArray[np.int64]) -> BoolArray:
            chosen = np.zeros(count, dtype=np.bool_)
            chosen[rng.permutation(among)[: round(frac * among.size)]] = True
            return chosen

        everybody = np.arange(count)
        panels = drawn(self.choices.sun_frac, everybody)
        with_panels = np.flatnonzero(panels)
        battery_share = self.choices.battery_frac * count / max(with_panels.size, 1)
        vehicles = drawn(self.choices.vehicle_frac, everybody)
        return {
            "panels": panels,
            "batteries": drawn(battery_share, with_panels),
            "vehicles": vehicles,
            "at home": drawn(self.choices.at_home_frac, np.flatnonzero(vehicles)),
        }

    @cached_property
    def driving(self) -> tuple[FloatArray, BoolArray]:
        """Energy that the vehicle of every connection would need, and in which intervals it is there (connections, 48).

        Arrival, departure and energy are drawn as in `hil.households.victoria`; the day is closed in itself.
        """
        rng = np.random.default_rng((self.seed, 2))
        count = len(self.base.connections)
        arrival_h = np.clip(rng.normal(18.0, 1.1, count), 16.0, 21.0)
        departure_h = np.clip(rng.normal(7.6, 0.7, count), 6.0, 10.0)
        energy_wh = np.clip(rng.lognormal(np.log(self.choices.vehicle_median_wh), 0.45, count), 5_000.0, 26_000.0)
        start_h = np.arange(PERIODS) * HOURS_PER_STEP
        there = (start_h + HOURS_PER_STEP <= departure_h[:, None]) | (start_h >= arrival_h[:, None])
        return energy_wh, there | self.owners["at home"][:, None]

    @cached_property
    def home_of(self) -> NDArray[np.int64]:
        """Which of the real homes every connection is."""
        return np.random.default_rng((self.seed, 3)).integers(0, len(self.home_w), len(self.base.connections))

    def _fleet(self, area: Area) -> Fleet:
        rows, choices = self.rows_of(area), self.choices
        load_w = self.home_w[self.home_of[rows]]
        factor = np.array([self.base.connections[row].power_factor for row in rows])
        panels, batteries, vehicles = (np.flatnonzero(self.owners[name][rows]) for name in ("panels", "batteries", "vehicles"))
        energy_wh, there = self.driving
        return Fleet(
            name=area.transformer.id,
            step_s=STEP_S,
            load_w=load_w,
            load_var=load_w * np.tan(np.arccos(factor))[:, None],
            panels=Panels(member=panels, available_w=np.tile(choices.panels_w * self.sun_frac, (panels.size, 1))),
            vehicles=Vehicles(
                member=vehicles,
                max_w=np.where(there[rows][vehicles], choices.vehicle_w, 0.0),
                energy_wh=energy_wh[rows][vehicles],
                step_s=STEP_S,
            ),
            batteries=Batteries(
                member=batteries,
                capacity_wh=np.full(batteries.size, choices.battery_wh),
                power_w=np.full(batteries.size, choices.battery_w),
                initial_wh=np.full(batteries.size, choices.battery_initial_frac * choices.battery_wh),
                efficiency_frac=choices.battery_efficiency_frac,
                wear_per_kwh=choices.wear_per_kwh,
                step_s=STEP_S,
            ),
        )


def load_feeder_day(data: Path, seed: int) -> FeederDay:
    """Read everything from the folder of public data sets."""
    homes_wh = _columns(data / HOMES, [f"h{index:02d}" for index in range(PERIODS)])
    sun = _columns(data / SUN, ["pv_kw_per_kw"])[:, 0]
    if sun.size != 288:
        raise ScenarioError(f"study hierarchical594: {data / SUN} has {sun.size} rows, expected 288 of five minutes")
    try:
        network = load(data / NETWORK)
    except (CoordinatorError, OSError) as error:
        raise ScenarioError(f"study hierarchical594: {data / NETWORK} cannot be read ({error}); give the folder with --data DIR") from error
    times_s = np.asarray(START_S + STEP_S * np.arange(PERIODS), dtype=np.float64)
    retail, feed_in = VIC_AGL_2019.prices(times_s, UTC_OFFSET_S)
    return FeederDay(
        choices=Choices(),
        seed=seed,
        base=network,
        home_w=homes_wh / HOURS_PER_STEP,
        sun_frac=sun.reshape(PERIODS, 6).mean(axis=1),
        tariff=Tariff(retail_per_kwh=retail, feed_in_per_kwh=feed_in),
        spot_per_kwh=read_aemo_30min(data / "profiles").prices(times_s),
        network_per_kwh=AUSNET_NSP20_OTHER_MONTHS_2019.base_import_price_per_kwh,
        supply_charge=VIC_AGL_2019.supply_charge_per_day,
    )


def chosen(day: FeederDay, **changes: float) -> FeederDay:
    """The same day with some other choices."""
    return replace(day, choices=replace(day.choices, **changes))


def _columns(path: Path, names: list[str]) -> FloatArray:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"study hierarchical594: {path} cannot be read ({error!r}); give the folder with --data DIR") from error
