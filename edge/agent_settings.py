"""What the parts of the agent are told once, read from its configuration. Pure."""

from __future__ import annotations

from edge.config import ApplianceConfig, EdgeConfig, SiteSection, VehicleConfig
from edge.decide import DecideSettings
from edge.devices.driver import Device
from edge.limits import Limit, LimitSet
from edge.policy import FlexibleNeed
from edge.watch import DeviceWatch


def watch_for(device: Device, config: EdgeConfig) -> DeviceWatch:
    """The watch of one device; a configured rating comes before what the device says."""
    rated_w = next((entry.rated_w for entry in config.devices if entry.name == device.name), None)
    return DeviceWatch(device.name, device.kind, rated_w)


def contract_limits(config: EdgeConfig) -> LimitSet:
    """What holds while neither a control nor a default is known."""
    site = config.site
    import_w = site.contract_import_w
    return LimitSet(
        export=Limit(limit_w=site.contract_export_w, source="contract"),
        import_=None if import_w is None else Limit(limit_w=import_w, source="contract"),
    )


def decide_settings(config: EdgeConfig) -> DecideSettings:
    """What the decider is told once."""
    control, schedule = config.control, config.schedule
    flexible: tuple[VehicleConfig | ApplianceConfig, ...] = (*config.vehicles, *config.appliances)
    return DecideSettings(
        cycle_s=control.cycle_s,
        margin_w=control.margin_w,
        revert_after_s=control.reversion_s,
        unattended_load_w=control.unattended_load_w,
        min_soc_frac=schedule.min_soc_frac,
        max_soc_frac=schedule.max_soc_frac,
        flexible=tuple(FlexibleNeed(name=entry.device, min_w=entry.min_w) for entry in flexible),
        most_draw_w={entry.device: entry.max_w for entry in flexible},
    )


def rating_limits(site: SiteSection) -> LimitSet:
    """What the connection itself can carry."""
    export, import_ = (Limit(limit_w=rating_w, source="rating") for rating_w in (site.export_rating_w, site.import_rating_w))
    return LimitSet(export=export, import_=import_)
