"""The range with the least mean |error|^power, found by search.

    argmin over (scale, zero_point) of  sum_i importance_i |x_i - Q(x_i)|^power

Without a zero point to choose: `steps` scales up to the one that covers everything. Asymmetric
    grids with few codes
(8 or less): every zero point with `steps` scales. Wider ones: both ends are drawn in independently,
on a coarse grid of positions (9 `steps` in all) that is refined around the best. With power 2 and
the diagonal of H as importance this is the output error to first order (as in OBQ, GPTQ). Cost:
candidates x numel.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.errors import RecipeError
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range, positive

_FEW_CODES = 8
_REFINEMENTS = 4
_AROUND = (-2, -1, 0, 1, 2)
_TOGETHER = 1 << 17  # values in one operation: they stay in the cache


@dataclass(frozen=True)
class Mse(Range):
    """Search `steps` scales for the least mean |error|^power."""

    steps: int = 85
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.power < inf:
            raise RecipeError(
                f"mse: steps must be at least 1 and power above 0, got {self.steps} and "
                f"{self.power}"
            )

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        best = Best(values, importance, spec, self.power)
        if not spec.alphabet.has_zero_point or spec.alphabet.count <= _FEW_CODES:
            best.try_grids(*self._candidates(values, spec))
        else:
            self._two_ended(values, spec, best)
        return best.scale, best.zero_point

    def _candidates(self, values: Tensor, spec: GridSpec) -> tuple[Tensor, Tensor]:
        """Scales and zero points [candidates, blocks]; for each zero point `steps` scales."""
        low, high = values.amin(1), values.amax(1)
        span = torch.maximum(low.abs(), high.abs())
        first, last = spec.alphabet.positions[0], spec.alphabet.positions[-1]
        reach = (
            (last - first) / 2
            if spec.alphabet.has_zero_point
            else min((abs(end) for end in (first, last) if end), default=1.0)
        )
        largest = positive(span / reach)
        ratios = torch.tensor(
            [(k + 1) / self.steps for k in range(self.steps)], dtype=span.dtype, device=span.device
        )
        zeros = torch.tensor(list(spec.alphabet.zero_points), dtype=torch.int32, device=span.device)
        scale = (largest * ratios[:, None]).repeat(len(zeros), 1)
        return scale, zeros.repeat_interleave(self.steps)[:, None].expand_as(scale)

    def _two_ended(self, values: Tensor, spec: GridSpec, best: "Best") -> None:
        """Both ends drawn in independently: a coarse grid of positions, then finer ones around the
        best.
        """
        low, high = values.amin(1).clamp_max(0), values.amax(1).clamp_min(0)
        ends = max(2, round(self.steps**0.5 * 3))
        step = 1 / ends
        positions = [(k + 1) * step for k in range(ends)]
        first = [
            (a, b)
            for a in (positions if bool((low < 0).any()) else [1.0])
            for b in (positions if bool((high > 0).any()) else [1.0])
        ]
        around = [(i, j) for i in _AROUND for j in _AROUND if i or j]
        # of the lower and the upper end
        place = torch.ones(2, 1, len(low), dtype=low.dtype, device=low.device)
        tried = low.new_tensor(first).T[:, :, None].expand(2, -1, len(low))
        for _ in range(_REFINEMENTS + 1):
            winner = best.try_grids(*grid_of_range(low * tried[0], high * tried[1], spec))
            at = tried.gather(1, winner.clamp_min(0).expand(2, 1, -1))
            place = torch.where(winner >= 0, at, place)
            step /= 2
            tried = place + step * low.new_tensor(around).T[:, :, None]


class Best:
    """The best grid so far of every block."""

    def __init__(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec, power: float
    ) -> None:
        self._values, self._importance, self._spec, self._power = values, importance, spec, power
        self._error = torch.full(values.shape[:1], inf, device=values.device)
        # stays if all overflow
        self.scale, self.zero_point = grid_of_range(values.amin(1), values.amax(1), spec)
        self.try_grids(self.scale[None], self.zero_point[None])

    def try_grids(self, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Keep those of [candidates, blocks] that are better, the first of equals.

        Returns the number of each block's best candidate, -1 where none was better: int64 [blocks].
        Small tensors are tried on many candidates at once, for the time goes into starting
        operations there.
        """
        winner = torch.full_like(self._error, -1, dtype=torch.int64)
        together = max(1, _TOGETHER // self._values.numel())
        for start in range(0, len(scale), together):
            scales, zero_points = (
                scale[start : start + together],
                zero_point[start : start + together],
            )
            errors = self._errors(scales, zero_points)
            least = errors.amin(0)
            numbers = torch.arange(len(errors), device=errors.device)[:, None]
            first = (
                torch.where(errors == least, numbers, len(errors))
                .amin(0)
                .clamp_max(len(errors) - 1)
            )
            better = least < self._error
            self._error = torch.where(better, least, self._error)
            self.scale = torch.where(better, scales.gather(0, first[None])[0], self.scale)
            self.zero_point = torch.where(
                better, zero_points.gather(0, first[None])[0], self.zero_point
            )
            winner = torch.where(better, first + start, winner)
        return winner

    def _errors(self, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The error of each candidate in each block; infinite where it is not a number."""
        error = (
            self._values
            - quantized(self._values, self._spec, scale[:, :, None], zero_point[:, :, None])
        ).abs_()
        error = error.square_() if self._power == 2 else error.pow_(self._power)
        return (
            (error if self._importance is None else error.mul_(self._importance))
            .sum(2)
            .nan_to_num_(inf)
        )


def quantized(values: Tensor, spec: GridSpec, scale: Tensor, zero_point: Tensor) -> Tensor:
    """`Grid.quantize` for candidates: scales and zero points that broadcast to the values, no
    checks.
    """
    ladder = spec.alphabet.ladder(zero_point, spec.alphabet.given.to(values.device), values.dtype)
    return ladder.nearest(values / scale).mul_(scale)
