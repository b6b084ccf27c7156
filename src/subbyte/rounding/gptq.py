"""GPTQ: round a column, let the columns not yet rounded absorb its error (Frantar et al., ICLR 2023, algorithm 1).

    H^-1 = U'U (upper Cholesky);   for t = 1..d:   q_t = Q(w_t);   w_{t:} -= (w_t - q_t) / U_tt * U_{t,t:}

Objective: (w - q)' H (w - q) row by row, with H of the quantized network's inputs. Columns go by decreasing diagonal
of H unless `order` is 'natural'. Differences from the original: dead columns keep their nearest rounding (there: 0),
solves are float64, and a row is never left worse than nearest.
Cost: d^3 + rows d^2; blocks of 128 columns, so that most of it is matrix products.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.errors import RecipeError
from subbyte.methods import FitGrid
from subbyte.rounding.columns import Columns
from subbyte.rounding.solve import better_of, cholesky, damped, matched_error
from subbyte.stats import LayerStats

_BLOCK = 128
Order = Literal["diagonal", "natural"]


@dataclass(frozen=True)
class Gptq:
    """damping: ridge as a share of H's mean diagonal; order: 'diagonal' (decreasing) or 'natural'."""

    damping: float = 0.01
    order: Order = "diagonal"

    def __post_init__(self) -> None:
        if self.damping < 0 or self.order not in ("diagonal", "natural"):
            raise RecipeError(f"gptq: damping must be >= 0, order diagonal|natural; got {self.damping}, {self.order!r}")

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        nearest = QTensor.nearest(weight, grid)
        result = QTensor.nearest(diffuse(weight, grid, stats, self.damping, self.order), grid)
        errors = [matched_error(weight, q.dequantize(), stats) for q in (result, nearest)]
        return better_of(result, nearest, errors[0], errors[1])


class Diffusion:
    """GPTQ's recursion for one layer: the factors of H once, then any target and grid."""

    def __init__(self, stats: LayerStats, damping: float, order: Order) -> None:
        self._stats = stats
        H, _ = damped(stats, damping)
        self._order: Tensor | None = None
        if order == "diagonal":
            by_size = stats.H.diagonal(dim1=-2, dim2=-1).argsort(dim=-1, descending=True, stable=True)
            H = H.gather(1, by_size[:, :, None].expand_as(H)).gather(2, by_size[:, None, :].expand_as(H))
            self._order = by_size
        self._U = cholesky(torch.cholesky_inverse(cholesky(H))).mT.to(torch.float32)

    def round(self, target: Tensor, grid: Grid) -> Tensor:
        """Representable values, float32 [rows, columns], for a target of that shape."""
        w = self._stats.grouped(target).to(torch.float32)
        columns = Columns(grid, (w.shape[0], w.shape[1], w.shape[2]), torch.float32, self._order)
        if self._order is None:
            return _sweep(w, self._U, columns).reshape(target.shape)
        rounded = _sweep(w.gather(2, self._order[:, None, :].expand_as(w)), self._U, columns)
        back = self._order.argsort(-1)
        return rounded.gather(2, back[:, None, :].expand_as(rounded)).reshape(target.shape)


def diffuse(target: Tensor, grid: Grid, stats: LayerStats, damping: float, order: Order) -> Tensor:
    """GPTQ's recursion: representable values, float32 [rows, columns], for a target of that shape."""
    return Diffusion(stats, damping, order).round(target, grid)


def _sweep(w: Tensor, U: Tensor, columns: Columns) -> Tensor:
    """w: [groups, rows, columns]; U: upper factors [groups, columns, columns]."""
    w, rounded = w.clone(), torch.empty_like(w)
    size = w.shape[-1]
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        block, errors = w[..., start:end], torch.empty_like(w[..., start:end])
        factor = U[:, start:end, start:end]
        for t in range(end - start):
            q = columns.round(block[..., t], start + t)
            rounded[..., start + t] = q
            error = (block[..., t] - q) / factor[:, t, t, None]
            block[..., t:] -= error[..., None] * factor[:, None, t, t:]
            errors[..., t] = error
        w[..., end:] -= errors @ U[:, start:end, end:]
    return rounded
