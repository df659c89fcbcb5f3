"""What is wrong with the description of a house: every reason, as words; an empty list means that it can be planned for."""

from __future__ import annotations

from collections import Counter

from edge.schedule.model import Household

MAX_POWER_W = 1e8
MAX_ENERGY_WH = 1e9


def household_findings(household: Household) -> list[str]:
    """Names that repeat and numbers outside their ranges, each with the asset's name."""
    groups = (household.batteries, household.vehicles, household.tanks, household.appliances, household.generators)
    names = Counter(asset.name for group in groups for asset in group)
    findings = [f"name {name!r} is used {count} times, expected once" for name, count in names.items() if count > 1]
    ranges: list[tuple[str, float, float, float]] = [
        ("pv_rated_w", household.pv_rated_w, 0.0, MAX_POWER_W),
        ("comfort_slope_per_kwh_w", household.comfort_slope_per_kwh_w, 0.0, 1.0),
        ("curtailment_per_kwh", household.curtailment_per_kwh, 0.0, 0.1),
    ]
    for battery in household.batteries:
        ranges += [
            (f"{battery.name}: capacity_wh", battery.capacity_wh, 1.0, MAX_ENERGY_WH),
            (f"{battery.name}: max_charge_w", battery.max_charge_w, 1.0, MAX_POWER_W),
            (f"{battery.name}: max_discharge_w", battery.max_discharge_w, 1.0, MAX_POWER_W),
            (f"{battery.name}: charge_efficiency_frac", battery.charge_efficiency_frac, 0.3, 1.0),
            (f"{battery.name}: discharge_efficiency_frac", battery.discharge_efficiency_frac, 0.3, 1.0),
            (f"{battery.name}: min_soc_frac", battery.min_soc_frac, 0.0, battery.max_soc_frac),
            (f"{battery.name}: max_soc_frac", battery.max_soc_frac, battery.min_soc_frac, 1.0),
            (f"{battery.name}: wear_per_kwh", battery.wear_per_kwh, 0.0, 10.0),
            (f"{battery.name}: wear_slope_per_kwh_w", battery.wear_slope_per_kwh_w, 0.0, 1.0),
        ]
    for vehicle in household.vehicles:
        ranges += [
            (f"{vehicle.name}: capacity_wh", vehicle.capacity_wh, 1.0, MAX_ENERGY_WH),
            (f"{vehicle.name}: max_charge_w", vehicle.max_charge_w, 1.0, MAX_POWER_W),
            (f"{vehicle.name}: charge_efficiency_frac", vehicle.charge_efficiency_frac, 0.3, 1.0),
            (f"{vehicle.name}: max_soc_frac", vehicle.max_soc_frac, 0.0, 1.0),
        ]
    for tank in household.tanks:
        ranges += [
            (f"{tank.name}: capacity_wh", tank.capacity_wh, 1.0, MAX_ENERGY_WH),
            (f"{tank.name}: max_heat_w", tank.max_heat_w, 1.0, MAX_POWER_W),
            (f"{tank.name}: min_energy_wh", tank.min_energy_wh, 0.0, tank.capacity_wh),
            (f"{tank.name}: efficiency_frac", tank.efficiency_frac, 0.1, 10.0),
            (f"{tank.name}: loss_frac_per_h", tank.loss_frac_per_h, 0.0, 0.5),
        ]
    for appliance in household.appliances:
        ranges.append((f"{appliance.name}: max_w", appliance.max_w, 1.0, MAX_POWER_W))
    for generator in household.generators:
        ranges += [
            (f"{generator.name}: max_w", generator.max_w, 1.0, MAX_POWER_W),
            (f"{generator.name}: fuel_per_kwh", generator.fuel_per_kwh, 0.0, 1000.0),
            (f"{generator.name}: fuel_slope_per_kwh_w", generator.fuel_slope_per_kwh_w, 0.0, 1.0),
        ]
    findings += [f"{what} must lie in {low:g} to {high:g}, is {value:g}" for what, value, low, high in ranges if not low <= value <= high]
    return findings
