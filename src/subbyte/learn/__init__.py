"""Training: optimizers, weights on grids, the loop."""
