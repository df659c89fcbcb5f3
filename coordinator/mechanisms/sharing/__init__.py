"""Mechanism `p2p` at the scale of households: one market of thousands of homes, of which only sums at each bus are told."""
