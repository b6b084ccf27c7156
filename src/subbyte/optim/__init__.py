"""Optimizers: updates on a lattice that becomes finer, weights on a grid, and torch's own as references."""

from subbyte.optim.compat import Published2021, Published2023
from subbyte.optim.grid import GridAdamW, GridOptimizer, GridSettings, GridSGD
from subbyte.optim.lattice import QSGD, Lattice, LatticeOptimizer, QtAdamW, Telemetry
from subbyte.optim.named import OPTIMIZERS

__all__ = [
    "OPTIMIZERS",
    "QSGD",
    "GridAdamW",
    "GridOptimizer",
    "GridSGD",
    "GridSettings",
    "Lattice",
    "LatticeOptimizer",
    "Published2021",
    "Published2023",
    "QtAdamW",
    "Telemetry",
]
