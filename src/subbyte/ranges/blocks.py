"""Cutting a tensor into the blocks that share a scale, and putting their scales together into a grid."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.core import Grid, GridSpec
from subbyte.errors import NumericsError
from subbyte.methods import Range


@dataclass(frozen=True, eq=False)
class GridFitter:
    """A range method at work on one layer: the `methods.FitGrid` that rounding methods get.

    importance: of each weight, [rows, columns], or None; scalar: factor on every scale that the method chooses.
    """

    method: Range
    spec: GridSpec
    importance: Tensor | None = None
    scalar: float = 1.0

    def __call__(self, weight: Tensor) -> Grid:
        """The grid for a matrix [rows, columns]."""
        grid = fit_grid(self.method, weight, self.spec, self.importance)
        return grid if self.scalar == 1 else grid.with_scale(grid.scale * self.scalar)


def fit_grid(method: Range, values: Tensor, spec: GridSpec, importance: Tensor | None = None) -> Grid:
    """The grid that a range method chooses for a matrix.

    values: [rows, columns]; importance: of each value, same shape, or None; values of importance 0 do not count.
    Raises NumericsError when a value is NaN or Inf.
    """
    if not bool(torch.isfinite(values).all()):
        raise NumericsError(f"no range can be chosen: {int((~torch.isfinite(values)).sum())} values are NaN or Inf")
    values = values.to(torch.float32)
    if getattr(method, "weights_only", False):
        importance = None
    blocks, weights = _blocks(values, spec), _importance(values, importance, spec)
    if weights is not None:
        weights = torch.where((weights > 0).any(1, keepdim=True), weights, 1.0)  # if none counts, all do
        blocks = torch.where(weights > 0, blocks, 0.0)  # 0 lies in every range
    for_rows = getattr(method, "choose_for_rows", None)
    if for_rows is not None and spec.granularity == "tensor":
        scale, zero_point = for_rows(values, spec)
    else:
        scale, zero_point = method.choose(blocks, weights, spec)
    shape = {"tensor": (), "channel": (-1, 1), "group": (values.shape[0], -1)}[spec.granularity]
    return Grid.of(spec, scale.reshape(shape), zero_point.reshape(shape))


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
