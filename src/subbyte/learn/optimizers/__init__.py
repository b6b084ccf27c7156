"""Optimizers: updates on a lattice that becomes finer, weights on a grid, and torch's own as
references.
"""

from subbyte.compat.optimizers import Published2021, Published2023
from subbyte.learn.optimizers.grid import GridAdamW, GridOptimizer, GridSettings, GridSGD
from subbyte.learn.optimizers.lattice import QSGD, Lattice, LatticeOptimizer, QtAdamW, Telemetry
from subbyte.learn.optimizers.named import OPTIMIZERS

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
