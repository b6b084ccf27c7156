"""GPTQ's recursion: round a column, let the columns not yet rounded absorb its error; the kernel of
the GPTQ family.

    H^-1 = U'U (upper Cholesky);   for t = 1..d:   q_t = Q(w_t);   w_{t:} -= (w_t - q_t) / U_tt *
                                                                   U_{t,t:}

Cost: d^3 for the factor, rows d^2 a rounding; blocks of 128 columns, so that most of it is matrix
    products.
"""

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.rounding.columns import ColumnOrder, Columns, Order
from subbyte.rounding.solve import cholesky, damped, mean_ridge
from subbyte.stats import LayerStats

_BLOCK = 128


class Diffusion:
    """The recursion for one layer: the factors of H once, then any target and grid."""

    def __init__(self, stats: LayerStats, damping: float, order: Order) -> None:
        """damping: ridge on H as a share of its mean diagonal."""
        self._stats, self.order = stats, ColumnOrder(stats, order)
        H, _ = damped(stats, mean_ridge(stats, damping))
        self.U = inverse_factor(cholesky(self.order.matrix(H)))

    def round(self, target: Tensor, grid: Grid, pull: Tensor | None = None) -> Tensor:
        """Representable values, float32 [rows, columns], for a target of that shape.

        pull: see `diffuse`; [groups, columns, columns], in the order of visits.
        """
        w = self._stats.grouped(target).to(torch.float32)
        columns = Columns(grid, tuple(w.shape), torch.float32, self.order)
        factor = self.U.to(torch.float32)
        rounded = diffuse(
            self.order.values(w), factor, columns, None if pull is None else pull.to(torch.float32)
        )
        return self.order.back(rounded).reshape(target.shape)


def inverse_factor(factor: Tensor) -> Tensor:
    """U, upper triangular, with H^-1 = U'U, for the lower factor of H."""
    return cholesky(torch.cholesky_inverse(factor)).mT


def diffuse(
    w: Tensor, U: Tensor, columns: Columns, pull: Tensor | None = None, first: int = 0
) -> Tensor:
    """Rounded columns in the order given.

    w: [groups, rows, columns]; U: [groups, columns, columns]; pull: strictly upper P, for w_{t:} +=
    w_t P_{t,t:} after each column (GPTAQ); first: number of columns of the grid that come before
    w's.
    """
    w, rounded = w.clone(), torch.empty_like(w)
    size = w.shape[-1]
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        block, errors = w[..., start:end], torch.empty_like(w[..., start:end])
        seen = torch.empty_like(errors) if pull is not None else None
        factor = U[:, start:end, start:end]
        for t in range(end - start):
            now = block[..., t].clone()
            q = columns.round(now, first + start + t)
            rounded[..., start + t] = q
            error = (now - q) / factor[:, t, t, None]
            block[..., t:] -= error[..., None] * factor[:, None, t, t:]
            errors[..., t] = error
            if pull is not None and seen is not None:
                block[..., t:] += now[..., None] * pull[:, None, start + t, start + t : end]
                seen[..., t] = now
        w[..., end:] -= errors @ U[:, start:end, end:]
        if pull is not None and seen is not None:
            w[..., end:] += seen @ pull[:, start:end, end:]
    return rounded
