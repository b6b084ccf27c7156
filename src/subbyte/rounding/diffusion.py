"""GPTQ's recursion: round a column, let the columns not yet rounded absorb its error; the kernel of
the GPTQ family.

    H^-1 = U'U (upper Cholesky);   for t = 1..d:   q_t = Q(w_t);   w_{t:} -= (w_t - q_t) / U_tt *
                                                                   U_{t,t:}

Cost: d^3 for the factor, rows d^2 a rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.rounding.columns import ColumnOrder, Columns, Order
from subbyte.rounding.solve import cholesky, damped, mean_ridge
from subbyte.rounding.turns import column_major, in_turn, row_major
from subbyte.stats import LayerStats


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
        return self.round_each(target, [grid], pull)[0]

    def round_each(
        self, target: Tensor, grids: Sequence[Grid], pull: Tensor | None = None
    ) -> list[Tensor]:
        """`round` on several grids that differ in their scales alone, all at once."""
        w = self._stats.grouped(target).to(torch.float32)
        stacked = self.order.values(w).repeat(1, len(grids), 1)
        columns = Columns(grids, tuple(stacked.shape), torch.float32, self.order)
        factor = self.U.to(torch.float32)
        rounded = diffuse(
            stacked, factor, columns, None if pull is None else pull.to(torch.float32)
        )
        parts = rounded.chunk(len(grids), 1)
        return [self.order.back(part).reshape(target.shape) for part in parts]


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
    ahead = column_major(w)
    rounded, errors = torch.empty_like(ahead), torch.empty_like(ahead)
    diagonal = U.diagonal(dim1=-2, dim2=-1).T[..., None]  # [columns, groups, 1]
    moves, seen = [(errors, U)], torch.empty_like(ahead) if pull is not None else None
    if pull is not None and seen is not None:
        moves.append((seen, -pull))

    def visit(t: int) -> None:
        now = ahead[t]
        rounded[t] = columns.round(now, first + t)
        torch.sub(now, rounded[t], out=errors[t]).div_(diagonal[t])
        if seen is not None:
            seen[t] = now

    in_turn(visit, ahead, moves)
    return row_major(rounded)
