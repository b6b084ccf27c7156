"""Stochastic: up or down at random, so that the expected value is the weight itself (Gupta et al.
2015).

    q = floor(w / scale + u),   u uniform in [0, 1)

Keeps each row's best of `draws` roundings by output error; nearest is one of the candidates unless
`fallback` is false (with one draw and no fallback the codes are unbiased). Among a hundred random
roundings of a layer about half beat nearest (Nagel et al. 2020, section 3). Objective: ||X w - X_q
q||^2. Cost: rows d^2 a draw.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.io.numbers import Count, Seed
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.columns import Columns
from subbyte.rounding.noise import row_noise
from subbyte.rounding.solve import best_of
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Stochastic(Rounding):
    """The best of `draws` random roundings of each row, by the seed."""

    draws: Count = 16
    fallback: bool = True
    seed: Seed = 0

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        candidates = [QTensor.nearest(weight, grid)] if self.fallback else []
        for draw in range(self.draws):
            values = round_at_random(weight, grid, row_noise(weight, self.seed, draw))
            candidates.append(QTensor.nearest(values, grid))
        return best_of(weight, candidates, stats)


def round_at_random(weight: Tensor, grid: Grid, noise: Tensor) -> Tensor:
    """Representable values, float32 [rows, columns], for noise in [0, 1) of that shape."""
    columns = Columns(grid, (1, *weight.shape), torch.float32, noise=noise[None])
    return torch.stack([columns.round(weight[None, :, j], j)[0] for j in range(weight.shape[1])], 1)
