"""Grids that every range method is tried on, and values for them."""

import torch

from subbyte.core import GridSpec
from subbyte.ranges import RANGES, MinMax, fit_grid

SPECS = {
    "int2": GridSpec(bits=2, granularity="channel"),
    "int4": GridSpec(bits=4, granularity="channel"),
    "int4 narrow": GridSpec(bits=4, narrow=True, granularity="channel"),
    "ternary": GridSpec.ternary(),
    "int8": GridSpec(bits=8, granularity="channel"),
    "asymmetric int2": GridSpec(bits=2, symmetric=False, granularity="channel"),
    "asymmetric int3": GridSpec(bits=3, symmetric=False, granularity="channel"),
    "uint8": GridSpec(bits=8, signed=False, symmetric=False, granularity="channel"),
    "uint4": GridSpec(bits=4, signed=False, symmetric=False, granularity="channel"),
    "levels": GridSpec.level_set((-4, -2, -1, 0, 1, 2, 4)),
    "lopsided levels": GridSpec.level_set((-1, 0, 1, 3)),
}


def values(rows: int = 5, columns: int = 30, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


PAIRS = [
    (name, spec) for name in RANGES for spec in SPECS if name != "exact" or SPECS[spec].uniform
]
"""Every range on every grid, but for `exact`, which refuses levels (tests/ranges/test_exact.py)."""


def suited(method: str, x: torch.Tensor, spec: GridSpec) -> torch.Tensor:
    """The values; for `exact`, which refuses weights that lie on no grid, rounded to the grid that
    covers them.
    """
    return fit_grid(MinMax(), x, spec).quantize(x) if method == "exact" else x
