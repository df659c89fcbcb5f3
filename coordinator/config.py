"""The configuration of one coordinator: one TOML file, decoded once into one frozen value. Nothing is corrected silently.

Every number is bounded on both sides, relations between numbers are checked, and whatever is wrong is one line:
`feeder.toml: message - at $.path`. Paths are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from coordinator.aggregation.settings import AggregationSection, check_section
from coordinator.envelopes.values import AllocationRule
from coordinator.errors import ConfigError
from coordinator.market.settings import MarketSection, check_market
from coordinator.network.model import Network
from coordinator.page.settings import PageSection, check_page
from protocols.documents import DocumentRefused, decode_toml
from protocols.errors import one_line
from protocols.messages import MAX_INTERVALS, Guarantee
from protocols.mqtt_bus import MqttSettings
from protocols.observation.settings import MetricsSection, check_metrics
from protocols.units import GradHundredthsPercentPerS, Identifier, LimitW

FilePath = Annotated[str, Meta(min_length=1, max_length=1000)]
VoltagePu = Annotated[float, Meta(ge=0.5, le=1.5)]
PeriodS = Annotated[float, Meta(ge=10.0, le=86400.0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every section has: unknown keys are refused."""


class IdentitySection(Section, frozen=True, kw_only=True):
    """Who this coordinator speaks for. `key_file` is its private key, needed wherever it publishes (`commonwatt-coordinator run`)."""

    community: Identifier
    key_file: FilePath | None = None


class FeederSection(Section, frozen=True, kw_only=True):
    """The network (a built-in case, a folder or a file) and what must hold on it; voltage limits default to the network's own.

    The rating shares keep a reserve: 0.9 uses 90 % of every ampacity or transformer rating.
    """

    network: FilePath
    vmin_pu: VoltagePu | None = None
    vmax_pu: VoltagePu | None = None
    line_rating_frac: Annotated[float, Meta(gt=0.0, le=2.0)] = 1.0
    transformer_rating_frac: Annotated[float, Meta(gt=0.0, le=2.0)] = 1.0


class NodeSection(Section, frozen=True, kw_only=True):
    """One participant: its name on the bus, its connection in the network, its ratings, and the public keys it may sign with."""

    name: Identifier
    connection: Annotated[str, Meta(min_length=1, max_length=200)]
    import_rating_w: LimitW
    export_rating_w: LimitW
    key_files: Annotated[tuple[FilePath, ...], Meta(max_length=4)] = ()
    weight: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0


class EnvelopesSection(Section, frozen=True, kw_only=True):
    """What is published, how far ahead and how often.

    `demand` rating offers each node its whole connection; forecast offers what its newest forecasts, plan and flexibility can use, in
    steps of `demand_step_w`. A control is replaced only where it grows by more than `deadband_w`. All pending controls are said again
    every `refresh_s`. `q_per_w` is the reactive power assumed per watt of a participant. `background_w` belongs to the coincident class:
    what every home may draw while the others export what they may.
    """

    rule: AllocationRule = AllocationRule.PROPORTIONAL_FAIR
    guarantee: Guarantee = Guarantee.ROBUST
    interval_s: Annotated[float, Meta(ge=60.0, le=3600.0)] = 300.0
    horizon_s: Annotated[float, Meta(ge=300.0, le=172800.0)] = 7200.0
    period_s: PeriodS = 300.0
    refresh_s: PeriodS = 900.0
    demand: Annotated[str, Meta(pattern=r"^(rating|forecast)$")] = "rating"
    demand_step_w: Annotated[float, Meta(ge=1.0, le=1e6)] = 500.0
    deadband_w: Annotated[float, Meta(ge=0.0, le=1e6)] = 50.0
    max_computations: Annotated[int, Meta(ge=1, le=MAX_INTERVALS)] = 96
    q_per_w: Annotated[float, Meta(ge=-2.0, le=2.0)] = 0.0
    background_w: Annotated[float, Meta(ge=0.0, le=1e6)] = 500.0
    primacy: Annotated[int, Meta(ge=0, le=255)] = 1


class DefaultsSection(Section, frozen=True, kw_only=True):
    """The default of every node, which holds whenever no control does, for all nodes at once. Verified, and reduced where it must be."""

    export_w: LimitW = 1500.0
    import_w: LimitW = 5000.0
    set_grad_w: GradHundredthsPercentPerS = 27


class PassiveSection(Section, frozen=True, kw_only=True):
    """Connections without a node lie anywhere between these shares of the network's base load, with its reactive power in proportion."""

    low_frac: Annotated[float, Meta(ge=-10.0, le=10.0)] = 0.0
    high_frac: Annotated[float, Meta(ge=-10.0, le=10.0)] = 1.0


