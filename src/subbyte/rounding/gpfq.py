"""GPFQ: greedy path following (Zhang, Zhou, Saab 2023, eq. 7-10; Lybrand, Saab 2021), in Gram form.

    u_t = u_{t-1} + w_t X_t - q_t X_q,t       q_t = Q( <X_q,t, u_{t-1} + w_t X_t> / ||X_q,t||^2 )

Only inner products enter, so with H = X_q'X_q and G = X_q'X the argument is

    arg_t = ( sum_{j<=t} G_tj w_j  -  sum_{j<t} H_tj q_j ) / H_tt

which needs no stored activations, no inverse and no damping, and is exact for rank-deficient H. Blocked: A = W tril(G)'
is one product; inside a block columns are corrected one by one, behind it A[:, e:] -= Q_block H[block, e:].
Objective: ||X w - X_q q||^2. Differences from the authors' code: patches at the layer's true stride, the recipe's grid
in place of one step a layer, dead columns keep their nearest rounding (there: 0), ties go to even. Cost: 3 rows d^2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.methods import FitGrid
from subbyte.rounding.columns import Columns
from subbyte.rounding.solve import better_of
from subbyte.stats import LayerStats

_BLOCK = 128


@dataclass(frozen=True)
class Gpfq:
    """Follow the float network's path, column by column in natural order."""

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        nearest = QTensor.nearest(weight, grid)
        result = QTensor.nearest(follow_path(weight, grid, stats), grid)
        errors = [stats.output_error(weight, q.dequantize()) for q in (result, nearest)]
        return better_of(result, nearest, errors[0], errors[1])


def follow_path(weight: Tensor, grid: Grid, stats: LayerStats) -> Tensor:
    """GPFQ's recursion: representable values, float32 [rows, columns]."""
    w = stats.grouped(weight)
    diagonal = stats.H.diagonal(dim1=-2, dim2=-1)
    live = diagonal > 0
    inverse = torch.where(live, 1 / diagonal, 0.0)[:, :, None]
    H = inverse * stats.H
    arguments = (w @ (inverse * stats.G.tril()).mT).to(torch.float32)
    arguments = torch.where(live[:, None, :], arguments, w.to(torch.float32))
    H = H.to(torch.float32)
    columns = Columns(grid, (w.shape[0], w.shape[1], w.shape[2]), torch.float32)
    rounded = torch.empty_like(arguments)
    size = arguments.shape[-1]
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        for t in range(start, end):
            path = (rounded[..., start:t] @ H[:, t, start:t, None])[..., 0]
            rounded[..., t] = columns.round(arguments[..., t] - path, t)
        arguments[..., end:] -= rounded[..., start:end] @ H[:, end:, start:end].mT
    return rounded.reshape(weight.shape)
