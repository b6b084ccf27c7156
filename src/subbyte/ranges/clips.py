"""Clip search: which part of a range to keep, by any of `metrics.METRICS` (GradQuant, Choi 2022).

    c_k = start + (end - start) k / R,  k = 1 ... R
    grid(c) covers [lower * min(w, 0), upper * max(w, 0)],  lower = upper = c unless the ends are
                                                            searched apart

The range is that of a row or of the whole matrix, as the spec's share says; 0 lies on every
grid of more than one bit, which those of the original do not grant. One bit is {-s, s} where the
spec is symmetric, else {0, s} or {-s, 0}. At c = 1 the grid is min-max's. Searched is exhaustively;
ties go to the widest clip. All rows and clips are done at once; cost: R numel a metric, R numel
columns for those with a matrix in them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, Levels, PerChannel, PerTensor, Uniform
from subbyte.core.levels import odd
from subbyte.errors import NumericsError, RecipeError
from subbyte.ranges.metrics import Evidence, Metric, Trial
from subbyte.ranges.minmax import grid_of_range
from subbyte.ranges.mse import quantized

_MAX_ELEMENTS = 2**18  # of the errors of one chunk of clips: 1 MiB, near the processor
_MAX_ROUNDS = 20
_DECIMALS = 12  # of clips: 0.57, where the sum of binary fractions gives 0.5700000000000001

Score = Callable[[Tensor, Tensor], Tensor]
"""Costs [units, k] of lower and upper fractions [units, k]."""


def fractions(start: float, end: float, resolution: int) -> Tensor:
    """The clips to try: float64 [resolution], rising, `start` left out, to 12 decimals. Raises
    RecipeError when they aren't above 0.
    """
    if not 0 <= start < end or resolution < 1:
        raise RecipeError(
            f"clips must go up from 0 or more in 1 step or more, got {start:g} to {end:g} in "
            f"{resolution} steps"
        )
    steps = torch.arange(1, resolution + 1, dtype=torch.float64) / resolution
    return (start + (end - start) * steps).round(decimals=_DECIMALS)


def clip_spec(bits: int, *, symmetric: bool, per_channel: bool) -> GridSpec:
    """The grids that are searched: uniform, whole zero points where they are not symmetric; 1 bit:
    see above.
    """
    share = PerChannel() if per_channel else PerTensor()
    if bits == 1 and symmetric:
        return GridSpec(Levels(odd(1)), share)
    return GridSpec(Uniform(bits, signed=symmetric, symmetric=symmetric), share)


def clipped_grid(weight: Tensor, spec: GridSpec, lower: Tensor, upper: Tensor) -> Grid:
    """The grid of a matrix [rows, columns] at lower and upper fractions [units]: one, or one a
    row.
    """
    scale, zero_point = _grids(weight, spec, lower[:, None], upper[:, None])
    scale, zero_point = (spec.share.shaped(part, len(weight)) for part in (scale, zero_point))
    return Grid.of(spec, scale, zero_point)


def scores(
    weight: Tensor,
    spec: GridSpec,
    lower: Tensor,
    upper: Tensor,
    metrics: Sequence[Metric],
    evidence: Evidence,
) -> Tensor:
    """The cost of every clip by every metric: float64 [metrics, rows, k].

    weight: [rows, columns]; lower, upper: fractions, float64 [units, k], units being 1 or the rows
    as the spec's share says. Raises NumericsError when a weight or a metric is NaN or Inf.
    """
    if not bool(torch.isfinite(weight).all()):
        raise NumericsError(
            f"no clip can be chosen: {int((~torch.isfinite(weight)).sum())} weights are NaN or Inf"
        )
    weight = weight.float()
    rising = weight.sort(1).values
    step = max(1, _MAX_ELEMENTS // weight.numel())
    parts = []
    for low, high in zip(lower.split(step, 1), upper.split(step, 1), strict=True):
        trial = Trial(rising, *_round(weight, spec, low, high), evidence)
        parts.append(torch.stack([metric.cost(trial) for metric in metrics]))
    result = torch.cat(parts, -1)
    for metric, values in zip(metrics, result, strict=True):
        if not bool(torch.isfinite(values).all()):
            raise NumericsError(
                f"{metric} is NaN or Inf: the gradients or inputs that it reads must be finite"
            )
    return result


def best(values: Tensor, clips: Tensor) -> Tensor:
    """The clip with the least cost, the widest of equals: [units] of costs [units, k] and rising
    clips [k].
    """
    least = values == values.amin(1, keepdim=True)
    return clips[torch.where(least, torch.arange(len(clips), device=values.device), -1).amax(1)]


def part_ends(score: Score, clips: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper fractions [units], searched apart from a common one: one end at a time, the
    other fixed, in turn until neither improves. Never worse than the start; not always the best of
    all pairs.
    """
    ends = [start, start]
    cost = score(start[:, None], start[:, None])[:, 0]
    for _ in range(_MAX_ROUNDS):
        before = cost
        for moving in (0, 1):
            tried = [end[:, None].expand(-1, len(clips)) for end in ends]
            tried[moving] = clips.expand(len(start), -1)
            values = score(*tried)
            least, found = values.amin(1), best(values, clips)
            better = least < cost
            ends[moving] = torch.where(better, found, ends[moving])
            cost = torch.where(better, least, cost)
        if torch.equal(cost, before):
            break
    return ends[0], ends[1]


def _grids(weight: Tensor, spec: GridSpec, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point [units, k]."""
    positions = spec.alphabet.positions
    if spec.share.block is not None or len({b - a for a, b in pairwise(positions)}) != 1:
        raise RecipeError(
            "clips are searched for grids of a tensor or of each channel whose levels are equally "
            "far apart"
        )
    blocks = spec.share.blocks(weight)
    low, high = (
        blocks.amin(1, keepdim=True).double() * lower,
        blocks.amax(1, keepdim=True).double() * upper,
    )
    scale, zero_point = grid_of_range(low.reshape(-1), high.reshape(-1), spec)
    # zeros are as good as exact on the finest of grids
    if 0 not in positions:
        scale = torch.where(
            ((low == 0) & (high == 0)).reshape(-1), torch.finfo(torch.float32).tiny, scale
        )
    return scale.reshape(low.shape), zero_point.reshape(low.shape)


def _round(weight: Tensor, spec: GridSpec, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Errors [rows, k, columns] and levels [rows, k, count]."""
    shape = (len(weight), lower.shape[1], 1)
    scale, zero_point = (
        part[..., None].expand(shape) for part in _grids(weight, spec, lower, upper)
    )
    error = quantized(weight[:, None], spec, scale, zero_point).sub_(weight[:, None])
    return error, (torch.tensor(spec.alphabet.positions, device=weight.device) - zero_point) * scale
