"""What an installer does before an edge can run: keys, and one configuration for each household.

The keys of a bench are derived from its seed, so that a run can be repeated; nothing outside a bench should do that. Configurations are
the same type that `commonwatt-edge` decodes from TOML, and are written out as TOML for processes that run as deployed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.config import (
    CoordinatorConfig,
    DefaultsSection,
    EnvelopesSection,
    FeederSection,
    NodeSection,
)
from coordinator.config import IdentitySection as CoordinatorIdentity
from coordinator.config import StoreSection as CoordinatorStore
from coordinator.envelopes.values import AllocationRule
from coordinator.market.settings import MarketSection as OperatorMarketSection
from edge.config import (
    ApplianceConfig,
    ControlSection,
    EdgeConfig,
    ForecastSection,
    IdentitySection,
    MarketSection,
    ScheduleSection,
    SiteSection,
    StoreSection,
    VehicleConfig,
)
from edge.devices.registry import DeviceConfig
from edge.history import History, history_path
from edge.values import DeviceKind
from hil.devices.device import SimulatedDevice
from hil.flexible_load import CIRCUITS_PROFILE, HEATER_PROFILE
from hil.households import NeighbourhoodDay
from hil.scenario import LoadedScenario, Scenario
from hil.world import EV_CHARGER, Home, World
from protocols.keys import save_private_key, save_public_key
from protocols.messages import Guarantee
from protocols.mqtt_bus import MqttSettings
from protocols.tariff import PriceWindow

COORDINATOR = "coordinator"
DAY_S = 86400.0
PRICE_STEP_S = 1800.0
SMALLEST_CURRENT_A = 6.0
READBACK_CYCLES = 3
"""A setpoint is read back after every third cycle; it is written in every one, because the devices' own timers are that short."""

MAX_SOC_FRAC = 0.98
"""A battery is planned and controlled up to here, so that the one that must take a surplus is never found full."""

Place = Callable[[SimulatedDevice], tuple[str, int]]


class KeyRing:
    """One key for each participant of a community, below `folder`: `<name>.key` for its owner, `<name>.pub` for everybody."""

    def __init__(self, folder: Path, names: tuple[str, ...], seed: int) -> None:
        self.folder = folder
        self.private = {name: _derived_key(seed, name) for name in (COORDINATOR, *names)}
        folder.mkdir(parents=True, exist_ok=True)
        for name, key in self.private.items():
            self.key_file(name).unlink(missing_ok=True)
            save_private_key(key, self.key_file(name))
            save_public_key(key.public_key(), self.public_file(name))

    def key_file(self, name: str) -> Path:
        """Where the owner finds its private key."""
        return self.folder / f"{name}.key"

    def public_file(self, name: str) -> Path:
        """Where everybody finds the public one."""
        return self.folder / f"{name}.pub"


def edge_config(
    scenario: Scenario,
    day: NeighbourhoodDay,
    home: Home,
    keys: KeyRing,
    place: Place,
    state_folder: Path,
    *,
    coordinated: bool,
    device_timeout_s: float,
    concurrent_io: bool,
    broker: MqttSettings = MqttSettings(),
) -> EdgeConfig:
    """The configuration of one household's controller, as its installer would write it."""
    site = home.site
    buy, sell = price_windows(day)
    state_folder.mkdir(parents=True, exist_ok=True)
    control, coordinator = scenario.control, scenario.coordinator
    return EdgeConfig(
        identity=IdentitySection(
            community=scenario.name,
            node=home.name,
            key_file=str(keys.key_file(home.name)),
            coordinator_keys=(str(keys.public_file(COORDINATOR)),),
        ),
        site=SiteSection(
            import_rating_w=site.import_rating_w,
            export_rating_w=site.export_rating_w,
            contract_export_w=min(coordinator.default_export_w, site.export_rating_w),
            contract_import_w=min(coordinator.default_import_w, site.import_rating_w),
            timezone=zone_name(day.utc_offset_s),
            latitude_deg=day.latitude_deg,
            longitude_deg=day.longitude_deg,
            buy=buy,
            sell=sell,
        ),
        devices=tuple(_device(home, device, place, device_timeout_s, control.cycle_s) for device in home.devices.values()),
        vehicles=_vehicles(home, day),
        appliances=_appliances(home, day),
        control=ControlSection(
            mode="coordinated" if coordinated else "uncoordinated",
            cycle_s=control.cycle_s,
            response_s=control.plant_step_s,
            stale_after_s=max(15.0, control.cycle_s),
            concurrent_io=concurrent_io,
            telemetry_period_s=control.telemetry_period_s,
        ),
        schedule=ScheduleSection(
            period_s=control.schedule_period_s, step_s=control.schedule_step_s, max_soc_frac=MAX_SOC_FRAC
        ),
        forecast=ForecastSection(),
        store=StoreSection(path=str(state_folder / f"{home.name}.json"), fsync=False),
        broker=broker,
        market=MarketSection(enabled=coordinated and coordinator.mechanism != "doe"),
    )


