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
from typing import Literal

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import RecipeError
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.columns import Columns
from subbyte.rounding.solve import best_of
from subbyte.rounding.sweeps import refit_scales, sweep, sweep_by_row, unit_diagonal
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Descent(Rounding):
    """Coordinate descent.

    sweeps: visits of every column; order: natural, or greedy (each row by its own decreasing
    ||X_j|| |w_j|); refit: the scales before every sweep; start: nearest codes, or the real weights;
    data: inputs of the quantized network, or of the float one.
    """

    sweeps: int = 4
    order: Literal["natural", "greedy"] = "natural"
    refit: bool = True
    start: Literal["nearest", "weights"] = "nearest"
    data: Literal["quantized", "float"] = "quantized"

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise RecipeError(f"descent: sweeps must be at least 1, got {self.sweeps}")

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        if self.data == "float":
            stats = stats.of_float()
        grid = fit(weight)
        nearest = QTensor.nearest(weight, grid)
        values = nearest.dequantize() if self.start == "nearest" else weight
        linear = stats.grouped(weight) @ stats.G.mT
        steps, pulls = unit_diagonal(linear, stats)
        order = self._order(weight, stats)
        result = nearest
        for number in range(self.sweeps):
            # real weights have no codes to refit
            if self.refit and (number or self.start == "nearest"):
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
        if self.order == "natural":
            return None
        power = stats.H.diagonal(dim1=-2, dim2=-1).sqrt()[:, None, :] * stats.grouped(weight).abs()
        return power.argsort(dim=-1, descending=True, stable=True)
