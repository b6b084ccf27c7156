"""The range with the least mean |error|^power, found by search.

    argmin over (scale, zero_point) of  sum_i importance_i |x_i - Q(x_i)|^power

Symmetric grids and level sets: `steps` scales up to the one that covers everything. Asymmetric grids with few codes
(8 or less): every zero point with `steps` scales. Wider ones: both ends are drawn in independently, `ends` positions
each. With power 2 and the diagonal of H as importance this is the output error to first order (as in OBQ, GPTQ).
Cost: candidates x numel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.errors import RecipeError
from subbyte.ranges.minmax import grid_of_range, positive

_FEW_CODES = 8


@dataclass(frozen=True)
class Mse:
    """Search `steps` scales for the least mean |error|^power."""

    steps: int = 85
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.power <= 0:
            raise RecipeError(f"mse: steps must be at least 1 and power above 0, got {self.steps} and {self.power}")

    def choose(self, values: Tensor, importance: Tensor | None, spec: GridSpec) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        best_scale, best_zero = grid_of_range(values.amin(1), values.amax(1), spec)
        best = self._error(values, importance, spec, best_scale, best_zero)
        for scale, zero_point in self._candidates(values, spec):
            error = self._error(values, importance, spec, scale, zero_point)
            better = error < best
            best = torch.where(better, error, best)
            best_scale = torch.where(better, scale, best_scale)
            best_zero = torch.where(better, zero_point, best_zero)
        return best_scale, best_zero

    def _candidates(self, values: Tensor, spec: GridSpec) -> list[tuple[Tensor, Tensor]]:
        low, high = values.amin(1), values.amax(1)
        fixed = spec.symmetric or spec.levels is not None
        if not fixed and spec.count > _FEW_CODES:
            return self._two_ended(low, high, spec)
        span = torch.maximum(low.abs(), high.abs())
        if spec.levels is not None:
            reach = min((abs(v) for v in (spec.levels[0], spec.levels[-1]) if v), default=1.0)
        else:
            reach = max(1.0, min(-spec.qmin, spec.qmax) if spec.signed else spec.qmax)
        zero_points = [0] if fixed else range(spec.qmin, spec.qmax + 1)
        if not fixed:
            reach = (spec.qmax - spec.qmin) / 2
        ratios = [(k + 1) / self.steps for k in range(self.steps)]
        largest = positive(span / reach)
        return [
            (largest * ratio, torch.full_like(largest, zero, dtype=torch.int32))
            for zero in zero_points
            for ratio in ratios
        ]

    def _two_ended(self, low: Tensor, high: Tensor, spec: GridSpec) -> list[tuple[Tensor, Tensor]]:
        one_sided = bool((low >= 0).all()) or bool((high <= 0).all())
        ends = self.steps if one_sided else max(2, round(self.steps**0.5 * 2))
        ratios = [0.2 + 0.8 * (k + 1) / ends for k in range(ends)]
        below = ratios if bool((low < 0).any()) else [1.0]
        above = ratios if bool((high > 0).any()) else [1.0]
        return [grid_of_range(low * a, high * b, spec) for a in below for b in above]

    def _error(self, values: Tensor, importance: Tensor | None, spec: GridSpec, scale: Tensor, zero: Tensor) -> Tensor:
        error = (values - _quantize(values, spec, scale[:, None], zero[:, None])).abs_()
        error = error.square_() if self.power == 2 else error.pow_(self.power)
        return (error if importance is None else error.mul_(importance)).sum(1)


def _quantize(values: Tensor, spec: GridSpec, scale: Tensor, zero_point: Tensor) -> Tensor:
    """`Grid.quantize` for candidates: one scale a row, no checks."""
    scaled = values / scale
    if spec.levels is not None:
        levels = torch.tensor(spec.levels, dtype=values.dtype, device=values.device)
        return levels[torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2)] * scale
    return scaled.round_().clamp_(spec.qmin - zero_point, spec.qmax - zero_point).mul_(scale)
