"""Linear algebra shared by rounding methods: dead columns, damping, triangular factors, choosing
the better row.
"""

from dataclasses import replace

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import NumericsError
from subbyte.io.repeatable import one_thread
from subbyte.rounding.columns import ColumnOrder, Order
from subbyte.stats import LayerStats

_POWER_STEPS = 30
_SPOILT = "the second moments of the layer's inputs hold NaN or Inf; check the calibration images"
_NOISE = 1e-9


def mean_ridge(stats: LayerStats, share: float) -> Tensor:
    """Share * mean of H's live diagonal: float64 [groups]."""
    live = (~stats.dead).sum(-1).clamp_min(1)
    return share * stats.power.sum(-1) / live


def norm_ridge(stats: LayerStats, share: float) -> Tensor:
    """Share * largest eigenvalue of H, by power iteration: float64 [groups]."""
    return share * largest_eigenvalue(stats.H)


def largest_eigenvalue(H: Tensor) -> Tensor:
    """The largest eigenvalue of symmetric non-negative matrices, from below, by power iteration
    from their diagonals: float64 [groups].
    """
    vector = H.diagonal(dim1=-2, dim2=-1)[..., None] + torch.finfo(H.dtype).tiny
    for _ in range(_POWER_STEPS):
        vector = vector / vector.norm(dim=-2, keepdim=True)
        vector = H @ vector + torch.finfo(H.dtype).tiny
    size: Tensor = torch.linalg.vector_norm(vector, dim=-2)[..., 0]
    return size


def ridges(stats: LayerStats, ridge: Tensor) -> Tensor:
    """The numbers to add to the diagonals of H and G, float64 [groups, columns], for ridges d
    [groups].

    Adding d to both pulls the least-squares target to the weights themselves, not to 0. A dead
    column gets 1, so that solves leave its weights alone: nothing else stands in its row of either.
    """
    return torch.where(stats.dead, 1.0, ridge[:, None])


def damped(matrix: Tensor, diagonal: Tensor) -> Tensor:
    """A copy with numbers added to its diagonal: [groups, columns, columns] and [groups,
    columns].
    """
    result = matrix.clone()
    result.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return result


def cholesky(matrix: Tensor) -> Tensor:
    """Lower factor of symmetric positive matrices; the diagonal grows tenfold from 1e-10 of its
    mean until it exists.

    Raises NumericsError when even the diagonal's own size does not help (NaN, Inf).
    """
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    factor, info = _factor(matrix)
    for exponent in range(-10, 1):
        if not bool(info.any()):
            return factor
        jitter = (10.0**exponent * mean).expand(matrix.shape[:-1])
        factor, info = _factor(damped(matrix, jitter))
    if bool(info.any()):
        raise NumericsError(_SPOILT)
    return factor


def _factor(matrix: Tensor) -> tuple[Tensor, Tensor]:
    with one_thread():
        factor, info = torch.linalg.cholesky_ex(matrix)
    return factor, info


def inverted(matrix: Tensor) -> Tensor:
    """The inverse of symmetric positive matrices; see `cholesky`."""
    factor = cholesky(matrix)
    with one_thread():
        return torch.cholesky_inverse(factor)


def upper_factor(matrix: Tensor) -> Tensor:
    """Upper R with R R' = H for symmetric positive matrices H; see `cholesky`."""
    return cholesky(matrix.flip(-2, -1)).flip(-2, -1)


def solved(R: Tensor, right: Tensor) -> Tensor:
    """X with X R R' = B, for B [groups, rows, columns]."""
    half = triangular(R.mT, right, upper=False, left=False)
    return triangular(R, half, upper=True, left=False)


def triangular(factor: Tensor, right: Tensor, *, upper: bool, left: bool = True) -> Tensor:
    """X with A X = B, or X A = B where A is not on the left, for triangular A."""
    with one_thread():
        solution: Tensor = torch.linalg.solve_triangular(factor, right, upper=upper, left=left)
    return solution


