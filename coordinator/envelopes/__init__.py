"""Operating envelopes: limits at connection points under which a feeder stays legal, each verified by exact AC power flow."""
