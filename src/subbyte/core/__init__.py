"""Tensors only: grids, quantized tensors, packing."""

from subbyte.core.geometry import Geometry
from subbyte.core.grid import MAX_BITS, Granularity, Grid, GridSpec, nearest_level, take_levels
from subbyte.core.packing import pack, packed_bytes, unpack
from subbyte.core.qtensor import QTensor

__all__ = [
    "MAX_BITS", "Geometry", "Granularity", "Grid", "GridSpec", "QTensor",
    "nearest_level", "pack", "packed_bytes", "take_levels", "unpack",
]  # fmt: skip