class Factored:
    """(H + dI) of a layer in an order of visits, as R R' with upper R: what is solved for with it,
    and how columns follow from one another.
    """

    def __init__(self, stats: LayerStats, damping: float, order: Order) -> None:
        """damping: the ridge d as a share of H's mean diagonal."""
        self.order, self._stats = ColumnOrder(stats, order), stats
        self._diagonal = ridges(stats, mean_ridge(stats, damping))
        self.R = upper_factor(self.order.matrix(damped(stats.H, self._diagonal)))

    def target(self, weight: Tensor) -> Tensor:
        """See `corrected_target`."""
        w = self._stats.grouped(weight)
        right = self.order.values(w @ self._stats.G.mT + w * self._diagonal[:, None])
        found = self.order.back(solved(self.R, right)).to(torch.float32)
        return found.reshape(weight.shape).contiguous()


def corrected_target(weight: Tensor, stats: LayerStats, damping: float) -> Tensor:
    """Weights that make up for the errors of earlier layers: float32 [rows, columns].

    W* = W (G + dI)' (H + dI)^-1, the least-squares solution of X_q W*' = X W'. weight: [rows,
    columns]; damping: the ridge d as a share of H's mean diagonal.
    """
    return Factored(stats, damping, Order.NATURAL).target(weight)


def matched_error(target: Tensor, rounded: Tensor, stats: LayerStats) -> Tensor:
    """(w - q)' H (w - q): float64 [rows], for [rows, columns] matrices."""
    difference = stats.grouped(target - rounded)
    return ((difference @ stats.H) * difference).sum(-1).reshape(-1)


def better_of(
    first: QTensor, second: QTensor, first_error: Tensor, second_error: Tensor
) -> QTensor:
    """Row by row, the candidate with the lower error; ties go to the first.

    Where rows share one scale or a budget of bits, or the grids have other numbers of their own,
    the whole matrix is chosen by the sum of the errors.
    """
    return _chosen(first, second, _takes_first(first, second, first_error, second_error))


def _takes_first(
    first: QTensor, second: QTensor, first_error: Tensor, second_error: Tensor
) -> Tensor:
    """Whether `better_of` takes the first one in each row: bool [rows]."""
    one, other = first.grid, second.grid
    if one.spec.share.one_scale or one.spec != other.spec or not torch.equal(one.own, other.own):
        return (first_error.sum() <= second_error.sum()).expand(first_error.shape)
    return first_error <= second_error


def _chosen(first: QTensor, second: QTensor, take: Tensor) -> QTensor:
    """The rows of the first where it is taken, those of the second elsewhere; all of one where rows
    can't be mixed.
    """
    if bool(take.all()):
        return first
    if not bool(take.any()):
        return second
    take = take[:, None]
    grid = replace(
        first.grid,
        scale=torch.where(take, first.grid.scale, second.grid.scale),
        zero_point=torch.where(take, first.grid.zero_point, second.grid.zero_point),
    )
    return QTensor(torch.where(take, first.codes, second.codes), grid)


def best_of(weight: Tensor, candidates: list[QTensor], stats: LayerStats) -> QTensor:
    """Row by row, the candidate with the least output error; the first of equals.

    A later candidate must gain more than float64 noise. Columns without input keep their nearest
    codes. Raises NumericsError where the statistics hold NaN or Inf.
    """
    error_of = stats.judge(weight)
    margin = _NOISE * error_of.power
    best, error = candidates[0], error_of(candidates[0].dequantize())
    if not bool(torch.isfinite(margin + error).all()):
        raise NumericsError(_SPOILT)
    for candidate in candidates[1:]:
        its = error_of(candidate.dequantize())
        take = _takes_first(best, candidate, error - margin, its)
        best, error = _chosen(best, candidate, take), torch.where(take, error, its)
    return _dead_nearest(best, weight, stats)


def _dead_nearest(rounded: QTensor, weight: Tensor, stats: LayerStats) -> QTensor:
    """Weights that see no input keep their nearest codes on the scales chosen for the others."""
    dead = stats.dead[:, None, :].expand_as(stats.grouped(weight)).reshape(weight.shape)
    return replace(rounded, codes=torch.where(dead, rounded.grid.encode(weight), rounded.codes))
