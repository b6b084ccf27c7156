"""K-means: the levels themselves are fitted to the weights, one codebook a tensor or a channel, as
granularity says.

    min over levels c and codes k of  sum_j H_jj (w_j - c_{k_j})^2

by Lloyd's algorithm from the levels of the recipe's grid (scikit-learn), so never worse than
nearest in that objective; `weighted: false` leaves out H_jj, as Banner et al. (2019) do. As many
levels as the recipe's grid has codes; the grid only starts the search, and is kept where it is
better. Mean correction (ibid., section 4): each channel's levels are moved so that its mean weight
stays, which needs a codebook a channel. Weights without input count as little as the least
important of the others. Cost: rows * d * levels an iteration.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from subbyte.core import Codebook, Grid, GridSpec, QTensor
from subbyte.errors import NumericsError
from subbyte.methods import FitGrid, Objective, Refusal, Rounding
from subbyte.stats import LayerStats

_ITERATIONS = 300


@dataclass(frozen=True)
class Kmeans(Rounding):
    """Fit a codebook. weighted: by the diagonal of H; keep_mean: move each channel's levels so that
    the mean of its weights stays.
    """

    weighted: bool = True
    keep_mean: bool = False

    objective = Objective.POWER
    fits_levels = True
    refuses = (
        Refusal(
            lambda self, spec: spec.powers,
            "kmeans: codebooks hold any numbers; scales can't be powers of two",
        ),
        Refusal(
            lambda self, spec: spec.share.block is not None,
            "kmeans: codebooks belong to a tensor or a channel; granularity can't be group",
        ),
        Refusal(
            lambda self, spec: self.keep_mean and spec.share.one_scale,
            "kmeans: keep_mean moves each channel's levels; it needs granularity channel",
        ),
        Refusal(
            lambda self, spec: spec.alphabet.varies,
            "kmeans gives every channel as many levels; it can't allocate bits to channels",
        ),
    )

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        self.check(fit.spec)
        if not bool(torch.isfinite(weight).all()):
            raise NumericsError("kmeans: the weights hold NaN or Inf")
        start = fit(weight)
        importance = self._importance(weight, stats)
        rows = [*map(fit.spec.share.blocks, (weight, importance)), start.table() * start.scale]
        fitted = [_fit(*(x.cpu().double().numpy() for x in row)) for row in zip(*rows, strict=True)]
        codebook = torch.from_numpy(np.stack(fitted)).to(weight)
        spec = GridSpec(Codebook(codebook.shape[1]), fit.spec.share)
        grid = Grid.of(spec, torch.ones_like(start.scale), own=codebook)
        rounded = QTensor.nearest(weight, grid)
        if not self.keep_mean:
            return rounded
        shift = (weight.double() - rounded.dequantize().double()).mean(1, keepdim=True).to(codebook)
        return QTensor(rounded.codes, Grid.of(spec, grid.scale, own=codebook + shift))

    def _importance(self, weight: Tensor, stats: LayerStats) -> Tensor:
        """[rows, columns], with mean 1."""
        if not self.weighted or bool(stats.dead.all()):
            return torch.ones_like(weight)
        least = stats.power[~stats.dead].min()
        spread = (
            stats.power.clamp_min(least)[:, None, :]
            .expand_as(stats.grouped(weight))
            .reshape(weight.shape)
        )
        if not bool(torch.isfinite(spread).all()):
            raise NumericsError("kmeans: the second moments of the layer's inputs hold NaN or Inf")
        return spread / spread.mean()


def _fit(values: np.ndarray, importance: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Rising levels for one row of values, as many as are given to start from."""
    distinct = np.unique(values)
    if distinct.size <= levels.size:
        return _fill(distinct, levels.size)
    from sklearn.cluster import KMeans as Lloyd  # a second to import
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        # fewer distinct levels than asked: they are filled up
        warnings.simplefilter("ignore", ConvergenceWarning)
        lloyd = Lloyd(levels.size, init=levels[:, None], n_init=1, max_iter=_ITERATIONS, tol=0.0)
        lloyd.fit(values[:, None], sample_weight=importance)
    centres = _fill(np.unique(lloyd.cluster_centers_[:, 0].astype(np.float32)), levels.size)
    return min(levels, centres, key=lambda levels: _error(values, importance, levels))


def _error(values: np.ndarray, importance: np.ndarray, levels: np.ndarray) -> float:
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
    return float((importance * (values - nearest) ** 2).sum())


def _fill(levels: np.ndarray, count: int) -> np.ndarray:
    """Rising levels, filled up to `count` with some above the largest, which no value needs."""
    step = max(float(np.abs(levels).max()), 1e-6)
    more = levels[-1] + step * np.arange(1, count - levels.size + 1)
    return np.concatenate([levels, more])
