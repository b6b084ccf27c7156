"""Analytical clipping: the range with the least expected squared error if values were Laplace's or
Gauss's (ACIQ).

    asymmetric, both signs     [mean - alpha, mean + alpha],  alpha = W(3 n^2) b  or  gauss_alpha(n)
                                                              sigma
    without a zero point       the scale with the least expected error of their own levels at this
                               mean
    one sign, after a ReLU     [0, alpha(mean)]: the least expected error given that values below 0
                               became 0

b = E|x - mean|, n the number of steps: see `stats.priors`. The range always holds 0 and never goes
beyond the values. After a ReLU neither mean nor spread can be seen; both follow from the mean and
the standard deviation of the values that are not 0. (The share of zeros tells the mean as well, but
misleads by far where zeros have other causes, such as dead channels; on 50,000 draws of the prior
both are within 2 % of the least error.)

With codes of 16 bits the paper's closed forms serve all cases: their error is below what can be
seen, and the search for the exact optimum would take half a minute.

Differs from the authors' code: the number of steps, the ReLU's mean, no range beyond the values,
the prior chosen by the error on the values. `compat` has the paper's constants (n = 2^M; the mean
before a ReLU taken as 0).
Cost: a few passes over the values; with `auto` three quantizations more.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.errors import RecipeError
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range, positive
from subbyte.ranges.mse import Best
from subbyte.stats.priors import PRIORS, Prior, alpha, best_scale, mean_of_ratio, positive_part

_NODES = 65
_JUMP = 1.2
_MANY = 1024  # levels, from which on closed forms do
_FURTHEST = 8.0  # mean of values of both signs in units of their spread; in proportion beyond


@dataclass(frozen=True)
class Aciq(Range):
    """Clip where the prior says: laplace or gauss; auto: per block the better of them, or min-max,
    on the values.
    """

    prior: Literal["auto", "laplace", "gauss"] = "auto"
    compat: bool = False

    def __post_init__(self) -> None:
        if self.prior not in ("auto", *PRIORS):
            raise RecipeError(f"aciq: prior must be auto, laplace or gauss, got {self.prior!r}")

    @property
    def closed_form(self) -> bool:
        """See `methods.Range`: nothing is searched for with a given prior."""
        return len(self._candidates) == 1

    @property
    def _candidates(self) -> tuple[Prior, ...]:
        """The priors to choose among; the paper has Laplace's alone."""
        if self.prior != "auto":
            return (self.prior,)
        return ("laplace",) if self.compat else tuple(PRIORS)

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        if self.closed_form:
            return _clip(values, importance, spec, self._candidates[0], self.compat)
        best = Best(values, importance, spec, power=2.0)  # of min-max, to begin with
        for prior in self._candidates:
            scale, zero_point = _clip(values, importance, spec, prior)
            best.try_grids(scale[None], zero_point[None])
        return best.scale, best.zero_point


def _clip(
    values: Tensor, importance: Tensor | None, spec: GridSpec, prior: Prior, compat: bool = False
) -> tuple[Tensor, Tensor]:
    """Scale and zero point; no branch depends on the values."""
    low, high = values.amin(1), values.amax(1)
    peak = positive(torch.maximum(low.abs(), high.abs()))
    x = values / peak[:, None]  # squares of very large and very small values would not fit
    weight = torch.ones_like(x) if importance is None else importance.expand_as(x)
    mean, spread = _moments(x, weight, prior)
    first, ratio = _seen(x.abs(), weight)
    one_sided, below = (low >= 0) | (high <= 0), high <= 0
    above, mirrored = _sides(prior, spec, compat)
    place = ratio.clamp(0, 1) * (_NODES - 1)
    side = first * torch.where(below, _look_up(mirrored, place), _look_up(above, place))
    if not spec.alphabet.has_zero_point:
        offset = mean / spread
        signed = _both_signs(prior, spec.alphabet.positions, compat)
        place = ((offset / _FURTHEST).clamp(-1, 1) + 1) / 2 * (_NODES - 1)
        both = spread * _look_up(signed, place) * (offset.abs() / _FURTHEST).clamp_min(1)
        scale = torch.where(one_sided, side, both) * peak
        widest, zero_point = grid_of_range(low, high, spec)
        return positive(torch.minimum(scale.float(), widest)), zero_point
    count = spec.alphabet.count
    top = side * (count - 1)
    reach = spread * alpha(prior, count if compat else count - 1)
    bottom = torch.where(one_sided, torch.where(below, -top, 0.0), mean - reach)
    top = torch.where(one_sided, torch.where(below, 0.0, top), mean + reach)
    return grid_of_range(
        torch.maximum(bottom * peak, low.double()), torch.minimum(top * peak, high.double()), spec
    )


