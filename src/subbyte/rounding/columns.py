"""Rounding one column at a time, for all rows and groups at once: what every greedy method does in
its inner loop.
"""

from enum import StrEnum
from functools import partial

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.stats import LayerStats


class Order(StrEnum):
    """The order in which columns are visited: by decreasing power of their inputs, H_tt, or as they
    are.
    """

    DIAGONAL = "diagonal"
    NATURAL = "natural"


class ColumnOrder:
    """The order in which columns are visited: a permutation of each group's columns, or none.

    Values are [groups, rows, columns], matrices [groups, columns, columns].
    """

    def __init__(self, stats: LayerStats, order: Order) -> None:
        self.index: Tensor | None = None  # [groups, columns]
        if order == Order.DIAGONAL:
            diagonal = stats.power
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


class Given(StrEnum):
    """The inputs that the rounded layer is thought to see: the quantized network's, or the float
    one's.
    """

    QUANTIZED = "quantized"
    FLOAT = "float"

    def stats(self, stats: LayerStats) -> LayerStats:
        """Second moments as these inputs have them."""
        return stats if self is Given.QUANTIZED else stats.of_float()


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
        self._noise = noise if noise is None or order is None else order.values(noise)

        def grouped(parameter: Tensor) -> Tensor:
            spread = grid.spread(parameter, columns).to(dtype)
            full = spread.expand(groups * rows, spread.shape[-1] if spread.ndim else 1)
            full = full.reshape(groups, rows, -1)
            return full if order is None or full.shape[-1] == 1 else order.values(full)

        self._scale = grouped(grid.scale)
        zero_point = grouped(grid.zero_point).reshape(groups * rows, -1)
        # one column of zero points, or one for each column of the values
        self._zero_point = zero_point if grid.spec.alphabet.has_zero_point else zero_point[:, :1]
        self._ladder_of = partial(grid.spec.alphabet.ladder, own=grid.own, dtype=dtype)
        self._ladders = [self._ladder_of(part) for part in self._zero_point.split(1, 1)]

    def scale(self, j: int) -> Tensor:
        """Scales of column j: [groups, rows]."""
        return self._scale[..., j if self._scale.shape[-1] > 1 else 0]

    def round(self, values: Tensor, j: int) -> Tensor:
        """Representable values for column j: [groups, rows] to the same shape."""
        scale = self.scale(j)
        steps = (values / scale).reshape(-1, 1)
        ladder = self._ladders[j if len(self._ladders) > 1 else 0]
        if self._noise is None:
            rounded = ladder.nearest(steps)
        else:
            rounded = ladder.either(steps, self._noise[..., j].reshape(-1, 1))
        return rounded.reshape(values.shape).mul_(scale)

    def round_each(self, values: Tensor, j: Tensor) -> Tensor:
        """Nearest representable values where every row has a column of its own: j, values [groups,
        rows].
        """
        own = self._scale if self._scale.shape[-1] == 1 else self._scale.gather(2, j[..., None])
        scale = own[..., 0]
        steps = (values / scale).reshape(-1, 1)
        if len(self._ladders) == 1:
            ladder = self._ladders[0]
        else:
            ladder = self._ladder_of(self._zero_point.gather(1, j.reshape(-1, 1)))
        return ladder.nearest(steps).reshape(values.shape).mul_(scale)
