"""Deterministic simulation of the shipped protocol code: one seed draws the group, the faults and their rates."""
