"""Figures that tasks count: means, shares, relative errors, extremes, ranks."""

from math import nan, sqrt

import torch
from torch import Tensor

from subbyte.methods import Measure, Tally

_RANKED = 1024  # vectors whose pairs are ranked


def mean(measure: Measure, values: Tensor) -> Tally:
    """The mean of numbers, of any shape. Sums: of the numbers, and how many."""
    return mean_of_sum(measure, values.double().sum(), values.numel())


def mean_of_sum(measure: Measure, total: Tensor, count: float | Tensor) -> Tally:
    """The mean of so many numbers whose sum is known, on any device."""
    return Tally(measure, _pair(total, count), _mean)


def share(measure: Measure, holds: Tensor) -> Tally:
    """Percent of samples, each drawn by itself, for which something holds: bool [n]."""
    return Tally(measure, _pair(100 * holds.sum(), holds.numel()), _mean, error=_share_error)


def relative_error(measure: Measure, values: Tensor, wanted: Tensor) -> Tally:
    """||values - wanted|| / ||wanted|| over all numbers. Sums: the squares of both norms."""
    values, wanted = values.double(), wanted.double()
    counted = torch.stack([(values - wanted).square().sum(), wanted.square().sum()])
    return Tally(measure, counted, _root_ratio)


def least(measure: Measure, values: Tensor) -> Tally:
    """The smallest of numbers, one or more."""
    return Tally(measure, values.double().amin().reshape(1), _single, torch.minimum)


def rank_correlation(measure: Measure, values: Tensor, wanted: Tensor) -> Tally:
    """Spearman's correlation, over all pairs of vectors, of their cosine in one space and in the
    other: 1 where pairs are ranked alike.

    values, wanted: [n, d], [n, e]. Of more than 1,024 vectors the first are ranked.
    """
    both = torch.cat([values.flatten(1).double(), wanted.flatten(1).double()], dim=1)
    width = values[0].numel()

    def figure(kept: Tensor) -> float:
        return _spearman(_cosines(kept[:, :width]), _cosines(kept[:, width:]))

    return Tally(measure, both[:_RANKED], figure, _join_rows)


def cosines(values: Tensor, wanted: Tensor) -> Tensor:
    """Cosine of each sample's numbers with those wanted, float64 [n]; two zeros are alike."""
    a, b = values.double().flatten(1), wanted.double().flatten(1)
    above, below = (a * b).sum(1), a.norm(dim=1) * b.norm(dim=1)
    alike = (a == b).all(1).double()
    return torch.where(below > 0, above / below.clamp_min(1e-300), alike)


def _pair(total: Tensor, count: float | Tensor) -> Tensor:
    """Both as float64, where the total is: nothing waits for a device."""
    total = total.detach().double()
    return torch.stack([total, torch.as_tensor(count, device=total.device).double()])


def _mean(counted: Tensor) -> float:
    total, count = counted.tolist()
    return total / count if count else nan


def _share_error(counted: Tensor) -> float:
    """sqrt(p (100 - p) / n), in points."""
    percent = _mean(counted)
    return sqrt(max(0.0, percent * (100 - percent)) / float(counted[1]))


def _root_ratio(counted: Tensor) -> float:
    above, below = counted.tolist()
    if not below:
        return nan if above else 0.0
    return sqrt(above / below)


def _single(counted: Tensor) -> float:
    return float(counted)


def _join_rows(own: Tensor, others: Tensor) -> Tensor:
    return torch.cat([own, others[: max(0, _RANKED - len(own))]])


def _cosines(vectors: Tensor) -> Tensor:
    """Cosines of all pairs of rows; those that differ by the order of sums are equal."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    pairs: Tensor = (unit @ unit.T)[first, second]
    return pairs.round(decimals=9)


def _spearman(a: Tensor, b: Tensor) -> float:
    """NaN where a side has one rank only."""
    a, b = (ranks - ranks.mean() for ranks in (_ranks(a), _ranks(b)))
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size else nan


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, the mean rank for equal values."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks: Tensor = (ends - (counts - 1) / 2)[place]
    return ranks
