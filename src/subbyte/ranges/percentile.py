"""Clip the tails: the range between two quantiles of the values, weighted by their importance.

With `percent` = 99.9 half of the 0.1 % is cut at either end; on the side of 0 nothing is cut when
no value lies beyond.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.io.numbers import Real
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range


@dataclass(frozen=True)
class Percentile(Range):
    """Keep `percent` % of the values inside the range."""

    percent: Annotated[float, Real(50, 100, above=True)] = 99.99

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        weight = torch.ones_like(values) if importance is None else importance.expand_as(values)
        order = values.argsort(1)
        values, share = values.gather(1, order), weight.gather(1, order).double().cumsum(1)
        share = share / share[:, -1:].clamp_min(torch.finfo(torch.float64).tiny)
        tail = (100 - self.percent) / 200
        last = values.shape[1] - 1
        low = (share <= tail + 1e-12).sum(1, keepdim=True).clamp_max(last)
        high = (share < 1 - tail - 1e-12).sum(1, keepdim=True).clamp_max(last)
        return grid_of_range(values.gather(1, low)[:, 0], values.gather(1, high)[:, 0], spec)
