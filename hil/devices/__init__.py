"""Simulated devices: PV inverters, battery inverters, meters and EV chargers with their own register encoder, physics, quirks and faults."""
