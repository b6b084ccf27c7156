"""Optimizers: updates on a lattice that becomes finer, weights on a grid, torch's own beside them,
and the forms that were published.
"""

from subbyte.compat.optimizers import (
    PublishedAdamW2021,
    PublishedAdamW2023,
    PublishedSgd2021,
    PublishedSgd2023,
)
from subbyte.io.registry import Registry
from subbyte.learn.optimizers.grid import GridAdamW, GridOptimizer, GridSettings, GridSGD
from subbyte.learn.optimizers.lattice import QSGD, Lattice, LatticeOptimizer, QtAdamW
from subbyte.learn.optimizers.plain import Adam, AdamW, Sgd
from subbyte.learn.optimizers.resolution_schedules import RESOLUTION_SCHEDULES
from subbyte.learn.optimizers.rounded import RoundedAdamW, RoundedSgd
from subbyte.learn.optimizers.update_roundings import UPDATE_ROUNDINGS
from subbyte.methods import Optimizer

OPTIMIZERS: Registry[Optimizer[GridSettings]] = Registry(
    "optimizer",
    Optimizer,
    {
        "sgd": Sgd,
        "adam": Adam,
        "adamw": AdamW,
        "qsgd": RoundedSgd,
        "qtadamw": RoundedAdamW,
        "qsgd-2021": PublishedSgd2021,
        "qtadamw-2021": PublishedAdamW2021,
        "qsgd-2023": PublishedSgd2023,
        "qtadamw-2023": PublishedAdamW2023,
    },
)

__all__ = [
    "OPTIMIZERS",
    "QSGD",
    "RESOLUTION_SCHEDULES",
    "UPDATE_ROUNDINGS",
    "GridAdamW",
    "GridOptimizer",
    "GridSGD",
    "GridSettings",
    "Lattice",
    "LatticeOptimizer",
    "QtAdamW",
]
