"""Coordinate descent on the output error, with least-squares refits of the scales: a kernel of
several methods.

For the objective q'Hq - 2 l'q, where l = G w, or H w* for a target w*:

    q_j <- Q( q_j + (l - H q)_j / H_jj )         one column after the other, all rows at once
    s   <- u'l / u'Hu,   q = s u                 the best scale for the codes' units u

(QuantEase, Behdin et al. 2023; COMQ, Zhang et al. 2025). Neither step can raise it. Unlike GPTQ's
recursion a sweep sees clipping and revisits earlier choices. Cost: 2 rows d^2 a sweep.
"""

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.rounding.columns import Columns
from subbyte.stats import LayerStats

_BLOCK = 64


def descend(linear: Tensor, start: QTensor, stats: LayerStats, sweeps: int) -> QTensor:
    """`sweeps` times: refit the scales, then visit every column; a last refit ends it.

    linear: l, float64 [groups, rows, columns]; start: codes to begin with.
    """
    steps, pulls = unit_diagonal(linear, stats)
    current = start
    for _ in range(sweeps):
        current = refit_scales(linear, current, stats)
        q = stats.grouped(current.dequantize()).to(torch.float32)
        swept = sweep(pulls, q, steps, Columns(current.grid, tuple(q.shape), torch.float32))
        codes = QTensor.nearest(swept.reshape(start.codes.shape), current.grid)
        if torch.equal(codes.codes, current.codes):
            return codes
        current = codes
    return refit_scales(linear, current, stats)


def refit_scales(linear: Tensor, rounded: QTensor, stats: LayerStats) -> QTensor:
    """Least-squares scales for fixed codes; a scale that would not be positive stays.

    linear: l, float64 [groups, rows, columns]. With several groups in a row their scales are
    refitted one after the other.
    """
    units = rounded.grid.units(rounded.codes)
    scale = rounded.grid.scale
    share = rounded.grid.spec.share
    if share.block is None:
        u = stats.grouped(units)
        fit = (u * linear).sum(-1).reshape(-1, 1)
        energy = ((u @ stats.H) * u).sum(-1).reshape(-1, 1)
        return rounded.with_scale(_positive_ratio(share.sums(fit), share.sums(energy), scale))
    scale, size = scale.clone(), share.block
    for k in range(scale.shape[1]):
        part = torch.zeros_like(units)
        part[:, k * size : (k + 1) * size] = units[:, k * size : (k + 1) * size]
        others = units * rounded.grid.spread(scale, units.shape[1]) - part * scale[:, k : k + 1]
        u = stats.grouped(part)
        uH = u @ stats.H
        fit = (u * linear).sum(-1) - (uH * stats.grouped(others)).sum(-1)
        scale[:, k] = _positive_ratio(fit.reshape(-1), (uH * u).sum(-1).reshape(-1), scale[:, k])
    return rounded.with_scale(scale)


def _positive_ratio(numerator: Tensor, denominator: Tensor, fallback: Tensor) -> Tensor:
    ratio = numerator / denominator.clamp_min(torch.finfo(torch.float64).tiny)
    sound = (denominator > 0) & (ratio > torch.finfo(torch.float32).tiny) & torch.isfinite(ratio)
    return torch.where(sound, ratio, fallback.to(torch.float64)).to(torch.float32)


def unit_diagonal(linear: Tensor, stats: LayerStats) -> tuple[Tensor, Tensor]:
    """H and l with column j divided by H_jj, float32; 0 for columns without input."""
    diagonal = stats.power[:, None, :]
    inverse = torch.where(diagonal > 0, 1 / diagonal, 0.0)
    return (stats.H * inverse).to(torch.float32), (linear * inverse).to(torch.float32)


def sweep(pulls: Tensor, q: Tensor, steps: Tensor, columns: Columns) -> Tensor:
    """One visit of every column in natural order; float32 [groups, rows, columns]. Dead columns
    keep their value.

    steps, pulls: see `unit_diagonal`.
    """
    q = q.clone()
    size = q.shape[-1]
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        slope = pulls[..., start:end] - q @ steps[..., start:end]
        for j in range(start, end):
            new = columns.round(q[..., j] + slope[..., j - start], j)
            change = new - q[..., j]
            slope -= change[..., None] * steps[:, None, j, start:end]
            q[..., j] = new
    return q


def sweep_by_row(
    pulls: Tensor, q: Tensor, steps: Tensor, columns: Columns, order: Tensor
) -> Tensor:
    """`sweep` with an order of columns for each row, int64 [groups, rows, columns]."""
    q = q.clone()
    slope = pulls - q @ steps
    groups = torch.arange(q.shape[0], device=q.device)[:, None]
    for visit in range(q.shape[-1]):
        j = order[..., visit]  # [groups, rows]
        old = q.gather(2, j[..., None])[..., 0]
        new = columns.round_each(old + slope.gather(2, j[..., None])[..., 0], j)
        slope -= (new - old)[..., None] * steps[groups, j]
        q.scatter_(2, j[..., None], new[..., None])
    return q
