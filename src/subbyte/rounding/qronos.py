"""Qronos: the first column makes up for what earlier layers did, diffusion does the rest (Zhang et
al. 2025).

    min_q ||X w - X_q q||^2 column by column: q_t is the best code while later columns stay, then
    those solve for the rest. Theorem 3.1 and lemma 3.2 make that
        q_1    = Q( (G_1: w - H_1,2: w_2:) / H_11 )
        w_2:  <- (H + dI)_2:,2:^-1 ( (G + dI)_2: w - H_2:,1 q_1 )
        q_2:   = GPTQ on w_2: and (H + dI)_2:,2:

d: damping times the largest eigenvalue of H, added to G too, so that the ridge pulls to the
weights. Where the two networks' inputs agree this is GPTQ. A row that nearest would serve better is
rounded to nearest.
Cost: 2 d^3 and GPTQ's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.io.numbers import NotNegative
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.columns import ColumnOrder, Columns, Order
from subbyte.rounding.diffusion import diffuse
from subbyte.rounding.solve import best_of, damped, norm_ridge, ridges, solved, upper_factor
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Qronos(Rounding):
    """damping: ridge as a share of H's largest eigenvalue (1e-6 for weights only, 1e-3 with 4-bit
    activations).
    """

    damping: NotNegative = 1e-6
    order: Order = Order.DIAGONAL

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        result = QTensor.nearest(first_exact(weight, grid, stats, self.damping, self.order), grid)
        return best_of(weight, [result, QTensor.nearest(weight, grid)], stats)


def first_exact(
    weight: Tensor, grid: Grid, stats: LayerStats, damping: float, order: Order
) -> Tensor:
    """The recursion: representable values, float32 [rows, columns]."""
    visits = ColumnOrder(stats, order)
    w = visits.values(stats.grouped(weight))  # [groups, rows, columns]
    H, G = visits.matrix(stats.H), visits.matrix(stats.G)
    extra = ridges(stats, norm_ridge(stats, damping))
    Hd, Gd = (visits.matrix(damped(matrix, extra)) for matrix in (stats.H, stats.G))
    columns = Columns(grid, tuple(w.shape), torch.float32, visits)
    live = H[:, 0, 0, None] > 0
    argument = w @ G[:, 0, :, None] - w[..., 1:] @ H[:, 0, 1:, None]
    argument = torch.where(
        live, argument[..., 0] / torch.where(live, H[:, 0, 0, None], 1.0), w[..., 0]
    )
    first = columns.round(argument.to(torch.float32), 0)
    if w.shape[-1] == 1:
        return visits.back(first[..., None]).reshape(weight.shape)
    R = upper_factor(Hd[:, 1:, 1:])
    target = w @ Gd[:, 1:].mT - first[..., None].double() * Hd[:, None, 0, 1:]
    w = solved(R, target)
    rounded = diffuse(w.to(torch.float32), R, columns, first=1)
    return visits.back(torch.cat([first[..., None], rounded], -1)).reshape(weight.shape)
