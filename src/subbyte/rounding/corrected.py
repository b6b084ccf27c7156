"""Corrected: the default. Least-squares target, GPTQ order, coordinate descent, scale refits.

    1  W* = W (G + dI)' (H + dI)^-1         make up for the errors of earlier layers (as in Qronos, Zhang et al. 2026)
    2  grid = fit(W*)                        the recipe's range, on the weights that will be rounded
    3  GPTQ on (W*, H), columns by decreasing diagonal of H
    4  `sweeps` times: refit the scales by least squares, visit every column

Because ||X w - X_q q||^2 = ||X_q (w* - q)||^2 + const, the mismatched problem is a matched one with target W*.
Objective: ||X w - X_q q||^2; a row that nearest would serve better is rounded to nearest. Cost: GPTQ's plus
2 rows d^2 a sweep.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import RecipeError
from subbyte.methods import FitGrid
from subbyte.rounding.descent import descend
from subbyte.rounding.gptq import diffuse
from subbyte.rounding.solve import better_of, corrected_target
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Corrected:
    """damping: ridge as a share of H's mean diagonal; sweeps: visits of every column by coordinate descent."""

    damping: float = 0.01
    sweeps: int = 12

    def __post_init__(self) -> None:
        if self.damping < 0 or self.sweeps < 0:
            raise RecipeError(f"corrected: damping and sweeps must be >= 0, got {self.damping} and {self.sweeps}")

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        target = corrected_target(weight, stats, self.damping)
        grid = fit(target)
        result = QTensor.nearest(diffuse(target, grid, stats, self.damping, "diagonal"), grid)
        result = descend(target, result, stats, self.sweeps)
        nearest = QTensor.nearest(weight, fit(weight))
        errors = [stats.output_error(weight, q.dequantize()) for q in (result, nearest)]
        return better_of(result, nearest, errors[0], errors[1])
