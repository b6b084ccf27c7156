"""The range with the least mean |error|^power, found by search.

    argmin over (scale, zero_point) of  sum_i importance_i |x_i - Q(x_i)|^power

Symmetric grids and level sets: `steps` scales up to the one that covers everything. Asymmetric grids with few codes
(8 or less): every zero point with `steps` scales. Wider ones: both ends are drawn in independently, on a coarse grid of
positions (9 `steps` in all) that is refined around the best. With power 2 and the diagonal of H as importance this is
the output error to first order (as in OBQ, GPTQ). Cost: candidates x numel.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.errors import RecipeError
from subbyte.ranges.minmax import grid_of_range, positive

_FEW_CODES = 8
_REFINEMENTS = 4
_AROUND = (-2, -1, 0, 1, 2)


@dataclass(frozen=True)
class Mse:
    """Search `steps` scales for the least mean |error|^power."""

    steps: int = 85
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.power < inf:
            raise RecipeError(f"mse: steps must be at least 1 and power above 0, got {self.steps} and {self.power}")

    def choose(self, values: Tensor, importance: Tensor | None, spec: GridSpec) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        best = Best(values, importance, spec, self.power)
        if spec.symmetric or spec.levels is not None or spec.count <= _FEW_CODES:
            for scale, zero_point in self._candidates(values, spec):
                best.try_grid(scale, zero_point)
        else:
            self._two_ended(values, spec, best)
        return best.scale, best.zero_point

    def _candidates(self, values: Tensor, spec: GridSpec) -> list[tuple[Tensor, Tensor]]:
        low, high = values.amin(1), values.amax(1)
        fixed = spec.symmetric or spec.levels is not None
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

    def _two_ended(self, values: Tensor, spec: GridSpec, best: "Best") -> None:
        """Both ends drawn in independently: a coarse grid of positions, then finer ones around the best."""
        low, high = values.amin(1).clamp_max(0), values.amax(1).clamp_min(0)
        ends = max(2, round(self.steps**0.5 * 3))
        step = 1 / ends
        positions = [(k + 1) * step for k in range(ends)]
        below, above = torch.ones_like(low), torch.ones_like(high)
        tried = [
            (torch.full_like(low, a), torch.full_like(high, b))
            for a in (positions if bool((low < 0).any()) else [1.0])
            for b in (positions if bool((high > 0).any()) else [1.0])
        ]
        for _ in range(_REFINEMENTS + 1):
            for a, b in tried:
                better = best.try_grid(*grid_of_range(low * a, high * b, spec))
                below, above = torch.where(better, a, below), torch.where(better, b, above)
            step /= 2
            tried = [(below + i * step, above + j * step) for i in _AROUND for j in _AROUND if i or j]


class Best:
    """The best grid so far of every block."""

    def __init__(self, values: Tensor, importance: Tensor | None, spec: GridSpec, power: float) -> None:
        self._values, self._importance, self._spec, self._power = values, importance, spec, power
        self._error = torch.full(values.shape[:1], inf, device=values.device)
        self.scale, self.zero_point = grid_of_range(values.amin(1), values.amax(1), spec)  # stays if all overflow
        self.try_grid(self.scale, self.zero_point)

    def try_grid(self, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Keep it where it is better; returns where, bool [blocks]."""
        error = (self._values - quantized(self._values, self._spec, scale[:, None], zero_point[:, None])).abs_()
        error = error.square_() if self._power == 2 else error.pow_(self._power)
        error = (error if self._importance is None else error.mul_(self._importance)).sum(1)
        better = error < self._error
        self._error = torch.where(better, error, self._error)
        self.scale = torch.where(better, scale, self.scale)
        self.zero_point = torch.where(better, zero_point, self.zero_point)
        return better


def quantized(values: Tensor, spec: GridSpec, scale: Tensor, zero_point: Tensor) -> Tensor:
    """`Grid.quantize` for candidates: scales and zero points that broadcast to the values, no checks."""
    scaled = values / scale
    if spec.levels is not None:
        levels = torch.tensor(spec.levels, dtype=values.dtype, device=values.device)
        return levels[torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2)] * scale
    return scaled.round_().clamp_(spec.qmin - zero_point, spec.qmax - zero_point).mul_(scale)
