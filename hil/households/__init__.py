"""Where the households of a scenario come from: a shipped generator for `street` and real homes for `victoria-lv28`."""

from hil.households.profiles import (
    BatteryAsset,
    EvAsset,
    EvSession,
    HistorySeries,
    HouseholdProfiles,
    HouseholdSite,
    NeighbourhoodDay,
    PvAsset,
    ShiftableLoad,
)
from hil.households.tariffs import Tariff

__all__ = [
    "BatteryAsset",
    "EvAsset",
    "EvSession",
    "HistorySeries",
    "HouseholdProfiles",
    "HouseholdSite",
    "NeighbourhoodDay",
    "PvAsset",
    "ShiftableLoad",
    "Tariff",
]
