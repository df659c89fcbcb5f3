"""Mechanism `hierarchical` (source 000): members, community operators, retailer and network operator clear one day in four levels."""
