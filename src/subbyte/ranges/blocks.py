"""Cutting a tensor into the blocks that share a scale, and putting their scales together into a
grid.

On mixed grids the range of every row is chosen for each width from 1 to 8 bits; the squared errors
that remain decide how the bits are shared out. A row of 0 bits is its mean. On counted grids the
numbers of levels are given.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.core import Grid, GridSpec
from subbyte.core.levels import centred
from subbyte.errors import NumericsError
from subbyte.methods import Allocate, Range


@dataclass(frozen=True, eq=False)
class GridFitter:
    """A range method at work on one layer: the `methods.FitGrid` that rounding methods get.

    importance: of each weight, [rows, columns], or None; scalar: factor on every scale that the
        method chooses;
    allocate: shares bits out to the rows of a mixed grid; counts: levels of each row of a counted
        grid.
    """

    method: Range
    spec: GridSpec
    importance: Tensor | None = None
    scalar: float = 1.0
    allocate: Allocate | None = None
    counts: tuple[int, ...] | None = None

    def __call__(self, weight: Tensor) -> Grid:
        """The grid for a matrix [rows, columns]."""
        if self.counts is not None:
            grid = _fit_counted(
                self.method, weight, self.spec, self.importance, torch.tensor(self.counts)
            )
        else:
            grid = fit_grid(self.method, weight, self.spec, self.importance, self.allocate)
        return grid if self.scalar == 1 else grid.with_scale(grid.scale * self.scalar)


def fit_grid(
    method: Range,
    values: Tensor,
    spec: GridSpec,
    importance: Tensor | None = None,
    allocate: Allocate | None = None,
) -> Grid:
    """The grid that a range method chooses for a matrix.

    values: [rows, columns]; importance: of each value, same shape, or None; values of importance 0
        do not count;
    allocate: for mixed grids.
    Raises NumericsError when a value is NaN or Inf, or when there is none.
    """
    if values.numel() == 0:
        raise NumericsError(
            f"no range can be chosen: there are no values, the tensor is {list(values.shape)}"
        )
    if not bool(torch.isfinite(values).all()):
        raise NumericsError(
            f"no range can be chosen: {int((~torch.isfinite(values)).sum())} values are NaN or Inf"
        )
    values = values.to(torch.float32)
    if spec.mixed is not None:
        assert allocate is not None, "a mixed grid needs a method that allocates bits"
        return _fit_mixed(method, values, spec, importance, allocate)
    if method.weights_only:
        importance = None
    blocks, weights = _blocks(values, spec), _importance(values, importance, spec)
    if weights is not None:
        # if none counts, all do
        weights = torch.where((weights > 0).any(1, keepdim=True), weights, 1.0)
        blocks = torch.where(weights > 0, blocks, 0.0)  # 0 lies in every range
    if spec.granularity == "tensor":
        scale, zero_point = method.choose_for_tensor(blocks.reshape(values.shape), weights, spec)
    else:
        scale, zero_point = method.choose(blocks, weights, spec)
    shape = {"tensor": (), "channel": (-1, 1), "group": (values.shape[0], -1)}[spec.granularity]
    return Grid.of(spec, scale.reshape(shape), zero_point.reshape(shape))


def _fit_mixed(
    method: Range, values: Tensor, spec: GridSpec, importance: Tensor | None, allocate: Allocate
) -> Grid:
    share = (
        torch.ones_like(values)
        if importance is None
        else importance.to(torch.float32).expand_as(values)
    )
    # if none counts, all do
    share = torch.where((share > 0).any(1, keepdim=True), share, 1.0).double()
    mean, variance, grids = *_mean_and_variance(values, share), []
    distortion = [variance * share.sum(1)]
    for width in range(1, spec.bits + 1):
        grids.append(fit_grid(method, values, spec.of_width(width), importance))
        distortion.append((share * (grids[-1].quantize(values) - values).double().square()).sum(1))
    widths = allocate.bits(torch.stack(distortion, 1), variance.sqrt(), spec.mixed or 0.0)[
        :, None
    ].int()
    scale = torch.where(mean == 0, 1.0, mean.abs()).float()[:, None]
    zero_point = -mean.sign().int()[:, None]
    for width, grid in enumerate(grids, 1):
        # codes of 1 bit are counted from 0
        lowest = grid.spec.qmin - (-(2 ** (width - 1)) if spec.signed else 0)
        scale = torch.where(widths == width, grid.scale, scale)
        zero_point = torch.where(widths == width, grid.zero_point - lowest, zero_point)
    return Grid.of(spec, scale, zero_point, widths=widths)


def _fit_counted(
    method: Range, values: Tensor, spec: GridSpec, importance: Tensor | None, counts: Tensor
) -> Grid:
    scale = torch.ones(len(counts), 1, device=values.device)
    counts = counts.to(values.device)
    for count in counts.unique().tolist():
        rows = counts == count
        share = None if importance is None else importance.expand_as(values)[rows]
        scale[rows] = fit_grid(
            method, values[rows], GridSpec.level_set(centred(count)), share
        ).scale
    return Grid.of(spec, scale, counts=counts[:, None])


def _mean_and_variance(values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance of each row: float64 [rows]."""
    total = share.sum(1, keepdim=True)
    mean = (share * values).sum(1, keepdim=True) / total
    variance = (share * (values - mean).square()).sum(1, keepdim=True) / total
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(mean.abs() < tiny, 0.0, mean)[:, 0], variance[:, 0]


def _blocks(values: Tensor, spec: GridSpec) -> Tensor:
    if spec.granularity == "tensor":
        return values.reshape(1, -1)
    if spec.granularity == "channel":
        return values
    size = spec.group_size or 1
    return F.pad(values, (0, -values.shape[1] % size)).reshape(-1, size)


def _importance(values: Tensor, importance: Tensor | None, spec: GridSpec) -> Tensor | None:
    if importance is None:
        ragged = spec.granularity == "group" and values.shape[1] % (spec.group_size or 1)
        return _blocks(torch.ones_like(values), spec) if ragged else None
    return _blocks(importance.to(torch.float32).expand_as(values), spec)
