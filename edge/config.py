"""The configuration of one edge: one TOML file, decoded once into one frozen value. Nothing is corrected silently.

Every number is bounded on both sides, relations between numbers are checked, and whatever is wrong is one line:
`house.toml: message - at $.path`. Paths are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.devices.registry import DeviceConfig, check_device
from edge.errors import ConfigurationError
from edge.home_assistant.settings import HomeAssistantSection
from edge.leadership.settings import AggregationSection, LeadershipSection, RegionSection, check_region, check_sections
from edge.values import DeviceKind
from protocols.documents import DocumentRefused, decode_toml
from protocols.errors import one_line
from protocols.mqtt_bus import MqttSettings
from protocols.observation.settings import MetricsSection, check_metrics
from protocols.tariff import HourOfDay, PriceWindow, PriceWindows, misplaced, unknown_zone
from protocols.units import Identifier

PowerW = Annotated[float, Meta(ge=0.0, le=10e6)]
Seconds = Annotated[float, Meta(gt=0.0, le=86400.0)]
CycleS = Annotated[float, Meta(ge=0.2, le=60.0)]
FilePath = Annotated[str, Meta(min_length=1, max_length=1000)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every section has: unknown keys are refused."""


class IdentitySection(Section, frozen=True, kw_only=True):
    """Who this edge is, and whom it believes. `key_file` is its private key, `coordinator_keys` are public keys; both are needed
    wherever the edge speaks to others (`commonwatt-edge run`)."""

    community: Identifier
    node: Identifier
    key_file: FilePath | None = None
    coordinator_keys: Annotated[tuple[FilePath, ...], Meta(max_length=8)] = ()


class SiteSection(Section, frozen=True, kw_only=True):
    """The connection point. The ratings are what the connection can carry; the contract limits hold while nothing else is known:
    no control, no default. `timezone` is an IANA name; tariffs go by its local time. The place is what PV forecasts need."""

    import_rating_w: PowerW
    export_rating_w: PowerW
    contract_export_w: PowerW = 1500.0
    contract_import_w: PowerW | None = None
    timezone: str = "UTC"
    latitude_deg: Annotated[float, Meta(ge=-90.0, le=90.0)] = 0.0
    longitude_deg: Annotated[float, Meta(ge=-180.0, le=180.0)] = 0.0
    buy: PriceWindows = (PriceWindow(from_h=0.0, price_per_kwh=0.30),)
    sell: PriceWindows = (PriceWindow(from_h=0.0, price_per_kwh=0.05),)


class ControlSection(Section, frozen=True, kw_only=True):
    """The control cycle.

    `response_s`: how long the slowest device takes to follow a setpoint. `margin_w`: kept for meter error. `revert_after_s`: the
    devices' own timers, by default 1.4 cycles (at least a cycle and 2 s). `stale_after_s`: age from which a reading is a fault.
    `clock_jump_s`: difference between wall and monotonic time that counts as a jump. `tighten_at_once`: reach a stricter default by a
    step, which is stricter than the ramp that `setGradW` permits. `unattended_load_w`: what vehicles and flexible loads may draw
    together when the edge is gone. `respond_to_all`: also answer "received" and "superseded before it began".
    `mode` uncoordinated ignores every control and default, keeps to the ratings only, and exists for comparison.
    """

    mode: Literal["coordinated", "uncoordinated"] = "coordinated"
    cycle_s: CycleS = 1.0
    response_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 5.0
    margin_w: Annotated[float, Meta(ge=0.0, le=1000.0)] = 25.0
    revert_after_s: Annotated[float, Meta(gt=0.0, le=300.0)] | None = None
    stale_after_s: Annotated[float, Meta(gt=0.0, le=300.0)] = 15.0
    clock_jump_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 5.0
    tighten_at_once: bool = True
    unattended_load_w: PowerW = 0.0
    respond_to_all: bool = False
    concurrent_io: bool = True
    telemetry_period_s: Annotated[float, Meta(ge=1.0, le=3600.0)] = 60.0
    status_period_s: Annotated[float, Meta(ge=10.0, le=86400.0)] = 900.0
    coordinator_silent_s: Annotated[float, Meta(ge=10.0, le=86400.0)] = 900.0

    @property
    def reversion_s(self) -> float:
        """What the devices' own timers are set to."""
        return max(1.4 * self.cycle_s, self.cycle_s + 2.0) if self.revert_after_s is None else self.revert_after_s


