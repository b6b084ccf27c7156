"""MagR: smaller peaks, the same outputs (Zhang, Wang, Deng, Yin, Wang 2024).

    min_z  1/2 (z - w)' H (z - w) / ||H|| + a ||z||_inf,   a = strength * root mean square of w,
                                                           for every row

by proximal gradient steps of length 1:  v = z - (z - w) H / ||H||,   z <- v - a Proj_1(v / a),
Proj_1 the projection on the L1 ball of radius 1. What the layer's inputs hardly see is used to pull
in the largest weights, so that the grid may be finer. ||H||: largest eigenvalue. Difference from
the authors: there a is 1e-3 for every row, whatever the size of its weights. Cost: 2 rows d^2 a
    step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.io.numbers import Count, Positive
from subbyte.methods import Precondition
from subbyte.rounding.solve import largest_eigenvalue
from subbyte.stats import LayerStats

_ROOM = 1.02  # power iteration comes to the largest eigenvalue from below


@dataclass(frozen=True)
class Magr(Precondition):
    """strength: of the penalty, relative to a row's root mean square; steps: of the proximal
    gradient.
    """

    strength: Positive = 0.001
    steps: Count = 200

    def prepare(self, weight: Tensor, stats: LayerStats) -> Tensor:
        """See `methods.Precondition`."""
        size = largest_eigenvalue(stats.H)
        H = stats.H / torch.where(size > 0, _ROOM * size, 1.0)[:, None, None]
        w = stats.grouped(weight).to(torch.float32)
        H, z = H.to(torch.float32), w
        pull = self.strength * w.square().mean(-1, keepdim=True).sqrt()
        pull = torch.where(pull > 0, pull, 1.0)  # rows of zeros stay so
        for _ in range(self.steps):
            v = z - (z - w) @ H
            z = v - pull * project_l1(v / pull, 1.0)
        return z.reshape(weight.shape)


def project_l1(values: Tensor, radius: float) -> Tensor:
    """The nearest point with sum |x| <= radius, along the last axis (Duchi et al. 2008, figure
    1).
    """
    sizes = values.abs()
    falling = sizes.sort(dim=-1, descending=True).values
    excess = falling.cumsum(-1) - radius
    rank = torch.arange(1, values.shape[-1] + 1, device=values.device)
    last = (falling * rank > excess).sum(-1, keepdim=True).clamp_min(1)
    threshold = excess.gather(-1, last - 1) / last
    return values.sign() * (sizes - threshold.clamp_min(0)).clamp_min(0)
