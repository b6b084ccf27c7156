"""The range with the least mean |error|^power, found by search.

    argmin over (scale, zero_point) of  sum_i importance_i |x_i - Q(x_i)|^power

Without a zero point to choose: `steps` scales up to the one that covers everything. Asymmetric
    grids with few codes
(8 or less): every zero point with `steps` scales. Wider ones: both ends are drawn in independently,
on a coarse grid of positions (9 `steps` in all), of which the 96 of the least expected error are
tried (what is clipped, and the mean error within a step), then around the best on finer ones. With
power 2 and the diagonal of H as importance this is the output error to first order (as in OBQ,
GPTQ). Cost: candidates x numel.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.io.numbers import Count, Positive
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range, positive

_FEW_CODES = 8
_REFINEMENTS = 4
_AROUND = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if i or j]
_LIKELY = 96
"""So many of the coarse positions are tried: those whose expected error is least."""
_TOGETHER = 1 << 17  # values in one operation: they stay in the cache
_CACHED = 1 << 15  # values of the blocks that are searched together


@dataclass(frozen=True)
class Mse(Range):
    """Search `steps` scales for the least mean |error|^power."""

    steps: Count = 85
    power: Positive = 2.0

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        rows = max(1, _CACHED // values.shape[1])
        parts = [slice(start, start + rows) for start in range(0, len(values), rows)]
        found = [
            self._search(values[part], None if importance is None else importance[part], spec)
            for part in parts
        ]
        return torch.cat([best.scale for best in found]), torch.cat(
            [best.zero_point for best in found]
        )

    def _search(self, values: Tensor, importance: Tensor | None, spec: GridSpec) -> "Best":
        """The best grids of a few blocks, which stay in the cache meanwhile."""
        best = Best(values, importance, spec, self.power)
        if not spec.alphabet.has_zero_point or spec.alphabet.count <= _FEW_CODES:
            best.try_grids(*self._candidates(values, spec))
        else:
            self._two_ended(values, spec, best)
        return best

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
        shares = low.new_tensor([(k + 1) * step for k in range(ends)])
        # of the lower and the upper end: [2, candidates, blocks]
        tried = torch.cartesian_prod(shares, shares).T[:, :, None].expand(2, -1, len(low))
        promise = best.expected(low * shares[:, None], high * shares[:, None], spec)
        ends_of = torch.stack([low, high])[:, None]
        again = ((ends_of == 0) & (tried < 1)).any(0)  # of an end at 0 one share is enough
        promise = torch.where(again, inf, promise)
        likely = promise.topk(min(_LIKELY, len(promise)), dim=0, largest=False).indices.sort(0)[0]
        tried = tried.gather(1, likely.expand(2, -1, -1))
        around = torch.tensor(_AROUND, dtype=low.dtype, device=low.device).T[:, :, None]
        place = torch.ones(2, 1, len(low), dtype=low.dtype, device=low.device)
        for _ in range(_REFINEMENTS + 1):
            winner = best.try_grids(*grid_of_range(low * tried[0], high * tried[1], spec))
            at = tried.gather(1, winner.clamp_min(0).expand(2, 1, -1))
            place = torch.where(winner >= 0, at, place)
            step /= 2
            tried = place + step * around


class Best:
    """The best grid so far of every block."""

    def __init__(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec, power: float
    ) -> None:
        self._values, self._importance, self._spec, self._power = values, importance, spec, power
        self._given = spec.alphabet.given.to(values.device)
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

    def expected(self, low: Tensor, high: Tensor, spec: GridSpec) -> Tensor:
        """Errors [n * n, blocks] that grids from each low to each high end, [n, blocks], should
        have: what they clip, and in every value the mean over a step of width d, (d/2)^p / (p + 1).
        """
        clipped_low = self._summed((low[:, :, None] - self._values).clamp_min_(0))
        clipped_high = self._summed((self._values - high[:, :, None]).clamp_min_(0))
        weight = self._values.shape[1] if self._importance is None else self._importance.sum(1)
        half = (high - low[:, None]) / (2 * (spec.alphabet.count - 1))
        within = weight * half.pow(self._power) / (self._power + 1)
        return (clipped_low[:, None] + clipped_high + within).flatten(0, 1)

    def _errors(self, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The error of each candidate in each block; infinite where it is not a number."""
        zero_point = zero_point[:, :, None].to(scale.dtype)
        ladder = self._spec.alphabet.ladder(zero_point, self._given, scale.dtype)
        scale = scale[:, :, None]
        rounded = ladder.nearest(self._values / scale).mul_(scale)
        return self._summed(torch.sub(self._values, rounded, out=rounded))

    def _summed(self, error: Tensor) -> Tensor:
        """Sums over each block of |error|^power by importance, in place."""
        error = error.square_() if self._power == 2 else error.abs_().pow_(self._power)
        error = error if self._importance is None else error.mul_(self._importance)
        return error.sum(2).nan_to_num_(inf)


def quantized(values: Tensor, spec: GridSpec, scale: Tensor, zero_point: Tensor) -> Tensor:
    """`Grid.quantize` for candidates: scales and zero points that broadcast to the values, no
    checks.
    """
    ladder = spec.alphabet.ladder(zero_point, spec.alphabet.given.to(values.device), values.dtype)
    return ladder.nearest(values / scale).mul_(scale)
