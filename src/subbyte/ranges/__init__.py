"""Choose the range of a grid."""

from subbyte.methods import Range
from subbyte.ranges.blocks import GridFitter, fit_grid
from subbyte.ranges.minmax import MinMax
from subbyte.ranges.mse import Mse
from subbyte.ranges.peaks import Median, RowMax
from subbyte.ranges.percentile import Percentile

RANGES: dict[str, type[Range]] = {
    "minmax": MinMax,
    "percentile": Percentile,
    "mse": Mse,
    "rowmax": RowMax,
    "median": Median,
}

__all__ = ["RANGES", "GridFitter", "Median", "MinMax", "Mse", "Percentile", "RowMax", "fit_grid"]