def _moments(x: Tensor, weight: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """Mean and b or sigma of each row, float64 [blocks]; a spread of 0 is said to be 1."""
    total = weight.sum(1, dtype=torch.float64)
    mean = (x * weight).sum(1, dtype=torch.float64) / total
    return mean, positive(PRIORS[prior].spread(x - mean[:, None], weight, total))


def _seen(size: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the sizes that are not 0, and their standard deviation over it, float64 [blocks]."""
    weight = weight * (size > 0)
    total = positive(weight.sum(1, dtype=torch.float64))
    first = positive((size * weight).sum(1, dtype=torch.float64) / total)
    away = size / first[:, None] - 1
    return first, ((away.square() * weight).sum(1) / total).sqrt()


def _look_up(table: tuple[float, ...], place: Tensor) -> Tensor:
    """Linear interpolation in a table at places from 0 to its length - 1.

    With few levels and a mean far from 0 the best scale puts a level at the mean, and jumps to put
    the next one there: where neighbours are far apart the nearer one is taken, as what lies between
        is worse than both.
    """
    numbers = torch.tensor(table, dtype=place.dtype, device=place.device)
    below = place.floor().clamp(0, len(table) - 2).long()
    low, high = numbers[below], numbers[below + 1]
    share = place - below
    jump = torch.maximum(low, high) > _JUMP * torch.minimum(low, high)
    return torch.lerp(low, high, torch.where(jump, share.round(), share))


def _sides(
    prior: Prior, spec: GridSpec, compat: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scales for values above 0, and for values below it, in units of the mean of the sizes that
    are not 0, over their ratio from 0 to 1.
    """
    levels = spec.alphabet.positions
    if spec.alphabet.has_zero_point:
        counted = _one_sided(prior, tuple(level - levels[0] for level in levels), compat)
        return counted, counted
    mirrored = tuple(-level for level in reversed(levels))
    return _one_sided(prior, levels, compat), _one_sided(prior, mirrored, compat)


@lru_cache(maxsize=128)
def _both_signs(prior: Prior, levels: tuple[float, ...], compat: bool) -> tuple[float, ...]:
    """Scales over the mean of values of both signs, both in units of their spread, from -8 to 8."""
    means = [_FURTHEST * (2 * k / (_NODES - 1) - 1) for k in range(_NODES)]
    if not compat and len(levels) < _MANY:
        return tuple(best_scale(prior, levels, mean) for mean in means)
    span, reach = levels[-1] - levels[0], alpha(prior, len(levels))
    return tuple(2 * (abs(mean) + reach) / span for mean in means)


@lru_cache(maxsize=128)
def _one_sided(prior: Prior, levels: tuple[float, ...], compat: bool) -> tuple[float, ...]:
    ratios = [k / (_NODES - 1) for k in range(_NODES)]
    if compat or len(levels) >= _MANY:
        reach = alpha(prior, sum(level >= 0 for level in levels) or 1, one_sided=True) / max(
            levels[-1], 1
        )
        return tuple(reach * PRIORS[prior].spread_of_half(ratio) for ratio in ratios)
    means = [mean_of_ratio(prior, max(ratio, ratios[1] / 4)) for ratio in ratios]
    return tuple(
        best_scale(prior, levels, m, one_sided=True) / positive_part(prior, m)[0] for m in means
    )