class StoreSection(Section, frozen=True, kw_only=True):
    """A SQLAlchemy URL, and how many rows wait in memory while the store cannot be written."""

    url: Annotated[str, Meta(min_length=1, max_length=1000)] = "sqlite:///coordinator.db"
    buffer_rows: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000


class CoordinatorConfig(Section, frozen=True, kw_only=True):
    """One feeder's coordinator; the sections mirror the package."""

    identity: IdentitySection
    feeder: FeederSection
    nodes: Annotated[tuple[NodeSection, ...], Meta(min_length=1, max_length=10_000)]
    envelopes: EnvelopesSection = EnvelopesSection()
    defaults: DefaultsSection = DefaultsSection()
    passive: PassiveSection = PassiveSection()
    store: StoreSection = StoreSection()
    broker: MqttSettings = MqttSettings()
    status_period_s: PeriodS = 300.0
    aggregation: AggregationSection = AggregationSection()
    metrics: MetricsSection = MetricsSection()
    page: PageSection = PageSection()
    market: MarketSection = MarketSection()


def load_config(path: Path) -> CoordinatorConfig:
    """Read, decode and check a configuration file. Raises `ConfigError` with the one line that the operator sees."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error} - at $") from error
    return decode_config(text, str(path))


def decode_config(text: bytes, where: str) -> CoordinatorConfig:
    """Decode and check a configuration; `where` names it in errors."""
    try:
        config = decode_toml(text, CoordinatorConfig)
    except DocumentRefused as refusal:
        raise ConfigError(f"{where}: {refusal}") from refusal
    problem = check_config(config)
    if problem is not None:
        raise ConfigError(f"{where}: {one_line(problem)}")
    return config


def check_config(config: CoordinatorConfig) -> str | None:
    """The first relation that does not hold, in words with its path, or None. Also for configurations that were not decoded."""
    return (
        _bad_envelopes(config)
        or _bad_feeder(config)
        or _bad_nodes(config)
        or check_section(config.aggregation)
        or check_metrics(config.metrics)
        or check_page(config.page)
        or check_market(config.market, in_secret=config.aggregation.enabled)
    )


def check_nodes(config: CoordinatorConfig, network: Network) -> str | None:
    """The first node whose connection the network does not have, in words, or None."""
    for index, node in enumerate(config.nodes):
        if node.connection not in network.connection_index:
            return f"connection {node.connection!r} does not exist in network {network.name} - at $.nodes[{index}].connection"
    return None


def _bad_envelopes(config: CoordinatorConfig) -> str | None:
    section = config.envelopes
    if section.guarantee is Guarantee.UNVERIFIED:
        return "guarantee must be robust or coincident; nothing unverified is published - at $.envelopes.guarantee"
    if section.horizon_s % section.interval_s != 0.0:
        return f"horizon_s ({section.horizon_s:g}) must be a multiple of interval_s ({section.interval_s:g}) - at $.envelopes.horizon_s"
    if section.horizon_s / section.interval_s > MAX_INTERVALS:
        return f"horizon_s / interval_s exceeds {MAX_INTERVALS} intervals - at $.envelopes.horizon_s"
    if section.horizon_s < 2.0 * section.period_s:
        return (
            f"horizon_s ({section.horizon_s:g}) must be at least twice period_s ({section.period_s:g}), so that one lost publication"
            " leaves no gap - at $.envelopes.horizon_s"
        )
    if section.interval_s * section.max_computations < section.period_s:
        return (
            f"max_computations ({section.max_computations}) of interval_s ({section.interval_s:g}) do not cover period_s"
            f" ({section.period_s:g}) - at $.envelopes.max_computations"
        )
    return None


def _bad_feeder(config: CoordinatorConfig) -> str | None:
    feeder, passive = config.feeder, config.passive
    if feeder.vmin_pu is not None and feeder.vmax_pu is not None and feeder.vmin_pu >= feeder.vmax_pu:
        return f"vmin_pu ({feeder.vmin_pu:g}) must be below vmax_pu ({feeder.vmax_pu:g}) - at $.feeder.vmin_pu"
    if passive.low_frac > passive.high_frac:
        return f"low_frac ({passive.low_frac:g}) must not exceed high_frac ({passive.high_frac:g}) - at $.passive.low_frac"
    return None


def _bad_nodes(config: CoordinatorConfig) -> str | None:
    names: dict[str, int] = {}
    connections: dict[str, int] = {}
    for index, node in enumerate(config.nodes):
        if names.setdefault(node.name, index) != index:
            return f"node name {node.name!r} is used twice - at $.nodes[{index}].name"
        if node.name == "coordinator":
            return f"a node must not be called 'coordinator' - at $.nodes[{index}].name"
        if connections.setdefault(node.connection, index) != index:
            return f"connection {node.connection!r} has two nodes - at $.nodes[{index}].connection"
    return None
