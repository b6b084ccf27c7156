"""Rounding one column at a time, for all rows and groups at once: what every greedy method does in its inner loop."""

import torch
from torch import Tensor

from subbyte.core import Grid


class Columns:
    """A grid cut into columns.

    Values are [groups, rows, columns] here, real and unscaled; order: permutation of each group's columns
    [groups, columns], or None; column j then means the j-th of the permuted ones.
    """

    def __init__(
        self, grid: Grid, shape: tuple[int, int, int], dtype: torch.dtype, order: Tensor | None = None
    ) -> None:
        groups, rows, columns = shape
        self._spec = grid.spec

        def grouped(parameter: Tensor) -> Tensor:
            spread = grid.spread(parameter, columns).to(dtype)
            full = spread.expand(groups * rows, spread.shape[-1] if spread.ndim else 1)
            full = full.reshape(groups, rows, -1)
            if order is None or full.shape[-1] == 1:
                return full
            return full.gather(2, order[:, None, :].expand(-1, rows, -1))

        self._scale = grouped(grid.scale)
        zero = grouped(grid.zero_point)
        if self._spec.levels is None:
            self._low, self._high = self._spec.qmin - zero, self._spec.qmax - zero
        else:
            self._levels = torch.tensor(self._spec.levels, dtype=dtype, device=zero.device)
            self._thresholds = (self._levels[1:] + self._levels[:-1]) / 2

    def round(self, values: Tensor, j: int) -> Tensor:
        """Nearest representable values of column j: [groups, rows] to the same shape."""
        k = j if self._scale.shape[-1] > 1 else 0
        scale = self._scale[..., k]
        if self._spec.levels is not None:
            return self._levels[torch.bucketize(values / scale, self._thresholds)] * scale
        return torch.round(values / scale).clamp_(self._low[..., k], self._high[..., k]).mul_(scale)
