"""Descent: coordinate descent on the output error, with refits of the scales.

    q_j <- Q( q_j + ((G w)_j - (H q)_j) / H_jj )       every column in turn: the best value while
                                                       all others stand
    s   <- u' G w / u' H u                             the best scale for the codes' units u

QuantEase (Behdin et al. 2023) and COMQ (Zhang et al. 2025). COMQ's released rule is
`{data: float, start: weights, refit: false, sweeps: 1, order: greedy}` on weights with `symmetric:
false,
range: minmax`: it starts from the real weights, and visits each row's columns by decreasing ||X_j||
|w_j|; in natural order its first sweep is GPFQ on float inputs.

Objective: ||X w - X_q q||^2 (`data: float`: with X in place of X_q); a row that nearest would serve
better is rounded to nearest. Cost: 2 rows d^2 a sweep.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.io.numbers import Count
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.columns import Columns, Given
from subbyte.rounding.solve import best_of
from subbyte.rounding.sweeps import refit_scales, sweep, sweep_by_row, unit_diagonal
from subbyte.stats import LayerStats


class Visits(StrEnum):
    """The order in which a row's columns are visited."""

    NATURAL = "natural"
    GREEDY = "greedy"


class Start(StrEnum):
    """The values that the first sweep begins with."""

    NEAREST = "nearest"
    WEIGHTS = "weights"


@dataclass(frozen=True)
class Descent(Rounding):
    """Coordinate descent.

    sweeps: visits of every column; order: natural, or greedy (each row by its own decreasing
    ||X_j|| |w_j|); refit: the scales before every sweep; start: nearest codes, or the real weights;
    data: inputs of the quantized network, or of the float one.
    """

    sweeps: Count = 4
    order: Visits = Visits.NATURAL
    refit: bool = True
    start: Start = Start.NEAREST
    data: Given = Given.QUANTIZED

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        stats, on_grid = Given(self.data).stats(stats), self.start == Start.NEAREST
        grid = fit(weight)
        nearest = QTensor.nearest(weight, grid)
        values = nearest.dequantize() if on_grid else weight
        linear = stats.grouped(weight) @ stats.G.mT
        steps, pulls = unit_diagonal(linear, stats)
        order = self._order(weight, stats)
        result = nearest
        for number in range(self.sweeps):
            # real weights have no codes to refit
            if self.refit and (number or on_grid):
                result = refit_scales(linear, result, stats)
                values = result.dequantize()
            q = stats.grouped(values).to(torch.float32)
            columns = Columns(result.grid, tuple(q.shape), torch.float32)
            swept = (
                sweep(pulls, q, steps, columns)
                if order is None
                else sweep_by_row(pulls, q, steps, columns, order)
            )
            result = QTensor.nearest(swept.reshape(weight.shape), result.grid)
            values = result.dequantize()
        if self.refit:
            result = refit_scales(linear, result, stats)
        return best_of(weight, [nearest, result], stats)

    def _order(self, weight: Tensor, stats: LayerStats) -> Tensor | None:
        """Order of each row's columns, [groups, rows, columns]; None for the natural one."""
        if self.order == Visits.NATURAL:
            return None
        power = stats.power.sqrt()[:, None, :] * stats.grouped(weight).abs()
        return power.argsort(dim=-1, descending=True, stable=True)