def hand_over_history(day: NeighbourhoodDay, home: Home, config: EdgeConfig) -> None:
    """What the meter recorded before the run, in the file in which the edge keeps it, so that forecasts do not begin from nothing."""
    if len(day.history) == 0:
        return
    index = next(i for i, profiles in enumerate(day.households) if profiles.site.name == home.name)
    past, history = day.history[index], History(history_path(Path(config.store.path)))
    each = round(history.step_s / past.step_s)
    late = round(-past.start_s % history.step_s / past.step_s)
    count = (len(past.load_w) - late) // each
    load_w, pv_w = (row[late : late + count * each].reshape(count, each).mean(axis=1).tolist() for row in (past.load_w, past.pv_w))
    history.take_over(past.start_s + late * past.step_s, load_w, pv_w)


def coordinator_config(
    loaded: LoadedScenario, world: World, keys: KeyRing, state_folder: Path, broker: MqttSettings = MqttSettings()
) -> CoordinatorConfig:
    """The configuration of the feeder's coordinator, as its operator would write it."""
    scenario = loaded.scenario
    settings, limits = scenario.coordinator, scenario.limits
    rated_v = world.rated_v
    state_folder.mkdir(parents=True, exist_ok=True)
    return CoordinatorConfig(
        identity=CoordinatorIdentity(community=scenario.name, key_file=str(keys.key_file(COORDINATOR))),
        feeder=FeederSection(
            network=str(loaded.network_folder),
            vmin_pu=(limits.voltage_min_v + settings.voltage_margin_v) / rated_v,
            vmax_pu=(limits.voltage_max_v - settings.voltage_margin_v) / rated_v,
            line_rating_frac=limits.line_frac * (1.0 - settings.loading_margin_frac),
            transformer_rating_frac=limits.transformer_frac * (1.0 - settings.loading_margin_frac),
        ),
        nodes=tuple(
            NodeSection(
                name=home.name,
                connection=home.site.connection,
                import_rating_w=home.site.import_rating_w,
                export_rating_w=_export_rating_w(home),
                key_files=(str(keys.public_file(home.name)),),
            )
            for home in world.homes
        ),
        envelopes=EnvelopesSection(
            rule=AllocationRule(settings.rule),
            guarantee=Guarantee(settings.guarantee),
            interval_s=settings.interval_s,
            horizon_s=settings.horizon_s,
            period_s=settings.period_s,
            demand=settings.demand,
            demand_step_w=settings.demand_step_w,
            q_per_w=settings.reactive_frac,
        ),
        defaults=DefaultsSection(export_w=settings.default_export_w, import_w=settings.default_import_w),
        store=CoordinatorStore(url=f"sqlite:///{state_folder / 'coordinator.db'}"),
        broker=broker,
    )


def market_section(scenario: Scenario, day: NeighbourhoodDay) -> OperatorMarketSection:
    """What the coordinator negotiates, at the prices of the day."""
    settings = scenario.coordinator
    if settings.mechanism == "doe":
        return OperatorMarketSection()
    buy, sell = price_windows(day)
    return OperatorMarketSection(
        mechanism=settings.mechanism,
        period_s=settings.negotiation_period_s,
        step_s=scenario.control.schedule_step_s,
        intervals=round(DAY_S / scenario.control.schedule_step_s),
        patience_s=3.0 * scenario.control.cycle_s,
        buy=buy,
        sell=sell,
        timezone=zone_name(day.utc_offset_s),
    )


def _export_rating_w(home: Home) -> float:
    """The most that a home can export: what it was registered with, which is nothing where nothing generates."""
    sources_w = 0.0 if home.site.pv is None else home.site.pv.rated_w
    sources_w += 0.0 if home.site.battery is None else home.site.battery.max_discharge_w
    return min(home.site.export_rating_w, sources_w)


