"""The path of GPFQ in Gram form: the kernel of `gpfq` and `spfq`.

    u_t = u_{t-1} + w_t X_t - q_t X_q,t       q_t = Q( <X_q,t, u_{t-1} + w_t X_t> / ||X_q,t||^2 )

Only inner products enter, so with H = X_q'X_q and G = X_q'X the argument is

    arg_t = ( sum_{j<=t} G_tj w_j  -  sum_{j<t} H_tj q_j ) / H_tt

which needs no stored activations, no inverse and no damping, and is exact for rank-deficient H.
A = W tril(G)' is one product, the rest are those of `turns`.
Cost: 3 rows d^2.

The program of Lybrand and Saab (2021) rounds the weight itself where the residual has nothing to
say, |<X_q,t, u_{t-1}>| < 1e-10: where X differs from X_q, that is another argument than the one
above, in the first column always. Here the inner product is compared with H_tt times the largest
weight, so that the unit of the inputs does not matter.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.rounding.columns import ColumnOrder, Columns, Order
from subbyte.rounding.solve import triangular
from subbyte.rounding.turns import column_major, in_turn, row_major
from subbyte.stats import LayerStats

_NOTHING = 1e-10  # share of the largest weight
Shrink = Callable[[Tensor], Tensor]
"""Changes an argument before it is rounded: the regularizers of sparse GPFQ."""
Change = Callable[[Tensor, int], Tensor]
"""Changes the argument of column t, [groups, rows]."""


def follow_path(
    weight: Tensor,
    grid: Grid,
    stats: LayerStats,
    *,
    order: Order = Order.NATURAL,
    noise: Tensor | None = None,
    shrink: Shrink | None = None,
    plain_at_zero: bool = False,
) -> Tensor:
    """Representable values, float32 [rows, columns], for a weight of that shape.

    noise: numbers in [0, 1), the weight's shape, for stochastic rounding. Columns without input are
    rounded by themselves. plain_at_zero: the rule of the program of 2021.
    """
    visits = ColumnOrder(stats, order)
    w = visits.values(stats.grouped(weight))
    H, G = visits.matrix(stats.H), visits.matrix(stats.G)
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    live = diagonal > 0
    inverse = torch.where(live, 1 / diagonal, 0.0)[:, :, None]
    before = G.tril(-1 if plain_at_zero else 0)
    arguments = (w @ (inverse * before).mT).to(torch.float32)
    arguments = torch.where(live[:, None, :], arguments, w.to(torch.float32))
    steps = (inverse * H).to(torch.float32)
    own_noise = None if noise is None else stats.grouped(noise).to(torch.float32)
    columns = Columns(grid, tuple(w.shape), torch.float32, visits, own_noise)
    change: Change = _unchanged if shrink is None else lambda argument, t: shrink(argument)
    if plain_at_zero:
        change = _plain_at_zero(w, G.diagonal(dim1=-2, dim2=-1), diagonal, change)
    return visits.back(_follow(arguments, steps, columns, change)).reshape(weight.shape)


def _unchanged(argument: Tensor, t: int) -> Tensor:
    return argument


def _plain_at_zero(w: Tensor, own: Tensor, power: Tensor, change: Change) -> Change:
    """The weights [groups, rows, columns] where inner products with the residual are 0, else their
    own share G_tt w_t / H_tt added to what they say; own, power: G_tt and H_tt, [groups, columns].
    """
    weights, ratio = column_major(w).to(torch.float32), torch.where(power > 0, own / power, 0.0)
    least = _NOTHING * weights.abs().amax()

    def changed(argument: Tensor, t: int) -> Tensor:
        silent = argument.abs() < least
        path = argument + ratio[:, t, None].to(torch.float32) * weights[t]
        return change(torch.where(silent, weights[t], path), t)

    return changed


def _follow(arguments: Tensor, steps: Tensor, columns: Columns, change: Change) -> Tensor:
    """arguments: [groups, rows, columns]; steps: H with each row divided by its diagonal."""
    ahead = column_major(arguments)
    rounded = torch.empty_like(ahead)

    def visit(t: int) -> None:
        rounded[t] = columns.round(change(ahead[t].clone(), t), t)

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
