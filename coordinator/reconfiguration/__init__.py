"""Reconfiguration: which switches of a feeder to open, so that it stays radial and loses least."""

from coordinator.reconfiguration.costs import SwitchingCosts
from coordinator.reconfiguration.search import reconfigure
from coordinator.reconfiguration.switching import SwitchingTariff, plan_switching
from coordinator.reconfiguration.values import Reconfiguration, ReconfigurationError, State, SwitchingPlan

__all__ = [
    "Reconfiguration",
    "ReconfigurationError",
    "State",
    "SwitchingCosts",
    "SwitchingPlan",
    "SwitchingTariff",
    "plan_switching",
    "reconfigure",
]
