"""GPTQ's recursion: round a column, let the columns not yet rounded absorb its error; the kernel of
the GPTQ family.

    H = R R' (R upper);   for t = 1..d:   q_t = Q( w_t + sum_s<t (w_s - q_s) R_st / R_tt )

||R' (w - q)||^2 is the error, of which column t decides the t-th term when those before it stand
and those behind it can still make theirs 0. This is the published recursion, H^-1 = U'U and
w_{t:} -= (w_t - q_t) / U_tt * U_{t,t:}, with R = U^-1: H need not be inverted. Cost: d^3 / 3 for
the factor, rows d^2 a rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.rounding.columns import Columns, Order
from subbyte.rounding.solve import Factored
from subbyte.rounding.turns import column_major, in_turn, row_major
from subbyte.stats import LayerStats


class Diffusion:
    """The recursion for one layer: the factor of H once, then any target and grid."""

    def __init__(self, stats: LayerStats, damping: float, order: Order) -> None:
        """damping: ridge on H as a share of its mean diagonal."""
        self._stats, self.factored = stats, Factored(stats, damping, order)

    def round(self, target: Tensor, grid: Grid) -> Tensor:
        """Representable values, float32 [rows, columns], for a target of that shape."""
        return self.round_each(target, [grid])[0]

    def round_each(self, target: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """`round` on several grids that differ in their scales alone, all at once."""
        w, order = self._stats.grouped(target).to(torch.float32), self.factored.order
        stacked = order.values(w).repeat(1, len(grids), 1)
        columns = Columns(grids, tuple(stacked.shape), torch.float32, order)
        parts = diffuse(stacked, self.factored.R, columns).chunk(len(grids), 1)
        return [order.back(part).reshape(target.shape) for part in parts]


def diffuse(w: Tensor, R: Tensor, columns: Columns, first: int = 0) -> Tensor:
    """Rounded columns in the order given.

    w: float32 [groups, rows, columns]; R: [groups, columns, columns]; first: number of columns of
    the grid that come before w's.
    """
    factor = (R / R.diagonal(dim1=-2, dim2=-1)[:, None]).to(torch.float32)
    wanted = column_major(w)
    ahead, moved, rounded = wanted.clone(), torch.empty_like(wanted), torch.empty_like(wanted)

    def visit(t: int) -> None:
        rounded[t] = columns.round(ahead[t], first + t)
        torch.sub(rounded[t], wanted[t], out=moved[t])

    in_turn(visit, ahead, [(moved, factor)])
    return row_major(rounded)