def _device(home: Home, device: SimulatedDevice, place: Place, timeout_s: float, cycle_s: float) -> DeviceConfig:
    host, port = place(device)
    kind = DeviceKind(device.kind)
    load_profile = str(HEATER_PROFILE if device is home.tank else CIRCUITS_PROFILE)
    profile = {DeviceKind.EV_CHARGER: EV_CHARGER, DeviceKind.LOAD: load_profile}.get(kind)
    return DeviceConfig(
        name=device.name,
        kind=kind,
        family="sunspec" if profile is None else "profile",
        profile=profile,
        host=host,
        port=port,
        unit=device.unit,
        bases=(40000,),
        phases=_phases(home),
        readback_s=READBACK_CYCLES * cycle_s,
        slow_s=60.0,
        rated_w=_rated_w(home, device),
        timeout_s=timeout_s,
        retries=0,
    )


def _rated_w(home: Home, device: SimulatedDevice) -> float | None:
    """What an installer reads off the rating plate where the device does not tell."""
    if device is home.ev and home.site.ev is not None:
        return home.site.ev.rated_w
    return None


def _phases(home: Home) -> Literal[1, 2, 3]:
    count = len(home.phase_index)
    assert count in (1, 2, 3)
    return cast(Literal[1, 2, 3], count)


def _vehicles(home: Home, day: NeighbourhoodDay) -> tuple[VehicleConfig, ...]:
    """The driver's standing order: as much as the longest day needs, by the earliest departure."""
    if home.site.ev is None or home.ev is None:
        return ()
    sessions = home.site.ev.sessions
    needed_wh = max((session.energy_needed_wh for session in sessions), default=10_000.0)
    departures_s = [(session.departure_s + day.utc_offset_s) % DAY_S for session in sessions]
    return (
        VehicleConfig(
            device=home.ev.name,
            session_wh=needed_wh,
            ready_by_h=math.floor(min(departures_s, default=7.0 * 3600.0) / 900.0) / 4.0,
            max_w=home.site.ev.rated_w,
            min_w=SMALLEST_CURRENT_A * 230.0 * _phases(home),
            charge_efficiency_frac=home.site.ev.charge_efficiency_frac,
        ),
    )


def _appliances(home: Home, day: NeighbourhoodDay) -> tuple[ApplianceConfig, ...]:
    """The hot-water tank with its daily need and hours, as the plumber set them."""
    if home.tank is None:
        return ()
    load = home.site.shiftable[0]
    first_s, last_s = load.windows[0]
    return (
        ApplianceConfig(
            device=home.tank.name,
            energy_wh=load.energy_needed_wh,
            from_h=(first_s + day.utc_offset_s) % DAY_S / 3600.0,
            until_h=(last_s + day.utc_offset_s) % DAY_S / 3600.0,
            max_w=load.rated_w,
        ),
    )


def price_windows(day: NeighbourhoodDay) -> tuple[tuple[PriceWindow, ...], tuple[PriceWindow, ...]]:
    """The day's prices as windows of local time, half an hour at the finest; equal neighbours are one window."""
    midnight_s = day.start_s - (day.start_s + day.utc_offset_s) % DAY_S
    starts_s = midnight_s + PRICE_STEP_S * np.arange(round(DAY_S / PRICE_STEP_S), dtype=np.float64)
    windows: list[tuple[PriceWindow, ...]] = []
    for prices in day.tariff.prices(starts_s, day.utc_offset_s):
        found = [
            PriceWindow(from_h=index * PRICE_STEP_S / 3600.0, price_per_kwh=round(float(price), 6))
            for index, price in enumerate(prices)
            if index == 0 or price != prices[index - 1]
        ]
        windows.append(tuple(found))
    return windows[0], windows[1]


def zone_name(utc_offset_s: float) -> str:
    """A zone without daylight saving; its sign is that of POSIX, the opposite of everybody else's."""
    hours = round(utc_offset_s / 3600.0)
    if hours * 3600.0 != utc_offset_s:
        return "UTC"
    return "UTC" if hours == 0 else f"Etc/GMT{'-' if hours > 0 else '+'}{abs(hours)}"


def _derived_key(seed: int, name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"commonwatt bench key {seed} {name}".encode()).digest())


