"""Distances of the outputs of two runs, by row and by channel, and the bounds on them.

g       (other - own) / unit, of each value; 0 where both are equal. unit = max(scale, |own|)
row     root mean square of g over an entry of the first axis; of integers, the share that differ
drift   mean over all rows of g, and of g own / unit: of all values, and of each channel
bound   3 max(noise, median of noise) + 2^-16, of rows and drifts alike
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

FLOOR = 2.0**-16
_FACTOR = 3.0


def scale_of(output: Tensor) -> float:
    """The unit of an output's distances: the median size of its values that are finite and not 0; 1
    where there are none, and for integers.
    """
    if not output.is_floating_point():
        return 1.0
    sizes = output.double().abs()
    sizes = sizes[sizes.isfinite() & (sizes > 0)]
    return float(sizes.median()) if len(sizes) else 1.0


def bound(noise: Tensor) -> Tensor:
    """How large distances may be where they are `noise` by rounding alone; of the same shape."""
    return _FACTOR * noise.clamp_min(noise.median()) + FLOOR if len(noise) else noise


@dataclass
class Distances:
    """Distances of one run from another, of one output.

    rows: of each batch, by its number, float64; sums, counts: float64 [2, 1 + channels], of g and
    of g own / unit, over all values and over those of each channel, which `drifts` divides; empty
    for integers. largest: difference of a value.
    """

    rows: dict[int, Tensor] = field(default_factory=dict)
    sums: Tensor = field(default_factory=lambda: torch.zeros(2, 0, dtype=torch.float64))
    counts: Tensor = field(default_factory=lambda: torch.zeros(2, 0, dtype=torch.float64))
    largest: float = 0.0

    def add(self, batch: int, own: Tensor, other: Tensor, scale: float) -> None:
        """Take in a batch of the output, of both runs alike in shape."""
        whole = not own.is_floating_point()
        own, other = own.double(), other.double()
        apart = torch.where(own == other, 0.0, (other - own).abs())
        self.largest = max(self.largest, float(_by_row(apart).max()))
        if whole:
            self.rows[batch] = _by_row((own != other).double()).mean(1)
            return
        unit = own.abs().clamp_min(scale)
        gap = torch.where(own == other, 0.0, (other - own) / unit)
        gap = torch.where(own.isfinite() == other.isfinite(), gap, torch.inf).nan_to_num(torch.inf)
        self.rows[batch] = _by_row(gap).square().mean(1).sqrt()
        size = torch.where(own.isfinite(), own / unit, own.sign())
        sums = torch.stack([_by_channel(gap), _by_channel(gap * size)])
        self.sums = _added(self.sums, sums)
        self.counts = _added(self.counts, _by_channel(torch.ones_like(gap)).expand(2, -1))

    @property
    def drifts(self) -> Tensor:
        """Sizes of the means, float64: of g over all values, over each channel, then of g own /
        unit.
        """
        return (self.sums / self.counts.clamp_min(1)).abs().flatten()


def _by_row(gap: Tensor) -> Tensor:
    """[rows, numbers of a row], at least one of each."""
    rows = gap.flatten(1) if gap.ndim > 1 else gap.reshape(-1, 1)
    return rows if rows.numel() else rows.new_zeros(1, 1)


def _by_channel(gap: Tensor) -> Tensor:
    """Sums over all values and over those of each channel: [1 + channels]."""
    last = gap.movedim(1, -1) if gap.ndim > 3 else gap
    sums = last.flatten(0, -2).sum(0) if last.ndim > 1 else gap.sum().reshape(1)
    return torch.cat([sums.sum().reshape(1), sums])


def _added(own: Tensor, other: Tensor) -> Tensor:
    """The sum; where channels count samples the last batch has fewer."""
    longer, shorter = (own, other) if own.shape[1] >= other.shape[1] else (other, own)
    longer = longer.clone()
    longer[:, : shorter.shape[1]] += shorter
    return longer
