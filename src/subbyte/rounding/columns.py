"""Rounding one column at a time, for all rows and groups at once: what every greedy method does in
its inner loop.
"""

from collections.abc import Sequence
from copy import copy
from enum import StrEnum
from functools import partial

import torch
from torch import Tensor

from subbyte.core import Grid
from subbyte.core.ladders import Ladder
from subbyte.rounding.turns import column_major
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
    visited. Several grids that differ in their scales alone have their rows side by side in every
    group.
    noise: numbers in [0, 1), the shape of the values, for stochastic rounding: up with the
    probability that the expected value is the value itself; None rounds to nearest.
    """

    def __init__(
        self,
        grid: Grid | Sequence[Grid],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        order: ColumnOrder | None = None,
        noise: Tensor | None = None,
    ) -> None:
        grids = [grid] if isinstance(grid, Grid) else grid
        groups, rows, columns = shape
        self._noise = noise if noise is None or order is None else order.values(noise)

        def grouped(parameter: Tensor) -> Tensor:
            spread = grids[0].spread(parameter, columns).to(dtype)
            each = groups * rows // len(grids)
            full = spread.expand(each, spread.shape[-1] if spread.ndim else 1)
            full = full.reshape(groups, rows // len(grids), -1)
            return full if order is None or full.shape[-1] == 1 else order.values(full)

        self.scales = column_major(torch.cat([grouped(each.scale) for each in grids], 1))
        """The scales of all columns: [1 or columns, groups, rows], each column in one piece."""
        # one column of zero points, or one for each column of the values
        zero_points = torch.cat([grouped(each.zero_point) for each in grids], 1)
        alphabet, own = grids[0].spec.alphabet, grids[0].own
        zero_points = zero_points if alphabet.has_zero_point else zero_points[..., :1]
        if len(own) > 1:  # numbers of each row's own
            own = own.reshape(groups, -1, own.shape[1]).repeat(1, len(grids), 1)
        self._alphabet, self._dtype = alphabet, dtype
        self._lay_out(zero_points, own)

    def _lay_out(self, zero_points: Tensor, own: Tensor) -> None:
        """Make the ladders of columns. zero_points: [groups, rows, 1 or columns]; own: [groups,
        rows, n], or what all rows have in common.
        """
        self._parts = zero_points, own
        flat = own.flatten(0, 1) if own.ndim == 3 else own
        self._zero_point = zero_points.flatten(0, 1)
        self._ladder_of = partial(self._alphabet.ladder, own=flat, dtype=self._dtype)
        self._ladders = [self._ladder_of(part) for part in self._zero_point.split(1, 1)]

    def of_rows(self, rows: Tensor) -> "Columns":
        """Those of some rows of every group, int64 [n]; of grids that round to nearest."""
        taken, (zero_points, own) = copy(self), self._parts
        taken.scales = self.scales.index_select(2, rows)
        taken._lay_out(zero_points[:, rows], own[:, rows] if own.ndim == 3 else own)
        return taken

    def scale(self, j: int) -> Tensor:
        """Scales of column j: [groups, rows]."""
        return self.scales[j if len(self.scales) > 1 else 0]

    def round(self, values: Tensor, j: int) -> Tensor:
        """Representable values for column j: [groups, rows] to the same shape."""
        scale = self.scale(j)
        steps, ladder = (values / scale).reshape(-1, 1), self.ladder(j)
        if self._noise is None:
            rounded = ladder.nearest(steps)
        else:
            rounded = ladder.either(steps, self._noise[..., j].reshape(-1, 1))
        return rounded.reshape(values.shape).mul_(scale)

    def ladder(self, j: int) -> Ladder:
        """The numbers of column j in steps of its scale, for values [groups * rows, 1]."""
        return self._ladders[j if len(self._ladders) > 1 else 0]

    def ladder_of_rows(self, rows: Tensor) -> Ladder:
        """The numbers of some rows, int64 [n], of groups * rows, that have one scale each, for
        values [n, columns].
        """
        zero_points, own = self._parts
        own = own.flatten(0, 1)[rows] if own.ndim == 3 else own
        return self._alphabet.ladder(zero_points.flatten(0, 1)[rows], own, self._dtype)

    def round_each(self, values: Tensor, j: Tensor) -> Tensor:
        """Nearest representable values where every row has a column of its own: j, values [groups,
        rows].
        """
        scale = self.scales[0] if len(self.scales) == 1 else self.scales.gather(0, j[None])[0]
        steps = (values / scale).reshape(-1, 1)
        if len(self._ladders) == 1:
            ladder = self._ladders[0]
        else:
            ladder = self._ladder_of(self._zero_point.gather(1, j.reshape(-1, 1)))
        return ladder.nearest(steps).reshape(values.shape).mul_(scale)
