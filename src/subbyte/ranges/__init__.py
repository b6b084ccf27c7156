"""Choose the range of a grid."""

from subbyte.io.registry import Registry
from subbyte.methods import Range
from subbyte.ranges.aciq import Aciq
from subbyte.ranges.blocks import GridFitter, fit_grid, up_to
from subbyte.ranges.clip import Clip
from subbyte.ranges.exact import Exact
from subbyte.ranges.gate import Gate
from subbyte.ranges.gradient import Fisher, Gradient
from subbyte.ranges.kl import Kl
from subbyte.ranges.minmax import MinMax
from subbyte.ranges.mse import Mse
from subbyte.ranges.peaks import Median, RowMax
from subbyte.ranges.percentile import Percentile
from subbyte.ranges.sigma import Sigma
from subbyte.ranges.unit import Unit

RANGES: Registry[Range] = Registry(
    "range",
    Range,
    {
        "minmax": MinMax,
        "percentile": Percentile,
        "mse": Mse,
        "fisher": Fisher,
        "gradient": Gradient,
        "rowmax": RowMax,
        "median": Median,
        "aciq": Aciq,
        "sigma": Sigma,
        "kl": Kl,
        "clip": Clip,
        "exact": Exact,
        "unit": Unit,
        "gate": Gate,
    },
)

__all__ = [
    "RANGES",
    "Aciq",
    "Clip",
    "Exact",
    "Fisher",
    "Gate",
    "Gradient",
    "GridFitter",
    "Kl",
    "Median",
    "MinMax",
    "Mse",
    "Percentile",
    "RowMax",
    "Sigma",
    "Unit",
    "fit_grid",
    "up_to",
]
