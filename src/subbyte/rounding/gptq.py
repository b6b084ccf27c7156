"""GPTQ: round a column, let the columns not yet rounded absorb its error (Frantar et al., ICLR
2023, algorithm 1).

The recursion is in `diffusion`. Objective: (w - q)' H (w - q) row by row, with H of the quantized
network's inputs. Columns go by decreasing diagonal of H unless `order` is 'natural'. Differences
from the original: columns without input keep their nearest rounding (there: 0), solves are float64,
    and a row is never left worse than nearest.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.io.numbers import NotNegative
from subbyte.methods import FitGrid, Objective, Rounding
from subbyte.rounding.columns import Order
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.solve import better_of, matched_error
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Gptq(Rounding):
    """damping: ridge as a share of H's mean diagonal; order: 'diagonal' (decreasing) or
    'natural'.
    """

    damping: NotNegative = 0.01
    order: Order = Order.DIAGONAL

    objective = Objective.INPUTS

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        nearest = QTensor.nearest(weight, grid)
        result = QTensor.nearest(
            Diffusion(stats, self.damping, self.order).round(weight, grid), grid
        )
        errors = [matched_error(weight, q.dequantize(), stats) for q in (result, nearest)]
        return better_of(result, nearest, errors[0], errors[1])
