"""AC power flow: power-grid-model for exact reference solutions, own radial sweeps for large corner batches."""
