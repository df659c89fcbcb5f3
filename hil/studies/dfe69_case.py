"""The inputs of source 001: the 69-bus network and the buses of its five communities as printed, and everything that it does not print.

The paper publishes no load profile, no community, no price and no voltage at the source. What is chosen here instead is named in `Choices`,
each with the value that the study uses, and the study sweeps it. Shapes of load and sun are measured ones (99 Victorian homes, one day;
Victorian sun of the same day); the wind is a made-up smooth one.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.envelopes.certificate import EnvelopeResult, Infeasible
from coordinator.envelopes.compute import compute_schedule
from coordinator.envelopes.values import AllocationRule, EnvelopeProblem, Limits, Participant, PassiveLoad
from coordinator.mechanisms.dfe.central import CentralProblem
from coordinator.mechanisms.dfe.community import EnergyCommunity
from coordinator.mechanisms.dfe.feeder import OperatedFeeder, with_communities
from coordinator.mechanisms.dfe.negotiation import EnvelopeNegotiation, Tariff
from coordinator.mechanisms.dfe.uncertainty import Uncertainty, margins_w
from coordinator.network.cases import load_case
from coordinator.network.model import Network
from hil.errors import ScenarioError

FloatArray = NDArray[np.float64]

HOURS = 24
HOUR_S = 3600.0
BUSES = ("22", "32", "46", "49", "60")
NAMES = tuple(f"community at bus {bus}" for bus in BUSES)
BASE_LOSS_WH = 2.929e6
# Of each community: peak of fixed load, sun, wind, generator (kW), storage (kWh). `Choices.sources_scale` multiplies all but the load.
FLEETS = (
    (200.0, 400.0, 0.0, 150.0, 500.0),
    (150.0, 250.0, 250.0, 0.0, 400.0),
    (300.0, 250.0, 0.0, 100.0, 400.0),
    (400.0, 150.0, 250.0, 100.0, 500.0),
    (150.0, 500.0, 300.0, 250.0, 800.0),
)
CONNECTION_W = 1.5e6
TOLERANCE_W = 120.0
TOLERANCE_PER_KWH = 1.7e-4
CLEARANCE_PU = 1e-4
SAMPLES = 2000
FORECAST_ERROR_FRAC = 0.12
LOAD_ERROR_FRAC = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the paper does not say and somebody has to choose."""

    sources_scale: float = 1.0
    loss_per_kwh: float = 0.24
    source_voltage_pu: float = 1.04
    vmin_pu: float = 0.92
    vmax_pu: float = 1.05
    operator_share_frac: float = 1.0
    confidence_frac: float = 0.9
    uncertainty: Uncertainty = Uncertainty.GAUSSIAN
    weight: float = 2e-7