class ScheduleSection(Section, frozen=True, kw_only=True):
    """The plan of the hours ahead, made again every `period_s`."""

    enabled: bool = True
    period_s: Annotated[float, Meta(ge=10.0, le=3600.0)] = 300.0
    step_s: Annotated[float, Meta(ge=60.0, le=3600.0)] = 900.0
    horizon_s: Annotated[float, Meta(ge=3600.0, le=172800.0)] = 86400.0
    deadline_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 1.0
    battery_wear_per_kwh: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.02
    min_soc_frac: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.1
    max_soc_frac: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0


class ForecastSection(Section, frozen=True, kw_only=True):
    """Which quantiles of load and PV the plan goes by, and what is assumed of a household before anything was measured."""

    typical_day_wh: Annotated[float, Meta(gt=0.0, le=1e6)] = 10e3
    publish: bool = True
    load_level_frac: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    pv_level_frac: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5


class StoreSection(Section, frozen=True, kw_only=True):
    """Where default, pending controls, plan and counters live; `fsync = false` is for benches whose disk may lose a power cut."""

    path: FilePath = "state.json"
    fsync: bool = True


class VehicleConfig(Section, frozen=True, kw_only=True):
    """A vehicle at the charger `device`. A charger does not tell the state of charge, so each stay is taken to need `session_wh`
    until `ready_by_h` (local time); below `min_w` the charger switches off."""

    device: Annotated[str, Meta(min_length=1, max_length=64)]
    session_wh: Annotated[float, Meta(gt=0.0, le=500e3)] = 10e3
    ready_by_h: HourOfDay = 7.0
    max_w: Annotated[float, Meta(gt=0.0, le=350e3)] = 7360.0
    min_w: Annotated[float, Meta(ge=0.0, le=50e3)] = 1380.0
    charge_efficiency_frac: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.9


class ApplianceConfig(Section, frozen=True, kw_only=True):
    """A shiftable load (priority 3) at the device `device` of kind load: a heating element, a pump. It shall get `energy_wh` each day
    between `from_h` and `until_h` (local time; equal: any time), at any power from `min_w` to `max_w`, and is off otherwise. A device
    of kind load that is not named here is curtailable (priority 2): free, until the envelope needs it to yield."""

    device: Annotated[str, Meta(min_length=1, max_length=64)]
    energy_wh: Annotated[float, Meta(gt=0.0, le=500e3)]
    from_h: HourOfDay = 0.0
    until_h: HourOfDay = 0.0
    max_w: Annotated[float, Meta(ge=1.0, le=350e3)]
    min_w: Annotated[float, Meta(ge=0.0, le=50e3)] = 0.0


class MarketSection(Section, frozen=True, kw_only=True):
    """Whether the house answers what a mechanism of the coordinator asks of it, and plans by what was agreed (`edge.market`)."""

    enabled: bool = False


class EdgeConfig(Section, frozen=True, kw_only=True):
    """One household's controller; the sections mirror the package."""

    identity: IdentitySection
    site: SiteSection
    devices: Annotated[tuple[DeviceConfig, ...], Meta(min_length=1, max_length=32)]
    vehicles: Annotated[tuple[VehicleConfig, ...], Meta(max_length=16)] = ()
    appliances: Annotated[tuple[ApplianceConfig, ...], Meta(max_length=16)] = ()
    control: ControlSection = ControlSection()
    schedule: ScheduleSection = ScheduleSection()
    forecast: ForecastSection = ForecastSection()
    store: StoreSection = StoreSection()
    broker: MqttSettings = MqttSettings()
    leadership: LeadershipSection = LeadershipSection()
    aggregation: AggregationSection = AggregationSection()
    region: RegionSection = RegionSection()
    metrics: MetricsSection = MetricsSection()
    home_assistant: HomeAssistantSection = HomeAssistantSection()
    market: MarketSection = MarketSection()


