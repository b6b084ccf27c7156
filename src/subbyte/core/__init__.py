"""Tensors only: alphabets and shares, their grids, quantized tensors, packing, entropy."""

from subbyte.core.alphabet import Alphabet, Integers
from subbyte.core.alphabets import (
    ALPHABETS,
    MAX_BITS,
    MOST_LEVELS,
    TERNARY,
    WIDE_BITS,
    Codebook,
    Counts,
    Levels,
    Uniform,
    Widths,
)
from subbyte.core.entropy import compressed_bytes, shannon_entropy
from subbyte.core.geometry import (
    Convolution,
    Embedding,
    Geometry,
    Linear,
    Recurrent,
    TransposedConvolution,
)
from subbyte.core.grid import Grid, GridSpec
from subbyte.core.ladders import Even, Ladder, Uneven
from subbyte.core.logarithmic import PowersOfTwo
from subbyte.core.packing import digit_bytes, pack, packed_bytes, unpack
from subbyte.core.qtensor import QTensor
from subbyte.core.shares import Granularity, PerChannel, PerGroup, PerTensor, Share, share_of

__all__ = [
    "ALPHABETS",
    "MAX_BITS",
    "MOST_LEVELS",
    "TERNARY",
    "WIDE_BITS",
    "Alphabet",
    "Codebook",
    "Convolution",
    "Counts",
    "Embedding",
    "Even",
    "Geometry",
    "Granularity",
    "Grid",
    "GridSpec",
    "Integers",
    "Ladder",
    "Levels",
    "Linear",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "PowersOfTwo",
    "QTensor",
    "Recurrent",
    "Share",
    "TransposedConvolution",
    "Uneven",
    "Uniform",
    "Widths",
    "compressed_bytes",
    "digit_bytes",
    "pack",
    "packed_bytes",
    "shannon_entropy",
    "share_of",
    "unpack",
]