@dataclass(frozen=True, kw_only=True)
class DfeCase:
    """The network with its communities under one set of choices. `home_frac` and `sun_frac` are hourly shapes (24,) with peak 1."""

    choices: Choices
    seed: int
    home_frac: FloatArray
    sun_frac: FloatArray

    @cached_property
    def tariff(self) -> Tariff:
        """A time-of-use retail price and a flat feed-in price."""
        hour = np.arange(HOURS)
        buy = np.where((hour >= 16) & (hour < 22), 0.34, np.where((hour >= 7) & (hour < 16), 0.24, 0.17))
        return Tariff(buy_per_kwh=buy, sell_per_kwh=np.full(HOURS, 0.08))

    @cached_property
    def network(self) -> Network:
        """The published network with the communities' connections and the chosen source voltage."""
        network = with_communities(load_case("ieee69"), NAMES, BUSES)
        source = msgspec.structs.replace(network.source, voltage_pu=self.choices.source_voltage_pu)
        return msgspec.structs.replace(network, sources=(source,))

    @cached_property
    def errors_w(self) -> tuple[FloatArray, ...]:
        """Forecast errors of net import of every community (24, samples): of its sun and wind, and of its load. Normal."""
        return tuple(
            self.deviation_w(place)[:, None] * np.random.default_rng((self.seed, place)).standard_normal((HOURS, SAMPLES))
            for place in range(len(BUSES))
        )

    def deviation_w(self, place: int) -> FloatArray:
        """Standard deviation (24,) of the net import of a community."""
        load, sun, wind = self._profiles(place)
        return np.asarray(np.sqrt((FORECAST_ERROR_FRAC * (sun + wind)) ** 2 + (LOAD_ERROR_FRAC * load) ** 2))

    @cached_property
    def communities(self) -> tuple[EnergyCommunity, ...]:
        """The five communities."""
        return tuple(self._community(place) for place in range(len(BUSES)))

    @cached_property
    def feeder(self) -> OperatedFeeder:
        """The feeder with its load scaled so that the base case loses what the paper prints."""
        low, high = 0.2, 1.5
        for _ in range(40):
            middle = 0.5 * (low + high)
            if self._base_loss_wh(middle) > BASE_LOSS_WH:
                high = middle
            else:
                low = middle
        return self._operated(low)

    @property
    def load_scale(self) -> float:
        """Peak of the feeder's load over the published snapshot."""
        return float(self.feeder.load_va.real.sum(axis=0).max() / load_case("ieee69").base_power_w().sum())

    def central(self, feeder: OperatedFeeder | None = None) -> CentralProblem:
        """Everybody at once."""
        return CentralProblem(
            communities=self.communities,
            feeder=self.feeder if feeder is None else feeder,
            tariff=self.tariff,
            loss_per_kwh=self.choices.loss_per_kwh,
            clearance_pu=CLEARANCE_PU,
        )

    def negotiation(self) -> EnvelopeNegotiation:
        """The mechanism."""
        return EnvelopeNegotiation(
            names=NAMES,
            feeder=self.feeder,
            tariff=self.tariff,
            loss_per_kwh=self.choices.loss_per_kwh,
            weight=self.choices.weight,
            tolerance_w=TOLERANCE_W,
            tolerance_per_kwh=TOLERANCE_PER_KWH,
            clearance_pu=CLEARANCE_PU,
        )

    def envelopes_w(self) -> tuple[FloatArray, FloatArray]:
        """Import and export limits (communities, 24) that the operator alone would publish: the same for everybody, verified."""
        network = self.feeder.network
        participants = tuple(Participant(connection=name, max_import_w=CONNECTION_W, max_export_w=CONNECTION_W) for name in NAMES)
        problems = [
            EnvelopeProblem(
                network=network,
                participants=participants,
                passive=tuple(
                    PassiveLoad(connection=connection.id, low_w=load.real, high_w=load.real, q_var=load.imag)
                    for connection, load in zip(network.connections, column.tolist(), strict=False)
                ),
                limits=self.feeder.limits,
                rule=AllocationRule.EQUAL,
            )
            for column in self.feeder.load_va.T
        ]
        found = compute_schedule(problems)
        refused = [item.reason for item in found if isinstance(item, Infeasible)]
        if refused:
            raise ScenarioError(f"study dfe69: the operator has no envelope to publish: {refused[0]}")
        results = [item for item in found if isinstance(item, EnvelopeResult)]
        share = self.choices.operator_share_frac
        imports = np.array([[envelope.import_limit_w for envelope in item.envelopes] for item in results]).T
        exports = np.array([[envelope.export_limit_w for envelope in item.envelopes] for item in results]).T
        return share * imports, share * exports

    @cached_property
    def alone_w(self) -> FloatArray:
        """Net imports of communities that supply themselves and sell nothing: the paper's base case."""
        return self.central(self._operated(0.5)).alone().net_w

    def _base_loss_wh(self, scale: float) -> float:
        feeder = self._operated(scale)
        return float(feeder.losses_va(self.alone_w).real.sum())

    def _operated(self, scale: float) -> OperatedFeeder:
        network = load_case("ieee69")
        base = (network.base_power_w() + 1j * network.base_reactive_var()).astype(np.complex128)
        return OperatedFeeder(
            network=self.network,
            load_va=scale * np.outer(base, self.home_frac),
            limits=Limits(vmin_pu=self.choices.vmin_pu, vmax_pu=self.choices.vmax_pu),
        )

    def _profiles(self, place: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        load_kw, sun_kw, wind_kw, _, _ = FLEETS[place]
        hour = np.arange(HOURS) + 0.5
        wind_frac = 0.45 + 0.25 * np.cos(2.0 * np.pi * (hour - 2.0 - 1.5 * place) / 24.0) + 0.1 * np.sin(2.0 * np.pi * hour / 7.0 + place)
        scale = self.choices.sources_scale
        return 1e3 * load_kw * self.home_frac, 1e3 * scale * sun_kw * self.sun_frac, 1e3 * scale * wind_kw * wind_frac

    def _community(self, place: int) -> EnergyCommunity:
        load, sun, wind = self._profiles(place)
        _, _, _, generator_kw, storage_kwh = FLEETS[place]
        scale = self.choices.sources_scale
        above, below = margins_w(self.choices.uncertainty, self.choices.confidence_frac, self.errors_w[place])
        return EnergyCommunity(
            name=NAMES[place],
            bus=BUSES[place],
            step_s=HOUR_S,
            connection_w=CONNECTION_W,
            fixed_load_w=load,
            flexible_max_w=0.3 * np.full(HOURS, load.max()),
            flexible_wh=0.15 * float(load.sum()),
            sun_w=sun,
            wind_w=wind,
            generator_w=1e3 * scale * generator_kw,
            generator_per_kwh=0.12,
            generator_per_kwh_kw=0.0001,
            storage_wh=1e3 * scale * storage_kwh,
            storage_w=250.0 * scale * storage_kwh,
            storage_efficiency_frac=0.95,
            storage_initial_frac=0.5,
            wear_per_kwh=0.01,
            unserved_per_kwh=5.0,
            width_per_kwh=0.002,
            margin_above_w=above,
            margin_below_w=below,
        )


def load_dfe_case(data: Path, seed: int) -> DfeCase:
    """Read the measured shapes in the folder of public data sets."""
    folder = data / "profiles"
    homes = _columns(folder / "vic_homes99_30min_wh_1day.csv", [f"h{index:02d}" for index in range(48)]).sum(axis=0)
    sun = _columns(folder / "vic_pv_5min_1day.csv", ["pv_kw_per_kw"])[:, 0]
    if sun.size != 288:
        raise ScenarioError(f"{folder}: expected 288 five-minute values of sun, got {sun.size}")
    home_frac, sun_frac = homes.reshape(HOURS, 2).sum(axis=1), sun.reshape(HOURS, 12).mean(axis=1)
    return DfeCase(choices=Choices(), seed=seed, home_frac=home_frac / home_frac.max(), sun_frac=sun_frac / sun_frac.max())


def chosen(case: DfeCase, **changes: object) -> DfeCase:
    """The same case with some other choices."""
    return replace(case, choices=replace(case.choices, **changes))  # type: ignore[arg-type]


def _columns(path: Path, names: list[str]) -> FloatArray:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"study dfe69: {path} cannot be read ({error!r}); give the folder of data sets with --data DIR") from error
