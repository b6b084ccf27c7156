"""Grids that every range method is tried on, and values for them."""

import torch

from subbyte.core import TERNARY, GridSpec, Levels, PerChannel, Uniform
from subbyte.ranges import RANGES, MinMax, fit_grid

SPECS = {
    "int2": GridSpec(Uniform(2), PerChannel()),
    "int4": GridSpec(Uniform(4), PerChannel()),
    "int4 narrow": GridSpec(Uniform(4, narrow=True), PerChannel()),
    "ternary": GridSpec(TERNARY, PerChannel()),
    "int8": GridSpec(Uniform(8), PerChannel()),
    "asymmetric int2": GridSpec(Uniform(2, symmetric=False), PerChannel()),
    "asymmetric int3": GridSpec(Uniform(3, symmetric=False), PerChannel()),
    "uint8": GridSpec(Uniform(8, signed=False, symmetric=False), PerChannel()),
    "uint4": GridSpec(Uniform(4, signed=False, symmetric=False), PerChannel()),
    "levels": GridSpec(Levels((-4, -2, -1, 0, 1, 2, 4)), PerChannel()),
    "lopsided levels": GridSpec(Levels((-1, 0, 1, 3)), PerChannel()),
}


def values(rows: int = 5, columns: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


PAIRS = [
    (name, spec)
    for name in RANGES
    for spec in SPECS
    if name != "exact" or SPECS[spec].alphabet.even
]
"""Every range on every grid, but for `exact`, which refuses levels (tests/ranges/test_exact.py)."""


def suited(method: str, x: torch.Tensor, spec: GridSpec) -> torch.Tensor:
    """The values; for `exact`, which refuses weights that lie on no grid, rounded to the grid that
    covers them.
    """
    return fit_grid(MinMax(), x, spec).quantize(x) if method == "exact" else x
