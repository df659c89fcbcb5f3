"""Mechanism `dfe`: flexibility envelopes that energy communities and the network operator agree on, with the communities' uncertainty."""
