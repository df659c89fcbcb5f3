"""Simulated devices with their own register encoder, physics, quirks and faults, and the Modbus server that shows them."""