def load_config(path: Path) -> EdgeConfig:
    """Read, decode and check a configuration file. Raises `ConfigurationError` with the one line that the operator sees."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error} - at $") from error
    return decode_config(text, str(path))


def decode_config(text: bytes, where: str) -> EdgeConfig:
    """Decode and check a configuration; `where` names it in errors."""
    try:
        config = decode_toml(text, EdgeConfig)
    except DocumentRefused as refusal:
        raise ConfigurationError(f"{where}: {refusal}") from refusal
    problem = check_config(config)
    if problem is not None:
        raise ConfigurationError(f"{where}: {one_line(problem)}")
    return config


def check_config(config: EdgeConfig) -> str | None:
    """The first relation that does not hold, in words with its path, or None. Also for configurations that were not decoded."""
    return (
        _bad_control(config)
        or _bad_site(config)
        or _bad_schedule(config)
        or _bad_devices(config)
        or check_sections(config.leadership, config.aggregation)
        or check_region(config.region, config.leadership, config.identity.community)
        or _bad_market(config)
        or check_metrics(config.metrics)
    )


def _bad_control(config: EdgeConfig) -> str | None:
    control = config.control
    if control.reversion_s <= control.cycle_s:
        return (
            f"revert_after_s ({control.reversion_s:g}) must exceed cycle_s ({control.cycle_s:g}), or devices revert while the edge "
            "is alive - at $.control.revert_after_s"
        )
    if control.stale_after_s < control.cycle_s:
        return (
            f"stale_after_s ({control.stale_after_s:g}) must be at least cycle_s ({control.cycle_s:g}) - at $.control.stale_after_s"
        )
    return None


def _bad_site(config: EdgeConfig) -> str | None:
    site = config.site
    if site.contract_export_w > site.export_rating_w:
        return (
            f"contract_export_w ({site.contract_export_w:g}) exceeds export_rating_w ({site.export_rating_w:g}) "
            "- at $.site.contract_export_w"
        )
    if site.contract_import_w is not None and site.contract_import_w > site.import_rating_w:
        return (
            f"contract_import_w ({site.contract_import_w:g}) exceeds import_rating_w ({site.import_rating_w:g}) "
            "- at $.site.contract_import_w"
        )
    problem = unknown_zone(site.timezone)
    if problem is not None:
        return f"{problem} - at $.site.timezone"
    for name, windows in (("buy", site.buy), ("sell", site.sell)):
        problem = misplaced(windows)
        if problem is not None:
            return f"{name} {problem} - at $.site.{name}"
    return None


def _bad_market(config: EdgeConfig) -> str | None:
    if config.market.enabled and config.leadership.enabled:
        return "market and leadership are two ways to agree, and a house takes one of them - at $.market.enabled"
    if config.market.enabled and not config.schedule.enabled:
        return "market needs a schedule to answer with, and schedule.enabled is false - at $.market.enabled"
    return None


def _bad_schedule(config: EdgeConfig) -> str | None:
    schedule = config.schedule
    if schedule.min_soc_frac >= schedule.max_soc_frac:
        return (
            f"min_soc_frac ({schedule.min_soc_frac:g}) must be below max_soc_frac ({schedule.max_soc_frac:g}) "
            "- at $.schedule.min_soc_frac"
        )
    if schedule.horizon_s % schedule.step_s != 0.0:
        return f"horizon_s ({schedule.horizon_s:g}) must be a multiple of step_s ({schedule.step_s:g}) - at $.schedule.horizon_s"
    if schedule.horizon_s / schedule.step_s > 576:
        return f"horizon_s / step_s ({schedule.horizon_s / schedule.step_s:g}) exceeds 576 intervals - at $.schedule"
    return None


def _bad_devices(config: EdgeConfig) -> str | None:
    names = [device.name for device in config.devices]
    for index, device in enumerate(config.devices):
        if names.index(device.name) != index:
            return f"device name {device.name!r} is used twice - at $.devices[{index}].name"
        problem = check_device(device)
        if problem is not None:
            return f"{problem} - at $.devices[{index}]"
    meters = [device.name for device in config.devices if device.kind is DeviceKind.METER]
    if len(meters) != 1:
        return f"exactly one device of kind meter is needed at the connection point, got {len(meters)} - at $.devices"
    return _bad_flexible(config, "vehicles", DeviceKind.EV_CHARGER) or _bad_flexible(config, "appliances", DeviceKind.LOAD)


def _bad_flexible(config: EdgeConfig, section: Literal["vehicles", "appliances"], kind: DeviceKind) -> str | None:
    known = {device.name for device in config.devices if device.kind is kind}
    entries: tuple[VehicleConfig | ApplianceConfig, ...] = config.vehicles if section == "vehicles" else config.appliances
    for index, entry in enumerate(entries):
        where = f"at $.{section}[{index}]"
        if entry.device not in known:
            return f"device {entry.device!r} is not a configured {kind.value} - {where}.device"
        if entry.device in [earlier.device for earlier in entries[:index]]:
            return f"device {entry.device!r} is named twice - {where}.device"
        if entry.min_w > entry.max_w:
            return f"min_w ({entry.min_w:g}) exceeds max_w ({entry.max_w:g}) - {where}.min_w"
    return None
