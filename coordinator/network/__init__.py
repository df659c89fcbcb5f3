"""The network model of a feeder, its loaders and its validation."""

from coordinator.network.findings import Finding
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Shunt, Source, Transformer

__all__ = ["Bus", "Connection", "Finding", "Line", "Network", "NetworkKind", "Shunt", "Source", "Transformer"]
