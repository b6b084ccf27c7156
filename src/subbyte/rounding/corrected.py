"""Corrected: the default. Least-squares target, GPTQ order, coordinate descent, scale refits.

    0  H, G, F <- shrunk                    what few samples say by chance is left out
                                            (`stats.shrinkage`)
    1  W* = W (G + dI)' (H + dI)^-1         make up for the errors of earlier layers (as in Qronos,
                                            Zhang et al. 2026)
    2  grid = fit(W*)                        the recipe's range, on the weights that will be rounded
    3  GPTQ on (W*, H), columns by decreasing diagonal of H
    4  `sweeps` times: refit the scales by least squares, visit every column
    5  3 and 4 from the grid's scales times each of `starts`; every row keeps its best

Steps 3 and 4 end in a local minimum that depends on the scale they start from, the more so the
fewer the levels.

Because ||X w - X_q q||^2 = ||X_q (w* - q)||^2 + const, the mismatched problem is a matched one with
target W*. Objective: ||X w - X_q q||^2 as it is to be expected of other samples, by the shrunk
moments; a row that nearest would serve better is rounded to nearest. Cost, per start: GPTQ's plus
2 rows d^2 a sweep.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import RecipeError
from subbyte.io.numbers import Natural, NotNegative, Positive
from subbyte.methods import FitGrid, Objective, Rounding
from subbyte.rounding.columns import Order
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.solve import best_of
from subbyte.rounding.sweeps import descend
from subbyte.stats import LayerStats, shrunk


@dataclass(frozen=True)
class Corrected(Rounding):
    """Error-corrected rounding.

    damping: ridge as a share of H's mean diagonal; sweeps: visits of every column by coordinate
    descent; starts: factors on the grid's scales to begin with.
    """

    damping: NotNegative = 0.01
    sweeps: Natural = 12
    starts: tuple[Positive, ...] = (0.8, 1.0, 1.25)

    objective = Objective.EXPECTED

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.starts:
            raise RecipeError("corrected: one or more starts are needed")

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        stats = shrunk(stats)
        diffusion = Diffusion(stats, self.damping, Order.DIAGONAL)
        target = diffusion.factored.target(weight)
        grid = fit(target)
        linear = stats.grouped(target) @ stats.H
        grids = [grid.with_scale(grid.scale * factor) for factor in self.starts]
        rounded = diffusion.round_each(target, grids)
        starts = [QTensor.nearest(*each) for each in zip(rounded, grids, strict=True)]
        nearest = QTensor.nearest(weight, fit(weight))
        return best_of(weight, [nearest, *descend(linear, starts, stats, self.sweeps)], stats)
