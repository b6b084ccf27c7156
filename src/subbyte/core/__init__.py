"""Tensors only: grids, quantized tensors, packing."""

from subbyte.core.geometry import Geometry
from subbyte.core.grid import MAX_BITS, Granularity, Grid, GridSpec
from subbyte.core.packing import pack, packed_bytes, unpack
from subbyte.core.qtensor import QTensor

__all__ = ["MAX_BITS", "Geometry", "Granularity", "Grid", "GridSpec", "QTensor", "pack", "packed_bytes", "unpack"]
