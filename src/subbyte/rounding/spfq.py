"""SPFQ: align in real numbers first, then follow the path with stochastic rounding (Zhang, Saab
2023).

    phase 1   a <- `order` sweeps of Gauss-Seidel on min_a ||X w - X_q a||^2, the first one along
              the path
    phase 2   q_t = Q_stochastic( a_t + <X_q,t, sum_{j<t} (a_j - q_j) X_q,j> / ||X_q,t||^2 )

The grid is fitted to the aligned weights. With one sweep and rounding to nearest this is GPFQ.
Objective:
||X w - X_q q||^2; a row that nearest would serve better is rounded to nearest, unless `fallback` is
false: random roundings are right on average, which such a choice is not.
Differences from the authors' code: grouped convolutions are aligned group by group (there: all with
the first group's inputs). Cost: 2 rows d^2 a sweep, and GPFQ's.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.io.numbers import Count, Seed
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.noise import row_noise
from subbyte.rounding.path import align, follow_path
from subbyte.rounding.solve import best_of
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Spfq(Rounding):
    """Align, then follow the path. order: sweeps of the alignment; stochastic: false rounds to
    nearest.
    """

    order: Count = 2
    stochastic: bool = True
    fallback: bool = True
    seed: Seed = 0

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        aligned = align(weight, stats, self.order)
        grid = fit(aligned)
        noise = row_noise(weight, self.seed) if self.stochastic else None
        result = QTensor.nearest(
            follow_path(aligned, grid, stats.of_quantized(), noise=noise), grid
        )
        candidates = [result, QTensor.nearest(weight, fit(weight))] if self.fallback else [result]
        return best_of(weight, candidates, stats)
