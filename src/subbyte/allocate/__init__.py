"""Bits under a budget: widths of a layer's channels, and one option for each layer of a network."""

from subbyte.allocate.aciq import Aciq
from subbyte.allocate.budget import Budget, Measure
from subbyte.allocate.choice import choose, choose_by_price
from subbyte.allocate.optimum import Optimum
from subbyte.io.registry import Registry
from subbyte.methods import Allocate

ALLOCATIONS: Registry[Allocate] = Registry(
    "allocate",
    Allocate,
    {"optimum": Optimum, "aciq": Aciq},
)

__all__ = ["ALLOCATIONS", "Aciq", "Budget", "Measure", "Optimum", "choose", "choose_by_price"]
