"""Choose the range of a grid."""

from subbyte.methods import Range
from subbyte.ranges.blocks import fit_grid
from subbyte.ranges.minmax import MinMax
from subbyte.ranges.mse import Mse
from subbyte.ranges.percentile import Percentile

RANGES: dict[str, type[Range]] = {"minmax": MinMax, "percentile": Percentile, "mse": Mse}

__all__ = ["RANGES", "MinMax", "Mse", "Percentile", "fit_grid"]
