"""The path of GPFQ in Gram form: the kernel of `gpfq` and `spfq`.

    u_t = u_{t-1} + w_t X_t - q_t X_q,t       q_t = Q( <X_q,t, u_{t-1} + w_t X_t> / ||X_q,t||^2 )

Only inner products enter, so with H = X_q'X_q and G = X_q'X the argument is

    arg_t = ( sum_{j<=t} G_tj w_j  -  sum_{j<t} H_tj q_j ) / H_tt

which needs no stored activations, no inverse and no damping, and is exact for rank-deficient H.
A = W tril(G)' is one product, the rest are those of `turns`.
Cost: 3 rows d^2.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.rounding.columns import ColumnOrder, Columns, Order
from subbyte.rounding.solve import triangular
from subbyte.rounding.turns import column_major, in_turn, row_major
from subbyte.stats import LayerStats

Shrink = Callable[[Tensor], Tensor]
"""Changes an argument before it is rounded: the regularizers of sparse GPFQ."""


def follow_path(
    weight: Tensor,
    grid: Grid,
    stats: LayerStats,
    *,
    order: Order = Order.NATURAL,
    noise: Tensor | None = None,
    shrink: Shrink | None = None,
) -> Tensor:
    """Representable values, float32 [rows, columns], for a weight of that shape.

    noise: numbers in [0, 1), the weight's shape, for stochastic rounding. Columns without input are
    rounded by themselves.
    """
    visits = ColumnOrder(stats, order)
    w = visits.values(stats.grouped(weight))
    H, G = visits.matrix(stats.H), visits.matrix(stats.G)
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    live = diagonal > 0
    inverse = torch.where(live, 1 / diagonal, 0.0)[:, :, None]
    arguments = (w @ (inverse * G.tril()).mT).to(torch.float32)
    arguments = torch.where(live[:, None, :], arguments, w.to(torch.float32))
    steps = (inverse * H).to(torch.float32)
    own_noise = None if noise is None else stats.grouped(noise).to(torch.float32)
    columns = Columns(grid, tuple(w.shape), torch.float32, visits, own_noise)
    return visits.back(_follow(arguments, steps, columns, shrink)).reshape(weight.shape)


def _follow(arguments: Tensor, steps: Tensor, columns: Columns, shrink: Shrink | None) -> Tensor:
    """arguments: [groups, rows, columns]; steps: H with each row divided by its diagonal."""
    ahead = column_major(arguments)
    rounded = torch.empty_like(ahead)

    def visit(t: int) -> None:
        argument = ahead[t].clone()
        rounded[t] = columns.round(argument if shrink is None else shrink(argument), t)

    in_turn(visit, ahead, [(rounded, steps.mT)])
    return row_major(rounded)


def align(weight: Tensor, stats: LayerStats, sweeps: int) -> Tensor:
    """Real weights a with X_q a near X w: float32 [rows, columns].

    The first sweep follows the path without rounding, the others are Gauss-Seidel on min_a ||X w -
    X_q a||^2:
    tril(H) a <- G w - triu(H, 1) a. Columns without input keep their weights.
    """
    live = ~stats.dead
    both = live[:, :, None] & live[:, None, :]
    H = torch.where(both, stats.H, 0.0)
    lower = H.tril() + torch.diag_embed((~live).to(H.dtype))
    w = stats.grouped(weight).mT  # [groups, columns, rows]

    def solve(right: Tensor) -> Tensor:
        return triangular(lower, torch.where(live[:, :, None], right, w), upper=False)

    a = solve(stats.G.tril() @ w)
    for _ in range(sweeps - 1):
        a = solve(stats.G @ w - H.triu(1) @ a)
    return a.mT.reshape(weight.shape).to(torch.float32)
