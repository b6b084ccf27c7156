"""Clip at a number of standard deviations from the mean:  [mean - width sigma, mean + width sigma].

Never beyond the values, and 0 always belongs to the range. Symmetric grids reach the further of the
two ends.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.io.numbers import Positive
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range, positive


@dataclass(frozen=True)
class Sigma(Range):
    """Keep what lies within `width` standard deviations of the mean."""

    width: Positive = 3.0
    closed_form = True

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        low, high = values.amin(1), values.amax(1)
        peak = positive(torch.maximum(low.abs(), high.abs()))
        x = (values / peak[:, None]).double()
        weight = torch.ones_like(x) if importance is None else importance.expand_as(x).double()
        total = weight.sum(1)
        mean = (x * weight).sum(1) / total
        deviation = (((x - mean[:, None]).square() * weight).sum(1) / total).sqrt()
        bottom, top = (mean - self.width * deviation) * peak, (mean + self.width * deviation) * peak
        return grid_of_range(
            torch.maximum(bottom, low.double()), torch.minimum(top, high.double()), spec
        )
