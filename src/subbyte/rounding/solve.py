"""Linear algebra shared by rounding methods: dead columns, damping, triangular factors, choosing the better row."""

from dataclasses import replace

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import NumericsError
from subbyte.stats import LayerStats


def damped(stats: LayerStats, damping: float) -> tuple[Tensor, Tensor]:
    """(H + d I, G + d I) in float64 with d = damping * mean of H's live diagonal, [groups, columns, columns].

    Adding d to both pulls the least-squares target to the weights themselves, not to 0. A dead column gets diagonal 1
    and nothing else, so that solves leave its weights alone.
    """
    live = ~stats.dead
    diagonal = stats.H.diagonal(dim1=-2, dim2=-1)
    ridge = damping * diagonal.sum(-1) / live.sum(-1).clamp_min(1)
    both = live[:, :, None] & live[:, None, :]
    extra = torch.diag_embed(torch.where(live, ridge[:, None], 1.0))
    return torch.where(both, stats.H, 0.0) + extra, torch.where(live[:, :, None], stats.G, 0.0) + extra


def cholesky(matrix: Tensor) -> Tensor:
    """Lower factor of symmetric positive matrices; the diagonal grows tenfold from 1e-10 of its mean until it exists.

    Raises NumericsError when even the diagonal's own size does not help (NaN, Inf).
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    for exponent in (None, *range(-10, 1)):
        jitter = 0.0 if exponent is None else 10.0**exponent
        factor: Tensor
        factor, info = torch.linalg.cholesky_ex(matrix + jitter * mean * eye)
        if not bool(info.any()):
            return factor
    raise NumericsError("the second moments of the layer's inputs hold NaN or Inf; check the calibration images")


def corrected_target(weight: Tensor, stats: LayerStats, damping: float) -> Tensor:
    """Weights that make up for the errors of earlier layers: float32 [rows, columns].

    W* = W (G + dI)' (H + dI)^-1, the least-squares solution of X_q W*' = X W'. weight: [rows, columns].
    """
    H, G = damped(stats, damping)
    target = torch.cholesky_solve(G @ stats.grouped(weight).mT, cholesky(H)).mT
    return target.reshape(weight.shape).to(torch.float32)


def matched_error(target: Tensor, rounded: Tensor, stats: LayerStats) -> Tensor:
    """(w - q)' H (w - q): float64 [rows], for [rows, columns] matrices."""
    difference = stats.grouped(target - rounded)
    return ((difference @ stats.H) * difference).sum(-1).reshape(-1)


def better_of(first: QTensor, second: QTensor, first_error: Tensor, second_error: Tensor) -> QTensor:
    """Row by row, the candidate with the lower error; ties go to the first. Both have the same spec.

    Where rows share one scale the whole matrix is chosen by the sum of the errors.
    """
    if first.grid.spec.granularity == "tensor":
        return first if first_error.sum() <= second_error.sum() else second
    take = (first_error <= second_error)[:, None]
    grid = replace(
        first.grid,
        scale=torch.where(take, first.grid.scale, second.grid.scale),
        zero_point=torch.where(take, first.grid.zero_point, second.grid.zero_point),
    )
    return QTensor(torch.where(take, first.codes, second.codes), grid)
