"""Rounding one column at a time, for all rows and groups at once: what every greedy method does in
its inner loop.
"""

from typing import Literal

import torch
from torch import Tensor

from subbyte.core import Grid, nearest_level, take_levels
from subbyte.stats import LayerStats

Order = Literal["diagonal", "natural"]
_ON_GRID = 1e-4  # steps; float32 noise of values that lie on the grid


class ColumnOrder:
    """In which order columns are visited: a permutation of each group's columns, or none.

    Values are [groups, rows, columns], matrices [groups, columns, columns].
    """

    def __init__(self, stats: LayerStats, order: Order) -> None:
        self.index: Tensor | None = None  # [groups, columns]
        if order == "diagonal":
            diagonal = stats.H.diagonal(dim1=-2, dim2=-1)
            self.index = diagonal.argsort(dim=-1, descending=True, stable=True)

    def values(self, values: Tensor) -> Tensor:
        """Values in the order of visits."""
        return (
            values
            if self.index is None
            else values.gather(2, self.index[:, None, :].expand_as(values))
        )

    def matrix(self, matrix: Tensor) -> Tensor:
        """A matrix with rows and columns in the order of visits."""
        if self.index is None:
            return matrix
        index = self.index
        return matrix.gather(1, index[:, :, None].expand_as(matrix)).gather(
            2, index[:, None, :].expand_as(matrix)
        )

    def back(self, values: Tensor) -> Tensor:
        """Inverse of `values`."""
        if self.index is None:
            return values
        return values.gather(2, self.index.argsort(-1)[:, None, :].expand_as(values))


class Columns:
    """A grid cut into columns.

    Values are [groups, rows, columns] here, real and unscaled; order: column j means the j-th
    visited.
    noise: numbers in [0, 1), the shape of the values, for stochastic rounding: up with the
    probability that the expected value is the value itself; None rounds to nearest.
    """

    def __init__(
        self,
        grid: Grid,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        order: ColumnOrder | None = None,
        noise: Tensor | None = None,
    ) -> None:
        groups, rows, columns = shape
        self._spec = grid.spec
        self._noise = noise if noise is None or order is None else order.values(noise)

        def grouped(parameter: Tensor) -> Tensor:
            spread = grid.spread(parameter, columns).to(dtype)
            full = spread.expand(groups * rows, spread.shape[-1] if spread.ndim else 1)
            full = full.reshape(groups, rows, -1)
            return full if order is None or full.shape[-1] == 1 else order.values(full)

        self._scale = grouped(grid.scale)
        if self._spec.uniform:
            self._low, self._high = (grouped(end - grid.zero_point) for end in grid.ends)
        else:
            self._levels = grid.levels(grid.scale.device).to(dtype)

    def scale(self, j: int) -> Tensor:
        """Scales of column j: [groups, rows]."""
        return self._scale[..., j if self._scale.shape[-1] > 1 else 0]

    def round(self, values: Tensor, j: int) -> Tensor:
        """Representable values for column j: [groups, rows] to the same shape."""
        scale = self.scale(j)
        steps = values / scale
        if not self._spec.uniform:
            return self._to_levels(steps, j) * scale
        k = j if self._low.shape[-1] > 1 else 0
        if self._noise is None:
            steps = torch.round(steps)
        else:
            whole = torch.round(steps)
            steps = torch.where(
                (steps - whole).abs() < _ON_GRID, whole, torch.floor(steps + self._noise[..., j])
            )
        return steps.clamp_(self._low[..., k], self._high[..., k]).mul_(scale)

    def round_each(self, values: Tensor, j: Tensor) -> Tensor:
        """Nearest representable values where every row has a column of its own: j, values [groups,
        rows].
        """
        own = self._scale if self._scale.shape[-1] == 1 else self._scale.gather(2, j[..., None])
        scale = own[..., 0]
        steps = values / scale
        if not self._spec.uniform:
            nearest = nearest_level(steps.reshape(-1, 1), self._levels)
            return take_levels(nearest, self._levels).reshape(steps.shape) * scale
        low, high = (
            b if b.shape[-1] == 1 else b.gather(2, j[..., None]) for b in (self._low, self._high)
        )
        return torch.round(steps).clamp_(low[..., 0], high[..., 0]).mul_(scale)

    def _to_levels(self, steps: Tensor, j: int) -> Tensor:
        flat = steps.reshape(-1, 1)
        nearest = nearest_level(flat, self._levels)
        if self._noise is None:
            return take_levels(nearest, self._levels).reshape(steps.shape)
        value = take_levels(nearest, self._levels)
        other = (nearest + torch.sign(flat - value).long()).clamp(0, self._levels.shape[1] - 1)
        gap = take_levels(other, self._levels) - value
        share = torch.where(gap == 0, 0.0, (flat - value) / torch.where(gap == 0, 1.0, gap))
        moved = self._noise[..., j].reshape(-1, 1) < torch.where(share.abs() < _ON_GRID, 0.0, share)
        return torch.where(moved, value + gap, value).reshape(steps.shape)
