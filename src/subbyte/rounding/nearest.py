"""Nearest: every weight to the closest code (RTN).

    q = argmin_p |w - p| over the grid

The baseline, and the fallback of every other method.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.methods import FitGrid, Objective, Rounding
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Nearest(Rounding):
    """Round to nearest."""

    objective = Objective.WEIGHTS

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`; the statistics are not read."""
        return QTensor.nearest(weight, fit(weight))
