"""Shrinkage: second moments of few samples, as far as they can be trusted.

    C = H - mean_q mean_q'                                   m independent rows, d columns
    rho = sum_{i != j} (C_ii C_jj + C_ij^2) / (m sum_{i != j} C_ij^2)            at most 1
    H_ij <- mean_q_i mean_q_j + (1 - rho) C_ij  for i != j;  G and F by the same rho

The estimate of a covariance matrix with the least expected squared error among those between C and
its diagonal (Schäfer and Strimmer 2005, target D), with the variance that C_ij has for Gaussian
inputs. Whatever m rows say of d^2 / 2 products by chance is error: with fewer rows than columns a
rounding can be found that is exact on them and worse than nearest on all others. With many rows rho
is near 0. Columns that are always 0 stay so.
"""

from dataclasses import replace

import torch
from torch import Tensor

from subbyte.io.repeatable import one_thread
from subbyte.stats.layer_stats import LayerStats, Products


def shrunk(stats: LayerStats) -> LayerStats:
    """The statistics with covariances of different columns times 1 - rho, by groups.

    Raises ContractError where products of columns were not collected.
    """
    mean, mean_q = stats.mean[:, :, None], stats.mean_q[:, :, None]
    of_means = mean_q @ mean_q.mT
    rho = share(stats.H - of_means, stats.independent)
    H = _drawn(stats.H, of_means, rho)
    if stats.G is stats.H:
        return replace(stats, moments=Products(H, H, H))
    return replace(
        stats,
        moments=Products(
            H,
            _drawn(stats.G, mean_q @ mean.mT, rho),
            _drawn(stats.F, mean @ mean.mT, rho),
        ),
    )


def share(covariance: Tensor, independent: int) -> Tensor:
    """The rho of covariances [groups, columns, columns] of so many independent rows: float64
    [groups], 0 where no two columns have any.
    """
    own = covariance.diagonal(dim1=-2, dim2=-1)
    with one_thread():
        alone, whole = own.square().sum(-1), covariance.square().sum((-2, -1))
        common = whole - alone
        chance = own.sum(-1).square() - alone + common
    return torch.where(common > 0, chance / (independent * common), 0.0).clamp(0, 1)


def _drawn(moments: Tensor, of_means: Tensor, rho: Tensor) -> Tensor:
    """Second moments drawn towards those of independent columns; their diagonals stay."""
    result = moments.lerp(of_means, rho[:, None, None])
    result.diagonal(dim1=-2, dim2=-1).copy_(moments.diagonal(dim1=-2, dim2=-1))
    return result
