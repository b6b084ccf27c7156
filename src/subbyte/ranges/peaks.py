"""The steps of GPFQ's two alphabets, without any search.

    rowmax   R = mean over rows of quantile_p |w|        Zhang, Zhou, Saab 2023, eq. 32 with p = 1;
                                                         their --percentile
    median   R = median |w|                              Lybrand, Saab 2021

and the grid's outermost level stands for R. The factor C of both papers is `weights.scalar`. With
one scale a tensor `rowmax` takes the mean over the rows of the matrix; with a scale a channel or
group each has its own R. Only the sizes of the weights enter, not what they multiply: these are no
ranges for activations.
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
class RowMax(Range):
    """Reach the mean over rows of each row's largest weight, or of a quantile (percentile, 0 to 1)
    of their sizes.
    """

    percentile: Annotated[float, Real(0, 1, above=True)] = 1.0
    weights_only = True

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; of the importance only counts whether it is 0."""
        return _reaching(quantile(values.abs(), self.percentile, importance), values, spec)

    def choose_for_tensor(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`."""
        peak = quantile(values.abs(), self.percentile).mean()
        return _reaching(peak[None], values.reshape(1, -1), spec)


@dataclass(frozen=True)
class Median(Range):
    """Reach the median size of the weights; needs a scalar well above 1."""

    weights_only = True

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; of the importance only counts whether it is 0."""
        return _reaching(quantile(values.abs(), 0.5, importance), values, spec)


def quantile(sizes: Tensor, share: float, importance: Tensor | None = None) -> Tensor:
    """Quantile of each row of non-negative numbers with linear interpolation: [rows] of [rows, n].

    Numbers of importance 0 are left out.
    """
    count = torch.full((len(sizes), 1), sizes.shape[1], device=sizes.device)
    if importance is not None:
        counts = (importance > 0).expand_as(sizes)
        sizes, count = (
            torch.where(counts, sizes, torch.inf),
            counts.sum(1, keepdim=True).clamp_min(1),
        )
    rising = sizes.sort(1).values
    place = share * (count - 1).double()
    below = place.floor().long()
    above = torch.minimum(below + 1, count - 1)
    low, high = rising.gather(1, below), rising.gather(1, above)
    return torch.lerp(low.double(), high.double(), place - below)[:, 0].to(sizes.dtype)


def _reaching(peak: Tensor, values: Tensor, spec: GridSpec) -> tuple[Tensor, Tensor]:
    """Scale and zero point that reach `peak` on both sides, or on the only side that has values."""
    low, high = (values < 0).any(1), (values > 0).any(1)
    return grid_of_range(torch.where(low, -peak, 0.0), torch.where(high, peak, 0.0), spec)
