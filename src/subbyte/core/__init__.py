"""Tensors only: grids, quantized tensors, packing, entropy."""

from subbyte.core.entropy import compressed_bytes, shannon_entropy
from subbyte.core.geometry import Geometry
from subbyte.core.grid import Grid, nearest_level, take_levels
from subbyte.core.packing import (
    pack,
    pack_grid,
    packed_bytes,
    packed_grid_bytes,
    unpack,
    unpack_grid,
)
from subbyte.core.qtensor import QTensor
from subbyte.core.spec import MAX_BITS, MOST_LEVELS, Granularity, GridSpec

__all__ = [
    "MAX_BITS",
    "MOST_LEVELS",
    "Geometry",
    "Granularity",
    "Grid",
    "GridSpec",
    "QTensor",
    "compressed_bytes",
    "nearest_level",
    "pack",
    "pack_grid",
    "packed_bytes",
    "packed_grid_bytes",
    "shannon_entropy",
    "take_levels",
    "unpack",
    "unpack_grid",
]
